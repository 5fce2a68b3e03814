//! `bench-peers`: Ottla and other logs measured beside each other. See `integration-tests/bench-peers`.
//!
//! Every server is a process (or a few) of its own with fresh data, every client another one that does
//! one [`client::Task`]: [`ottla`] in this same executable started again, everybody else's in a Go
//! program, `integration-tests/foreign/peers`, which does the same work. [`measure`] has the order of
//! figures, [`server`] starts the servers, [`report`] makes the table.

#[path = "../bench/congestion.rs"]
mod congestion;
#[path = "../bench/lines.rs"]
mod lines;

mod client;
mod install;
mod machine;
mod measure;
mod ottla;
mod report;
mod server;
mod system;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::{Value, json};

use congestion::{Congestion, check_interrupted};
use install::Programs;
use report::Figure;
use system::System;

// As in the executables that people run.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Ottla beside NATS JetStream, Redis streams, RabbitMQ streams and Apache Kafka
///
/// In every round each server is started on an empty disk, warmed up, and does the same: 200-byte
/// values to one stream of one partition as fast as it goes, all of it read back and compared, one value
/// in flight, and a steady rate from a sender to a reader. Nobody forces a file to the disk for a
/// message, unless --durable. JSON lines on standard output, a table of medians on standard error.
#[derive(Debug, Parser)]
#[command(name = "bench-peers", max_term_width = 100)]
pub(crate) struct Options {
    /// Values sent as fast as it goes, and read back
    #[arg(long, value_name = "N", default_value_t = 2_000_000,
        value_parser = clap::value_parser!(u64).range(1000..))]
    records: u64,
    /// Values sent one at a time
    #[arg(long, value_name = "N", default_value_t = 10_000,
        value_parser = clap::value_parser!(u64).range(100..))]
    round_trips: u64,
    /// Values a second where the rate is steady
    #[arg(long, value_name = "N", default_value_t = 10_000,
        value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: u64,
    /// Seconds at that rate; the first one is not counted
    #[arg(long, value_name = "N", default_value_t = 6,
        value_parser = clap::value_parser!(u64).range(2..=600))]
    seconds: u64,
    /// How often everything is measured, in turn
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// The round that is counted first: whoever measures in several runs tells them apart by it
    #[arg(long, value_name = "N", default_value_t = 0)]
    first_round: usize,
    /// Only these; may be repeated
    #[arg(long, value_name = "SYSTEM")]
    only: Vec<System>,
    /// An acknowledged message is on the disk: fsync before the acknowledgement, of whole batches where a
    /// server does that
    #[arg(long)]
    durable: bool,
    /// Java heap of Apache Kafka's broker, as its start script has it
    #[arg(long, value_name = "SIZE", default_value = "1G")]
    heap: String,
    /// TCP's congestion control for every connection of the machine while this runs (needs root);
    /// `system` leaves what there is
    #[arg(long, value_name = "NAME", default_value = "reno")]
    congestion_control: String,
    /// Where data goes, about 700 bytes a record; deleted afterwards
    #[arg(long, value_name = "DIR", default_value = ".")]
    data: PathBuf,
    /// Measure nothing: make the table of JSON lines of earlier runs; may be repeated
    #[arg(long, value_name = "FILE")]
    table: Vec<PathBuf>,
    /// What a client process has to do
    #[arg(long, hide = true)]
    client: Option<String>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(task) = &options.client {
        return ottla::perform(task);
    }
    if !options.table.is_empty() {
        eprint!("{}", report::table(&read_figures(&options.table)?));
        return Ok(());
    }
    ensure!(options.rounds > 0, "nothing to measure");
    let congestion = Congestion::set(&options.congestion_control)?;
    let (programs, skipped) = install::programs(&options);
    for (system, reason) in &skipped {
        println!("{}", json!({ "system": system, "skipped": reason }));
        eprintln!("SKIPPED {}: {reason}", system.name());
    }
    println!("{}", json!({ "machine": machine::describe(congestion.told(), &programs) }));
    let all = run(&options, &programs)?;
    eprint!("{}", report::table(&all));
    Ok(())
}

fn run(options: &Options, programs: &Programs) -> Result<Vec<Figure>> {
    let mut systems: Vec<System> = System::all()
        .filter(|system| options.only.is_empty() || options.only.contains(system))
        .filter(|system| programs.has(*system))
        .collect();
    ensure!(!systems.is_empty(), "nobody is there to be measured");
    let values = tempfile::NamedTempFile::new_in(&options.data)?;
    #[allow(clippy::disallowed_methods, reason = "read by processes started next")]
    std::fs::write(values.path(), lines::fixed_lines(measure::LINES, measure::VALUE_LEN))?;
    let mut all = Vec::new();
    for round in options.first_round..options.first_round + options.rounds {
        for system in &systems {
            check_interrupted()?;
            let figures = measure::system(options, programs, *system, round, values.path());
            let figures = figures.with_context(|| format!("{}, round {round}", system.name()))?;
            for figure in figures {
                println!("{}", serde_json::to_string(&figure)?);
                all.push(figure);
            }
        }
        // The next round begins with another one.
        systems.rotate_left(1);
    }
    Ok(all)
}

/// Those among the lines that are figures.
fn read_figures(files: &[PathBuf]) -> Result<Vec<Figure>> {
    let mut all = Vec::new();
    for path in files {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        for line in text.lines() {
            let value: Value = serde_json::from_str(line)
                .with_context(|| format!("{}: not a line of JSON: {line}", path.display()))?;
            if value.get("figure").is_some() {
                all.push(serde_json::from_value(value)?);
            }
        }
    }
    Ok(all)
}
