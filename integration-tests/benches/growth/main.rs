//! `bench-growth`: how cost grows with partitions, clients, log sizes, record sizes and members of a
//! group, and what an idle process costs. See `integration-tests/bench-growth`.
//!
//! One `broker dev` a series, with fresh data. All clients of a point live in this one process, on
//! one runtime: a thousand clients that are a thousand processes would measure the machine's
//! scheduler. Nothing is asserted about time: what grows worse than linear is printed.

#[allow(dead_code, reason = "the other benchmark uses all of it")]
#[path = "../bench/machine.rs"]
mod machine;
#[allow(dead_code, reason = "the other benchmark uses all of it")]
#[path = "../bench/meter.rs"]
mod meter;

mod clients;
mod connections;
mod fleet;
mod group;
mod idle;
mod log_size;
mod partitions;
mod plot;
mod point;
mod record_size;
mod subject;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::json;

use point::Report;

// As in the executables that people run.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures how cost grows, and says what grows worse than linear
///
/// Each point tells what one unit costs there (a record, a partition, a connection, a member) and
/// that figure's factor against the first point of its series: 1 is linear. JSON lines on standard
/// output, a table on standard error.
#[derive(Debug, Parser)]
#[command(name = "bench-growth", max_term_width = 100)]
struct Options {
    /// Only series whose name contains this; may be repeated
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Print the names of all series and end
    #[arg(long)]
    list: bool,
    /// Records of 200 bytes of each point of `partitions` and `clients`
    #[arg(long, value_name = "N", default_value_t = 1_000_000,
          value_parser = clap::value_parser!(u64).range(10_000..))]
    records: u64,
    /// Partitions of one topic
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,10,100,2000")]
    partitions: Vec<u32>,
    /// Producers, then consumers
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,10,100,1000")]
    clients: Vec<u32>,
    /// GB of the log, each an extension of the one before; so much disk is needed
    #[arg(long, value_name = "GB,...", value_delimiter = ',', default_value = "1,2,4,8")]
    log_sizes: Vec<u32>,
    /// Seconds of each tail of `log size`
    #[arg(long, value_name = "N", default_value_t = 4)]
    tail_seconds: u64,
    /// Bytes of a record
    #[arg(
        long,
        value_name = "BYTES,...",
        value_delimiter = ',',
        default_value = "100,1024,10240,102400,1048576"
    )]
    record_sizes: Vec<u32>,
    /// MB of each record size
    #[arg(long, value_name = "MB", default_value_t = 300)]
    record_mb: u32,
    /// Members of one group
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "10,100")]
    members: Vec<u32>,
    /// Seconds that an idle process is watched
    #[arg(long, value_name = "N", default_value_t = 10)]
    idle_seconds: u64,
    /// A setting of the broker; may be repeated
    #[arg(long = "broker", value_name = "KEY=VALUE")]
    broker_settings: Vec<String>,
    /// Where the broker's data goes; deleted afterwards
    #[arg(long, value_name = "DIR", default_value = ".")]
    data: PathBuf,
    /// Also draw every series into this file
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

type Series = fn(&Options, &mut Report) -> Result<()>;

const ALL: [(&str, Series); 7] = [
    ("start", idle::run),
    ("partitions", partitions::run),
    ("clients", clients::run),
    ("connections", connections::run),
    ("record size", record_size::run),
    ("group", group::run),
    ("log size", log_size::run),
];

fn main() -> Result<()> {
    let options = Options::parse();
    if options.list {
        ALL.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(());
    }
    let counts = [&options.partitions, &options.clients, &options.log_sizes, &options.record_sizes];
    ensure!(
        counts.into_iter().chain([&options.members]).flatten().all(|&count| count > 0),
        "points of a series begin at 1"
    );
    subject::raise_file_limit()?;
    println!("{}", json!({ "machine": machine::describe() }));
    let mut report = Report::default();
    for (name, series) in ALL {
        let only = &options.only;
        if only.is_empty() || only.iter().any(|text| name.contains(text.as_str())) {
            // What the last series wrote goes to the disk now.
            nix::unistd::sync();
            series(&options, &mut report).with_context(|| format!("series {name}"))?;
        }
    }
    report.print_table();
    if let Some(file) = &options.plot {
        plot::draw(&report, file).with_context(|| format!("{}", file.display()))?;
    }
    Ok(())
}
