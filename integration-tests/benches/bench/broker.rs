//! The broker under test: `broker dev` in a process of its own, with fresh data.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use integration_tests::executable;
use integration_tests::process::Process;
use tempfile::TempDir;

use crate::Options;

pub(crate) struct Broker {
    // Ends before its directory goes.
    process: Process,
    pub(crate) bootstrap: String,
    /// Milliseconds from its start until it served.
    pub(crate) ready_ms: f64,
    dir: TempDir,
}

impl Broker {
    pub(crate) fn start(options: &Options) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("ottla-bench-").tempdir_in(&options.data)?;
        let mut command = Command::new(executable("broker")?);
        command.arg("dev").arg("--data").arg(dir.path());
        for listener in ["--listen-grpc", "--listen-http", "--listen-zookeeper"] {
            command.args([listener, "127.0.0.1:0"]);
        }
        for setting in &options.broker_settings {
            command.args(["--set", setting]);
        }
        let start = std::time::Instant::now();
        let (process, ready) = Process::spawn_ready("broker", dir.path(), command)?;
        let ready_ms = start.elapsed().as_secs_f64() * 1e3;
        let bootstrap = ready["grpc"].as_str().context("no grpc in the ready line")?.to_owned();
        Ok(Self { process, bootstrap, ready_ms, dir })
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.process.pid().as_raw().cast_unsigned()
    }

    pub(crate) fn memory_mib(&self) -> Result<f64> {
        Ok(self.process.memory()?.mib())
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn create_topic(&self, topic: &str, partitions: i32, flush: &str) -> Result<()> {
        let mut command = Command::new(executable("coordinator")?);
        command.args(["topics", "--create", "--topic", topic, "--replication-factor", "1"]);
        command.args(["--partitions", &partitions.to_string()]);
        command.args(["--config", &format!("flush={flush}")]);
        command.args(["--bootstrap-server", &self.bootstrap]);
        let output = command.output()?;
        if !output.status.success() {
            bail!("topic {topic}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    pub(crate) fn delete_topic(&self, topic: &str) -> Result<()> {
        let mut command = Command::new(executable("coordinator")?);
        command.args(["topics", "--delete", "--topic", topic]);
        command.args(["--bootstrap-server", &self.bootstrap]);
        let output = command.output()?;
        if !output.status.success() {
            bail!("deleting {topic}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// Files of a topic, sorted.
    pub(crate) fn files(&self, topic: &str, extension: &str) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(self.dir.path().join("broker"))? {
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
        self.process.log_tail()
    }
}
