//! The positions of one partition in this consumer, shared between who fetches, who delivers and
//! who commits without a lock.
//!
//! | position | meaning | who moves it |
//! |---|---|---|
//! | `done` | below it, the application is through: what an automatic commit writes | reader |
//! | `next` | the next record to hand out: `position()`, and what a manual commit writes | reader |
//! | `claimed` | the end of what a reader has taken up and may hand out | reader |
//!
//! `done <= next <= claimed`, each exclusive. All are [`NOWHERE`] until the start is resolved.
//!
//! One `Positions` lives from one start of delivery to its stop: a seek, a revocation or a loss
//! ends it (`stop`) and the next start makes another, so an answer or a batch that was under way
//! belongs to a stopped one and is dropped.
//!
//! **Parting.** Where the leader's log turns out to differ from what was fetched, everything fetched and not
//! yet handed out is void until the reader has come to the end of it: see
//! [`Shared::diverged`](crate::shared::Shared::diverged).
//!
//! **Stopping.** A reader raises `claimed` and then looks at `stopped`; who stops sets `stopped`
//! and then looks at `claimed`, both sequentially consistent. So either the reader sees the stop
//! and hands nothing out, or the stopper sees the claim and waits until it is `drained` (`done ==
//! claimed`), which the reader reaches when the application asks for more.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::Mutex;
use proto::{LeaderEpoch, Offset, TopicPartition};

use crate::epoch_trail::EpochTrail;

/// The value of a position that is not known yet.
pub(crate) const NOWHERE: i64 = -1;

/// See the module.
#[derive(Debug)]
pub(crate) struct Positions {
    pub(crate) partition: TopicPartition,
    done: AtomicI64,
    next: AtomicI64,
    claimed: AtomicI64,
    stopped: AtomicBool,
    parted: AtomicBool,
    paused: AtomicBool,
    /// Of what was fetched. Never locked while anything is waited for.
    trail: Mutex<EpochTrail>,
}

impl Positions {
    pub(crate) fn new(partition: TopicPartition) -> Self {
        Self {
            partition,
            done: AtomicI64::new(NOWHERE),
            next: AtomicI64::new(NOWHERE),
            claimed: AtomicI64::new(NOWHERE),
            stopped: AtomicBool::new(false),
            parted: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            trail: Mutex::default(),
        }
    }

    /// Sets all positions at the start of delivery, and where a lost position was replaced. Only
    /// while nothing is claimed.
    pub(crate) fn begin_at(&self, offset: Offset) {
        self.done.store(offset.0, Ordering::SeqCst);
        self.next.store(offset.0, Ordering::SeqCst);
        self.claimed.store(offset.0, Ordering::SeqCst);
    }

    /// Works on the epochs of what was fetched.
    pub(crate) fn trail<T>(&self, f: impl FnOnce(&mut EpochTrail) -> T) -> T {
        f(&mut self.trail.lock())
    }

    /// The leader epoch of the record before `offset`, if it is known.
    pub(crate) fn epoch_before(&self, offset: Offset) -> LeaderEpoch {
        self.trail.lock().before(offset).unwrap_or(LeaderEpoch::UNKNOWN)
    }

    /// A reader takes up what lies below `end`. False: stopped, nothing may be handed out.
    pub(crate) fn claim(&self, end: Offset) -> bool {
        let before = self.claimed.load(Ordering::Relaxed);
        self.claimed.store(end.0.max(before), Ordering::SeqCst);
        if self.stopped.load(Ordering::SeqCst) {
            self.claimed.store(before, Ordering::SeqCst);
            return false;
        }
        true
    }

    /// Everything below `offset` is handed out.
    pub(crate) fn hand_out(&self, offset: Offset) {
        self.next.store(offset.0, Ordering::Relaxed);
    }

    /// The application is through with everything below `offset`.
    pub(crate) fn finish(&self, offset: Offset) {
        self.done.store(offset.0, Ordering::Release);
    }

    /// The reader gives up what it claimed and did not hand out; all handed out is done.
    pub(crate) fn abandon(&self) {
        let next = self.next.load(Ordering::Relaxed);
        self.done.store(next, Ordering::SeqCst);
        self.claimed.store(next, Ordering::SeqCst);
    }

    /// No more may be handed out from now on.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    #[inline]
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Whether what was fetched is of a history that the leader does not have.
    pub(crate) fn set_parted(&self, parted: bool) {
        self.parted.store(parted, Ordering::SeqCst);
    }

    pub(crate) fn is_parted(&self) -> bool {
        self.parted.load(Ordering::SeqCst)
    }

    /// Nothing more of what was fetched is handed out.
    #[inline]
    pub(crate) fn is_void(&self) -> bool {
        self.is_stopped() || self.parted.load(Ordering::Relaxed)
    }

    /// After `stop`: the application is through with all it was handed.
    pub(crate) fn is_drained(&self) -> bool {
        self.done.load(Ordering::SeqCst) == self.claimed.load(Ordering::SeqCst)
    }

    pub(crate) fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// What an automatic commit writes.
    pub(crate) fn done(&self) -> Option<Offset> {
        known(self.done.load(Ordering::SeqCst))
    }

    /// What a manual commit writes.
    pub(crate) fn next(&self) -> Option<Offset> {
        known(self.next.load(Ordering::SeqCst))
    }
}

fn known(offset: i64) -> Option<Offset> {
    (offset != NOWHERE).then_some(Offset(offset))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_stopped_partition_hands_nothing_out_and_is_drained_when_the_reader_is_through() {
        let positions = Positions::new(TopicPartition::new("t", 0));
        positions.begin_at(Offset(5));
        assert!(positions.claim(Offset(10)));
        positions.hand_out(Offset(7));
        positions.stop();
        assert!(!positions.is_drained());
        positions.abandon();
        assert!(positions.is_drained());
        assert_eq!(positions.done(), Some(Offset(7)));
        assert!(!positions.claim(Offset(12)));
        assert!(positions.is_drained());
    }

    /// The handshake: whatever the interleaving, a record handed out after the stop was seen as
    /// drained does not exist.
    #[test]
    fn nothing_is_handed_out_after_the_stopper_saw_it_drained() {
        for _ in 0..2_000 {
            let positions = Arc::new(Positions::new(TopicPartition::new("t", 0)));
            positions.begin_at(Offset(0));
            let reader = Arc::clone(&positions);
            let thread = std::thread::spawn(move || {
                let mut handed = 0;
                for end in 1..20 {
                    if !reader.claim(Offset(end)) {
                        reader.abandon();
                        return handed;
                    }
                    handed = end;
                    reader.hand_out(Offset(end));
                    reader.finish(Offset(end));
                }
                handed
            });
            positions.stop();
            while !positions.is_drained() {
                std::hint::spin_loop();
            }
            let seen = positions.done().unwrap().0;
            assert_eq!(thread.join().unwrap(), seen);
        }
    }
}
