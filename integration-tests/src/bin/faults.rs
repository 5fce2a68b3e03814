//! `faults`: a long run under random faults, judged by the checker. See `integration-tests/faults`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use integration_tests::faults::run::{RunOptions, run};
use integration_tests::faults::schedule::{FaultKind, Schedule};
use integration_tests::recorder::Clients;

/// Breaks a cluster of 3 brokers, 2 coordinators and 3 ZooKeeper members under load, one fault every
/// few seconds, and judges what producers and consumers saw
///
/// After each fault heals, every partition has to acknowledge and be read within twice the session
/// timeout plus 5 s, and 1,000 records are acknowledged before the next one. The last line on
/// standard output is JSON. When something is wrong, the exit code is 1, and the seed, the schedule
/// and the folder with every process's log and data are printed; the schedule can be replayed.
#[derive(Debug, Parser)]
#[command(name = "faults", max_term_width = 100)]
struct Arguments {
    /// How many faults
    #[arg(long, value_name = "N", default_value_t = 20)]
    faults: usize,
    /// What decides the schedule [default: the clock]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Stop early after so many minutes, with the faults done by then
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
    /// Run the schedule in this file, as a failed run wrote it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["faults", "seed", "only"])]
    replay: Option<PathBuf>,
    /// Only faults of these kinds, comma-separated
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    only: Vec<FaultKind>,
    /// Whose producers, group and reader of everything
    ///
    /// Clients of Kafka come in by the brokers' Kafka listeners, which stand behind the same cuts, and
    /// their group is coordinated by a broker, which is then a target of faults, too.
    #[arg(long, value_enum, value_name = "WHOSE", default_value_t = Clients::Ottla)]
    clients: Clients,
    /// Replicas of each partition
    #[arg(long, value_name = "N", default_value_t = 3)]
    replication_factor: u32,
    /// Partitions of the topic
    #[arg(long, value_name = "N", default_value_t = 6)]
    partitions: i32,
    /// Records a second of each of three producers
    #[arg(long, value_name = "N", default_value_t = 500)]
    rate: u32,
    /// Session timeout of every process
    #[arg(long, value_name = "MS", default_value_t = 2_000)]
    session_ms: u64,
    /// More configuration of the topic, for example flush=before-ack
    #[arg(long = "config", value_name = "KEY=VALUE")]
    configs: Vec<String>,
    /// Print the schedule and do nothing
    #[arg(long)]
    print_schedule: bool,
}

impl Arguments {
    fn schedule(&self) -> Result<Schedule> {
        if let Some(path) = &self.replay {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("the schedule {}", path.display()))?;
            let schedule = serde_json::from_str(&text);
            return schedule.with_context(|| format!("{} is no schedule", path.display()));
        }
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let seed = self.seed.unwrap_or_else(clock);
        let kinds = if self.only.is_empty() { &FaultKind::ALL[..] } else { &self.only };
        let schedule = Schedule::new(seed, self.faults, kinds, self.session_ms);
        Ok(match self.clients.have_coordinator() {
            true => schedule.of_a_group_with_coordinator(),
            false => schedule,
        })
    }
}

fn main() -> ExitCode {
    match go() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("faults: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn go() -> Result<bool> {
    let arguments = Arguments::parse();
    ensure!(arguments.partitions > 0, "--partitions must be at least 1");
    ensure!(arguments.rate > 0, "--rate must be at least 1");
    let schedule = arguments.schedule()?;
    if arguments.print_schedule {
        println!("{}", serde_json::to_string_pretty(&schedule)?);
        return Ok(true);
    }
    let (seed, count) = (schedule.seed, schedule.faults.len());
    eprintln!("faults: {count} faults, seed {seed}");
    let text = serde_json::to_string(&schedule)?;
    let outcome = run(&RunOptions {
        time: arguments.minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0)),
        replication_factor: arguments.replication_factor,
        partitions: arguments.partitions,
        clients: arguments.clients,
        rate: arguments.rate,
        session: Duration::from_millis(arguments.session_ms),
        topic_configs: arguments.configs.clone(),
        ..RunOptions::new(schedule)
    })
    .with_context(|| format!("seed {seed}"))?;
    for why in &outcome.report.why {
        eprintln!("FAILED: {why}");
    }
    if let Some(kept) = &outcome.kept {
        let file = kept.join("schedule.json");
        #[allow(clippy::disallowed_methods, reason = "a note for whoever looks into a failed run")]
        std::fs::write(&file, &text)?;
        eprintln!("seed {seed}; logs and data are kept in {}", kept.display());
        eprintln!("schedule: {text}");
        let clients = arguments.clients.to_possible_value();
        let clients = clients.map(|value| value.get_name().to_owned()).unwrap_or_default();
        let file = file.display();
        eprintln!("again: integration-tests/faults --clients {clients} --replay {file}");
    }
    println!("{}", serde_json::to_string(&outcome.report)?);
    Ok(outcome.report.ok)
}
