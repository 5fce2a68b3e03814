//! A whole cluster of real processes on loopback: registry, coordinators, brokers.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::network::{End, Network};
use crate::process::Process;
use crate::zookeeper::{Registry, RegistryKind};

/// What to start.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// Names the scratch directory.
    pub name: String,
    /// Which registry.
    pub registry: RegistryKind,
    /// How many coordinators.
    pub coordinators: usize,
    /// How many brokers, ids from 1.
    pub brokers: i32,
    /// Session timeout of brokers and coordinators.
    pub session_timeout: Duration,
    /// Extra settings of every broker, as `KEY=VALUE` of its configuration.
    pub broker_settings: Vec<(String, String)>,
    /// Where broker data goes; below the scratch directory if `None`.
    pub data_root: Option<PathBuf>,
    /// More log directories of every broker, each with a folder for the broker's id.
    pub more_data: Vec<PathBuf>,
    /// Every listener stands behind a gate of a [`Network`] that can be cut.
    pub network: bool,
    /// Every broker also listens for Kafka's clients.
    pub kafka: bool,
}

impl ClusterOptions {
    /// Three brokers, one coordinator, an ensemble of three, sessions of 2 s.
    pub fn three(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            registry: RegistryKind::ZooKeeper(3),
            coordinators: 1,
            brokers: 3,
            session_timeout: Duration::from_secs(2),
            broker_settings: Vec::new(),
            data_root: None,
            more_data: Vec::new(),
            network: false,
            kafka: false,
        }
    }

    /// One broker, one coordinator, the embedded registry.
    pub fn one(name: &str) -> Self {
        Self { registry: RegistryKind::Embedded, brokers: 1, ..Self::three(name) }
    }

    /// Adds a setting of every broker.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.broker_settings.push((key.to_owned(), value.to_owned()));
        self
    }
}

/// A running broker and what is needed to start it again at the same address.
pub struct BrokerProcess {
    /// The process; `None` while it is down.
    pub process: Option<Process>,
    /// `host:port` of its gRPC listener.
    pub grpc: String,
    /// `host:port` that others are told: the listener's, or a gate before it.
    pub advertised: String,
    /// `host:port` of its listener for Kafka's clients, and what they are told: the same, or a gate.
    kafka: Option<(String, String)>,
    /// `host:port` of its HTTP listener.
    pub http: String,
    /// Its log directory.
    pub data: PathBuf,
}

/// A running cluster; dropping it ends every process.
pub struct Cluster {
    options: ClusterOptions,
    // Before the directory and the registry, so that processes end first.
    brokers: BTreeMap<i32, BrokerProcess>,
    coordinators: Vec<Process>,
    /// Where each coordinator says that it can be reached.
    coordinator_addresses: Vec<String>,
    network: Option<Network>,
    /// The registry's connect string as the processes are told it, without a chroot.
    registry_told: String,
    /// The registry.
    pub registry: Registry,
    dir: TempDir,
}

