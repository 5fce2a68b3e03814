//! `failover`: how long clients stand still while leadership moves. See `integration-tests/failover`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use integration_tests::failover::figures::{Distribution, Following, Produce};
use integration_tests::failover::run::{Figure, RunOptions, run};
use integration_tests::zookeeper::RegistryKind;

// As in the executables that people run.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures what clients notice of leaders that move: 3 brokers, 2 coordinators, replication 3,
/// min.insync.replicas 2, acks=all, a steady load and a group
///
/// First every broker is restarted in turn, several rounds; then leaders are killed with kill -9. One
/// JSON line a figure on standard output, a table on standard error. The exit code is 1 where a record
/// was lost or duplicated or failed; times have no bound here.
#[derive(Debug, Parser)]
#[command(name = "failover", max_term_width = 100)]
struct Arguments {
    /// How many times every broker is restarted
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: u32,
    /// How many leaders are killed
    #[arg(long, value_name = "N", default_value_t = 10)]
    kills: u32,
    /// Records a second
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    rate: u32,
    /// Partitions of the topic
    #[arg(long, value_name = "N", default_value_t = 6)]
    partitions: i32,
    /// Members of the group
    #[arg(long, value_name = "N", default_value_t = 2)]
    members: u32,
    /// Quiet time before each fault
    #[arg(long, value_name = "MS", default_value_t = 2_000)]
    pause_ms: u64,
    /// Session timeout of every process
    #[arg(long, value_name = "MS", default_value_t = 2_000)]
    session_ms: u64,
    /// Who keeps the cluster's state: an ensemble of three, or `coordinator registry`
    #[arg(long, value_enum, default_value_t = Keeper::Zookeeper)]
    registry: Keeper,
    /// A setting of the brokers; may be repeated
    #[arg(long = "broker", value_name = "KEY=VALUE", value_parser = setting)]
    broker_settings: Vec<(String, String)>,
    /// A setting of the producer; may be repeated
    #[arg(long = "producer", value_name = "KEY=VALUE", value_parser = setting)]
    producer_settings: Vec<(String, String)>,
    /// A setting of the consumers; may be repeated
    #[arg(long = "consumer", value_name = "KEY=VALUE", value_parser = setting)]
    consumer_settings: Vec<(String, String)>,
    /// Where broker data goes [default: a temporary folder]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Only JSON lines, no table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Keeper {
    Zookeeper,
    Embedded,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn main() -> ExitCode {
    match go() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("failover: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn go() -> Result<bool> {
    let arguments = Arguments::parse();
    ensure!(arguments.partitions > 0, "--partitions must be at least 1");
    ensure!(arguments.rate > 0, "--rate must be at least 1");
    ensure!(arguments.members > 0, "--members must be at least 1");
    let figures = run(&RunOptions {
        rounds: arguments.rounds,
        kills: arguments.kills,
        rate: arguments.rate,
        partitions: arguments.partitions,
        members: arguments.members,
        pause: Duration::from_millis(arguments.pause_ms),
        session: Duration::from_millis(arguments.session_ms),
        registry: match arguments.registry {
            Keeper::Zookeeper => RegistryKind::ZooKeeper(3),
            Keeper::Embedded => RegistryKind::Embedded,
        },
        broker_settings: arguments.broker_settings,
        producer_settings: arguments.producer_settings,
        consumer_settings: arguments.consumer_settings,
        data: arguments.data,
    })?;
    for figure in &figures {
        println!("{}", serde_json::to_string(figure)?);
    }
    if !arguments.json {
        print_table(&figures);
    }
    let mut wrong = figures.iter().filter_map(|figure| match figure {
        Figure::All { why, .. } => Some(why),
        _ => None,
    });
    Ok(wrong.all(|why| {
        why.iter().for_each(|why| eprintln!("FAILED: {why}"));
        why.is_empty()
    }))
}

fn print_table(figures: &[Figure]) {
    eprintln!(
        "\n{:<58} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "ms", "count", "p50", "p99", "p99.9", "max"
    );
    for figure in figures {
        match figure {
            Figure::Rolling { restarts, whole, over_restarts } => {
                produce(&format!("{restarts} restarts, whole time"), whole);
                produce("  from SIGTERM until all are in sync", over_restarts);
            }
            Figure::HandOver(times) => following("hand-over", times),
            Figure::Kills { session_timeout_ms, cost, following: times, produce: load } => {
                let name = format!("kill -9, sessions of {session_timeout_ms} ms: fail-over");
                row(&name, &cost.fail_over_ms);
                row("  until the new leaders are written", &cost.until_elected_ms);
                row("  longest stall of partitions led by others", &cost.others_stall_ms);
                following("  kill -9", times);
                produce("  from kill until all are in sync", load);
            }
            Figure::All { ok, acknowledged, failed, read, broken, .. } => {
                let count = |kind| broken.get(&kind).copied().unwrap_or_default();
                let (lost, twice) = (
                    count(integration_tests::checker::Kind::Lost),
                    count(integration_tests::checker::Kind::Duplicated),
                );
                eprintln!(
                    "\n{acknowledged} acknowledged, {failed} failed, {read} in the log, {lost} lost, \
                     {twice} duplicated: {}",
                    if *ok { "ok" } else { "NOT OK" },
                );
            }
        }
    }
}

fn produce(name: &str, times: &Produce) {
    row(&format!("{name}: produce latency"), &times.latency_ms);
    eprintln!("{:<58} {:>49.1}", "  longest stall of a partition", times.longest_stall_ms);
}

fn following(name: &str, times: &Following) {
    row(&format!("{name}: written → a client is told"), &times.committed_to_told_ms);
    row(&format!("{name}: written → acknowledged"), &times.committed_to_acknowledged_ms);
    row(&format!("{name}: written → delivered"), &times.committed_to_delivered_ms);
    for slow in times.slowest.iter().take(3) {
        let ms = |time: Option<f64>| time.map_or("never".to_owned(), |time| format!("{time:.1}"));
        eprintln!(
            "  at {:.0} ms partition {} to broker {}: told {}, acknowledged {:.1}, delivered {}",
            slow.at_ms,
            slow.partition,
            slow.leader,
            ms(slow.told_ms),
            slow.acknowledged_ms,
            ms(slow.delivered_ms),
        );
    }
    if times.left_out > 0 {
        eprintln!("  {} more changes whose times are not known", times.left_out);
    }
}

fn row(name: &str, times: &Distribution) {
    let Distribution { count, p50, p99, p99_9, max } = times;
    eprintln!("{name:<58} {count:>9} {p50:>9.1} {p99:>9.1} {p99_9:>9.1} {max:>9.1}");
}
