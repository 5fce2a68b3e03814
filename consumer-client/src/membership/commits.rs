//! What is written to the offset nodes, and when. Pure.
//!
//! - One write a partition is under way at a time; what is wanted meanwhile waits, the newest only.
//! - What is written already is not written again.
//! - At most [`IN_FLIGHT_MAX`] writes of a member are under way.
//! - A write carries the fence of its claim and is refused when somebody else has claimed since.
//!
//! A partition is *open* between a claim and its loss or release. While the session is gone it is
//! *held*: nothing is written until it was claimed again, since the claim renews the fence.

use std::collections::BTreeMap;
use std::time::Instant;

use coordinator::zk::payload::CommittedOffset;
use proto::{LeaderEpoch, Offset, TopicId, TopicPartition};
use tokio::sync::oneshot;

use crate::error::CommitError;

/// Writes of one member under way.
pub(crate) const IN_FLIGHT_MAX: usize = 500;

/// A write to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) partition: TopicPartition,
    pub(crate) value: CommittedOffset,
    pub(crate) fence: i32,
    /// The claim it belongs to.
    pub(crate) claim: u64,
}

/// What came of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    Committed {
        fence: i32,
    },
    Fenced,
    /// The registry could not answer.
    Unanswered,
}

/// A position with the application's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) offset: Offset,
    /// Of the record before it.
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) metadata: String,
}

impl Wish {
    pub(crate) fn at(offset: Offset) -> Self {
        Self::after(LeaderEpoch::UNKNOWN, offset)
    }

    /// Where the record before it has this epoch.
    pub(crate) fn after(leader_epoch: LeaderEpoch, offset: Offset) -> Self {
        Self { offset, leader_epoch, metadata: String::new() }
    }
}

#[derive(Debug)]
struct Open {
    claim: u64,
    topic_id: TopicId,
    fence: i32,
    written: Option<Wish>,
    under_way: Option<Wish>,
    wanted: Option<Wish>,
    held: bool,
}

/// A caller that waits for its offsets to be written.
#[derive(Debug)]
struct Waiter {
    remaining: BTreeMap<TopicPartition, Offset>,
    reply: oneshot::Sender<Result<(), CommitError>>,
    deadline: Instant,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct CommitBook {
    member: String,
    open: BTreeMap<TopicPartition, Open>,
    under_way: usize,
    claims: u64,
    /// Partitions released without their last position.
    given_up: usize,
    waiters: Vec<Waiter>,
}

impl CommitBook {
    pub(crate) fn new(member: String) -> Self {
        let (open, waiters) = (BTreeMap::new(), Vec::new());
        Self { member, open, under_way: 0, claims: 0, given_up: 0, waiters }
    }

    /// A claim was granted. `same`: this member goes on where it was, what is wanted still is.
    pub(crate) fn open(
        &mut self,
        partition: &TopicPartition,
        topic_id: TopicId,
        fence: i32,
        written: Option<Wish>,
        same: bool,
    ) {
        self.claims += 1;
        let before = self.open.remove(partition);
        let wanted = before.filter(|_| same).and_then(|open| open.wanted.or(open.under_way));
        let open = Open {
            claim: self.claims,
            topic_id,
            fence,
            written,
            under_way: None,
            wanted,
            held: false,
        };
        self.open.insert(partition.clone(), open);
    }

    /// The fence that the last write of this member left.
    pub(crate) fn fence(&self, partition: &TopicPartition) -> Option<i32> {
        self.open.get(partition).map(|open| open.fence)
    }

    /// The partition is not this member's any more.
    pub(crate) fn close(&mut self, partition: &TopicPartition) {
        self.open.remove(partition);
        self.fail(partition);
    }

    /// The session is gone: nothing is written before the next claim.
    pub(crate) fn hold_all(&mut self) {
        self.open.values_mut().for_each(|open| open.held = true);
    }

    /// Writes of a partition may be made although its session is gone: it is to be released, and
    /// its fence still tells whether somebody claimed it since.
    pub(crate) fn release_hold(&mut self, partition: &TopicPartition) {
        if let Some(open) = self.open.get_mut(partition) {
            open.held = false;
        }
    }

