//! The cluster: its machines, the registry's node, clients, and what happens next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coordinator::zk::payload::PartitionState;
use proto::{BrokerId, LeaderEpoch, Offset};

use super::clients::Producer;
use super::node::{Following, Node, Running, Runs};
use super::registry::IsrChange;
use super::streams::Stream;
use super::truth::Truth;
use crate::replication::RequiredAcks;
use crate::storage::{DeleteUpTo, FlushPolicy, LogConfig, ManualClock};

pub(super) struct Cluster {
    pub(super) random: fastrand::Rng,
    pub(super) clock: Arc<ManualClock>,
    pub(super) config: LogConfig,
    pub(super) nodes: Vec<Node>,
    pub(super) replicas: Vec<BrokerId>,
    /// The state's node, and its version.
    pub(super) state: PartitionState,
    pub(super) version: i32,
    /// Who has a session, and since which run.
    pub(super) registered: Runs,
    pub(super) streams: BTreeMap<u64, Stream>,
    pub(super) streams_opened: u64,
    /// Changes of the ISR on their way to the registry, or back.
    pub(super) changes: Vec<IsrChange>,
    /// `min.insync.replicas` is altered from time to time.
    pub(super) alters: bool,
    pub(super) producers: Vec<Producer>,
    pub(super) truth: Truth,
    pub(super) consumed: Offset,
    /// Records were deleted.
    pub(super) deleted: bool,
}

