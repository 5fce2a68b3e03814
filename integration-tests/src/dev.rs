//! `broker dev`, a whole cluster in one process, and the executables that are run against it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::Process;

/// A running `broker dev`; dropping it kills it.
pub struct Dev {
    /// The process.
    pub process: Process,
    /// The line it printed when it served.
    pub ready: serde_json::Value,
    /// `host:port` of its gRPC listener.
    pub bootstrap: String,
    /// `host:port` of its listener for Kafka clients.
    pub kafka: String,
}

impl Dev {
    /// Starts one with its data below `dir`, on free ports, with these `KEY=VALUE` settings.
    pub fn start(dir: &Path, settings: &[&str]) -> Result<Self> {
        let mut command = Command::new(crate::executable("broker")?);
        command.arg("dev").arg("--data").arg(dir.join("data"));
        for listen in ["--listen-grpc", "--listen-kafka", "--listen-zookeeper", "--listen-http"] {
            command.args([listen, "127.0.0.1:0"]);
        }
        for setting in settings {
            command.args(["--set", setting]);
        }
        let (process, ready) = Process::spawn_ready("dev", dir, command)?;
        let bootstrap = ready["grpc"].as_str().context("an address")?.to_owned();
        let kafka = ready["kafka"][0].as_str().context("an address for Kafka clients")?.to_owned();
        Ok(Self { process, ready, bootstrap, kafka })
    }

    /// Runs an executable against it to its end, whatever that is.
    pub fn try_run(&self, name: &str, arguments: &[&str], input: &str) -> Result<Output> {
        let mut child = Command::new(crate::executable(name)?)
            .args(arguments)
            .env("OTTLA_BOOTSTRAP_SERVER", &self.bootstrap)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("piped")?.write_all(input.as_bytes())?;
        Ok(child.wait_with_output()?)
    }

    /// Runs an executable against it; its standard output. An exit code other than 0 is an error
    /// with its standard error.
    pub fn run(&self, name: &str, arguments: &[&str], input: &str) -> Result<String> {
        let output = self.try_run(name, arguments, input)?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{name} {arguments:?}: {}: {error}", output.status);
        Ok(String::from_utf8(output.stdout)?)
    }

    /// SIGTERM, and waits for its end.
    pub fn stop(mut self) -> Result<()> {
        self.process.stop(Duration::from_secs(10))
    }
}
