//! Goes through a schedule: break, wait, heal, demand that everything works, and judge in the end.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::inject::{heals_within, inject};
use super::observer::{Observer, Subject};
use super::replicas;
use super::report::{Pause, Report};
use super::schedule::{Fault, Schedule};
use crate::checker::{self, History};
use crate::cluster::{Cluster, ClusterOptions};
use crate::recorder::Recorder;
use crate::workload::nap;
use crate::zookeeper::RegistryKind;

const TOPIC: &str = "ledger";
const GROUP: &str = "readers";
/// At least so many records are acknowledged between faults.
const BETWEEN_FAULTS: u64 = 1_000;
const BETWEEN_LIMIT: Duration = Duration::from_secs(30);

/// The cluster and its load.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// What is broken.
    pub schedule: Schedule,
    /// Where to stop early.
    pub time: Option<Duration>,
    /// Replicas of each partition.
    pub replication_factor: u32,
    /// Partitions of the topic.
    pub partitions: i32,
    /// Producers.
    pub producers: u32,
    /// Records a second of each.
    pub rate: u32,
    /// Members of the group.
    pub members: u32,
    /// Session timeout of every process.
    pub session: Duration,
    /// More configuration of the topic.
    pub topic_configs: Vec<String>,
}

impl RunOptions {
    /// Three brokers, replication 3, three producers of 500 records a second, a group of two.
    pub fn new(schedule: Schedule) -> Self {
        Self {
            schedule,
            time: None,
            replication_factor: 3,
            partitions: 6,
            producers: 3,
            rate: 500,
            members: 2,
            session: Duration::from_secs(2),
            topic_configs: Vec::new(),
        }
    }
}

/// A run's outcome, and where the processes' logs and data are if it failed.
pub struct Outcome {
    /// The line.
    pub report: Report,
    /// Kept only where something went wrong.
    pub kept: Option<PathBuf>,
}

/// Runs the whole schedule. An error is one of the test's own machinery, before anything was broken;
/// everything else is in the report.
pub fn run(options: &RunOptions) -> Result<Outcome> {
    let began = Instant::now();
    let mut report = Report::new(options.schedule.seed);
    let mut cluster = Cluster::start(cluster_options(options))?;
    create_topic(&cluster, options)?;
    let observer = Observer::start(Subject {
        zookeeper: cluster.zookeeper(),
        topic: TOPIC.to_owned(),
        partitions: options.partitions,
        group: GROUP.to_owned(),
    })?;
    let mut pauses = Vec::new();
    let judged = (|| {
        let recorder = start_load(&cluster, options)?;
        let ran = go_through(&mut cluster, &observer, &recorder, options, &mut pauses);
        report.cut_short = ran.is_ok() && pauses.len() < options.schedule.faults.len();
        report.acknowledged = recorder.acknowledged();
        report.failed = recorder.failed();
        if let Err(error) = &ran {
            eprintln!("{} ms: FAILED: {error:#}", recorder.now());
            report.why.push(format!("{error:#}"));
        }
        judge(recorder, observer, &mut report)
    })();
    report.pauses(&pauses);
    match judged.and_then(|history| compare(&mut cluster, &history, options.partitions)) {
        Ok(differences) => {
            report.replicas_differ = differences.len();
            report.why.extend(differences);
        }
        Err(error) => report.why.push(format!("{error:#}")),
    }
    report.why.extend(cluster.panics());
    if pauses.is_empty() {
        report.why.push("no fault was injected".to_owned());
    }
    report.seconds = began.elapsed().as_secs_f64();
    report.ok = report.why.is_empty();
    let kept = (!report.ok).then(|| cluster.keep());
    Ok(Outcome { report, kept })
}

fn cluster_options(options: &RunOptions) -> ClusterOptions {
    let session = options.session.as_millis().to_string();
    let mut cluster = ClusterOptions::three("faults")
        // So that a replica that does not follow leaves the ISR within a fault.
        .set("replica.lag.time.max.ms", &session);
    cluster.registry = RegistryKind::ZooKeeper(3);
    cluster.coordinators = 2;
    cluster.session_timeout = options.session;
    cluster.network = true;
    cluster
}

