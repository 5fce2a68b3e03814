//! Apache Kafka's own broker, which is its own controller, from the jars that
//! `integration-tests/foreign-clients install java` has fetched.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::process::Process;
use crate::workload::nap;

const START_LIMIT: Duration = Duration::from_secs(60);

/// A port of the loopback address that nobody listens on.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// `java` with these options, to run a class of Kafka's.
pub fn java(jars: &Path, options: &[&str], class: &str) -> Command {
    let mut command = Command::new("java");
    command.args(options).arg("-cp").arg(jars.join("*")).arg(class);
    command
}

/// Starts it on `dir` with these `KEY=VALUE` settings; the process and its `host:port` once it serves.
pub fn start(jars: &Path, heap: &str, settings: &[&str], dir: &Path) -> Result<(Process, String)> {
    let (kafka, controller) = (free_port()?, free_port()?);
    let data = dir.join("data");
    let config = dir.join("server.properties");
    let mut text = format!(
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
    for setting in settings {
        text += &format!("{setting}\n");
    }
    #[allow(clippy::disallowed_methods, reason = "a configuration, for a process started next")]
    std::fs::write(&config, text)?;
    let mut format = java(jars, &["-Xmx256M"], "kafka.tools.StorageTool");
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
    let mut command = java(jars, &options, "kafka.Kafka");
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
