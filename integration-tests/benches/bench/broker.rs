//! The broker under test: `broker dev` in a process of its own, with fresh data; or, with replicas, the
//! first of several brokers, which leads every partition.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use integration_tests::cluster::{Cluster, ClusterOptions};
use integration_tests::executable;
use integration_tests::process::Process;
use integration_tests::zookeeper::RegistryKind;
use tempfile::TempDir;

use crate::Options;

/// The broker that leads, where there are several.
const LEADER: i32 = 1;

pub(crate) struct Broker {
    // Ends before its directory goes.
    under_test: UnderTest,
    pub(crate) bootstrap: String,
    /// Milliseconds from its start until it served.
    pub(crate) ready_ms: f64,
    /// Where it keeps partitions.
    logs: PathBuf,
    replicas: i32,
    dir: TempDir,
}

enum UnderTest {
    Alone(Process),
    Replicated(Box<Cluster>),
}

impl Broker {
    pub(crate) fn start(options: &Options) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("ottla-bench-").tempdir_in(&options.data)?;
        match options.replicas {
            1 => Self::alone(options, dir),
            _ => Self::replicated(options, dir),
        }
    }

    /// As many brokers as replicas, a coordinator and the embedded registry.
    fn replicated(options: &Options, dir: TempDir) -> Result<Self> {
        let split = |setting: &String| {
            let (key, value) = setting.split_once('=')?;
            Some((key.to_owned(), value.to_owned()))
        };
        let cluster = ClusterOptions {
            registry: RegistryKind::Embedded,
            brokers: options.replicas,
            data_root: Some(dir.path().to_owned()),
            broker_settings: options.broker_settings.iter().filter_map(split).collect(),
            ..ClusterOptions::three("bench")
        };
        let start = std::time::Instant::now();
        let mut cluster = Box::new(Cluster::start(cluster)?);
        let ready_ms = start.elapsed().as_secs_f64() * 1e3;
        let leader = cluster.broker(LEADER)?;
        let (bootstrap, logs) = (leader.grpc.clone(), leader.data.clone());
        let (under_test, replicas) = (UnderTest::Replicated(cluster), options.replicas);
        Ok(Self { under_test, bootstrap, ready_ms, logs, replicas, dir })
    }

    fn alone(options: &Options, dir: TempDir) -> Result<Self> {
        let mut command = Command::new(executable("broker")?);
        command.arg("dev").arg("--data").arg(dir.path());
        for listener in ["--listen-grpc", "--listen-kafka", "--listen-http", "--listen-zookeeper"] {
            command.args([listener, "127.0.0.1:0"]);
        }
        for setting in &options.broker_settings {
            command.args(["--set", setting]);
        }
        let start = std::time::Instant::now();
        let (process, ready) = Process::spawn_ready("broker", dir.path(), command)?;
        let ready_ms = start.elapsed().as_secs_f64() * 1e3;
        let bootstrap = ready["grpc"].as_str().context("no grpc in the ready line")?.to_owned();
        let (under_test, logs) = (UnderTest::Alone(process), dir.path().join("broker"));
        Ok(Self { under_test, bootstrap, ready_ms, logs, replicas: 1, dir })
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

    pub(crate) fn memory_mib(&self) -> Result<f64> {
        Ok(self.process()?.memory()?.mib())
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn create_topic(&self, topic: &str, partitions: i32, flush: &str) -> Result<()> {
        let mut command = Command::new(executable("coordinator")?);
        let replicas: Vec<String> = (LEADER..=self.replicas).map(|id| id.to_string()).collect();
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
