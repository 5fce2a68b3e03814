//! The broker under test: `broker dev` in a process of its own, with fresh data; or, with replicas, the
//! first of several brokers, which leads every partition.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use integration_tests::cluster::{Cluster, ClusterOptions};
use integration_tests::executable;
use integration_tests::process::Process;
use integration_tests::zookeeper::RegistryKind;
use tempfile::TempDir;

/// The broker that leads, where there are several.
const LEADER: i32 = 1;
/// Files of a topic that nobody reads any more go at once, not during the figures of the next minute.
const DELETE_AT_ONCE: (&str, &str) = ("log.segment.delete.delay.ms", "0");
const DELETE_LIMIT: Duration = Duration::from_secs(3);

/// How many brokers, and with which settings.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Setup {
    pub(crate) brokers: i32,
    /// `KEY=VALUE` of each.
    pub(crate) settings: Vec<String>,
}

pub(crate) struct Broker {
    // Ends before its directory goes.
    under_test: UnderTest,
    pub(crate) bootstrap: String,
    /// Milliseconds from its start until it served.
    pub(crate) ready_ms: f64,
    /// Where it tells its metrics.
    http: String,
    /// Where it keeps partitions.
    logs: PathBuf,
    _dir: TempDir,
}

enum UnderTest {
    Alone(Process),
    Replicated(Box<Cluster>),
}

