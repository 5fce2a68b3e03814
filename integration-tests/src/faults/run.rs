//! Goes through a schedule: break, wait, heal, demand that everything works, and judge in the end.
//! A test of one scenario uses the same [`Scene`] and breaks it by hand.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use coordinator::zk::payload::PartitionState;

use super::group_log;
use super::inject::inject;
use super::observer::{Observer, Subject};
use super::replicas;
use super::report::{Pause, Report};
use super::schedule::{Fault, FaultKind, Schedule};
use crate::checker::{self, History};
use crate::cluster::{Cluster, ClusterOptions};
use crate::recorder::{self, Clients, Recorder};
use crate::workload::nap;
use crate::zookeeper::RegistryKind;

/// The topic of every run.
pub const TOPIC: &str = "ledger";
/// The group of every run.
pub const GROUP: &str = "readers";
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
    /// Whose clients they are.
    pub clients: Clients,
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
            clients: Clients::Ottla,
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
    let mut scene = Scene::start("faults", options)?;
    let ran = scene.go_through();
    let cut_short = ran.is_ok() && scene.pauses.len() < options.schedule.faults.len();
    if let Err(error) = &ran {
        eprintln!("{} ms: FAILED: {error:#}", scene.recorder.now());
    }
    let mut outcome = scene.finish(ran);
    outcome.report.cut_short = cut_short;
    Ok(outcome)
}

/// A cluster under load, watched and recorded.
pub struct Scene {
    /// The cluster.
    pub cluster: Cluster,
    /// Producers, a group and a reader of everything.
    pub recorder: Recorder,
    /// Sees the registry.
    pub observer: Observer,
    options: RunOptions,
    began: Instant,
    pauses: Vec<Pause>,
}

impl Scene {
    /// Starts all of it.
    pub fn start(name: &str, options: &RunOptions) -> Result<Self> {
        let began = Instant::now();
        let cluster = Cluster::start(cluster_options(name, options))?;
        create_topic(&cluster, options)?;
        let observer = Observer::start(Subject {
            zookeeper: cluster.zookeeper(),
            topic: TOPIC.to_owned(),
            partitions: options.partitions,
            group: GROUP.to_owned(),
            has_coordinator: options.clients.have_coordinator(),
        })?;
        let recorder = start_load(&cluster, options)?;
        let pauses = Vec::new();
        Ok(Self { cluster, recorder, observer, options: options.clone(), began, pauses })
    }

    /// How long after a fault healed every partition may take to work again.
    pub fn heals_within(&self) -> Duration {
        self.options.session * 2 + Duration::from_secs(5)
    }

    /// Waits until every partition works and every replica is in sync, before anything is broken.
    pub fn ready(&self) -> Result<()> {
        let works = self.recorder.all_partitions_work(BETWEEN_LIMIT * 2, true);
        works.context("before the first fault")?;
        self.in_sync(BETWEEN_LIMIT).context("before the first fault")
    }

    fn go_through(&mut self) -> Result<()> {
        self.ready()?;
        let began = Instant::now();
        let faults = self.options.schedule.faults.clone();
        for (number, fault) in (1..).zip(&faults) {
            if self.options.time.is_some_and(|time| began.elapsed() >= time) {
                break;
            }
            let label = format!("fault {number} of {}", faults.len());
            self.fault(*fault, &label).with_context(|| format!("{label}, {fault:?}"))?;
        }
        self.recorder.wait_for_more(BETWEEN_FAULTS, BETWEEN_LIMIT).context("after the last fault")
    }

    /// Waits until enough was acknowledged since the last fault, then goes through one fault from its
    /// beginning until every partition works again.
    pub fn fault(&mut self, fault: Fault, label: &str) -> Result<()> {
        let recorder = &self.recorder;
        recorder.wait_for_more(BETWEEN_FAULTS, BETWEEN_LIMIT).context("between faults")?;
        recorder.begin_pause();
        let at = recorder.now();
        let broken = inject(&mut self.cluster, &self.observer, fault)?;
        let what = broken.what.clone();
        eprintln!("{at} ms: {label}: {what} for {} ms", fault.lasts_ms);
        nap(Duration::from_millis(fault.lasts_ms));
        let mut healing = Instant::now();
        broken.heal(&mut self.cluster)?;
        if fault.kind == FaultKind::KillRegistry {
            // How long a server of ZooKeeper takes to start is not ours; nobody waits for it.
            healing = Instant::now();
        }
        let limit = self.heals_within().saturating_sub(healing.elapsed());
        let recorder = &self.recorder;
        recorder.all_partitions_work(limit, true).with_context(|| format!("{what} healed"))?;
        let works_after = healing.elapsed();
        self.cluster.check_alive()?;
        let worst_ms = recorder.pauses().into_iter().max().unwrap_or(0);
        let now = recorder.now();
        eprintln!("{now} ms: works {works_after:.1?} after healing, pause {worst_ms} ms");
        self.pauses.push(Pause { kind: fault.kind, worst_ms });
        Ok(())
    }

