//! Assignment, seek, pause, positions: what the application and the group membership do.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use proto::{LeaderEpoch, Offset, TopicId, TopicPartition};

use super::state::{Assigned, FetchFrom, Queue};
use super::{Shared, StartAt};
use crate::error::ConsumerError;
use crate::event::Event;
use crate::positions::Positions;

impl Shared {
    /// Makes one more queue and returns its number.
    pub(crate) fn add_queue(&self) -> usize {
        let mut state = self.state.lock();
        state.queues.push(Queue::default());
        state.queues.len() - 1
    }

    /// Nobody reads the queue any more: its partitions stand still.
    pub(crate) fn abandon_queue(&self, queue: usize) {
        let mut state = self.state.lock();
        if let Some(queue) = state.queues.get_mut(queue) {
            queue.abandoned = true;
        }
        drop(state);
        self.wants_changed();
    }

    /// Begins delivery of a partition into a queue; without a start it waits for a seek. Positions
    /// of before are stopped.
    pub(crate) fn start(
        &self,
        partition: TopicPartition,
        topic_id: Option<TopicId>,
        start: Option<StartAt>,
        queue: usize,
    ) {
        self.start_after(partition, topic_id, start, LeaderEpoch::UNKNOWN, queue);
    }

    /// The same, where the epoch of the record before the start may be known: if the log of the leader
    /// has another there, that is told.
    pub(crate) fn start_after(
        &self,
        partition: TopicPartition,
        topic_id: Option<TopicId>,
        start: Option<StartAt>,
        epoch: LeaderEpoch,
        queue: usize,
    ) {
        let positions = Arc::new(Positions::new(partition.clone()));
        let fetch = match start {
            Some(StartAt::Offset(offset)) => {
                positions.begin_at(offset);
                positions.trail(|trail| trail.begin(offset, Some(epoch)));
                FetchFrom::At(offset)
            }
            Some(other) => FetchFrom::Unresolved(other),
            None => FetchFrom::Halted,
        };
        let assigned = Assigned {
            positions,
            topic_id,
            fetch,
            leader: None,
            queue,
            problem: None,
            high_watermark: None,
            log_start: None,
            missing_since: None,
            doubt: None,
        };
        let mut state = self.state.lock();
        if let Some(old) = state.partitions.insert(partition, assigned) {
            old.positions.stop();
            let share = self.queue_share(&state);
            state.drop_stopped(share);
        }
        self.wake_readers(&mut state);
        drop(state);
        self.work.notify_one();
        self.wants_changed();
    }

    /// Ends delivery of partitions. What was handed out of them may still be worked on: see
    /// [`Shared::drain`].
    pub(crate) fn stop(&self, partitions: &[TopicPartition]) -> Vec<Arc<Positions>> {
        let mut state = self.state.lock();
        let stopped: Vec<_> = partitions
            .iter()
            .filter_map(|partition| state.partitions.remove(partition))
            .map(|assigned| assigned.positions)
            .collect();
        stopped.iter().for_each(|positions| positions.stop());
        let share = self.queue_share(&state);
        state.drop_stopped(share);
        // Readers that wait hold nothing; those that are woken give up what they hold.
        self.wake_readers(&mut state);
        drop(state);
        self.wants_changed();
        self.drained.notify_waiters();
        stopped
    }