impl Broker {
    pub(crate) fn start(setup: &Setup, data: &Path) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("ottla-bench-").tempdir_in(data)?;
        match setup.brokers {
            1 => Self::alone(setup, dir),
            _ => Self::replicated(setup, dir),
        }
    }

    /// Several brokers, a coordinator and the embedded registry.
    fn replicated(setup: &Setup, dir: TempDir) -> Result<Self> {
        let split = |setting: &String| {
            let (key, value) = setting.split_once('=')?;
            Some((key.to_owned(), value.to_owned()))
        };
        let given = setup.settings.iter().filter_map(split);
        let at_once = (DELETE_AT_ONCE.0.to_owned(), DELETE_AT_ONCE.1.to_owned());
        let cluster = ClusterOptions {
            registry: RegistryKind::Embedded,
            brokers: setup.brokers,
            data_root: Some(dir.path().to_owned()),
            broker_settings: std::iter::once(at_once).chain(given).collect(),
            ..ClusterOptions::three("bench")
        };
        let start = Instant::now();
        let mut cluster = Box::new(Cluster::start(cluster)?);
        let ready_ms = start.elapsed().as_secs_f64() * 1e3;
        let leader = cluster.broker(LEADER)?;
        let (bootstrap, http) = (leader.grpc.clone(), leader.http.clone());
        let logs = leader.data.clone();
        let under_test = UnderTest::Replicated(cluster);
        Ok(Self { under_test, bootstrap, ready_ms, http, logs, _dir: dir })
    }

    fn alone(setup: &Setup, dir: TempDir) -> Result<Self> {
        let mut command = Command::new(executable("broker")?);
        command.arg("dev").arg("--data").arg(dir.path());
        for listener in ["--listen-grpc", "--listen-kafka", "--listen-http", "--listen-zookeeper"] {
            command.args([listener, "127.0.0.1:0"]);
        }
        command.args(["--set", &format!("{}={}", DELETE_AT_ONCE.0, DELETE_AT_ONCE.1)]);
        for setting in &setup.settings {
            command.args(["--set", setting]);
        }
        let start = Instant::now();
        let (process, ready) = Process::spawn_ready("broker", dir.path(), command)?;
        let ready_ms = start.elapsed().as_secs_f64() * 1e3;
        let address = |of: &str| ready[of].as_str().map(str::to_owned);
        let bootstrap = address("grpc").context("no grpc in the ready line")?;
        let http = address("http").context("no http in the ready line")?;
        let (under_test, logs) = (UnderTest::Alone(process), dir.path().join("broker"));
        Ok(Self { under_test, bootstrap, ready_ms, http, logs, _dir: dir })
    }

    fn process(&self) -> Result<&Process> {
        match &self.under_test {
            UnderTest::Alone(process) => Ok(process),
            UnderTest::Replicated(cluster) => cluster.running(LEADER),
        }
    }

    pub(crate) fn process_id(&self) -> Result<u32> {
        Ok(self.process()?.pid().as_raw().cast_unsigned())
    }

    /// Every process of Ottla that is not a client.
    pub(crate) fn process_ids(&self) -> Result<Vec<u32>> {
        match &self.under_test {
            UnderTest::Alone(_) => Ok(vec![self.process_id()?]),
            UnderTest::Replicated(cluster) => {
                Ok(cluster.process_ids().into_iter().map(i32::cast_unsigned).collect())
            }
        }
    }

    /// Of the broker that leads: a counter of its metrics page. `None`: it has none of that name (an
    /// older broker, of which only the rest can be measured).
    pub(crate) fn counter(&self, name: &str) -> Result<Option<u64>> {
        let mut stream = TcpStream::connect(&self.http)?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        let mut values = page.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(values.next().map(|value| value.trim().parse()).transpose()?)
    }

    pub(crate) fn memory_mib(&self) -> Result<f64> {
        Ok(self.process()?.memory()?.mib())
    }

    /// The first broker leads all its partitions.
    pub(crate) fn create_topic(
        &self,
        topic: &str,
        partitions: i32,
        replicas: i32,
        flush: &str,
    ) -> Result<()> {
        let mut command = Command::new(executable("coordinator")?);
        let replicas: Vec<String> = (LEADER..=replicas).map(|id| id.to_string()).collect();
        let assignment = vec![replicas.join(":"); partitions as usize].join(",");
        command.args(["topics", "--create", "--topic", topic]);
        command.args(["--replica-assignment", &assignment]);
        command.args(["--config", &format!("flush={flush}")]);
        command.args(["--bootstrap-server", &self.bootstrap]);
        let output = command.output()?;
        if !output.status.success() {
            bail!("topic {topic}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// Returns when its files are gone, so that freeing them disturbs no figure.
    pub(crate) fn delete_topic(&self, topic: &str) -> Result<()> {
        let mut command = Command::new(executable("coordinator")?);
        command.args(["topics", "--delete", "--topic", topic]);
        command.args(["--bootstrap-server", &self.bootstrap]);
        let output = command.output()?;
        if !output.status.success() {
            bail!("deleting {topic}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let deadline = Instant::now() + DELETE_LIMIT;
        while self.has_files_of(topic)? && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Whether there is a folder of a partition, or of one that is being deleted.
    fn has_files_of(&self, topic: &str) -> Result<bool> {
        let begin = format!("{topic}-");
        let mut names = std::fs::read_dir(&self.logs)?.flatten().map(|entry| entry.file_name());
        Ok(names.any(|name| name.to_string_lossy().starts_with(&begin)))
    }

    /// Files of a topic, sorted.
    pub(crate) fn files(&self, topic: &str, extension: &str) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.logs)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.rsplit_once('-').is_none_or(|(of, _)| of != topic) {
                continue;
            }
            for file in std::fs::read_dir(entry.path())? {
                let path = file?.path();
                let wanted = extension.is_empty()
                    || path.extension().is_some_and(|found| found == extension);
                if wanted && path.is_file() {
                    found.push(path);
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// Bytes of all files of a topic.
    pub(crate) fn bytes_on_disk(&self, topic: &str) -> Result<u64> {
        let files = self.files(topic, "")?;
        files.iter().map(|path| Ok(path.metadata()?.len())).sum()
    }

    /// What it logged.
    pub(crate) fn log_tail(&self) -> String {
        self.process().map(Process::log_tail).unwrap_or_default()
    }
}
