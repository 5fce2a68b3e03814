//! What may be asked of a consumer from any thread, beside taking its records.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use proto::client::ClusterCounts;
use proto::{Offset, TopicPartition};
use tokio::sync::{mpsc, oneshot};

use crate::blocking::block_on;
use crate::error::ConsumerError;
use crate::event::Event;
use crate::shared::{Shared, StartAt};
use crate::worker::Command;

/// Offsets asked for by time; `None` where every record is older.
pub(crate) type Found = BTreeMap<TopicPartition, Option<Offset>>;

/// Controls a consumer; cheap to clone, usable from any thread while the consumer lives.
///
/// Calls that ask the cluster wait on the calling thread for at most `default.api.timeout.ms`;
/// those whose name ends in `_async` give a future instead.
#[derive(Debug, Clone)]
pub struct Control {
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    pub(crate) counts: Arc<ClusterCounts>,
}

/// Counts of a consumer since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConsumerStats {
    /// Partitions that were seen to have another leader, or the same one anew: followed, no errors.
    pub leader_changes: u64,
    /// Changes of metadata that brokers pushed.
    pub metadata_pushes: u64,
    /// Metadata that had to be asked for.
    pub metadata_refreshes: u64,
}

impl Control {
    /// Delivery of an assigned partition goes on at another place. What was fetched ahead is
    /// dropped.
    pub fn seek(&self, partition: &TopicPartition, offset: Offset) -> Result<(), ConsumerError> {
        self.shared.seek(partition, StartAt::Offset(offset))
    }

    /// Goes on at the first record whose timestamp (milliseconds since the epoch) is this or later,
    /// at the end where there is none.
    pub fn seek_to_time(
        &self,
        partition: &TopicPartition,
        timestamp_ms: i64,
    ) -> Result<(), ConsumerError> {
        self.shared.seek(partition, StartAt::Time(timestamp_ms))
    }

    /// Goes on at the oldest record.
    pub fn seek_to_beginning(&self, partition: &TopicPartition) -> Result<(), ConsumerError> {
        self.shared.seek(partition, StartAt::Beginning)
    }

    /// Goes on after the newest record.
    pub fn seek_to_end(&self, partition: &TopicPartition) -> Result<(), ConsumerError> {
        self.shared.seek(partition, StartAt::End)
    }

    /// Holds partitions back. What was fetched ahead of them is kept for [`Control::resume`].
    pub fn pause(&self, partitions: &[TopicPartition]) -> Result<(), ConsumerError> {
        self.shared.set_paused(partitions, true)
    }

    /// Lets partitions go on.
    pub fn resume(&self, partitions: &[TopicPartition]) -> Result<(), ConsumerError> {
        self.shared.set_paused(partitions, false)
    }

    /// The partitions held back now.
    pub fn paused(&self) -> Vec<TopicPartition> {
        self.shared.paused()
    }

