//! What a leader knows of its replicas, and what follows from it: high watermark, who joins and
//! leaves the ISR, which requests are done. Pure but for the answers it hands back; the partition
//! holds it under a lock and tells them afterwards.
//!
//! | a replica | and | change wanted of the ISR |
//! |---|---|---|
//! | in it, not the leader | lagged for `replica.lag.time.max.ms` | it leaves |
//! | in it, or electable | its log ends below the high watermark: it lost what it had | it leaves, and is not electable |
//! | not in it | its log's end has reached the high watermark and the start of the leader's epoch | it joins |
//! | electable | `min.insync.replicas` are in the ISR | it is electable no more |
//!
//! What was committed before this leadership is below the start of its epoch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::{BrokerId, LeaderEpoch, Offset};

use super::acks::{Completed, Purgatory, Waiting};
use super::isr::Isr;
use super::replica::{Replica, ReplicaState};
use super::{Leadership, PartitionError, high_watermark};
use crate::metrics::Metrics;

/// A change of the ISR that the leader wants written to the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsrWish {
    /// The epoch the leader leads in; in another one the wish is void.
    pub epoch: LeaderEpoch,
    /// Version of the state's node that the wish goes out from.
    pub version: i32,
    /// The whole ISR wanted. Where it has `min.insync.replicas`, nobody else is to be electable.
    pub isr: Vec<BrokerId>,
    /// Who lost records it had: neither in sync nor electable.
    pub lost: Vec<BrokerId>,
    /// Who is to join, in the run that caught up; another run must not be let in.
    pub joining: Vec<Replica>,
}

/// Where the log of the leader stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Positions {
    /// Its end.
    pub(super) log_end: Offset,
    /// What counts of it for the high watermark: the end, or the flushed end.
    pub(super) own_end: Offset,
    /// As it is.
    pub(super) high_watermark: Offset,
    /// `min.insync.replicas` of the topic.
    pub(super) min_insync: usize,
}

/// What a change led to.
#[derive(Default)]
#[must_use]
pub(super) struct Outcome {
    /// The high watermark moved here.
    pub(super) high_watermark: Option<Offset>,
    /// Requests to be told.
    pub(super) completed: Vec<Completed>,
    /// Somebody may join the ISR: have [`LeaderState::wish`] asked.
    pub(super) wishes: bool,
}

/// State of one leadership.
pub(super) struct LeaderState {
    me: BrokerId,
    epoch: LeaderEpoch,
    /// Where the log ended when the epoch began.
    epoch_start: Offset,
    replicas: Vec<BrokerId>,
    /// So many of them a reassignment has only begun to bring in.
    adding: usize,
    isr: Isr,
    /// Of the replicas that are not the leader.
    followers: Vec<ReplicaState>,
    /// The end of the leader's log that `followers` were compared with.
    seen_end: Offset,
    /// The listener was told that there is a wish.
    wish_told: bool,
    acks: Purgatory,
    metrics: Arc<Metrics>,
}

impl LeaderState {
    /// The leadership begins, with the log ending at `epoch_start`.
    pub(super) fn new(
        me: BrokerId,
        leadership: &Leadership,
        epoch_start: Offset,
        now: Instant,
        metrics: Arc<Metrics>,
    ) -> Self {
        let mut state = Self {
            me,
            epoch: leadership.epoch,
            epoch_start,
            replicas: Vec::new(),
            adding: 0,
            isr: Isr::new(leadership.version, &leadership.isr, &leadership.electable),
            followers: Vec::new(),
            seen_end: epoch_start,
            wish_told: false,
            acks: Purgatory::new(Arc::clone(&metrics)),
            metrics,
        };
        state.set_replicas(leadership);
        state.isr_changed(&[], now);
        state
    }

    /// Goes on answering the requests of an earlier epoch in which the same broker led, without
    /// having followed in between: their records are still where they were.
    pub(super) fn inherit(&mut self, earlier: Self) {
        self.acks = earlier.acks;
    }

