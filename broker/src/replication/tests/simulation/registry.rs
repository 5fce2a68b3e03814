//! The registry's node of the partition, who writes to it, and how news of it travels: changes of the
//! ISR and their answers (late, lost, out of order), elections, registrations, an altered minimum.

use std::time::{Duration, Instant};

use coordinator::registry::in_sync;
use coordinator::zk::payload::PartitionState;
use proto::{BrokerId, LeaderEpoch};
use uuid::Uuid;

use super::cluster::Cluster;
use crate::replication::IsrWish;
use crate::replication::tests::rig::LAG_MAX;

/// A change of the ISR, as its leader carries it out.
pub(super) struct IsrChange {
    broker: BrokerId,
    pub(super) run: Uuid,
    wish: IsrWish,
    /// What its leader takes for `min.insync.replicas`.
    minimum: usize,
    pub(super) stage: Stage,
}

/// Where a change is.
pub(super) enum Stage {
    /// Not written yet.
    Asked,
    /// Written, or nothing to write: the state that the leader is told, and its version.
    Answered(PartitionState, i32),
    /// Written or not, and the leader does not know: it reads the state again.
    InDoubt,
}

impl Cluster {
    /// Asks a leader, sometimes so late that everybody lags.
    pub(super) fn wish_sometime(&mut self, id: BrokerId) {
        let late = if self.random.u8(..4) == 0 { LAG_MAX * 3 } else { Duration::ZERO };
        self.wish(id, late);
    }

    pub(super) fn wish(&mut self, id: BrokerId, late: Duration) {
        let Some(up) = self.node(id).awake() else { return };
        let (run, partition) = (up.run, &up.partition);
        if let Some(wish) = partition.isr_wish(Instant::now() + late)
            && let Some(minimum) = partition.replication().map(|view| view.minimum)
        {
            self.changes.push(IsrChange { broker: id, run, wish, minimum, stage: Stage::Asked });
        }
    }

    /// One of those that are at this stage; `None`: there is none.
    fn pick(&mut self, at: impl Fn(&IsrChange) -> bool) -> Option<usize> {
        let there: Vec<usize> = (0..self.changes.len()).filter(|&n| at(&self.changes[n])).collect();
        (!there.is_empty()).then(|| there[self.random.usize(..there.len())])
    }

    /// A change reaches the registry, or is lost on the way. What was sent before its sender was cut
    /// off still arrives; its answer does not.
    pub(super) fn write_isr(&mut self) {
        let asked = |change: &IsrChange| matches!(change.stage, Stage::Asked);
        let Some(number) = self.pick(asked) else { return };
        let (lost, unanswered) = (self.random.u8(..6) == 0, self.random.u8(..3) == 0);
        let IsrChange { broker, ref wish, minimum, .. } = self.changes[number];
        let (wish, up) = (wish.clone(), self.node(broker).up.as_ref());
        let reaches = up.is_some_and(|up| !up.cut);
        if !lost {
            self.decide_change(&wish, broker, minimum);
        }
        let answer = Stage::Answered(self.state.clone(), self.version);
        let answered = reaches && !lost && !unanswered;
        self.changes[number].stage = if answered { answer } else { Stage::InDoubt };
    }

    fn decide_change(&mut self, wish: &IsrWish, me: BrokerId, minimum: usize) {
        if self.state.leader != Some(me) || self.state.leader_epoch != wish.epoch {
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
        let shrunk = in_sync::shrink(&without, &leaving, minimum);
        self.write(in_sync::grow(&shrunk, &joining, minimum));
    }

    /// The leader learns what came of a change: by its answer, which may be old by now, or by reading.
    pub(super) fn settle_isr(&mut self) {
        let done = |change: &IsrChange| !matches!(change.stage, Stage::Asked);
        let Some(number) = self.pick(done) else { return };
        let change = &self.changes[number];
        let up = self.node(change.broker).up.as_ref().filter(|up| up.run == change.run);
        if let Some(up) = up {
            if up.paused || up.cut {
                return;
            }
            let (state, version) = match &change.stage {
                Stage::Answered(state, version) => (state, *version),
                _ => (&self.state, self.version),
            };
            let epoch = change.wish.epoch;
            // Where another leads now, the change stays under way until the leader hears of that.
            if state.leader_epoch == epoch && state.leader == Some(change.broker) {
                up.partition.isr_settled(epoch, version, &state.isr, &state.electable);
            }
        }
        self.changes.remove(number);
    }

    pub(super) fn write(&mut self, state: PartitionState) {
        if state != self.state {
            self.state = state;
            self.version += 1;
        }
    }

    /// The state, and who is registered, reach a broker.
    pub(super) fn tell(&mut self, id: BrokerId) {
        let (state, version, runs) = (self.state.clone(), self.version, self.registered.clone());
        let replicas = self.replicas.clone();
        if let Some(up) = self.node_mut(id).awake_mut().filter(|up| !up.cut) {
            up.runs = runs;
            up.tell(id, &state, version, &replicas);
        }
    }

    /// `min.insync.replicas` is altered; who leads hears of it some time.
    pub(super) fn alter_minimum(&mut self) {
        self.config.min_insync_replicas = 3 - self.config.min_insync_replicas;
    }

    pub(super) fn tell_minimum(&mut self, id: BrokerId) {
        if let Some(up) = self.node(id).awake().filter(|up| !up.cut) {
            up.partition.log().set_config(self.config.clone());
        }
    }

    /// What the controller makes of who lives; `preferred` may be made the leader.
    pub(super) fn decide(&mut self, preferred: Option<BrokerId>) {
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

    fn minimum(&self) -> usize {
        self.config.min_insync_replicas.min(self.replicas.len())
    }

    /// A started broker registers, and reads the state. The recorded leader raises the epoch.
    pub(super) fn register(&mut self, id: BrokerId) {
        let Some(run) = self.node(id).up.as_ref().map(|up| up.run) else { return };
        self.registered.insert(id, run);
        if self.state.leader == Some(id) {
            let leader_epoch = LeaderEpoch(self.state.leader_epoch.0 + 1);
            self.write(PartitionState { leader_epoch, ..self.state.clone() });
        }
        self.tell(id);
    }
}
