//! What Ottla does on this machine, measured beside what the machine allows: one run, JSON lines on
//! standard output (one a figure, with its settings), a table at the end on standard error.
//!
//! Broker, producer and consumer are processes of their own, so that CPU and memory belong to
//! somebody: the broker is `broker dev` with fresh data, clients are this same executable started
//! again with a [`task::Task`]. Which figures there are is [`presets`], how one is measured [`figures`];
//! the raw limits are [`raw`], what is required of the product [`bars`].

mod bars;
mod broker;
mod congestion;
mod consume;
mod figures;
mod lines;
mod load;
mod machine;
mod meter;
mod paced;
mod plot;
mod presets;
mod produce;
mod raw;
mod report;
mod round_trip;
mod run;
mod spec;
mod svg;
mod task;
mod tonic_client;

use anyhow::Result;
use clap::Parser;

use presets::Preset;
use spec::Spec;

// As in the executables that people run.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures producing, draining and latency, beside the limits of the machine.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
pub(crate) struct Options {
    /// Which figures.
    #[arg(long, value_enum, default_value_t = Preset::Standard)]
    preset: Preset,
    /// Records of the large figures; each preset has its own default. Where a request has one record,
    /// `standard` and `bars` send a quarter of them.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1000..))]
    records: Option<u64>,
    /// Bytes of a value; 200, and 100 in `linkedin`, where nothing else is said.
    #[arg(long, value_parser = clap::value_parser!(u32).range(8..=1_000_000))]
    value_bytes: Option<u32>,
    /// Only figures whose name contains this; may be repeated.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Partitions of the topics of `standard`.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=1000))]
    partitions: i32,
    /// `standard`: brokers, each with a replica of every partition; the first one leads, and its CPU and
    /// memory are shown. The producers' acks come from `--producer acks=…`.
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
    /// Records a second of the end-to-end latency figure; `bars` has 10,000 and 100,000.
    #[arg(long, default_value_t = 10_000)]
    rate: u64,
    /// Seconds of the end-to-end latency figures, the first of which is not counted.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..))]
    seconds: u64,
    /// TCP's congestion control for every connection of the machine while this runs (needs root, else it
    /// is only said); `system` changes nothing.
    #[arg(long, value_name = "NAME", default_value = "reno")]
    congestion_control: String,
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
    /// Where plots go, as SVG files: percentiles of the latency figures, and the rates of `batch-size`.
    #[arg(long, value_name = "DIR")]
    svg: Option<std::path::PathBuf>,
    /// Only JSON lines, no table.
    #[arg(long)]
    json: bool,
    /// Print the names of all figures of the preset and end.
    #[arg(long)]
    list: bool,
    /// What a process that this program started has to do.
    #[arg(long, hide = true)]
    task: Option<String>,
}

impl Options {
    fn is_wanted(&self, spec: &Spec) -> bool {
        let is_named = |text: &String| spec.names().iter().any(|name| name.contains(text.as_str()));
        self.only.is_empty() || self.only.iter().any(is_named)
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    match &options.task {
        Some(task) => task::perform(task),
        None => run::run(&options),
    }
}
