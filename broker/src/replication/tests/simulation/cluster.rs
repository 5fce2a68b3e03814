//! The cluster: its machines, the registry's node, the controller, and what happens next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coordinator::registry::in_sync;
use coordinator::zk::payload::PartitionState;
use proto::{BrokerId, LeaderEpoch, Offset};
use uuid::Uuid;

use super::clients::Producer;
use super::node::{Following, Node, Running, Runs};
use super::streams::Stream;
use super::truth::{Truth, bytes};
use crate::replication::tests::rig::LAG_MAX;
use crate::replication::{IsrWish, RequiredAcks};
use crate::storage::{DeleteUpTo, FlushPolicy, LogConfig, ManualClock};

/// Rounds in which a cluster without faults must be whole again.
const HEALING: usize = 300;

pub(super) struct Cluster {
    random: fastrand::Rng,
    clock: Arc<ManualClock>,
    config: LogConfig,
    nodes: Vec<Node>,
    replicas: Vec<BrokerId>,
    /// The state's node, and its version.
    state: PartitionState,
    version: i32,
    /// Who has a session, and since which run.
    registered: Runs,
    pub(super) streams: BTreeMap<u64, Stream>,
    streams_opened: u64,
    /// Changes of the ISR on their way to the registry, or back.
    changes: Vec<IsrChange>,
    producers: Vec<Producer>,
    truth: Truth,
    consumed: Offset,
    /// Records were deleted.
    deleted: bool,
}

struct IsrChange {
    broker: BrokerId,
    run: Uuid,
    wish: IsrWish,
    /// It has reached the registry, or was lost on the way.
    carried_out: bool,
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

    fn node_mut(&mut self, id: BrokerId) -> &mut Node {
        &mut self.nodes[id.0 as usize - 1]
    }

    pub(super) fn following_mut(&mut self, id: BrokerId) -> Option<&mut Following> {
        self.node_mut(id).up.as_mut()?.following.as_mut()
    }

    pub(super) fn next_stream(&mut self) -> u64 {
        self.streams_opened += 1;
        self.streams_opened
    }

