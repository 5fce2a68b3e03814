//! One follower as its leader knows it: how far it has come, and since when it is behind.
//!
//! *Caught up* is Kafka's: a replica was in sync at the last moment when its log ended where the
//! leader's did; or, since a busy leader's log never stands still, when it told an end that the
//! leader's log had not passed when it told the one before.

use std::time::{Duration, Instant};

use proto::{BrokerId, Offset};
use uuid::Uuid;

/// A broker in one of its runs. What an earlier run had says nothing about this one (KIP-903).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Replica {
    /// The broker.
    pub broker_id: BrokerId,
    /// The run, as it registered.
    pub incarnation: Uuid,
}

/// How long a replica that was in sync, and told nothing since, keeps the high watermark from
/// leaving it behind before it has joined.
const JOINING_MAX: Duration = Duration::from_secs(1);

/// A follower in one leadership.
#[derive(Debug, Clone)]
pub(super) struct ReplicaState {
    pub(super) id: BrokerId,
    /// Who told `end`.
    incarnation: Option<Uuid>,
    /// All below is in its log (flushed, where that counts); `None` before it told.
    end: Option<Offset>,
    /// Its log starts there, also after a crash; as far as it told.
    start: Offset,
    /// The last moment when it was known to have everything.
    caught_up: Option<Instant>,
    /// When it last told, and where the leader's log ended then.
    told: Option<(Instant, Offset)>,
    /// A stream of it is open.
    attached: bool,
}

impl ReplicaState {
    /// At the begin of a leadership; members of the ISR have until `caught_up` plus the lag allowed.
    pub(super) fn new(id: BrokerId, caught_up: Option<Instant>) -> Self {
        let start = Offset::ZERO;
        Self { id, incarnation: None, end: None, start, caught_up, told: None, attached: false }
    }

    /// Its log's end, as it told in this leadership.
    pub(super) fn end(&self) -> Option<Offset> {
        self.end
    }

    /// The run that told its end.
    pub(super) fn run(&self) -> Option<Replica> {
        self.incarnation.map(|incarnation| Replica { broker_id: self.id, incarnation })
    }

    /// Its log ends at `end` now. Another run begins anew; the same one may have cut its log.
    pub(super) fn told(&mut self, run: Uuid, end: Offset, leader_end: Offset, now: Instant) {
        if self.incarnation != Some(run) {
            *self = Self { incarnation: Some(run), ..Self::new(self.id, self.caught_up) };
        }
        if end >= leader_end {
            self.caught_up = Some(now);
        } else if let Some((at, then)) = self.told
            && end >= then
        {
            self.caught_up = self.caught_up.max(Some(at));
        }
        self.end = Some(end);
        self.told = Some((now, leader_end));
        self.attached = true;
    }

    /// Where its log starts, as it told in this leadership.
    pub(super) fn start(&self) -> Offset {
        self.start
    }

    /// Its log starts at `start` for good. Of another run than told its end: says nothing.
    pub(super) fn told_start(&mut self, run: Uuid, start: Offset) {
        if self.incarnation == Some(run) {
            self.start = start;
        }
    }

    /// Its stream is gone.
    pub(super) fn detached(&mut self, run: Uuid) {
        if self.incarnation == Some(run) {
            self.attached = false;
        }
    }

    /// The leader's log, which ended at `before` until now, has grown.
    pub(super) fn leader_appended(&mut self, before: Offset, now: Instant) {
        if self.end.is_some_and(|end| end >= before) {
            self.caught_up = Some(now);
        }
    }

    /// Counts as in sync from now on.
    pub(super) fn joins(&mut self, now: Instant) {
        self.caught_up = Some(now);
    }

    /// It has been behind for longer than `lag_max`.
    pub(super) fn lags(&self, leader_end: Offset, now: Instant, lag_max: Duration) -> bool {
        let has_all = self.end.is_some_and(|end| end >= leader_end);
        !has_all && self.caught_up.is_none_or(|at| now.saturating_duration_since(at) > lag_max)
    }

    /// Not in the ISR, but so close that the high watermark waits for it to join.
    pub(super) fn is_joining(&self, now: Instant) -> bool {
        let close = |at| now.saturating_duration_since(at) <= JOINING_MAX;
        self.attached && self.end.is_some() && self.caught_up.is_some_and(close)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAG: Duration = Duration::from_secs(10);

    fn run(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    #[test]
    fn a_replica_lags_when_it_had_not_everything_for_too_long() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut replica = ReplicaState::new(BrokerId(2), Some(begin));
        assert!(!replica.lags(Offset(5), at(10), LAG) && replica.lags(Offset(5), at(11), LAG));
        replica.told(run(1), Offset(5), Offset(5), at(11));
        assert!(!replica.lags(Offset(5), at(100), LAG), "nothing was appended since");
        replica.leader_appended(Offset(5), at(100));
        assert!(!replica.lags(Offset(6), at(110), LAG) && replica.lags(Offset(6), at(111), LAG));
        // What is appended further does not count in its favour.
        replica.leader_appended(Offset(6), at(111));
        assert!(replica.lags(Offset(7), at(111), LAG));
    }

    #[test]
    fn behind_a_busy_leader_a_replica_is_in_sync_as_of_the_time_it_told_before() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut replica = ReplicaState::new(BrokerId(2), None);
        replica.told(run(1), Offset(50), Offset(100), at(20));
        assert!(replica.lags(Offset(200), at(20), LAG) && !replica.is_joining(at(20)));
        replica.told(run(1), Offset(100), Offset(200), at(21));
        assert!(!replica.lags(Offset(300), at(30), LAG) && replica.lags(Offset(300), at(31), LAG));
        assert!(replica.is_joining(at(21)) && !replica.is_joining(at(22)));
        replica.detached(run(2));
        assert!(replica.is_joining(at(21)), "another run's stream");
        replica.detached(run(1));
        assert!(!replica.is_joining(at(21)));
    }

    #[test]
    fn another_run_has_what_it_tells_and_nothing_of_the_run_before() {
        let now = Instant::now();
        let mut replica = ReplicaState::new(BrokerId(2), None);
        replica.told(run(1), Offset(100), Offset(100), now);
        replica.told(run(2), Offset(10), Offset(100), now);
        assert_eq!(replica.end(), Some(Offset(10)));
        assert_eq!(replica.run().map(|run| run.incarnation), Some(run(2)));
    }
}
