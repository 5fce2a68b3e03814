//! The servers under test, each on an empty folder, on ports of the loopback address.

use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use integration_tests::apache_kafka::{self, free_port};
use integration_tests::dev::Dev;
use integration_tests::process::{Memory, Process};
use integration_tests::workload::nap;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::Options;
use crate::install::Programs;
use crate::system::System;

const START_LIMIT: Duration = Duration::from_secs(60);
const SAMPLE_EVERY: Duration = Duration::from_millis(20);

/// A running server. Dropping it kills all of its processes.
pub(crate) struct Server {
    process: Process,
    /// The process began a group, and others are in it.
    has_group: bool,
    /// For its clients.
    pub(crate) address: String,
    /// Ottla's, for its tools.
    bootstrap: Option<String>,
    folder: PathBuf,
    /// From the start of the process until it serves.
    pub(crate) ready_ms: f64,
}

impl Server {
    pub(crate) fn start(
        options: &Options,
        programs: &Programs,
        system: System,
        folder: &Path,
    ) -> Result<Self> {
        let began = Instant::now();
        let mut bootstrap = None;
        let (process, address) = match system {
            System::Ottla | System::OttlaKafka => {
                let dev = Dev::start(folder, &[])?;
                let address = if system == System::Ottla { &dev.bootstrap } else { &dev.kafka };
                let address = address.clone();
                bootstrap = Some(dev.bootstrap);
                (dev.process, address)
            }
            System::ApacheKafka => {
                let jars = programs.server(system)?.join("jars");
                let durable: &[&str] =
                    if options.durable { &["log.flush.interval.messages=1"] } else { &[] };
                apache_kafka::start(&jars, &options.heap, durable, folder)?
            }
            System::Nats => nats(options, programs.server(system)?, folder)?,
            System::Redis => redis(options, programs.server(system)?, folder)?,
            System::Rabbitmq => rabbitmq(programs.server(system)?, folder)?,
        };
        let (has_group, folder) = (system == System::Rabbitmq, folder.to_owned());
        let mut server = Self { process, has_group, address, bootstrap, folder, ready_ms: 0.0 };
        server.wait_until_it_serves(system)?;
        server.ready_ms = began.elapsed().as_secs_f64() * 1e3;
        Ok(server)
    }

    fn wait_until_it_serves(&mut self, system: System) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        let name = system.name();
        while TcpStream::connect(&self.address).is_err() {
            ensure!(self.process.is_running(), "{name} ended:\n{}", self.process.log_tail());
            ensure!(
                Instant::now() < deadline,
                "{name} serves nobody:\n{}",
                self.process.log_tail()
            );
            nap(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The last lines of its log.
    pub(crate) fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// Makes a topic of one partition in Ottla; others' clients do that themselves.
    pub(crate) fn create_topic(&self, topic: &str, flush: &str) -> Result<bool> {
        let Some(bootstrap) = &self.bootstrap else { return Ok(false) };
        let mut command = Command::new(integration_tests::executable("coordinator")?);
        command.args(["topics", "--create", "--topic", topic, "--partitions", "1"]);
        command.args(["--config", &format!("flush={flush}"), "--bootstrap-server", bootstrap]);
        let output = command.output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "topic {topic}: {error}");
        Ok(true)
    }

    /// Bytes of its files, holes not counted.
    pub(crate) fn bytes_on_disk(&self) -> u64 {
        bytes_below(&self.folder)
    }

    /// Begins to measure it.
    pub(crate) fn meter(&self) -> Meter {
        Meter::start(self.processes())
    }

    fn processes(&self) -> Vec<i32> {
        let leader = self.process.pid().as_raw();
        if !self.has_group {
            return vec![leader];
        }
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
            .filter(|pid| nix::unistd::getpgid(Some(Pid::from_raw(*pid))) == Ok(self.process.pid()))
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.has_group {
            let _ = killpg(self.process.pid(), Signal::SIGKILL);
        }
    }
}

fn bytes_below(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => bytes_below(&entry.path()),
            Ok(found) => found.len().min(found.blocks() * 512),
            Err(_) => 0,
        })
        .sum()
}

