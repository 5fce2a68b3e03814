//! What a log that begins anew is told of the producers before it.
//!
//! A follower learns sequences from the batches it appends. One that begins at its leader's log start
//! never sees those below, and as the next leader it would know nothing of a producer that was quiet
//! since: a retry could not be told from a new batch, and what comes next would be refused as of an
//! unknown producer. So the leader tells what it remembers, and that is written down before the first
//! batch is: as in Kafka a snapshot of the producers goes along where segments come from elsewhere.

use std::cmp::Reverse;
use std::sync::atomic::Ordering;

use proto::{Offset, ProducerId};

use super::log::Log;
use super::producer_state::{Producer, WINDOW_MAX};
use super::{producer_snapshot, sequence_window};

/// Most bytes told of one log; whoever appended last comes first.
const BYTES_MAX: usize = 1 << 20;

impl Log {
    /// What is remembered of batches that end before `offset`, for a log that begins there; empty
    /// where that is nothing.
    pub fn producers_before(&self, offset: Offset) -> Vec<u8> {
        let mut before: Vec<(ProducerId, Producer)> = {
            let writer = self.writer.lock();
            let all = writer.producers.sorted().into_iter();
            all.filter_map(|(id, producer)| Some((id, part_before(producer, offset)?))).collect()
        };
        before.sort_by_key(|(_, producer)| Reverse(producer.last_used_ms));
        let mut bytes = 0;
        let told = before.iter().take_while(|(_, producer)| {
            bytes += sequence_window::len_of(producer);
            bytes <= BYTES_MAX
        });
        let told: Vec<_> = told.map(|(id, producer)| (*id, producer)).collect();
        if told.is_empty() { Vec::new() } else { sequence_window::encode_all(&told) }
    }

    /// Takes over what the leader remembers of producers before this log, which has no record yet.
    /// What cannot be read or has no room is left out: those producers begin anew then.
    pub fn adopt_producers(&self, told: &[u8]) {
        let partition = &self.partition;
        let Some(all) = sequence_window::decode(told).filter(|_| told.len() <= 2 * BYTES_MAX)
        else {
            tracing::warn!(%partition, "what the leader told of producers cannot be read");
            return;
        };
        let (log_end, count, files) = {
            let mut writer = self.writer.lock();
            let log_end = self.log_end();
            if self.log_start() != log_end {
                return;
            }
            let all = all.into_iter().filter(|(_, producer)| is_before(producer, log_end));
            let taken = all
                .filter(|(id, producer)| writer.producers.restore_unknown(*id, producer.clone()));
            let count = taken.count();
            let producers = &writer.producers;
            self.producer_window.store(producers.deepest_window(), Ordering::Relaxed);
            let files = (producer_snapshot::encode(producers), sequence_window::encode(producers));
            (log_end, count, files)
        };
        if count == 0 {
            return;
        }
        tracing::debug!(%partition, producers = count, "producers taken over from the leader");
        if let Err(error) = self.write_snapshot(log_end, &files.0, &files.1) {
            // Known until the next start.
            tracing::warn!(%partition, %error, "producer snapshot not written");
        }
    }
}

/// A producer as it was when the log ended at `offset`, as far as is remembered.
fn part_before(producer: &Producer, offset: Offset) -> Option<Producer> {
    let batches = producer.batches.iter().take_while(|batch| batch.last_offset() < offset);
    let part = Producer { batches: batches.copied().collect(), ..producer.clone() };
    (!part.batches.is_empty()).then_some(part)
}

/// Whether a leader can have told this of a log that begins at `offset`.
fn is_before(producer: &Producer, offset: Offset) -> bool {
    let batches = &producer.batches;
    (1..=usize::from(WINDOW_MAX)).contains(&batches.len())
        && batches.iter().all(|batch| batch.last_offset() < offset && batch.base_sequence >= 0)
}