    /// Takes up a position; false where the partition is not open.
    pub(crate) fn want(&mut self, partition: &TopicPartition, wish: Wish) -> bool {
        let Some(open) = self.open.get_mut(partition) else { return false };
        let newest = open.under_way.as_ref().or(open.written.as_ref());
        open.wanted = (newest != Some(&wish)).then_some(wish);
        true
    }

    /// Whether everything wanted of a partition was written, or cannot be.
    pub(crate) fn is_settled(&self, partition: &TopicPartition) -> bool {
        let settled = |open: &Open| open.wanted.is_none() && open.under_way.is_none();
        self.open.get(partition).is_none_or(settled)
    }

    /// Whether every position that was wanted has been written, or is another member's.
    pub(crate) fn is_all_written(&self) -> bool {
        self.given_up == 0 && self.open.keys().all(|partition| self.is_settled(partition))
    }

    /// The partition is released although its last position could not be written.
    pub(crate) fn give_up(&mut self, partition: &TopicPartition) {
        self.given_up += usize::from(!self.is_settled(partition));
        self.close(partition);
    }

    /// The writes to be made now.
    pub(crate) fn next_writes(&mut self) -> Vec<Write> {
        let mut writes = Vec::new();
        for (partition, open) in &mut self.open {
            if self.under_way >= IN_FLIGHT_MAX {
                break;
            }
            if open.held || open.under_way.is_some() {
                continue;
            }
            let Some(wish) = open.wanted.take() else { continue };
            self.under_way += 1;
            let value = CommittedOffset {
                offset: Some(wish.offset),
                topic_id: open.topic_id,
                leader_epoch: wish.leader_epoch,
                metadata: wish.metadata.clone(),
                by: self.member.clone(),
            };
            open.under_way = Some(wish);
            let (fence, claim) = (open.fence, open.claim);
            writes.push(Write { partition: partition.clone(), value, fence, claim });
        }
        writes
    }

    /// Takes the answer to a write. True: the partition was lost by it.
    pub(crate) fn written(
        &mut self,
        partition: &TopicPartition,
        claim: u64,
        outcome: Written,
    ) -> bool {
        self.under_way = self.under_way.saturating_sub(1);
        let Some(open) = self.open.get_mut(partition).filter(|open| open.claim == claim) else {
            return false;
        };
        let Some(wish) = open.under_way.take() else { return false };
        match outcome {
            Written::Committed { fence } => {
                let offset = wish.offset;
                open.fence = fence;
                open.written = Some(wish);
                self.answer(partition, offset);
                false
            }
            Written::Fenced => {
                self.close(partition);
                true
            }
            Written::Unanswered => {
                open.wanted.get_or_insert(wish);
                false
            }
        }
    }

    /// Answers `reply` when these offsets are written, or cannot be, or the deadline has passed.
    pub(crate) fn wait_for(
        &mut self,
        offsets: BTreeMap<TopicPartition, Offset>,
        deadline: Instant,
        reply: oneshot::Sender<Result<(), CommitError>>,
    ) {
        let missing = offsets.keys().find(|partition| !self.open.contains_key(*partition));
        if let Some(partition) = missing {
            let _ = reply.send(Err(CommitError::OwnershipLost(partition.clone())));
            return;
        }
        let mut remaining = offsets;
        remaining.retain(|partition, _| !self.is_settled(partition));
        if remaining.is_empty() {
            let _ = reply.send(Ok(()));
            return;
        }
        self.waiters.push(Waiter { remaining, reply, deadline });
    }

    fn answer(&mut self, partition: &TopicPartition, written: Offset) {
        for waiter in &mut self.waiters {
            if waiter.remaining.get(partition) == Some(&written) {
                waiter.remaining.remove(partition);
            }
        }
        // A newer position may have taken the place of one that is waited for.
        let settled = self.is_settled(partition);
        for waiter in self.waiters.iter_mut().filter(|_| settled) {
            waiter.remaining.remove(partition);
        }
        for waiter in self.waiters.extract_if(.., |waiter| waiter.remaining.is_empty()) {
            let _ = waiter.reply.send(Ok(()));
        }
    }

    fn fail(&mut self, partition: &TopicPartition) {
        let concerned = |waiter: &mut Waiter| waiter.remaining.contains_key(partition);
        for waiter in self.waiters.extract_if(.., concerned) {
            let _ = waiter.reply.send(Err(CommitError::OwnershipLost(partition.clone())));
        }
    }

