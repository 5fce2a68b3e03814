//! The brokers that are measured, each as its own process.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum;
use integration_tests::apache_kafka;
use integration_tests::dev::Dev;
use integration_tests::process::{Memory, Process};
use integration_tests::workload::nap;

use super::tool::Tools;

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
            System::ApacheKafka => apache_kafka::start(&tools.jars, heap, &[], dir)?,
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