impl Cluster {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let flushes = [FlushPolicy::Os, FlushPolicy::Interval, FlushPolicy::BeforeAck];
        let config = LogConfig {
            flush: flushes[random.usize(..3)],
            min_insync_replicas: random.usize(1..=2),
            segment_bytes: 1_500,
            index_interval_bytes: 200,
            ..LogConfig::default()
        };
        let alters = random.bool();
        let replicas: Vec<BrokerId> = (1..=3).map(BrokerId).collect();
        let mut cluster = Self {
            random,
            clock: Arc::new(ManualClock::new(1_700_000_000_000)),
            config,
            nodes: replicas.iter().copied().map(Node::new).collect(),
            state: PartitionState {
                leader: Some(BrokerId(1)),
                leader_epoch: LeaderEpoch(0),
                isr: replicas.clone(),
                electable: Vec::new(),
                controller_epoch: 1,
            },
            replicas,
            version: 0,
            registered: Runs::new(),
            streams: BTreeMap::new(),
            streams_opened: 0,
            changes: Vec::new(),
            alters,
            producers: vec![
                Producer::new(1, RequiredAcks::All),
                Producer::new(2, RequiredAcks::All),
                Producer::new(3, RequiredAcks::Leader),
            ],
            truth: Truth::default(),
            consumed: Offset::ZERO,
            deleted: false,
        };
        // The topic is new: nobody has lost anything.
        for id in cluster.replicas.clone() {
            let (config, clock) = (cluster.config.clone(), Arc::clone(&cluster.clock));
            cluster.node_mut(id).start(&config, &clock);
            cluster.register(id);
        }
        cluster
    }

    pub(super) fn node(&self, id: BrokerId) -> &Node {
        &self.nodes[id.0 as usize - 1]
    }

    pub(super) fn node_mut(&mut self, id: BrokerId) -> &mut Node {
        &mut self.nodes[id.0 as usize - 1]
    }

    pub(super) fn following_mut(&mut self, id: BrokerId) -> Option<&mut Following> {
        self.node_mut(id).up.as_mut()?.following.as_mut()
    }

    pub(super) fn next_stream(&mut self) -> u64 {
        self.streams_opened += 1;
        self.streams_opened
    }

    pub(super) fn any(&mut self) -> BrokerId {
        BrokerId(self.random.i32(1..=3))
    }

    /// Lives so many steps, then without faults until all is well.
    pub(super) fn run(mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
            self.consume();
        }
        self.heal();
    }

    fn step(&mut self) {
        let id = self.any();
        match self.random.u32(..1000) {
            0..330 => {
                let number = self.random.usize(..self.streams.len().max(1));
                let stream = self.streams.keys().nth(number).copied().unwrap_or_default();
                let what = self.random.usize(..3);
                self.move_stream(stream, what);
            }
            330..400 => self.connect(id),
            400..420 => {
                let number = self.random.usize(..self.streams.len().max(1));
                self.break_stream(number);
            }
            420..590 => self.produce(),
            590..650 => self.wish_sometime(id),
            650..710 => self.write_isr(),
            710..760 => self.settle_isr(),
            760..820 => self.tell(id),
            820..830 if self.alters => self.alter_minimum(),
            830..860 => self.tell_minimum(id),
            860..880 => self.decide(None),
            880..890 => self.decide(Some(id)),
            890..900 => self.crash(id),
            900..910 if self.node(id).awake().is_some() => self.pause(id),
            910..920 if self.node(id).up.as_ref().is_some_and(|up| !up.cut) => self.cut(id),
            920..930 => self.expire(id),
            930..947 => {
                self.crowd();
                self.fail_over();
            }
            947..957 => self.back_and_forth(id),
            957..987 => self.mend(id),
            _ => self.work(id),
        }
    }

    /// A broker is as it should be again.
    pub(super) fn mend(&mut self, id: BrokerId) {
        if self.node(id).up.as_ref().is_some_and(|up| up.paused) {
            self.pause(id);
        }
        if self.node(id).up.as_ref().is_some_and(|up| up.cut) {
            self.cut(id);
        }
        self.restart(id);
    }

    fn produce(&mut self) {
        let (number, elsewhere) = (self.random.usize(..3), self.any());
        // Metadata tell of the leader, sooner or later.
        let elsewhere = self.state.leader.filter(|_| self.random.bool()).unwrap_or(elsewhere);
        let records = self.random.u64(1..=3);
        let (sends, gives_up) = (self.random.u8(..4) > 0, self.random.u8(..12) == 0);
        let mut producers = std::mem::take(&mut self.producers);
        let producer = &mut producers[number];
        producer.take_answers(&mut self.truth, elsewhere, self.deleted);
        if gives_up {
            producer.give_up_waiting(elsewhere);
        }
        producer.produce(records);
        if sends && let Some(up) = self.node(producer.target).awake() {
            producer.send(&up.partition);
        }
        self.producers = producers;
    }

    /// Whoever has nothing under way sends to this broker.
    pub(super) fn produce_at(&mut self, id: BrokerId) {
        let mut producers = std::mem::take(&mut self.producers);
        for producer in &mut producers {
            producer.take_answers(&mut self.truth, id, self.deleted);
            if producer.target != id && producer.is_done() {
                producer.give_up_waiting(id);
            }
            producer.produce(1);
            if producer.target == id
                && let Some(up) = self.node(id).awake()
            {
                producer.send(&up.partition);
            }
        }
        self.producers = producers;
    }

    /// Consumers look at whoever leads, or believes to.
    pub(super) fn consume(&mut self) {
        for node in &self.nodes {
            if let Some(up) = &node.up {
                let from = Offset((self.consumed.0 - 40).max(0));
                self.consumed = self.truth.consume(&up.partition, from).max(self.consumed);
                self.truth.deletions(&up.partition);
            }
        }
        let leads = |up: &&Running| up.partition.leading() == Some(self.state.leader_epoch);
        if let Some(leader) = self.nodes.iter().filter_map(|node| node.up.as_ref()).find(leads) {
            self.truth.check_start(leader.partition.log());
        }
        self.check_electable();
    }

    /// Whoever may be elected, now or once it is back, has everything that was ever told.
    fn check_electable(&self) {
        for id in self.state.isr.iter().chain(&self.state.electable) {
            if let Some(up) = &self.node(*id).up {
                self.truth.check_end(up.partition.log(), *id);
            }
        }
    }

    /// What a storage layer does by itself, and an operator's request.
    fn work(&mut self, id: BrokerId) {
        let what = self.random.u8(..10);
        self.clock.advance(Duration::from_millis(self.random.u64(1..2_000)));
        let Some(up) = self.node(id).awake() else { return };
        let log = up.partition.log();
        match what {
            0 if up.partition.leading().is_some() => {
                let _ = log.delete_records(DeleteUpTo::HighWatermark);
                let _ = log.apply_retention();
                self.deleted = true;
            }
            1 => up.set.logs().checkpoint(),
            2 | 3 => {
                let _ = log.flush();
            }
            _ => {
                up.set.logs().run_due();
            }
        }
    }
}