    /// Waits until the application is through with what it was handed of stopped partitions.
    /// False: not within `limit`.
    pub(crate) async fn drain(&self, stopped: &[Arc<Positions>], limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let notified = self.drained.notified();
            if stopped.iter().all(|positions| positions.is_drained()) {
                return true;
            }
            if tokio::time::timeout_at(deadline.into(), notified).await.is_err() {
                return stopped.iter().all(|positions| positions.is_drained());
            }
        }
    }

    /// Delivery goes on at another place: what is queued is dropped.
    pub(crate) fn seek(
        &self,
        partition: &TopicPartition,
        start: StartAt,
    ) -> Result<(), ConsumerError> {
        let (topic_id, queue, paused) = {
            let state = self.state.lock();
            let assigned = state
                .partitions
                .get(partition)
                .ok_or_else(|| ConsumerError::NotAssigned(partition.clone()))?;
            (assigned.topic_id, assigned.queue, assigned.positions.is_paused())
        };
        self.start(partition.clone(), topic_id, Some(start), queue);
        if paused {
            self.set_paused(std::slice::from_ref(partition), true)?;
        }
        Ok(())
    }

    /// Holds partitions back, or lets them go on. What is queued stays.
    pub(crate) fn set_paused(
        &self,
        partitions: &[TopicPartition],
        paused: bool,
    ) -> Result<(), ConsumerError> {
        let mut state = self.state.lock();
        if let Some(missing) = partitions.iter().find(|p| !state.partitions.contains_key(p)) {
            return Err(ConsumerError::NotAssigned(missing.clone()));
        }
        for partition in partitions {
            if let Some(assigned) = state.partitions.get(partition) {
                assigned.positions.set_paused(paused);
            }
        }
        self.wake_readers(&mut state);
        drop(state);
        self.wants_changed();
        Ok(())
    }

    /// The partitions assigned now.
    pub(crate) fn assignment(&self) -> Vec<TopicPartition> {
        self.state.lock().partitions.keys().cloned().collect()
    }

    /// The partitions held back.
    pub(crate) fn paused(&self) -> Vec<TopicPartition> {
        let state = self.state.lock();
        let paused = state.partitions.iter().filter(|(_, a)| a.positions.is_paused());
        paused.map(|(partition, _)| partition.clone()).collect()
    }

    /// The next offset to be handed out; `None` while it is not known.
    pub(crate) fn position(
        &self,
        partition: &TopicPartition,
    ) -> Result<Option<Offset>, ConsumerError> {
        let state = self.state.lock();
        match state.partitions.get(partition) {
            Some(assigned) => Ok(assigned.positions.next()),
            None => Err(ConsumerError::NotAssigned(partition.clone())),
        }
    }

    /// The leader epoch of the record before an offset of an assigned partition, if it is known.
    pub(crate) fn epoch_before(&self, partition: &TopicPartition, offset: Offset) -> LeaderEpoch {
        let state = self.state.lock();
        let assigned = state.partitions.get(partition);
        assigned.map_or(LeaderEpoch::UNKNOWN, |a| a.positions.epoch_before(offset))
    }

    /// Every assigned partition with its topic's id and its positions.
    pub(crate) fn all_positions(&self) -> Vec<(Arc<Positions>, Option<TopicId>)> {
        let state = self.state.lock();
        state.partitions.values().map(|a| (Arc::clone(&a.positions), a.topic_id)).collect()
    }

    /// A number that changes whenever the application asks for something or is through with it; `None`
    /// while it waits, which is asking, too.
    pub(crate) fn activity(&self) -> Option<u64> {
        let state = self.state.lock();
        if state.waiting > 0 || state.queues.iter().any(|queue| queue.waker.is_some()) {
            return None;
        }
        let done = state.partitions.values().filter_map(|a| a.positions.done());
        let done = done.fold(0u64, |sum, offset| sum.wrapping_add(offset.0.unsigned_abs()));
        Some(self.taken.load(Ordering::Relaxed).wrapping_add(done))
    }

    /// The high watermark as last fetched.
    pub(crate) fn high_watermark(&self, partition: &TopicPartition) -> Option<Offset> {
        self.state.lock().partitions.get(partition)?.high_watermark
    }

    /// Keeps an event that was logged already.
    pub(crate) fn keep_event(&self, event: Event) {
        let mut state = self.state.lock();
        state.push_event(event);
        self.wake_readers(&mut state);
    }

    /// Takes the events that have no place among the records.
    pub(crate) fn take_events(&self) -> Vec<Event> {
        self.state.lock().take_events()
    }

    /// The same, waiting for one; empty after `limit`, or when the consumer is closed.
    pub(crate) fn wait_for_events(&self, limit: Duration) -> Vec<Event> {
        let deadline = Instant::now() + limit;
        let mut state = self.state.lock();
        while state.events.is_empty() && !state.closed {
            if self.readable.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        state.take_events()
    }
}