fn create_topic(cluster: &Cluster, options: &RunOptions) -> Result<()> {
    let mut configs: Vec<&str> = options.topic_configs.iter().map(String::as_str).collect();
    let minimum = format!("min.insync.replicas={}", 2.min(options.replication_factor));
    configs.push(&minimum);
    let factor = options.replication_factor as i32;
    cluster.create_replicated_topic(TOPIC, options.partitions, factor, &configs)
}

fn start_load(cluster: &Cluster, options: &RunOptions) -> Result<Recorder> {
    let mut recorder = Recorder::new(&cluster.bootstrap(), TOPIC, options.partitions);
    for _ in 0..options.producers {
        recorder.produce(options.rate, &[("acks", "all")])?;
    }
    let session = options.session.as_millis().to_string();
    for _ in 0..options.members {
        recorder.join(GROUP, &[("zookeeper.session.timeout.ms", &session)])?;
    }
    recorder.tail()?;
    Ok(recorder)
}

fn go_through(
    cluster: &mut Cluster,
    observer: &Observer,
    recorder: &Recorder,
    options: &RunOptions,
    pauses: &mut Vec<Pause>,
) -> Result<()> {
    let began = Instant::now();
    recorder.all_partitions_work(BETWEEN_LIMIT, true).context("before the first fault")?;
    let count = options.schedule.faults.len();
    for (number, fault) in (1..).zip(&options.schedule.faults) {
        if options.time.is_some_and(|time| began.elapsed() >= time) {
            break;
        }
        let label = format!("fault {number} of {count}");
        recorder.wait_for_more(BETWEEN_FAULTS, BETWEEN_LIMIT).with_context(|| label.clone())?;
        let pause = one(cluster, observer, recorder, *fault, options.session, &label)
            .with_context(|| format!("{label}, {fault:?}"))?;
        pauses.push(pause);
    }
    recorder.wait_for_more(BETWEEN_FAULTS, BETWEEN_LIMIT).context("after the last fault")
}

/// One fault from its beginning until every partition works again.
fn one(
    cluster: &mut Cluster,
    observer: &Observer,
    recorder: &Recorder,
    fault: Fault,
    session: Duration,
    label: &str,
) -> Result<Pause> {
    recorder.begin_pause();
    let at = recorder.now();
    let broken = inject(cluster, observer, fault)?;
    let what = broken.what.clone();
    eprintln!("{at} ms: {label}: {what} for {} ms", fault.lasts_ms);
    nap(Duration::from_millis(fault.lasts_ms));
    let healing = Instant::now();
    broken.heal(cluster)?;
    let limit = heals_within(session).saturating_sub(healing.elapsed());
    recorder.all_partitions_work(limit, true).with_context(|| format!("{what} healed"))?;
    let works_after = healing.elapsed();
    cluster.check_alive()?;
    let worst_ms = recorder.pauses().into_iter().max().unwrap_or(0);
    eprintln!("{} ms: works {works_after:.1?} after healing, pause {worst_ms} ms", recorder.now());
    Ok(Pause { kind: fault.kind, worst_ms })
}

fn judge(recorder: Recorder, observer: Observer, report: &mut Report) -> Result<History> {
    let mut history = recorder.finish().context("the end of the run")?;
    let seen = observer.stop()?;
    ensure!(seen.looks > 0, "the registry was never seen");
    history.claims = seen.claims.into_iter().collect();
    history.stored = seen.stored.into_iter().collect();
    let acknowledged = history.sends.iter().flat_map(|sends| &sends.sends);
    let acknowledged = acknowledged.filter(|send| send.outcome != checker::Outcome::Unknown);
    report.acknowledged = acknowledged.count() as u64;
    let verdict = checker::judge(&history);
    report.verdict(&history, &verdict);
    let confirmed = history.commits.iter().filter(|commit| commit.confirmed).count();
    if confirmed == 0 || report.delivered < report.read {
        report.why.push(format!(
            "the group committed {confirmed} times and was delivered {} of {} records",
            report.delivered, report.read
        ));
    }
    Ok(history)
}

fn compare(cluster: &mut Cluster, history: &History, partitions: i32) -> Result<Vec<String>> {
    let data = cluster.stop_brokers()?;
    let mut found = Vec::new();
    for partition in 0..partitions {
        let log = history.log.get(&partition).ok_or_else(|| anyhow!("no log of {partition}"))?;
        found.extend(replicas::differences(&data, TOPIC, partition, log.end())?);
    }
    Ok(found)
}
