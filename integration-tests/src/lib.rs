//! Runs the real executables against a real ZooKeeper ensemble and breaks them on purpose.
//!
//! A test builds a [`cluster::Cluster`], drives it through the public client crates or the
//! executables, and lets [`checker`] judge the history. Nothing here reaches into a process.

pub mod apache_kafka;
pub mod checker;
pub mod cluster;
pub mod dev;
pub mod failover;
pub mod faults;
pub mod group;
pub mod kafka_client;
pub mod kafka_tools;
pub mod lossy;
pub mod network;
pub mod process;
pub mod python;
pub mod recorder;
pub mod tool;
pub mod workload;
pub mod zookeeper;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A directory for one test, deleted when dropped unless `OTTLA_KEEP` is set.
pub fn scratch(name: &str) -> Result<tempfile::TempDir> {
    let mut dir = tempfile::Builder::new().prefix(&format!("ottla-{name}-")).tempdir()?;
    if std::env::var_os("OTTLA_KEEP").is_some() {
        dir.disable_cleanup(true);
        eprintln!("keeping {}", dir.path().display());
    }
    Ok(dir)
}

/// Where the executables under test are: `OTTLA_BIN`, else beside the running test.
pub fn executable(name: &str) -> Result<PathBuf> {
    let dir = match std::env::var_os("OTTLA_BIN") {
        Some(dir) => PathBuf::from(dir),
        None => {
            let mut dir = std::env::current_exe()?;
            dir.pop();
            if dir.ends_with("deps") {
                dir.pop();
            }
            dir
        }
    };
    let path = dir.join(name);
    if !path.exists() {
        bail!("{} is missing: `cargo build` makes the executables under test", path.display());
    }
    Ok(path)
}

/// Asks again until `condition` gives a value, or fails naming `what` after `limit`.
pub async fn eventually<T, F>(what: &str, limit: Duration, mut condition: F) -> Result<T>
where
    F: AsyncFnMut() -> Result<Option<T>>,
{
    let deadline = Instant::now() + limit;
    loop {
        let last = condition().await;
        if let Ok(Some(value)) = last {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            last.with_context(|| format!("waited {limit:?} for: {what}"))?;
            bail!("waited {limit:?} for: {what}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