    /// Waits until every replica of every partition is in sync.
    pub fn in_sync(&self, limit: Duration) -> Result<()> {
        let wanted = self.options.replication_factor as usize;
        self.wait_for(limit, "every replica is in sync", |state| state.isr.len() == wanted)
    }

    /// Waits until the states of all partitions are so.
    pub fn wait_for(
        &self,
        limit: Duration,
        what: &str,
        holds: impl Fn(&PartitionState) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let states = self.observer.seen().states;
            let good = states.iter().flatten().filter(|state| holds(state)).count();
            if good == self.options.partitions as usize {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "waited {limit:?} for: {what}; {states:?}");
            nap(Duration::from_millis(50));
        }
    }

    /// Ends the load, judges what was recorded, compares the replicas. `ran` is how it went so far.
    pub fn finish(self, ran: Result<()>) -> Outcome {
        let Self { mut cluster, recorder, observer, options, began, pauses } = self;
        let mut report = Report::new(options.schedule.seed);
        report.why.extend(ran.err().map(|error| format!("{error:#}")));
        report.pauses(&pauses);
        report.acknowledged = recorder.acknowledged();
        report.failed = recorder.failed();
        let notes = cluster.dir().join("clients.log");
        #[allow(clippy::disallowed_methods, reason = "a note for whoever looks into a failed run")]
        let noted = std::fs::write(notes, recorder.notes());
        report.why.extend(noted.err().map(|error| format!("clients.log: {error}")));
        let compared = judge(&cluster, recorder, observer, &mut report).and_then(|history| {
            report.latency(&history);
            compare(&mut cluster, &history, options.partitions)
        });
        match compared {
            Ok(differences) => {
                report.replicas_differ = differences.len();
                report.why.extend(differences);
            }
            Err(error) => report.why.push(format!("{error:#}")),
        }
        report.why.extend(cluster.panics());
        if !options.schedule.faults.is_empty() && pauses.is_empty() {
            report.why.push("no fault was injected".to_owned());
        }
        report.seconds = began.elapsed().as_secs_f64();
        report.ok = report.why.is_empty();
        let kept = (!report.ok).then(|| cluster.keep());
        Outcome { report, kept }
    }
}

impl Outcome {
    /// An error that says all that went wrong.
    pub fn ok(self) -> Result<Report> {
        let Self { report, kept } = self;
        ensure!(report.ok, "{}\nlogs and data: {kept:?}", report.why.join("\n"));
        Ok(report)
    }
}

fn cluster_options(name: &str, options: &RunOptions) -> ClusterOptions {
    let session = options.session.as_millis().to_string();
    let mut cluster = ClusterOptions::three(name)
        // So that a replica that does not follow leaves the ISR within a fault.
        .set("replica.lag.time.max.ms", &session);
    cluster.registry = RegistryKind::ZooKeeper(3);
    cluster.coordinators = 2;
    cluster.session_timeout = options.session;
    cluster.network = true;
    cluster.kafka = options.clients.have_coordinator();
    if cluster.kafka {
        // As short sessions as processes have, and no waiting for members that do not come.
        cluster = cluster
            .set("group.min.session.timeout.ms", "100")
            .set("group.initial.rebalance.delay.ms", "500")
            .set("offsets.topic.num.partitions", &group_log::PARTITIONS.to_string());
    }
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
    let subject = recorder::Subject {
        grpc: cluster.bootstrap(),
        kafka: cluster.kafka_bootstrap(),
        topic: TOPIC.to_owned(),
        partitions: options.partitions,
        session: options.session,
        dir: cluster.dir().to_owned(),
    };
    let mut recorder = Recorder::new(options.clients, subject);
    for _ in 0..options.producers {
        recorder.produce(options.rate)?;
    }
    for _ in 0..options.members {
        recorder.join(GROUP)?;
    }
    recorder.tail()?;
    Ok(recorder)
}

fn judge(
    cluster: &Cluster,
    recorder: Recorder,
    observer: Observer,
    report: &mut Report,
) -> Result<History> {
    let has_coordinator = cluster.has_kafka_listeners();
    let mut history = recorder.finish().context("the end of the run")?;
    let seen = observer.stop()?;
    ensure!(seen.looks > 0, "the registry was never seen");
    history.claims = seen.claims.into_iter().collect();
    history.stored = seen.stored.into_iter().collect();
    if has_coordinator {
        let found = group_log::read(&cluster.bootstrap(), GROUP, TOPIC);
        let (claims, stored) = found.context("the records of the group")?;
        report.generations = claims.iter().map(|claim| claim.generation).max().unwrap_or(0);
        (history.claims, history.stored) = (claims, stored);
    }
    let acknowledged = history.sends.iter().flat_map(|sends| &sends.sends);
    let acknowledged = acknowledged.filter(|send| send.outcome != checker::Outcome::Unknown);
    report.acknowledged = acknowledged.count() as u64;
    let verdict = checker::judge(&history);
    report.verdict(&history, &verdict);
    report.why.extend(history.bad_ends.iter().cloned());
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