fn spawn(name: &str, folder: &Path, mut command: Command) -> Result<Process> {
    // Some tell everything on their standard output.
    command.stdout(Stdio::null());
    Process::spawn(name, folder, command)
}

fn write(path: &Path, text: &str) -> Result<()> {
    #[allow(clippy::disallowed_methods, reason = "a configuration, for a process started next")]
    std::fs::write(path, text)?;
    Ok(())
}

fn nats(options: &Options, program: &Path, folder: &Path) -> Result<(Process, String)> {
    let address = format!("127.0.0.1:{}", free_port()?);
    let config = folder.join("nats.conf");
    let sync = if options.durable { "sync_interval: always" } else { "" };
    let store = folder.join("data");
    let store = store.display();
    write(
        &config,
        &format!("listen: \"{address}\"\njetstream {{\n  store_dir: \"{store}\"\n  {sync}\n}}\n"),
    )?;
    let mut command = Command::new(program);
    command.arg("--config").arg(&config);
    Ok((spawn("nats-server", folder, command)?, address))
}

/// Its log of commands is the file; no snapshots, no rewriting of the log while others are measured.
fn redis(options: &Options, program: &Path, folder: &Path) -> Result<(Process, String)> {
    let port = free_port()?;
    let sync = if options.durable { "always" } else { "no" };
    let mut command = Command::new(program);
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
    command.args(["--appendonly", "yes", "--appendfsync", sync]);
    command.args(["--auto-aof-rewrite-percentage", "0", "--dir"]).arg(folder);
    Ok((spawn("redis-server", folder, command)?, format!("127.0.0.1:{port}")))
}

fn rabbitmq(program: &Path, folder: &Path) -> Result<(Process, String)> {
    let mut ports = Vec::new();
    for _ in 0..4 {
        ports.push(free_port()?.to_string());
    }
    let mut command = Command::new(program);
    command.arg(folder).args(&ports).process_group(0);
    Ok((spawn("rabbitmq", folder, command)?, format!("127.0.0.1:{}", ports[1])))
}

/// Samples the processes of a server while something runs against it.
pub(crate) struct Meter {
    processes: Vec<i32>,
    cpu_s: f64,
    stop: Arc<AtomicBool>,
    peak_kib: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

/// What a server used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    pub(crate) cpu_s: f64,
    /// Peak of RssAnon + RssShmem.
    pub(crate) memory_mib: f64,
}

impl Meter {
    fn start(processes: Vec<i32>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let peak_kib = Arc::new(AtomicU64::new(0));
        let (sampled, stopped, peak) =
            (processes.clone(), Arc::clone(&stop), Arc::clone(&peak_kib));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let memory = sampled.iter().flat_map(|pid| Memory::of(*pid));
                let kib = memory.map(|memory| memory.rss_anon_kib + memory.rss_shmem_kib).sum();
                peak.fetch_max(kib, Ordering::Relaxed);
                nap(SAMPLE_EVERY);
            }
        });
        Self { cpu_s: cpu_seconds(&processes), processes, stop, peak_kib, thread }
    }

    /// What was used since.
    pub(crate) fn read(self) -> Used {
        let cpu_s = cpu_seconds(&self.processes) - self.cpu_s;
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
        Used { cpu_s, memory_mib: self.peak_kib.load(Ordering::Relaxed) as f64 / 1024.0 }
    }
}

/// User and system, of all of them.
fn cpu_seconds(processes: &[i32]) -> f64 {
    processes.iter().filter_map(|pid| cpu_seconds_of(*pid)).sum()
}

fn cpu_seconds_of(pid: i32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, a name in parentheses, may hold blanks; utime and stime are 14 and 15.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(ticks as f64 / 100.0)
}
