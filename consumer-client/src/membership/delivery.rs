//! What both kinds of membership do with a partition and with positions, whoever says what is whose.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coordinator::rebalance::Topics;
use proto::{LeaderEpoch, Offset, TopicId, TopicPartition};
use tokio::sync::oneshot;

use super::commits::{CommitBook, Wish};
use crate::config::OffsetReset;
use crate::error::CommitError;
use crate::event::Event;
use crate::shared::{Shared, StartAt};

/// Between looks at what nothing wakes for: long cuts, callers whose time is over.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The longest a clean leave may take before the membership ends as it is.
pub(super) const LEAVE_WITHIN: Duration = Duration::from_secs(10);

/// What is asked of the group.
#[derive(Debug)]
pub(crate) enum GroupCommand {
    /// Commit these; answered when they are written.
    Commit {
        offsets: BTreeMap<TopicPartition, Wish>,
        reply: oneshot::Sender<Result<(), CommitError>>,
    },
    /// Leave: commit, release, take the registration back.
    Close,
}

/// How far a release has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Releasing {
    /// The application still works on records.
    Draining,
    /// The last position is being written.
    Committing,
    /// The owner node is being deleted.
    Deleting,
}

/// Begins delivery where the group was, or by `auto.offset.reset`. False: it waits for a seek, which
/// was told.
pub(super) fn begin(
    shared: &Shared,
    partition: &TopicPartition,
    topic_id: TopicId,
    stored: Option<(Offset, LeaderEpoch)>,
    queue: usize,
) -> bool {
    let start = match (stored, shared.config.auto_offset_reset) {
        (Some((offset, _)), _) => Some(StartAt::Offset(offset)),
        (None, OffsetReset::Earliest) => Some(StartAt::Beginning),
        (None, OffsetReset::Latest) => Some(StartAt::End),
        (None, OffsetReset::None) => None,
    };
    let epoch = stored.map_or(LeaderEpoch::UNKNOWN, |(_, epoch)| epoch);
    shared.start_after(partition.clone(), Some(topic_id), start, epoch, queue);
    if start.is_none() {
        shared.emit(Event::NoPosition { partition: partition.clone() });
    }
    start.is_some()
}

/// Ends delivery at once and waits until the application is through with what it was handed: how far
/// it came.
pub(super) fn drain(
    shared: &Arc<Shared>,
    partition: TopicPartition,
) -> impl Future<Output = Option<Wish>> + Send + 'static {
    let stopped = shared.stop(std::slice::from_ref(&partition));
    let shared = Arc::clone(shared);
    async move {
        let limit = shared.config.rebalance_drain;
        if !shared.drain(&stopped, limit).await {
            tracing::warn!(
                %partition,
                "the application still works on records of a partition that moves away: they may \
                 be delivered again to its new owner"
            );
        }
        stopped.first().and_then(|positions| {
            let done = positions.done()?;
            Some(Wish::after(positions.epoch_before(done), done))
        })
    }
}

/// An automatic commit: all that the application is through with.
pub(super) fn want_done(shared: &Shared, book: &mut CommitBook) {
    for (positions, _) in shared.all_positions() {
        if let Some(done) = positions.done() {
            let wish = Wish::after(positions.epoch_before(done), done);
            book.want(&positions.partition, wish);
        }
    }
}

/// A commit that the application asks for.
pub(super) fn commit(
    shared: &Shared,
    book: &mut CommitBook,
    offsets: BTreeMap<TopicPartition, Wish>,
    reply: oneshot::Sender<Result<(), CommitError>>,
) {
    for (partition, wish) in &offsets {
        let leader_epoch = shared.epoch_before(partition, wish.offset);
        book.want(partition, Wish { leader_epoch, ..wish.clone() });
    }
    let offsets = offsets.into_iter().map(|(partition, wish)| (partition, wish.offset));
    let deadline = Instant::now() + shared.config.default_api_timeout;
    book.wait_for(offsets.collect(), deadline, reply);
}

/// A topic that went, or gave way to another of its name, is told where this member reads it.
pub(super) fn tell_deletions(shared: &Shared, before: &Topics, now: &Topics) {
    for (name, before) in before {
        let there = now.get(name).map(|topic| topic.topic_id);
        let concerned = || shared.assignment().iter().any(|p| *p.topic == **name);
        if there != Some(before.topic_id) && concerned() {
            let topic_id = Some(before.topic_id);
            shared.emit(Event::TopicDeleted { topic: name.clone(), topic_id });
        }
    }
}

/// Events of many partitions, told as one.
#[derive(Default)]
pub(super) struct Told {
    pub(super) assigned: Vec<TopicPartition>,
    pub(super) revoked: Vec<TopicPartition>,
    pub(super) lost: Vec<TopicPartition>,
}

impl Told {
    pub(super) fn emit(self, shared: &Shared) {
        if !self.assigned.is_empty() {
            shared.emit(Event::PartitionsAssigned(self.assigned));
        }
        if !self.revoked.is_empty() {
            shared.emit(Event::PartitionsRevoked(self.revoked));
        }
        if !self.lost.is_empty() {
            shared.emit(Event::PartitionsLost(self.lost));
        }
    }
}