    /// Tells those whose time is over.
    pub(crate) fn expire_waiters(&mut self, now: Instant, why: &str) {
        for waiter in self.waiters.extract_if(.., |waiter| waiter.deadline <= now) {
            let _ = waiter.reply.send(Err(CommitError::Unreachable(why.to_owned())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tp(partition: i32) -> TopicPartition {
        TopicPartition::new("t", partition)
    }

    fn book(partitions: i32) -> CommitBook {
        let mut book = CommitBook::new("me".to_owned());
        (0..partitions).for_each(|p| {
            book.open(&tp(p), TopicId::random(), 7, Some(Wish::at(Offset(0))), false);
        });
        book
    }

    #[test]
    fn one_write_a_partition_newest_only_and_unchanged_skipped() {
        let mut book = book(1);
        assert!(book.want(&tp(0), Wish::at(Offset(0))));
        assert_eq!(book.next_writes(), []);
        book.want(&tp(0), Wish::at(Offset(5)));
        let writes = book.next_writes();
        assert_eq!((writes.len(), writes[0].fence), (1, 7));
        book.want(&tp(0), Wish::at(Offset(6)));
        book.want(&tp(0), Wish::at(Offset(9)));
        assert_eq!(book.next_writes(), []);
        assert!(!book.written(&tp(0), writes[0].claim, Written::Committed { fence: 8 }));
        let writes = book.next_writes();
        assert_eq!((writes[0].value.offset, writes[0].fence), (Some(Offset(9)), 8));
        book.written(&tp(0), writes[0].claim, Written::Unanswered);
        assert_eq!(book.next_writes()[0].value.offset, Some(Offset(9)));
    }

    #[test]
    fn at_most_so_many_are_under_way() {
        let mut book = book(600);
        (0..600).for_each(|p| assert!(book.want(&tp(p), Wish::at(Offset(1)))));
        let first = book.next_writes();
        assert_eq!(first.len(), IN_FLIGHT_MAX);
        book.written(&first[0].partition, first[0].claim, Written::Committed { fence: 8 });
        assert_eq!(book.next_writes().len(), 1);
    }

    #[test]
    fn nothing_is_written_between_the_end_of_a_session_and_the_next_claim() {
        let mut book = book(1);
        book.want(&tp(0), Wish::at(Offset(5)));
        let write = book.next_writes().remove(0);
        book.hold_all();
        book.want(&tp(0), Wish::at(Offset(6)));
        book.written(&tp(0), write.claim, Written::Unanswered);
        assert_eq!(book.next_writes(), []);
        book.open(&tp(0), write.value.topic_id, 9, Some(Wish::at(Offset(0))), true);
        let again = book.next_writes().remove(0);
        assert_eq!((again.value.offset, again.fence), (Some(Offset(6)), 9));
        // The answer of the old claim's write means nothing any more.
        assert!(!book.written(&tp(0), write.claim, Written::Fenced));
    }

    #[test]
    fn who_waits_is_answered() {
        let mut book = book(2);
        let now = Instant::now();
        let later = now + std::time::Duration::from_secs(1);
        let (reply, mut answer) = oneshot::channel();
        book.want(&tp(0), Wish::at(Offset(5)));
        book.wait_for([(tp(0), Offset(5)), (tp(1), Offset(0))].into(), later, reply);
        assert!(answer.try_recv().is_err());
        let write = book.next_writes().remove(0);
        book.written(&tp(0), write.claim, Written::Committed { fence: 8 });
        assert!(answer.try_recv().unwrap().is_ok());

        let (reply, mut answer) = oneshot::channel();
        book.want(&tp(1), Wish::at(Offset(5)));
        book.wait_for([(tp(1), Offset(5))].into(), later, reply);
        let write = book.next_writes().remove(0);
        assert!(book.written(&tp(1), write.claim, Written::Fenced));
        assert!(matches!(answer.try_recv().unwrap(), Err(CommitError::OwnershipLost(_))));

        let (reply, mut answer) = oneshot::channel();
        book.want(&tp(0), Wish::at(Offset(6)));
        book.wait_for([(tp(0), Offset(6))].into(), later, reply);
        book.expire_waiters(now, "x");
        assert!(answer.try_recv().is_err());
        book.expire_waiters(later, "x");
        assert!(matches!(answer.try_recv().unwrap(), Err(CommitError::Unreachable(_))));
    }
}
