//! What is done to the cluster: brokers restarted in turn, leaders killed, and everything judged.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use consumer_client::ConsumerConfig;
use serde::Serialize;

use super::clock::Clock;
use super::figures::{FailOver, Firsts, Following, Kill, Produce, Window};
use super::load::{Load, LoadOptions};
use super::readers::{Member, read_whole};
use super::states::{States, Subject};
use crate::checker::{self, History, Kind};
use crate::cluster::{Cluster, ClusterOptions};
use crate::workload::nap;
use crate::zookeeper::RegistryKind;

const TOPIC: &str = "ledger";
const GROUP: &str = "readers";
/// The longest wait for what has to come about by itself.
const WITHIN: Duration = Duration::from_secs(60);

/// What is measured, and with what.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// How many times every broker is restarted.
    pub rounds: u32,
    /// How many leaders are killed.
    pub kills: u32,
    /// Records a second.
    pub rate: u32,
    /// Partitions of the topic.
    pub partitions: i32,
    /// Members of the group.
    pub members: u32,
    /// Quiet time before each fault.
    pub pause: Duration,
    /// Session timeout of every process.
    pub session: Duration,
    /// Which registry.
    pub registry: RegistryKind,
    /// Settings of brokers.
    pub broker_settings: Vec<(String, String)>,
    /// Settings of the producer.
    pub producer_settings: Vec<(String, String)>,
    /// Settings of the consumers.
    pub consumer_settings: Vec<(String, String)>,
    /// Where broker data goes; a temporary folder if `None`.
    pub data: Option<PathBuf>,
}

/// One figure, as a line of JSON.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "figure")]
pub enum Figure {
    /// Brokers restarted one after another.
    #[serde(rename = "rolling restart")]
    Rolling {
        /// How many restarts.
        restarts: usize,
        /// From the first restart to the last, quiet times included.
        whole: Produce,
        /// From each SIGTERM until every replica was in sync again.
        over_restarts: Produce,
    },
    /// Leaders that were told to go, or came back.
    #[serde(rename = "following a hand-over")]
    HandOver(Following),
    /// Leaders that died.
    #[serde(rename = "kill -9 of a leader")]
    Kills {
        /// Session timeout of every process.
        session_timeout_ms: u64,
        /// What it cost.
        #[serde(flatten)]
        cost: FailOver,
        /// How clients followed once a new leader was written.
        following: Following,
        /// How produce fared meanwhile.
        produce: Produce,
    },
    /// Everything that was sent and read.
    #[serde(rename = "all records")]
    All {
        /// Nothing failed and no promise was broken.
        ok: bool,
        /// Records a second that were due.
        rate: u32,
        /// Acknowledged.
        acknowledged: u64,
        /// Failed.
        failed: u64,
        /// Delivered to the group, repetitions included.
        delivered: u64,
        /// In the log.
        read: u64,
        /// Broken promises by kind, zeros included.
        #[serde(flatten)]
        broken: BTreeMap<Kind, u64>,
        /// Metadata that the producer asked for.
        metadata_refreshes: u64,
        /// Metadata that the producer was pushed.
        metadata_pushes: u64,
        /// What went wrong.
        why: Vec<String>,
    },
}

/// Runs all of it.
pub fn run(options: &RunOptions) -> Result<Vec<Figure>> {
    let mut scene = Scene::start(options)?;
    scene.ready().context("before anything is broken")?;
    let from = scene.clock.now();
    let mut restarts = Vec::new();
    for round in 1..=options.rounds {
        for broker in 1..=scene.cluster.broker_count() {
            let what = format!("round {round} of {}, broker {broker}", options.rounds);
            restarts.push(scene.restart(broker, &what).with_context(|| what.clone())?);
        }
        scene.prefer()?;
    }
    let rolling = Window { from, to: scene.clock.now() };
    let mut kills = Vec::new();
    for number in 1..=options.kills {
        let what = format!("kill {number} of {}", options.kills);
        kills.push(scene.kill(number, &what).with_context(|| what.clone())?);
        scene.prefer()?;
    }
    scene.finish(rolling, &restarts, &kills)
}