    fn any(&mut self) -> BrokerId {
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
            0..300 => {
                let number = self.random.usize(..self.streams.len().max(1));
                let stream = self.streams.keys().nth(number).copied().unwrap_or_default();
                let what = self.random.usize(..3);
                self.move_stream(stream, what);
            }
            300..370 => self.connect(id),
            370..390 => {
                let number = self.random.usize(..self.streams.len().max(1));
                self.break_stream(number);
            }
            390..580 => self.produce(),
            580..650 => self.wish_sometime(id),
            650..710 => self.write_isr(),
            710..780 => self.settle_isr(),
            780..860 => self.tell(id),
            860..890 => self.decide(None),
            890..900 => self.decide(Some(id)),
            900..915 => self.crash(id),
            915..935 => self.pause(id),
            935..950 => self.expire(id),
            950..970 => self.restart(id),
            _ => self.work(id),
        }
    }

    fn produce(&mut self) {
        let (number, elsewhere) = (self.random.usize(..3), self.any());
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

    /// Consumers look at whoever leads, or believes to.
    fn consume(&mut self) {
        for node in &self.nodes {
            if let Some(up) = &node.up {
                let from = Offset((self.consumed.0 - 40).max(0));
                self.consumed = self.truth.consume(&up.partition, from).max(self.consumed);
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

    fn break_stream(&mut self, number: usize) {
        let Some(stream) = self.streams.keys().nth(number).copied() else { return };
        let Some(follower) = self.streams.get(&stream).map(|stream| stream.follower) else {
            return;
        };
        // What is on the way to the leader may still arrive, or not.
        if self.random.bool() {
            self.streams.remove(&stream);
        }
        if let Some(following) = self.following_mut(follower)
            && following.stream == Some(stream)
        {
            following.stream = None;
        }
    }

    /// Asks a leader, sometimes so late that everybody lags.
    fn wish_sometime(&mut self, id: BrokerId) {
        let late = if self.random.u8(..4) == 0 { LAG_MAX * 3 } else { Duration::ZERO };
        self.wish(id, late);
    }

    fn wish(&mut self, id: BrokerId, late: Duration) {
        let Some(up) = self.node(id).awake() else { return };
        let run = up.run;
        if let Some(wish) = up.partition.isr_wish(Instant::now() + late) {
            self.changes.push(IsrChange { broker: id, run, wish, carried_out: false });
        }
    }

    fn minimum(&self) -> usize {
        self.config.min_insync_replicas.min(self.replicas.len())
    }

    /// A change reaches the registry, or is lost on the way.
    fn write_isr(&mut self) {
        let waiting: Vec<usize> =
            (0..self.changes.len()).filter(|&n| !self.changes[n].carried_out).collect();
        let lost = self.random.u8(..6) == 0;
        if waiting.is_empty() {
            return;
        }
        let number = waiting[self.random.usize(..waiting.len())];
        let change = &mut self.changes[number];
        change.carried_out = true;
        let (wish, me) = (change.wish.clone(), change.broker);
        if lost || self.state.leader != Some(me) || self.state.leader_epoch != wish.epoch {
            return;
        }
        let lost = |state: PartitionState, id: &BrokerId| in_sync::lose(&state, *id);
        let without = wish.lost.iter().fold(self.state.clone(), lost);
        let leaves = |id: &BrokerId| !wish.isr.contains(id);
        let leaving: Vec<_> = without.isr.iter().copied().filter(leaves).collect();
        let runs = wish.joining.iter();
        let joining: Vec<_> = runs
            .filter(|run| self.registered.get(&run.broker_id) == Some(&run.incarnation))
            .map(|run| run.broker_id)
            .filter(|id| wish.isr.contains(id) && !without.isr.contains(id))
            .collect();
        let shrunk = in_sync::shrink(&without, &leaving, self.minimum());
        let new = in_sync::grow(&shrunk, &joining, self.minimum());
        self.write(new);
    }

    /// The leader learns what came of a change, by reading back.
    fn settle_isr(&mut self) {
        let done = self.changes.iter().position(|change| change.carried_out);
        let Some(number) = done else { return };
        let change = &self.changes[number];
        let up = self.node(change.broker).up.as_ref().filter(|up| up.run == change.run);
        if let Some(up) = up {
            if up.paused {
                return;
            }
            let (epoch, state) = (change.wish.epoch, &self.state);
            if state.leader_epoch == epoch {
                up.partition.isr_settled(epoch, self.version, &state.isr, &state.electable);
            }
        }
        self.changes.remove(number);
    }

    fn write(&mut self, state: PartitionState) {
        if state != self.state {
            self.state = state;
            self.version += 1;
        }
    }

    /// The state, and who is registered, reach a broker.
    fn tell(&mut self, id: BrokerId) {
        let (state, version, runs) = (self.state.clone(), self.version, self.registered.clone());
        let replicas = self.replicas.clone();
        if let Some(up) = self.node_mut(id).awake_mut() {
            up.runs = runs;
            up.tell(id, &state, version, &replicas);
        }
    }

    /// What the controller makes of who lives; `preferred` may be made the leader.
    fn decide(&mut self, preferred: Option<BrokerId>) {
        let mut next = self.state.clone();
        let lives = |id: BrokerId| self.registered.contains_key(&id);
        let leader = match next.leader.filter(|leader| lives(*leader)) {
            None => in_sync::elect(&next, &self.replicas, lives, false).map(|elected| {
                (next.isr, next.electable) = (elected.isr, elected.electable);
                elected.leader
            }),
            led => preferred.filter(|id| next.isr.contains(id) && lives(*id)).or(led),
        };
        let Some(leader) = leader else { return };
        let gone: Vec<_> = next.isr.iter().copied().filter(|id| !lives(*id)).collect();
        next = in_sync::shrink(&next, &gone, self.minimum());
        if next.leader != Some(leader) {
            next.leader = Some(leader);
            next.leader_epoch = LeaderEpoch(next.leader_epoch.0 + 1);
        }
        self.write(next);
    }

    /// Kills a process, or cuts a machine's power where what is lost by that may be lost.
    fn crash(&mut self, id: BrokerId) {
        let power = self.random.bool() && self.may_lose_unsynced(id);
        let flushes = self.config.flush == FlushPolicy::BeforeAck;
        let mut random = self.random.fork();
        let node = self.node_mut(id);
        let Some(up) = node.up.take() else { return };
        if power {
            node.disk.power_cut(&mut random);
            node.unsynced_lost = !flushes;
            let run = up.run;
            self.changes.retain(|change| change.run != run || change.carried_out);
        } else {
            node.disk.kill();
        }
        drop(up);
        // Connections break with their process: what it had not answered it never answers.
        for producer in self.producers.iter_mut().filter(|producer| producer.target == id) {
            producer.give_up_waiting(id);
        }
    }

    /// Whether somebody else has all that is committed, and is known to: a minority loses power at a
    /// time, and with a minimum of two who has everything stays in sync or electable.
    fn may_lose_unsynced(&self, id: BrokerId) -> bool {
        let others_keep = self.nodes.iter().all(|node| node.id == id || !node.unsynced_lost);
        let mut complete = self.state.isr.iter().chain(&self.state.electable);
        self.config.flush == FlushPolicy::BeforeAck
            || (self.minimum() > 1 && others_keep && complete.any(|other| *other != id))
    }

    fn pause(&mut self, id: BrokerId) {
        let lives = self.registered.contains_key(&id);
        let Some(up) = self.node_mut(id).up.as_mut() else { return };
        up.paused = !up.paused;
        let (run, awake) = (up.run, !up.paused);
        if awake && !lives {
            // Its session had expired: it registers again, as the same run.
            self.registered.insert(id, run);
        }
    }

    /// The session of who is silent ends.
    fn expire(&mut self, id: BrokerId) {
        if self.node(id).awake().is_none() {
            self.registered.remove(&id);
        }
    }

    fn restart(&mut self, id: BrokerId) {
        if self.node(id).up.is_some() {
            return;
        }
        let (config, clock) = (self.config.clone(), Arc::clone(&self.clock));
        if let Some(loss) = self.node_mut(id).start(&config, &clock) {
            let others = self.state.isr.iter().chain(&self.state.electable);
            if others.into_iter().any(|other| *other != id) {
                self.write(in_sync::lose(&self.state, id));
            } else {
                let flushed = self.config.flush == FlushPolicy::BeforeAck;
                assert!(flushed || !self.state.isr.contains(&id), "the last one lost {loss}");
            }
        }
        if let Some(up) = &self.node(id).up {
            up.set.logs().losses_told();
        }
        self.register(id);
    }

    /// A started broker registers, and reads the state. The recorded leader raises the epoch.
    fn register(&mut self, id: BrokerId) {
        let Some(run) = self.node(id).up.as_ref().map(|up| up.run) else { return };
        self.registered.insert(id, run);
        if self.state.leader == Some(id) {
            let leader_epoch = LeaderEpoch(self.state.leader_epoch.0 + 1);
            self.write(PartitionState { leader_epoch, ..self.state.clone() });
        }
        self.tell(id);
    }

    /// No more faults: everybody comes back, and everything arrives.
    fn heal(mut self) {
        for round in 0..HEALING {
            for id in self.replicas.clone() {
                if self.node(id).up.as_ref().is_some_and(|up| up.paused) {
                    self.pause(id);
                }
                self.restart(id);
            }
            self.decide(None);
            for id in self.replicas.clone() {
                self.tell(id);
                self.connect(id);
                self.wish(id, Duration::ZERO);
                if let Some(up) = self.node(id).awake() {
                    up.set.logs().run_due();
                    up.flush_if_counted();
                }
            }
            for stream in self.streams.keys().copied().collect::<Vec<_>>() {
                for what in [1, 0, 2, 1, 0, 2] {
                    self.move_stream(stream, what);
                }
            }
            for _ in 0..4 {
                self.write_isr();
                self.settle_isr();
            }
            self.send_on(round < HEALING / 3);
            self.consume();
            if self.is_whole() {
                return self.check();
            }
        }
        let ends: Vec<_> = self.nodes.iter().filter_map(|node| node.up.as_ref()).collect();
        let ends: Vec<_> =
            ends.iter().map(|up| (up.partition.visible_end(), up.partition.log())).collect();
        let (state, version) = (&self.state, self.version);
        panic!("not whole again: {state:?} at version {version}, {ends:?}, {:?}", self.producers);
    }

    /// Producers send what is left, and in the beginning new batches, to whom the registry names.
    fn send_on(&mut self, new: bool) {
        let Some(leader) = self.state.leader else { return };
        let mut producers = std::mem::take(&mut self.producers);
        for producer in &mut producers {
            producer.take_answers(&mut self.truth, leader, self.deleted);
            if producer.target != leader {
                producer.give_up_waiting(leader);
            }
            if new {
                producer.produce(1);
            }
            if let Some(up) = self.node(leader).awake() {
                producer.send(&up.partition);
            }
        }
        self.producers = producers;
    }

    fn running(&self) -> impl Iterator<Item = &Running> {
        self.nodes.iter().filter_map(Node::awake)
    }

    fn is_whole(&self) -> bool {
        let Some(leader) = self.state.leader.and_then(|id| self.node(id).awake()) else {
            return false;
        };
        let end = leader.partition.log().log_end();
        self.state.isr.len() == self.replicas.len()
            && self.producers.iter().all(Producer::is_done)
            && self.running().all(|up| up.partition.log().log_end() == end)
            && leader.partition.visible_end() == end
    }

    /// What was told is in every log, and the logs are the same.
    fn check(&self) {
        assert!(self.truth.acknowledged > 0, "nothing was produced");
        let logs: Vec<_> = self.running().map(|up| up.partition.log()).collect();
        let start = logs.iter().map(|log| log.log_start()).max().unwrap_or(Offset::ZERO);
        let all = logs.iter().map(|log| bytes(log, start, log.log_end()));
        let all: Vec<_> = all.collect();
        assert!(all.iter().all(|bytes| *bytes == all[0]), "the logs differ from {start} on");
        logs.iter().for_each(|log| self.truth.check(log));
    }
}
