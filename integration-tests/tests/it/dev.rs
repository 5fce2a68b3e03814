//! `broker dev`: one process, no settings, and separate producers and consumers work against it.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use integration_tests::dev::Dev;

/// What an idle `broker dev` may hold: RssAnon + RssShmem.
const IDLE_MIB_MAX: f64 = 30.0;

#[test]
fn one_process_serves_separate_clients_and_keeps_their_data() -> Result<()> {
    let scratch = integration_tests::scratch("dev")?;
    let started = Instant::now();
    let broker = Dev::start(scratch.path(), &[])?;
    println!("ready after {:?}", started.elapsed());
    for key in ["grpc", "zookeeper", "http"] {
        let ready = &broker.ready;
        let address = ready[key].as_str().with_context(|| format!("no {key} in {ready}"))?;
        ensure!(!address.contains(":0"), "{key} has no real port: {address}");
    }
    let idle = broker.process.memory()?;
    println!("idle: {:.1} MiB", idle.mib());
    ensure!(idle.mib() < IDLE_MIB_MAX, "{idle:?}");

    ensure!(broker.run("coordinator", &["topics", "--list"], "")?.is_empty());
    let lines: String = (0..5_000).map(|i| format!("key-{}\tline {i}\n", i % 17)).collect();
    broker.run("producer", &["--topic", "lines", "--key-separator", "\t"], &lines)?;
    let read = |broker: &Dev, group: &str| {
        let arguments = [
            ["--topic", "lines"],
            ["--group", group],
            ["--max-messages", "5000"],
            ["--output-format", "%k\\t%s\\n"],
        ];
        let arguments: Vec<&str> =
            arguments.into_iter().flatten().chain(["--from-beginning"]).collect();
        broker.run("consumer", &arguments, "")
    };
    let by_key = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        // A stable sort by key keeps the order within each key, hence within each partition.
        lines.sort_by_key(|line| line.split('\t').next().unwrap_or_default().to_owned());
        lines
    };
    ensure!(by_key(&read(&broker, "first")?) == by_key(&lines), "lines differ");

    broker.stop()?;
    let broker = Dev::start(scratch.path(), &[])?;
    ensure!(by_key(&read(&broker, "second")?) == by_key(&lines), "after a restart");
    broker.stop()
}