struct Scene {
    options: RunOptions,
    clock: Clock,
    // Clients end before what they talk to.
    load: Load,
    members: Vec<Member>,
    states: States,
    cluster: Cluster,
}

impl Scene {
    fn start(options: &RunOptions) -> Result<Self> {
        let clock = Clock::start();
        let cluster = Cluster::start(ClusterOptions {
            registry: options.registry,
            coordinators: 2,
            session_timeout: options.session,
            broker_settings: options.broker_settings.clone(),
            data_root: options.data.clone(),
            ..ClusterOptions::three("failover")
        })?;
        let configs = ["min.insync.replicas=2"];
        cluster.create_replicated_topic(TOPIC, options.partitions, 3, &configs)?;
        let bootstrap = cluster.bootstrap();
        let states = States::start(
            Subject {
                zookeeper: cluster.zookeeper(),
                bootstrap: bootstrap.clone(),
                topic: TOPIC.to_owned(),
                partitions: options.partitions,
            },
            clock,
        )?;
        let mut config = ConsumerConfig::new(bootstrap.split(','));
        let session = options.session.as_millis().to_string();
        config.set("group.id", GROUP)?;
        config.set("auto.offset.reset", "earliest")?;
        config.set("zookeeper.session.timeout.ms", &session)?;
        for (key, value) in &options.consumer_settings {
            config.set(key, value)?;
        }
        let names = (1..=options.members).map(|number| format!("{GROUP}-{number}"));
        let members = names.map(|name| Member::join(config.clone(), TOPIC, &name, clock));
        let members = members.collect::<Result<Vec<_>>>()?;
        let load = LoadOptions {
            bootstrap,
            topic: TOPIC.to_owned(),
            partitions: options.partitions,
            rate: options.rate,
            settings: options.producer_settings.clone(),
        };
        let load = Load::start(load, clock)?;
        Ok(Self { options: options.clone(), clock, load, members, states, cluster })
    }

    fn ready(&self) -> Result<()> {
        self.works()?;
        wait_for("every member reads", || {
            self.members.iter().try_fold(true, |all, member| Ok(all && member.delivered()? > 0))
        })?;
        self.in_sync()
    }

    /// Waits until every partition acknowledges something that is due after now.
    fn works(&self) -> Result<()> {
        let now = self.clock.now();
        wait_for("every partition acknowledges", || self.load.works_since(now))
    }

    fn in_sync(&self) -> Result<()> {
        wait_for("every replica is in sync", || {
            let seen = self.states.seen()?;
            let states = seen.now();
            let all = states.len() == self.options.partitions as usize;
            Ok(all && states.values().all(|state| state.isr.len() == 3))
        })
    }

    fn restart(&mut self, broker: i32, what: &str) -> Result<Window> {
        nap(self.options.pause);
        let from = self.clock.now();
        self.cluster.stop_broker(broker)?;
        let stopped = self.clock.now();
        self.cluster.start_broker(broker)?;
        let started = self.clock.now();
        self.works()?;
        self.in_sync()?;
        let to = self.clock.now();
        let at = from / 1_000;
        let spans = [stopped - from, started - stopped, to - started].map(|span| span / 1_000);
        eprintln!(
            "{at} ms: {what}: stopped within {} ms, up after {}, in sync after {}",
            spans[0], spans[1], spans[2]
        );
        Ok(Window { from, to })
    }