    /// The partitions delivered now, by explicit assignment or by the group's plan.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.shared.assignment()
    }

    /// The offset of the next record to be delivered; `None` while it is being looked up.
    pub fn position(&self, partition: &TopicPartition) -> Result<Option<Offset>, ConsumerError> {
        self.shared.position(partition)
    }

    /// The end of what may be read of an assigned partition, as of its last answer.
    pub fn high_watermark(&self, partition: &TopicPartition) -> Option<Offset> {
        self.shared.high_watermark(partition)
    }

    /// Counts so far.
    pub fn stats(&self) -> ConsumerStats {
        let stats = self.counts.stats();
        ConsumerStats {
            leader_changes: stats.leader_changes,
            metadata_pushes: stats.pushes,
            metadata_refreshes: stats.refreshes,
        }
    }

    /// Takes the events that happened since the last call and that no poll has returned.
    pub fn take_events(&self) -> Vec<Event> {
        self.shared.take_events()
    }

    /// The same, waiting at most so long for one.
    pub fn wait_for_events(&self, limit: Duration) -> Vec<Event> {
        self.shared.wait_for_events(limit)
    }

    /// Commits the position of every partition this member owns, and waits until it is written.
    ///
    /// While the registry cannot be reached, the newest positions are kept and written later; the
    /// call fails after `default.api.timeout.ms`.
    pub fn commit(&self) -> Result<(), ConsumerError> {
        self.wait(self.commit_async())
    }

    /// See [`Control::commit`]. The positions are those of this call; the future need not be
    /// awaited.
    pub fn commit_async(&self) -> impl Future<Output = Result<(), ConsumerError>> + use<> {
        let positions = self.shared.all_positions();
        let positions = positions
            .into_iter()
            .filter_map(|(positions, _)| Some((positions.partition.clone(), positions.next()?)));
        self.commit_offsets_async(positions)
    }

    /// Commits these offsets: each the next one to read.
    pub fn commit_offsets(
        &self,
        offsets: impl IntoIterator<Item = (TopicPartition, Offset)>,
    ) -> Result<(), ConsumerError> {
        self.wait(self.commit_offsets_async(offsets))
    }

    /// See [`Control::commit_offsets`].
    pub fn commit_offsets_async<I: IntoIterator<Item = (TopicPartition, Offset)>>(
        &self,
        offsets: I,
    ) -> impl Future<Output = Result<(), ConsumerError>> + use<I> {
        let offsets = offsets.into_iter().collect();
        self.ask(move |reply| Command::Commit { offsets, reply })
    }

    /// The oldest offset of each partition, assigned or not.
    pub fn beginning_offsets(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Offset>, ConsumerError> {
        self.wait(self.beginning_offsets_async(partitions))
    }

    /// See [`Control::beginning_offsets`].
    pub fn beginning_offsets_async(
        &self,
        partitions: &[TopicPartition],
    ) -> impl Future<Output = Result<BTreeMap<TopicPartition, Offset>, ConsumerError>> + use<> {
        let found = self.lookup(partitions, StartAt::Beginning);
        async {
            Ok(found.await?.into_iter().filter_map(|(p, offset)| Some((p, offset?))).collect())
        }
    }

    /// The end of what may be read of each partition, assigned or not.
    pub fn end_offsets(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Offset>, ConsumerError> {
        self.wait(self.end_offsets_async(partitions))
    }

    /// See [`Control::end_offsets`].
    pub fn end_offsets_async(
        &self,
        partitions: &[TopicPartition],
    ) -> impl Future<Output = Result<BTreeMap<TopicPartition, Offset>, ConsumerError>> + use<> {
        let found = self.lookup(partitions, StartAt::End);
        async {
            Ok(found.await?.into_iter().filter_map(|(p, offset)| Some((p, offset?))).collect())
        }
    }

    /// The first offset of each partition whose timestamp is this or later; `None` where every
    /// record is older.
    pub fn offsets_for_time(
        &self,
        partitions: &[TopicPartition],
        timestamp_ms: i64,
    ) -> Result<Found, ConsumerError> {
        self.wait(self.offsets_for_time_async(partitions, timestamp_ms))
    }

    /// See [`Control::offsets_for_time`].
    pub fn offsets_for_time_async(
        &self,
        partitions: &[TopicPartition],
        timestamp_ms: i64,
    ) -> impl Future<Output = Result<Found, ConsumerError>> + use<> {
        self.lookup(partitions, StartAt::Time(timestamp_ms.max(0)))
    }

    fn lookup(
        &self,
        partitions: &[TopicPartition],
        start: StartAt,
    ) -> impl Future<Output = Result<Found, ConsumerError>> + use<> {
        let partitions = partitions.to_vec();
        self.ask(move |reply| Command::Offsets { partitions, start, reply })
    }

    /// The partitions of a topic that exists.
    pub fn partitions_for(&self, topic: &str) -> Result<Vec<TopicPartition>, ConsumerError> {
        self.wait(self.partitions_for_async(topic))
    }

    /// See [`Control::partitions_for`].
    pub fn partitions_for_async(
        &self,
        topic: &str,
    ) -> impl Future<Output = Result<Vec<TopicPartition>, ConsumerError>> + use<> {
        let topic = topic.to_owned();
        self.ask(|reply| Command::Partitions { topic, reply })
    }

    /// The names of all topics.
    pub fn topics(&self) -> Result<Vec<String>, ConsumerError> {
        self.wait(self.topics_async())
    }

    /// See [`Control::topics`].
    pub fn topics_async(&self) -> impl Future<Output = Result<Vec<String>, ConsumerError>> + use<> {
        self.ask(|reply| Command::Topics { reply })
    }

    pub(crate) fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, ConsumerError>>) -> Command,
    ) -> Answer<T> {
        let (reply, answer) = oneshot::channel();
        // Where the worker is gone, so is the reply.
        let _ = self.commands.send(command(reply));
        Answer(answer)
    }

    pub(crate) fn wait<T>(
        &self,
        future: impl Future<Output = Result<T, ConsumerError>>,
    ) -> Result<T, ConsumerError> {
        // The worker itself gives up after default.api.timeout.ms; this is for one that hangs.
        let timeout = self.shared.config.default_api_timeout * 2;
        block_on(future, Some(Instant::now() + timeout)).unwrap_or_else(|| {
            let last = "the consumer's own thread did not answer".to_owned();
            Err(ConsumerError::Timeout { call: "the call", timeout, last })
        })
    }
}

/// What the worker will answer.
#[derive(Debug)]
pub(crate) struct Answer<T>(oneshot::Receiver<Result<T, ConsumerError>>);

impl<T> Future for Answer<T> {
    type Output = Result<T, ConsumerError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = Pin::new(&mut self.0).poll(cx);
        answer.map(|answer| answer.unwrap_or(Err(ConsumerError::Closed)))
    }
}
