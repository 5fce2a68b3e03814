//! `broker dev`: one process, no settings, and separate producers and consumers work against it.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration_tests::process::Process;

/// What an idle `broker dev` may hold: RssAnon + RssShmem.
const IDLE_MIB_MAX: f64 = 30.0;

fn dev(dir: &std::path::Path) -> Result<(Process, serde_json::Value)> {
    let mut command = Command::new(integration_tests::executable("broker")?);
    command.arg("dev").arg("--data").arg(dir.join("data"));
    for listen in ["--listen-grpc", "--listen-zookeeper", "--listen-http"] {
        command.args([listen, "127.0.0.1:0"]);
    }
    Process::spawn_ready("dev", dir, command)
}

fn run(name: &str, bootstrap: &str, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new(integration_tests::executable(name)?)
        .args(arguments)
        .env("OTTLA_BOOTSTRAP_SERVER", bootstrap)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("piped")?.write_all(input)?;
    let output = child.wait_with_output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} {arguments:?}: {}: {error}", output.status);
    Ok(output.stdout)
}

#[test]
fn one_process_serves_separate_clients_and_keeps_their_data() -> Result<()> {
    let scratch = integration_tests::scratch("dev")?;
    let started = Instant::now();
    let (mut broker, ready) = dev(scratch.path())?;
    println!("ready after {:?}", started.elapsed());
    for key in ["grpc", "zookeeper", "http"] {
        let address = ready[key].as_str().with_context(|| format!("no {key} in {ready}"))?;
        ensure!(!address.contains(":0"), "{key} has no real port: {address}");
    }
    let idle = broker.memory()?;
    println!("idle: {:.1} MiB", idle.mib());
    ensure!(idle.mib() < IDLE_MIB_MAX, "{idle:?}");

    let bootstrap = ready["grpc"].as_str().context("an address")?.to_owned();
    ensure!(run("coordinator", &bootstrap, &["topics", "--list"], b"")?.is_empty());
    let lines: String = (0..5_000).map(|i| format!("key-{}\tline {i}\n", i % 17)).collect();
    run("producer", &bootstrap, &["--topic", "lines", "--key-separator", "\t"], lines.as_bytes())?;
    let read = |bootstrap: &str, group: &str| {
        let arguments = [
            ["--topic", "lines"],
            ["--group", group],
            ["--max-messages", "5000"],
            ["--output-format", "%k\\t%s\\n"],
        ];
        let arguments: Vec<&str> =
            arguments.into_iter().flatten().chain(["--from-beginning"]).collect();
        run("consumer", bootstrap, &arguments, b"")
    };
    let by_key = |text: &[u8]| {
        let mut lines: Vec<String> =
            String::from_utf8_lossy(text).lines().map(str::to_owned).collect();
        // A stable sort by key keeps the order within each key, hence within each partition.
        lines.sort_by_key(|line| line.split('\t').next().unwrap_or_default().to_owned());
        lines
    };
    ensure!(by_key(&read(&bootstrap, "first")?) == by_key(lines.as_bytes()), "lines differ");

    broker.stop(Duration::from_secs(10))?;
    let (mut broker, ready) = dev(scratch.path())?;
    let bootstrap = ready["grpc"].as_str().context("an address")?.to_owned();
    ensure!(by_key(&read(&bootstrap, "second")?) == by_key(lines.as_bytes()), "after a restart");
    broker.stop(Duration::from_secs(10))
}
