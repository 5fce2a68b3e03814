//! The brokers that are measured, each as its own process.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use integration_tests::dev::Dev;
use integration_tests::process::{Memory, Process};
use integration_tests::workload::nap;

use super::tool::Tools;

const START_LIMIT: Duration = Duration::from_secs(60);

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum System {
    Ottla,
    ApacheKafka,
}

/// A running broker, which is its own controller.
pub(crate) struct Broker {
    pub(crate) system: System,
    /// `host:port` for Kafka's clients.
    pub(crate) kafka: String,
    process: Process,
    /// From the start of the process until it serves.
    pub(crate) started_in: Duration,
}

/// Samples a broker while something runs against it.
pub(crate) struct Meter {
    cpu_s: f64,
    stop: Arc<AtomicBool>,
    peak_kib: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

/// What a broker used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    pub(crate) cpu_s: f64,
    /// Peak of RssAnon + RssShmem, in MiB, sampled every 20 ms.
    pub(crate) memory_mib: f64,
    pub(crate) started_in_ms: f64,
}

impl Broker {
    /// Starts it on an empty folder and waits until it serves.
    pub(crate) fn start(system: System, tools: &Tools, heap: &str, dir: &Path) -> Result<Self> {
        let began = Instant::now();
        let (process, kafka) = match system {
            System::Ottla => {
                let dev = Dev::start(dir, &[])?;
                (dev.process, dev.kafka)
            }
            System::ApacheKafka => apache_kafka(tools, heap, dir)?,
        };
        Ok(Self { system, kafka, process, started_in: began.elapsed() })
    }

    /// Begins to measure.
    pub(crate) fn meter(&self) -> Result<Meter> {
        let stop = Arc::new(AtomicBool::new(false));
        let peak_kib = Arc::new(AtomicU64::new(0));
        let pid = self.process.pid().as_raw();
        let (stopped, peak) = (Arc::clone(&stop), Arc::clone(&peak_kib));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Ok(Memory { rss_anon_kib, rss_shmem_kib, .. }) = Memory::of(pid) {
                    peak.fetch_max(rss_anon_kib + rss_shmem_kib, Ordering::Relaxed);
                }
                nap(Duration::from_millis(20));
            }
        });
        Ok(Meter { cpu_s: self.process.cpu_seconds()?, stop, peak_kib, thread })
    }

    pub(crate) fn stop(mut self) -> Result<()> {
        match self.system {
            System::Ottla => self.process.stop(Duration::from_secs(20)),
            System::ApacheKafka => self.process.kill(),
        }
    }
}

impl Meter {
    /// What was used since.
    pub(crate) fn read(self, broker: &Broker) -> Result<Used> {
        let cpu_s = broker.process.cpu_seconds()? - self.cpu_s;
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
        let memory_mib = self.peak_kib.load(Ordering::Relaxed) as f64 / 1024.0;
        let started_in_ms = broker.started_in.as_secs_f64() * 1e3;
        Ok(Used { cpu_s, memory_mib, started_in_ms })
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Broker and controller in one process, with the options of Kafka's start script.
fn apache_kafka(tools: &Tools, heap: &str, dir: &Path) -> Result<(Process, String)> {
    let (kafka, controller) = (free_port()?, free_port()?);
    let data = dir.join("data");
    let config = dir.join("server.properties");
    let text = format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{kafka},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{kafka}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         log.dirs={}\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n",
        data.display()
    );
    #[allow(clippy::disallowed_methods, reason = "a configuration, for a process started next")]
    std::fs::write(&config, text)?;
    let mut format = tools.java(&["-Xmx256M"], "kafka.tools.StorageTool");
    format.args(["format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c"]).arg(&config);
    let done = format.output().context("running java")?;
    let error = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "formatting Kafka's storage: {}\n{error}", done.status);
    let (xmx, xms) = (format!("-Xmx{heap}"), format!("-Xms{heap}"));
    let options = [
        xmx.as_str(),
        xms.as_str(),
        "-server",
        "-XX:+UseG1GC",
        "-XX:MaxGCPauseMillis=20",
        "-XX:InitiatingHeapOccupancyPercent=35",
        "-XX:+ExplicitGCInvokesConcurrent",
        "-Djava.awt.headless=true",
    ];
    let mut command = tools.java(&options, "kafka.Kafka");
    command.arg(&config);
    let mut process = Process::spawn("apache-kafka", dir, command)?;
    let address = format!("127.0.0.1:{kafka}");
    let deadline = Instant::now() + START_LIMIT;
    while TcpStream::connect(&address).is_err() {
        ensure!(process.is_running(), "Apache Kafka ended:\n{}", process.log_tail());
        ensure!(Instant::now() < deadline, "Apache Kafka serves nobody:\n{}", process.log_tail());
        nap(Duration::from_millis(20));
    }
    Ok((process, address))
}