    fn kill(&mut self, number: u32, what: &str) -> Result<Kill> {
        nap(self.options.pause);
        let partition = (number as i32 - 1) % self.options.partitions;
        let seen = self.states.seen()?;
        let leaders: BTreeMap<i32, i32> = seen
            .now()
            .iter()
            .filter_map(|(&partition, state)| Some((partition, state.leader?.0)))
            .collect();
        let broker = *leaders.get(&partition).context("a partition without a leader")?;
        let led: Vec<i32> =
            leaders.iter().filter(|(_, l)| **l == broker).map(|(p, _)| *p).collect();
        let from = self.clock.now();
        self.cluster.kill_broker(broker)?;
        self.works()?;
        let works = (self.clock.now() - from) / 1_000;
        self.cluster.start_broker(broker)?;
        self.works()?;
        self.in_sync()?;
        let to = self.clock.now();
        eprintln!(
            "{} ms: {what}: broker {broker}, which led {led:?}, works again after {works} ms",
            from / 1_000
        );
        Ok(Kill { window: Window { from, to }, broker, led })
    }

    /// Every partition's first replica leads again.
    fn prefer(&self) -> Result<()> {
        eprintln!("{} ms: preferred leaders", self.clock.now() / 1_000);
        let elect = ["elect", "--election-type", "preferred", "--all-topic-partitions"];
        self.cluster.run("coordinator", &elect)?;
        self.works()
    }

    fn finish(self, rolling: Window, restarts: &[Window], kills: &[Kill]) -> Result<Vec<Figure>> {
        let Self { options, load, members, states, mut cluster, .. } = self;
        let produced = load.stop().context("the load")?;
        let whole = read_whole(&cluster.bootstrap(), TOPIC, options.partitions)?;
        let sum =
            |members: &[Member]| -> Result<u64> { members.iter().map(Member::delivered).sum() };
        let total: u64 = whole.log.values().map(|log| log.values.len() as u64).sum();
        wait_for("the group has everything", || Ok(sum(&members)? >= total))?;
        let saw = members.into_iter().map(Member::stop).collect::<Result<Vec<_>>>()?;
        let seen = states.stop()?;
        cluster.check_alive()?;
        let firsts = saw.iter().map(|saw| saw.first.clone());
        let firsts = Firsts::of(&seen, &produced.sent, &whole, firsts);
        let changes = seen.changes();
        let mut figures = Vec::new();
        if !restarts.is_empty() {
            figures.push(Figure::Rolling {
                restarts: restarts.len(),
                whole: Produce::within(&produced.sent, &[rolling]),
                over_restarts: Produce::within(&produced.sent, restarts),
            });
            figures.push(Figure::HandOver(firsts.following(&changes, &[rolling])));
        }
        if !kills.is_empty() {
            let windows: Vec<Window> = kills.iter().map(|kill| kill.window).collect();
            figures.push(Figure::Kills {
                session_timeout_ms: options.session.as_millis() as u64,
                cost: FailOver::of(kills, &changes, &firsts, &produced.sent),
                following: firsts.following(&changes, &windows),
                produce: Produce::within(&produced.sent, &windows),
            });
        }
        let history = History {
            sends: vec![produced.sends()],
            log: whole.log,
            delivered: saw.into_iter().map(|saw| saw.delivered).collect(),
            ..History::default()
        };
        let verdict = checker::judge(&history);
        let mut why = cluster.panics();
        if !verdict.is_clean() {
            why.push(verdict.to_string());
        }
        let acknowledged =
            produced.sent.iter().filter(|sent| sent.is_acknowledged()).count() as u64;
        let failed = produced.sent.len() as u64 - acknowledged;
        if failed > 0 {
            why.push(format!("{failed} records failed"));
        }
        figures.push(Figure::All {
            ok: why.is_empty(),
            rate: options.rate,
            acknowledged,
            failed,
            delivered: history.delivered.iter().map(|delivered| delivered.len() as u64).sum(),
            read: total,
            broken: Kind::ALL.into_iter().map(|kind| (kind, verdict.count(kind))).collect(),
            metadata_refreshes: produced.stats.metadata_refreshes,
            metadata_pushes: produced.stats.metadata_pushes,
            why,
        });
        Ok(figures)
    }
}

fn wait_for(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + WITHIN;
    while !holds()? {
        ensure!(Instant::now() < deadline, "waited {WITHIN:?} for: {what}");
        nap(Duration::from_millis(5));
    }
    Ok(())
}