    /// The epoch.
    pub(super) fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Where the log ended when the epoch began.
    pub(super) fn epoch_start(&self) -> Offset {
        self.epoch_start
    }

    /// Who stores the partition.
    pub(super) fn replicas(&self) -> &[BrokerId] {
        &self.replicas
    }

    /// The ISR.
    pub(super) fn isr(&self) -> &Isr {
        &self.isr
    }

    /// Where the followers are, as they told.
    pub(super) fn followers(&self) -> &[ReplicaState] {
        &self.followers
    }

    /// How many requests wait.
    pub(super) fn waiting(&self) -> usize {
        self.acks.len()
    }

    fn set_replicas(&mut self, Leadership { replicas, adding, .. }: &Leadership) {
        self.adding = replicas.iter().filter(|id| adding.contains(id)).count();
        if self.replicas == *replicas {
            return;
        }
        self.replicas.clone_from(replicas);
        let (me, isr) = (self.me, &self.isr);
        // Members of the ISR that are no replicas any more still count until they leave it.
        self.followers.retain(|f| replicas.contains(&f.id) || isr.counts(f.id));
        for &id in replicas.iter().filter(|id| **id != me) {
            if !self.followers.iter().any(|follower| follower.id == id) {
                self.followers.push(ReplicaState::new(id, None));
            }
        }
    }

    /// The controller tells of the same leader epoch: other replicas, or a newer state.
    pub(super) fn adopt(
        &mut self,
        leadership: &Leadership,
        at: Positions,
        now: Instant,
    ) -> Outcome {
        let before = self.isr.committed().to_vec();
        if leadership.version >= self.isr.version() {
            self.set_replicas(leadership);
        }
        if self.isr.adopt(leadership.version, &leadership.isr, &leadership.electable) {
            self.count_changes(&before);
            self.isr_changed(&before, now);
        }
        self.moved(at, now)
    }

    /// The change under way has an end.
    pub(super) fn settled(
        &mut self,
        version: i32,
        isr: &[BrokerId],
        electable: &[BrokerId],
        at: Positions,
        now: Instant,
    ) -> Outcome {
        let before = self.isr.committed().to_vec();
        if self.isr.settled(version, isr, electable) {
            self.count_changes(&before);
            self.isr_changed(&before, now);
        }
        self.moved(at, now)
    }

    fn count_changes(&self, before: &[BrokerId]) {
        let isr = self.isr.committed();
        if isr.iter().any(|id| !before.contains(id)) {
            self.metrics.isr_expands.one();
        }
        if before.iter().any(|id| !isr.contains(id)) {
            self.metrics.isr_shrinks.one();
        }
    }

    /// Who left begins anew: of an electable one nothing is known but that it had what was committed
    /// then. Who came has its time from now on.
    fn isr_changed(&mut self, before: &[BrokerId], now: Instant) {
        let isr = &self.isr;
        for &id in isr.committed().iter().chain(isr.electable()) {
            if id != self.me && !self.followers.iter().any(|follower| follower.id == id) {
                self.followers.push(ReplicaState::new(id, None));
            }
        }
        for follower in &mut self.followers {
            let (was, is) = (before.contains(&follower.id), isr.is_member(follower.id));
            if was && !is {
                *follower = ReplicaState::new(follower.id, None);
            } else if is && !was {
                follower.joins(now);
            }
        }
    }

    /// A follower's log ends at `end`.
    pub(super) fn told(
        &mut self,
        replica: &Replica,
        end: Offset,
        at: Positions,
        now: Instant,
    ) -> Result<Outcome, PartitionError> {
        let broker = replica.broker_id;
        self.check_replica(broker)?;
        if end > at.log_end {
            let log_end = at.log_end;
            return Err(PartitionError::BeyondLogEnd { broker, told: end, log_end });
        }
        self.note_end(at, now);
        if let Some(follower) = self.followers.iter_mut().find(|f| f.id == broker) {
            follower.told(replica.incarnation, end, at.log_end, now);
        }
        Ok(self.moved(at, now))
    }