/// A free loopback port below the ephemeral range, where no outgoing connection can sit on it while
/// its broker is down.
fn free_port() -> Result<u16> {
    for _ in 0..200 {
        let port = fastrand::u16(20_000..31_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between 20000 and 31000")
}

impl Cluster {
    /// Starts everything and waits until it serves.
    pub fn start(options: ClusterOptions) -> Result<Self> {
        let dir = crate::scratch(&options.name)?;
        let registry = Registry::start(options.registry, dir.path())?;
        let network = options.network.then(Network::start).transpose()?;
        let registry_told = match &network {
            Some(network) => {
                let nodes = (1..).zip(registry.connect().split(','));
                let gates = nodes.map(|(node, target)| network.gate(End::Registry(node), target));
                gates.collect::<Result<Vec<_>>>()?.join(",")
            }
            None => registry.connect().to_owned(),
        };
        let mut cluster = Self {
            options,
            brokers: BTreeMap::new(),
            coordinators: Vec::new(),
            coordinator_addresses: Vec::new(),
            network,
            registry_told,
            registry,
            dir,
        };
        for _ in 0..cluster.options.coordinators {
            cluster.start_coordinator()?;
        }
        for id in 1..=cluster.options.brokers {
            cluster.add_broker(id)?;
        }
        cluster.wait_for_brokers()?;
        Ok(cluster)
    }

    fn add_broker(&mut self, id: i32) -> Result<()> {
        let data = match &self.options.data_root {
            Some(root) => root.join(format!("broker-{id}")),
            None => self.dir.path().join(format!("broker-{id}")),
        };
        let grpc = format!("127.0.0.1:{}", free_port()?);
        let advertised = match &self.network {
            Some(network) => network.gate(End::Broker(id), &grpc)?,
            None => grpc.clone(),
        };
        let mut kafka = None;
        if self.options.kafka {
            let listen = format!("127.0.0.1:{}", free_port()?);
            let told = match &self.network {
                Some(network) => network.gate_of_clients(End::Broker(id), &listen)?,
                None => listen.clone(),
            };
            kafka = Some((listen, told));
        }
        let http = format!("127.0.0.1:{}", free_port()?);
        let broker = BrokerProcess { process: None, grpc, advertised, kafka, http, data };
        self.brokers.insert(id, broker);
        self.start_broker(id)
    }

    /// The network between the processes.
    pub fn network(&self) -> Result<&Network> {
        self.network.as_ref().context("the cluster was started without a network to cut")
    }

    /// Waits until the controller knows every broker that was started: a broker is ready when it is
    /// registered, and the controller places nothing on it before it has seen that.
    fn wait_for_brokers(&self) -> Result<()> {
        if self.coordinators.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let listed = self.run("coordinator", &["brokers", "--list", "--format", "json"]);
            let live = listed.as_ref().map_or(0, |text| text.matches("\"grpc_port\"").count());
            if live >= self.brokers.len() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{live} of {} brokers are live: {listed:?}", self.brokers.len());
            }
            crate::workload::nap(Duration::from_millis(50));
        }
    }

    /// The scratch directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The registry's connect string with the chroot, past every gate: for whoever looks on.
    pub fn zookeeper(&self) -> String {
        format!("{}/ottla", self.registry.connect())
    }

    /// The same as the processes are told it.
    fn zookeeper_told(&self) -> String {
        format!("{}/ottla", self.registry_told)
    }

    /// Every broker's gRPC address, comma-separated.
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<&str> = self.brokers.values().map(|b| b.advertised.as_str()).collect();
        addresses.join(",")
    }

    /// Every broker's address for Kafka's clients, comma-separated.
    pub fn kafka_bootstrap(&self) -> String {
        let listeners = self.brokers.values().filter_map(|broker| broker.kafka.as_ref());
        let addresses: Vec<&str> = listeners.map(|(_, told)| told.as_str()).collect();
        addresses.join(",")
    }

    /// Whether brokers listen for Kafka's clients.
    pub fn has_kafka_listeners(&self) -> bool {
        self.options.kafka
    }

    fn session_timeout_ms(&self) -> String {
        self.options.session_timeout.as_millis().to_string()
    }

    /// Starts one more coordinator.
    pub fn start_coordinator(&mut self) -> Result<()> {
        let (process, address) = self.spawn_coordinator(self.coordinators.len())?;
        self.coordinators.push(process);
        self.coordinator_addresses.push(address);
        Ok(())
    }

    /// Starts a coordinator anew that was killed.
    pub fn restart_coordinator(&mut self, index: usize) -> Result<()> {
        let (process, address) = self.spawn_coordinator(index)?;
        self.coordinators[index] = process;
        self.coordinator_addresses[index] = address;
        Ok(())
    }

    /// Which coordinator has this address in the registry.
    pub fn coordinator_at(&self, address: &str) -> Option<usize> {
        self.coordinator_addresses.iter().position(|known| known == address)
    }

    fn spawn_coordinator(&self, index: usize) -> Result<(Process, String)> {
        let mut command = Command::new(crate::executable("coordinator")?);
        command.args(["run", "--zookeeper", &self.zookeeper_told()]);
        let end = End::Coordinator(index);
        let mut gate = None;
        let mut listen = "127.0.0.1:0".to_owned();
        if let Some(network) = &self.network {
            listen = format!("127.0.0.1:{}", free_port()?);
            let address = network.gate(end, &listen)?;
            command.args(["--advertise", &address]);
            gate = Some(address);
        }
        command.args(["--listen", &listen]);
        command.args(["--zookeeper-session-timeout-ms", &self.session_timeout_ms()]);
        let name = format!("coordinator-{}", index + 1);
        let told = |pid| self.network.iter().for_each(|network| network.name(pid, end));
        let (process, ready) = Process::spawn_told(&name, self.dir.path(), command, told)?;
        let address = match gate {
            Some(gate) => gate,
            None => ready["listen"].as_str().context("no address")?.to_owned(),
        };
        Ok((process, address))
    }

    /// The coordinators, in the order of their start.
    pub fn coordinators(&mut self) -> &mut Vec<Process> {
        &mut self.coordinators
    }

    /// Starts a broker that is down, on its data and addresses.
    pub fn start_broker(&mut self, id: i32) -> Result<()> {
        let timeout = self.session_timeout_ms();
        let zookeeper = self.zookeeper_told();
        let broker = self.brokers.get_mut(&id).context("no such broker")?;
        let mut command = Command::new(crate::executable("broker")?);
        command.args(["run", "--id", &id.to_string(), "--zookeeper", &zookeeper]);
        command.args(["--listen-grpc", &broker.grpc, "--listen-http", &broker.http]);
        command.args(["--advertise-grpc", &broker.advertised]);
        if let Some((listen, told)) = &broker.kafka {
            command.args(["--listen-kafka", listen, "--advertise-kafka", told]);
        }
        command.args(["--set", &format!("zookeeper.session.timeout.ms={timeout}")]);
        let replicas = self.options.brokers.min(3);
        command.args(["--set", &format!("offsets.topic.replication.factor={replicas}")]);
        for (key, value) in &self.options.broker_settings {
            command.args(["--set", &format!("{key}={value}")]);
        }
        command.arg("--data").arg(&broker.data);
        for root in &self.options.more_data {
            command.arg("--data").arg(root.join(format!("broker-{id}")));
        }
        let name = format!("broker-{id}");
        let network = &self.network;
        let told = |pid| network.iter().for_each(|network| network.name(pid, End::Broker(id)));
        let (process, _) = Process::spawn_told(&name, self.dir.path(), command, told)?;
        broker.process = Some(process);
        Ok(())
    }

    /// A broker by id.
    pub fn broker(&mut self, id: i32) -> Result<&mut BrokerProcess> {
        self.brokers.get_mut(&id).context("no such broker")
    }

    /// The page of a broker's metrics.
    pub fn metrics(&self, id: i32) -> Result<String> {
        let broker = self.brokers.get(&id).context("no such broker")?;
        let mut stream = std::net::TcpStream::connect(&broker.http)?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        Ok(page)
    }

    /// A broker's process.
    pub fn broker_process(&mut self, id: i32) -> Result<&mut Process> {
        self.broker(id)?.process.as_mut().context("the broker is down")
    }

    /// A broker's process, to look at.
    pub fn running(&self, id: i32) -> Result<&Process> {
        let broker = self.brokers.get(&id).context("no such broker")?;
        broker.process.as_ref().context("the broker is down")
    }

    /// Process ids of brokers, coordinators and the embedded registry, as far as they run.
    pub fn process_ids(&self) -> Vec<i32> {
        let brokers = self.brokers.values().filter_map(|broker| broker.process.as_ref());
        let registry = match &self.registry {
            Registry::Embedded { process, .. } => Some(process.as_ref()),
            Registry::ZooKeeper(_) => None,
        };
        let all = brokers.chain(&self.coordinators).chain(registry);
        all.map(|process| process.pid().as_raw()).collect()
    }

    /// SIGKILL to a broker.
    pub fn kill_broker(&mut self, id: i32) -> Result<()> {
        self.broker_process(id)?.kill()?;
        self.broker(id)?.process = None;
        Ok(())
    }

    /// SIGTERM to a broker.
    pub fn stop_broker(&mut self, id: i32) -> Result<()> {
        self.broker_process(id)?.stop(Duration::from_secs(20))?;
        self.broker(id)?.process = None;
        Ok(())
    }

    /// How many brokers there are; their ids count from 1.
    pub fn broker_count(&self) -> i32 {
        self.options.brokers
    }

    /// SIGTERM to every broker that runs; each broker's log directory.
    pub fn stop_brokers(&mut self) -> Result<Vec<(i32, PathBuf)>> {
        for id in 1..=self.options.brokers {
            if self.broker(id)?.process.is_some() {
                self.stop_broker(id)?;
            }
        }
        Ok(self.brokers.iter().map(|(id, broker)| (*id, broker.data.clone())).collect())
    }

    /// Every process that was not killed on purpose runs.
    pub fn check_alive(&mut self) -> Result<()> {
        for (id, broker) in &mut self.brokers {
            if let Some(process) = &mut broker.process
                && !process.is_running()
            {
                bail!("broker {id} ended by itself; its log ends:\n{}", process.log_tail());
            }
        }
        for (index, process) in self.coordinators.iter_mut().enumerate() {
            if !process.is_running() {
                let log = process.log_tail();
                bail!("coordinator {index} ended by itself; its log ends:\n{log}");
            }
        }
        Ok(())
    }

    /// Every line of the processes' logs that tells of a panic.
    pub fn panics(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).into_iter().flatten().flatten();
        let logs = entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "log"));
        let mut found = Vec::new();
        for log in logs {
            let bytes = std::fs::read(log.path()).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            let lines = text.lines().filter(|line| line.contains("panicked at"));
            found.extend(lines.map(|line| format!("{}: {line}", log.file_name().display())));
        }
        found
    }

    /// Keeps the scratch directory when the cluster ends; where it is.
    pub fn keep(&mut self) -> PathBuf {
        self.dir.disable_cleanup(true);
        self.registry.keep();
        self.dir.path().to_path_buf()
    }

    /// Runs an executable with `--bootstrap-server` set, to its end; its standard output.
    pub fn run(&self, name: &str, arguments: &[&str]) -> Result<String> {
        let output = self.command(name)?.args(arguments).output()?;
        if !output.status.success() {
            bail!(
                "{name} {arguments:?}: {}\n{}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// An executable's command; `--bootstrap-server` comes from the environment.
    pub fn command(&self, name: &str) -> Result<Command> {
        let mut command = Command::new(crate::executable(name)?);
        command.env("OTTLA_BOOTSTRAP_SERVER", self.bootstrap());
        Ok(command)
    }

    /// Creates a topic of one replica and waits until every partition has a live leader.
    pub fn create_topic(&self, topic: &str, partitions: i32, configs: &[&str]) -> Result<()> {
        self.create_replicated_topic(topic, partitions, 1, configs)
    }

    /// The same with so many replicas.
    pub fn create_replicated_topic(
        &self,
        topic: &str,
        partitions: i32,
        replication_factor: i32,
        configs: &[&str],
    ) -> Result<()> {
        let (partitions, factor) = (partitions.to_string(), replication_factor.to_string());
        let mut arguments = vec!["topics", "--create", "--topic", topic];
        arguments.extend(["--partitions", &partitions, "--replication-factor", &factor]);
        for config in configs {
            arguments.extend(["--config", config]);
        }
        self.run("coordinator", &arguments)?;
        Ok(())
    }
}
