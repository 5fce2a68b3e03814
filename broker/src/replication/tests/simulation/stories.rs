//! What rarely comes together by chance, and is where replication goes wrong: each is a rough course
//! of events, in which much is left to chance.

use std::time::Duration;

use proto::{BrokerId, LeaderEpoch};

use super::cluster::Cluster;
use super::streams::Stream;
use crate::replication::tests::rig::LAG_MAX;

impl Cluster {
    /// Much happens to the leader at once: what it wishes, what is written and not yet answered, what
    /// it takes from producers and tells followers meet in any order.
    pub(super) fn crowd(&mut self) {
        let Some(leader) = self.state.leader else { return };
        for _ in 0..self.random.usize(2..16) {
            match self.random.u8(..13) {
                0..2 => self.wish(leader, Duration::ZERO),
                2 => self.wish(leader, LAG_MAX * 3),
                3..6 => self.write_isr(),
                6 => self.settle_isr(),
                7 if self.alters => {
                    self.alter_minimum();
                    self.tell_minimum(leader);
                }
                7 | 8 => self.produce_at(leader),
                9 => self.tell(leader),
                10 => {
                    // A follower is gone and back as another run before anybody has noticed.
                    let id = self.any();
                    if id != leader {
                        self.crash(id);
                        self.restart(id);
                    }
                }
                _ => {
                    let what = self.random.usize(..3);
                    self.move_streams(&[what], |_| true);
                }
            }
            self.consume();
        }
    }

    /// The leader is gone, its session ends, another is elected at once, and some hear of it.
    pub(super) fn fail_over(&mut self) {
        let Some(leader) = self.state.leader else { return };
        match self.random.u8(..3) {
            0 => self.crash(leader),
            1 if self.node(leader).awake().is_some() => self.pause(leader),
            _ if self.node(leader).up.as_ref().is_some_and(|up| !up.cut) => self.cut(leader),
            _ => {}
        }
        self.expire(leader);
        self.decide(None);
        for id in self.replicas.clone() {
            if self.random.u8(..3) > 0 {
                self.tell(id);
            }
        }
    }

    /// Leadership goes to `other` and back, while what a follower told the first time is still on its
    /// way; who fetched more than others has that cut off meanwhile.
    pub(super) fn back_and_forth(&mut self, other: BrokerId) {
        let Some(leader) = self.state.leader.filter(|leader| *leader != other) else { return };
        let first = self.state.leader_epoch;
        self.everybody_hears();
        self.move_streams(&[1, 0, 2, 1], |stream| stream.epoch == first);
        self.produce_at(leader);
        self.move_streams(&[0, 2], |stream| stream.epoch == first);
        self.produce_at(leader);
        let ahead = self.any();
        self.move_streams(&[0, 2], |stream| stream.epoch == first && stream.follower == ahead);
        self.move_streams(&[1], |stream| stream.epoch == first);
        self.consume();
        self.decide(Some(other));
        self.follow_for(self.state.leader_epoch, 2);
        self.decide(Some(leader));
        self.follow_for(self.state.leader_epoch, 1);
        for _ in 0..2 {
            self.produce_at(leader);
        }
        let last = self.state.leader_epoch;
        self.move_streams(&[0, 2, 1], |stream| stream.epoch == last && stream.follower != ahead);
        self.move_streams(&[1, 1], |stream| stream.epoch < last);
        self.consume();
    }

    fn everybody_hears(&mut self) {
        for id in self.replicas.clone() {
            self.tell(id);
            self.connect(id);
        }
    }

    /// Who follows in an epoch hears of it and fetches, most of the time.
    fn follow_for(&mut self, epoch: LeaderEpoch, rounds: usize) {
        for _ in 0..rounds {
            self.everybody_hears();
            self.move_streams(&[1, 0, 2], |stream| stream.epoch == epoch);
            self.consume();
        }
    }

    /// Moves streams, each so; one in eight stands still.
    fn move_streams(&mut self, what: &[usize], which: impl Fn(&Stream) -> bool) {
        let those: Vec<u64> = self.streams.iter().filter(|s| which(s.1)).map(|s| *s.0).collect();
        for stream in those {
            if self.random.u8(..8) > 0 {
                what.iter().for_each(|what| self.move_stream(stream, *what));
            }
        }
    }
}