    /// A follower's log starts at `start`, also after a crash. True when that is news.
    pub(super) fn told_start(&mut self, replica: &Replica, start: Offset) -> bool {
        let follower = self.followers.iter_mut().find(|f| f.id == replica.broker_id);
        let Some(follower) = follower else { return false };
        let before = follower.start();
        follower.told_start(replica.incarnation, start);
        follower.start() != before
    }

    /// Below it no replica that may lead next has anything: `own_start`, or where a follower in the
    /// ISR starts. Somebody who joins has followed the leader's log start by then.
    pub(super) fn low_watermark(&self, own_start: Offset) -> Offset {
        let counted = self.followers.iter().filter(|follower| self.isr.counts(follower.id));
        counted.map(ReplicaState::start).fold(own_start, Offset::min)
    }

    /// Refuses who is no replica.
    pub(super) fn check_replica(&self, broker: BrokerId) -> Result<(), PartitionError> {
        match broker != self.me && self.replicas.contains(&broker) {
            true => Ok(()),
            false => Err(PartitionError::NotReplica { broker }),
        }
    }

    /// A follower's stream is gone.
    pub(super) fn detached(&mut self, replica: &Replica, at: Positions, now: Instant) -> Outcome {
        let follower = self.followers.iter_mut().find(|f| f.id == replica.broker_id);
        if let Some(follower) = follower {
            follower.detached(replica.incarnation);
        }
        self.moved(at, now)
    }

    /// The leader's log has grown or was flushed, or time has passed.
    pub(super) fn advance(&mut self, at: Positions, now: Instant) -> Outcome {
        self.note_end(at, now);
        self.moved(at, now)
    }

    fn note_end(&mut self, at: Positions, now: Instant) {
        if at.log_end > self.seen_end {
            self.followers.iter_mut().for_each(|f| f.leader_appended(self.seen_end, now));
            self.seen_end = at.log_end;
        }
    }

    /// How many replicas must be in sync: all of them where there are fewer than the topic wants.
    /// Those that a reassignment brings in do not raise it: a partition with one replica takes
    /// records while it is moved or gets more.
    pub(super) fn minimum(&self, min_insync: usize) -> usize {
        min_insync.min(self.replicas.len() - self.adding).max(1)
    }

    fn moved(&mut self, at: Positions, now: Instant) -> Outcome {
        let mut outcome = Outcome::default();
        let (in_sync, minimum) = (self.isr.committed().len(), self.minimum(at.min_insync));
        let counted = self.followers.iter().filter(|follower| {
            self.isr.counts(follower.id)
                || (self.replicas.contains(&follower.id) && follower.is_joining(now))
        });
        let ends = counted.map(ReplicaState::end);
        let reached =
            high_watermark::advance(at.high_watermark, in_sync, minimum, at.own_end, ends);
        if reached > at.high_watermark {
            outcome.high_watermark = Some(reached);
            self.acks.reached(reached, &mut outcome.completed);
        }
        if in_sync < minimum {
            self.acks.fall_short(in_sync, minimum, &mut outcome.completed);
        }
        if !self.wish_told && !self.isr.is_changing() {
            let electable = !self.isr.electable().is_empty() && in_sync >= minimum;
            self.wish_told = electable
                || self.joining(reached).next().is_some()
                || self.lost(reached).next().is_some();
            outcome.wishes = self.wish_told;
        }
        outcome
    }

    /// Who had everything committed, and has not any more.
    fn lost(&self, high_watermark: Offset) -> impl Iterator<Item = BrokerId> {
        let isr = &self.isr;
        let counted = self.followers.iter().filter(|follower| {
            isr.committed().contains(&follower.id) || isr.electable().contains(&follower.id)
        });
        let lost = counted.filter(move |f| f.end().is_some_and(|end| end < high_watermark));
        lost.map(|follower| follower.id)
    }

