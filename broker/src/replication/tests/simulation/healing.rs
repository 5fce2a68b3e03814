//! The end of each story: no more faults, and all must be well again.

use std::time::Duration;

use proto::Offset;

use super::clients::Producer;
use super::cluster::Cluster;
use super::node::{Node, Running};
use super::truth::bytes;

/// Rounds in which a cluster without faults must be whole again.
const HEALING: usize = 300;

impl Cluster {
    /// No more faults: everybody comes back, and everything arrives.
    pub(super) fn heal(mut self) {
        for round in 0..HEALING {
            for id in self.replicas.clone() {
                self.mend(id);
                self.tell_minimum(id);
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
