//! A registry for a test: a real ZooKeeper ensemble, or the embedded server as its own process.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::Process;

/// A real ensemble on loopback, destroyed when dropped. Its tick is 200 ms, so that session
/// timeouts from 400 ms are granted.
pub struct Ensemble {
    dir: PathBuf,
    connect: String,
    keep: bool,
}

fn script(arguments: &[&str], dir: &Path) -> Result<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/zk-ensemble");
    let (verb, rest) = arguments.split_first().context("a verb")?;
    let output = Command::new(path).arg(verb).arg(dir).args(rest).output()?;
    if !output.status.success() {
        bail!("zk-ensemble {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

impl Ensemble {
    /// Starts `nodes` servers with their data below `dir`.
    pub fn start(dir: &Path, nodes: usize) -> Result<Self> {
        let dir = dir.join("zookeeper");
        let connect = script(&["start", &nodes.to_string()], &dir)?;
        Ok(Self { dir, connect, keep: false })
    }

    /// `host:port,host:port`, without a chroot.
    pub fn connect(&self) -> &str {
        &self.connect
    }

    /// The 1-based index of the leader.
    pub fn leader(&self) -> Result<usize> {
        Ok(script(&["leader"], &self.dir)?.parse()?)
    }

    /// SIGKILL to one node.
    pub fn kill(&self, node: usize) -> Result<()> {
        script(&["kill", &node.to_string()], &self.dir).map(drop)
    }

    /// Brings a node back on its data.
    pub fn restart(&self, node: usize) -> Result<()> {
        script(&["restart", &node.to_string()], &self.dir).map(drop)
    }

    /// SIGSTOP to one node: its port still accepts, nothing answers.
    pub fn pause(&self, node: usize) -> Result<()> {
        script(&["pause", &node.to_string()], &self.dir).map(drop)
    }

    /// SIGCONT to one node.
    pub fn resume(&self, node: usize) -> Result<()> {
        script(&["resume", &node.to_string()], &self.dir).map(drop)
    }

    /// Ends every node; the data stays.
    pub fn stop(&self) -> Result<()> {
        script(&["stop"], &self.dir).map(drop)
    }

    /// Brings every node back on its data and ports.
    pub fn start_again(&self) -> Result<()> {
        script(&["start"], &self.dir).map(drop)
    }
}

impl Drop for Ensemble {
    fn drop(&mut self) {
        let verb = if self.keep { "stop" } else { "destroy" };
        let _ = script(&[verb], &self.dir);
    }
}

/// Which registry a test runs against; most run against both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistryKind {
    /// A ZooKeeper ensemble of this many nodes.
    ZooKeeper(usize),
    /// `coordinator registry`.
    Embedded,
}

/// A running registry.
pub enum Registry {
    /// A real ensemble.
    ZooKeeper(Ensemble),
    /// The embedded server.
    Embedded {
        /// The process.
        process: Box<Process>,
        /// `host:port`.
        connect: String,
    },
}

impl Registry {
    /// Starts a registry with its data below `dir`.
    pub fn start(kind: RegistryKind, dir: &Path) -> Result<Self> {
        match kind {
            RegistryKind::ZooKeeper(nodes) => Ok(Self::ZooKeeper(Ensemble::start(dir, nodes)?)),
            RegistryKind::Embedded => {
                let mut command = Command::new(crate::executable("coordinator")?);
                command.args(["registry", "--listen", "127.0.0.1:0", "--data"]);
                command.arg(dir.join("registry"));
                let (process, ready) = Process::spawn_ready("registry", dir, command)?;
                let connect = ready["zookeeper"].as_str().context("no address")?.to_owned();
                Ok(Self::Embedded { process: Box::new(process), connect })
            }
        }
    }

    /// `host:port,…`, without a chroot.
    pub fn connect(&self) -> &str {
        match self {
            Self::ZooKeeper(ensemble) => ensemble.connect(),
            Self::Embedded { connect, .. } => connect,
        }
    }

    /// Its data and logs stay when it ends.
    pub fn keep(&mut self) {
        if let Self::ZooKeeper(ensemble) = self {
            ensemble.keep = true;
        }
    }

    /// The ensemble, where it is a real one.
    pub fn ensemble(&self) -> Result<&Ensemble> {
        match self {
            Self::ZooKeeper(ensemble) => Ok(ensemble),
            Self::Embedded { .. } => bail!("this test needs a real ensemble"),
        }
    }
}
