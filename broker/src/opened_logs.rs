//! The logs of a broker as it starts: opened with what its configuration and the machine allow, and
//! what recovery found told.

use std::io;
use std::sync::Arc;

use crate::broker::BrokerError;
use crate::config::{BrokerConfig, log_config, open_files_max};
use crate::storage::disk::Disk;
use crate::storage::{LogSet, LogSetConfig, StartReport, SystemClock};

/// Opens every log directory; on a thread of its own, since recovery may take its time.
pub(crate) async fn open_logs(
    config: &BrokerConfig,
    disk: &Arc<dyn Disk>,
) -> Result<(LogSet, StartReport), BrokerError> {
    let settings = LogSetConfig {
        broker_id: config.id.0,
        log: log_config(&config.topics, None),
        mmap_bytes: config.mmap_bytes,
        mmap_count: map_count_max(),
        open_files: open_files(config),
        free_mark: config.free_mark,
        recovery_threads: config.recovery_threads,
        retention_check: config.retention_check_interval,
        cleaner: config.cleaner.clone(),
        delete_delay: config.delete_delay,
        ..LogSetConfig::new(config.dirs.clone())
    };
    let disk = Arc::clone(disk);
    let opening = tokio::task::spawn_blocking(move || {
        LogSet::open(settings, disk, Arc::new(SystemClock::new()))
    });
    let opened = opening.await.map_err(|error| BrokerError::Thread(io::Error::other(error)))?;
    let (logs, report) = opened?;
    tell(&report);
    Ok((logs, report))
}

/// As configured, or what the limit on open files of this process leaves.
fn open_files(config: &BrokerConfig) -> usize {
    use nix::sys::resource::{Resource, getrlimit};
    const FALLBACK: u64 = 1024;
    if config.open_files > 0 {
        return config.open_files;
    }
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(FALLBACK, |(soft, _)| soft);
    open_files_max(limit, config.sockets.max_connections)
}

/// A quarter of the mappings that the kernel gives a process: allocators need some too.
fn map_count_max() -> usize {
    const FALLBACK: usize = 65_530;
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
    text.trim().parse().unwrap_or(FALLBACK) / 4
}

/// What recovery found, for the log of the process.
fn tell(report: &StartReport) {
    tracing::info!(
        partitions = report.opened,
        clean = report.clean,
        scanned_bytes = report.scanned_bytes,
        cut_bytes = report.cut_bytes,
        "logs opened"
    );
    if report.unsynced_lost {
        tracing::warn!("the machine went down without a clean stop: unflushed records may be lost");
    }
    for (partition, range) in &report.damaged {
        tracing::error!(%partition, ?range, "a range of the log is damaged");
    }
    for (partition, cause) in &report.failed {
        tracing::error!(%partition, cause, "partition cannot be opened");
    }
    for (directory, cause) in &report.failed_dirs {
        tracing::error!(directory = %directory.display(), cause, "log directory cannot be used");
    }
}
