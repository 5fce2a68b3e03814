//! What Ottla does on this machine, measured beside what the machine allows: one run, JSON lines on
//! standard output (one a figure, with its settings), a table at the end on standard error.
//!
//! Broker, producer and consumer are processes of their own, so that CPU and memory belong to
//! somebody: the broker is `broker dev` with fresh data, clients are this same executable started
//! again with a [`task::Task`]. The order of figures is [`plan`]; the raw limits are [`raw`].

mod broker;
mod consume;
mod lines;
mod load;
mod machine;
mod meter;
mod paced;
mod plan;
mod produce;
mod raw;
mod report;
mod round_trip;
mod task;

use anyhow::Result;
use clap::Parser;

// As in the executables that people run.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures producing, draining and latency of 200-byte records, beside the limits of the machine.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
pub(crate) struct Options {
    /// Records of the large figures. One request a record uses a quarter of them.
    #[arg(long, default_value_t = 4_000_000, value_parser = clap::value_parser!(u64).range(1000..))]
    records: u64,
    /// Only figures whose name contains this; may be repeated.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Partitions of the topics.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=1000))]
    partitions: i32,
    /// Brokers, each with a replica of every partition; the first one leads, and its CPU and memory are
    /// shown. The producers' acks come from `--producer acks=…`.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=9))]
    replicas: i32,
    /// Flush policy of the topics: os, interval or before-ack. Figures that name one keep theirs.
    #[arg(long, default_value = "os")]
    flush: String,
    /// Runs all figures so many times in turn; the table shows medians.
    #[arg(long, default_value_t = 1)]
    repeat: usize,
    /// Records of each round-trip figure.
    #[arg(long, default_value_t = 20_000)]
    round_trips: u64,
    /// Records a second of the end-to-end latency figure.
    #[arg(long, default_value_t = 10_000)]
    rate: u64,
    /// Seconds of the end-to-end latency figure.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// A setting of the broker, KEY=VALUE; may be repeated.
    #[arg(long = "broker", value_name = "KEY=VALUE")]
    broker_settings: Vec<String>,
    /// A setting of the producers, KEY=VALUE; may be repeated.
    #[arg(long = "producer", value_name = "KEY=VALUE")]
    producer_settings: Vec<String>,
    /// A setting of the consumers, KEY=VALUE; may be repeated.
    #[arg(long = "consumer", value_name = "KEY=VALUE")]
    consumer_settings: Vec<String>,
    /// Where broker data and raw files go; needs about 800 bytes a record. Deleted afterwards.
    #[arg(long, value_name = "DIR", default_value = ".")]
    data: std::path::PathBuf,
    /// Only JSON lines, no table.
    #[arg(long)]
    json: bool,
    /// Print the names of all figures and end.
    #[arg(long)]
    list: bool,
    /// What a process that this program started has to do.
    #[arg(long, hide = true)]
    task: Option<String>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    match &options.task {
        Some(task) => task::perform(task),
        None => plan::run(&options),
    }
}