    /// Who may join the ISR.
    fn joining(&self, high_watermark: Offset) -> impl Iterator<Item = &ReplicaState> {
        let needed = high_watermark.max(self.epoch_start);
        self.followers.iter().filter(move |follower| {
            !self.isr.is_member(follower.id)
                && self.replicas.contains(&follower.id)
                && follower.end().is_some_and(|end| end >= needed)
                && follower.run().is_some()
        })
    }

    /// The change of the ISR that is wanted now, which is under way from here on: the high watermark
    /// waits for old and new members until it is settled. `None`: none, or one is under way.
    pub(super) fn wish(
        &mut self,
        at: Positions,
        lag_max: Duration,
        now: Instant,
    ) -> Option<IsrWish> {
        self.wish_told = false;
        if self.isr.is_changing() {
            return None;
        }
        let lost: Vec<BrokerId> = self.lost(at.high_watermark).collect();
        let leaves = |id: BrokerId| {
            let follower = self.followers.iter().find(|follower| follower.id == id);
            let lags = follower.is_none_or(|f| f.lags(at.log_end, now, lag_max));
            id != self.me && (lags || lost.contains(&id))
        };
        let mut isr = self.isr.committed().to_vec();
        isr.retain(|id| !leaves(*id));
        let joining: Vec<Replica> =
            self.joining(at.high_watermark).filter_map(ReplicaState::run).collect();
        isr.extend(joining.iter().map(|replica| replica.broker_id));
        let clears = isr.len() >= self.minimum(at.min_insync) && !self.isr.electable().is_empty();
        if isr.is_empty() || (isr == self.isr.committed() && lost.is_empty() && !clears) {
            return None;
        }
        self.isr.begin_change(isr.clone());
        Some(IsrWish { epoch: self.epoch, version: self.isr.version(), isr, lost, joining })
    }

    /// Requests with acks=all that were appended wait, or are done at once.
    pub(super) fn wait(&mut self, requests: Vec<Waiting>, at: Positions, out: &mut Vec<Completed>) {
        requests.into_iter().for_each(|request| self.acks.add(request));
        self.acks.reached(at.high_watermark, out);
        let (in_sync, minimum) = (self.isr.committed().len(), self.minimum(at.min_insync));
        if in_sync < minimum {
            self.acks.fall_short(in_sync, minimum, out);
        }
    }

    /// Takes out the requests that are out of time.
    pub(super) fn expire(&mut self, now: Instant, out: &mut Vec<Completed>) {
        self.acks.expire(now, out);
    }

    /// Refuses a request with acks=all that could not be committed.
    pub(super) fn check_minimum(&self, min_insync: usize) -> Result<(), PartitionError> {
        let (in_sync, minimum) = (self.isr.committed().len(), self.minimum(min_insync));
        match in_sync < minimum {
            true => Err(PartitionError::NotEnoughReplicas { in_sync, minimum }),
            false => Ok(()),
        }
    }

    /// The leadership, or the log, is lost.
    pub(super) fn fail(&mut self, error: &PartitionError, out: &mut Vec<Completed>) {
        self.acks.fail_all(error, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::tests::rig::led;

    #[test]
    fn replicas_on_their_way_do_not_raise_the_minimum() {
        let (me, now) = (BrokerId(1), Instant::now());
        let leads = |leadership: &Leadership| {
            LeaderState::new(me, leadership, Offset(0), now, Arc::default())
        };
        let mut moving = led(1, 0, &[2, 3, 1], &[1]);
        assert_eq!(leads(&moving).minimum(2), 2);
        moving.adding = vec![BrokerId(2), BrokerId(3)];
        let state = leads(&moving);
        assert_eq!(state.minimum(2), 1);
        assert!(state.check_minimum(2).is_ok());
        // What was begun is done.
        moving.adding.clear();
        assert_eq!(leads(&moving).minimum(3), 3);
        assert!(leads(&moving).check_minimum(3).is_err());
    }
}
