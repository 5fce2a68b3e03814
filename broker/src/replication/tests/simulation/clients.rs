//! Idempotent producers that pipeline, send again in order, and go from broker to broker.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use proto::record::{BatchBuilder, ProducerStamp, check_chunks};
use proto::{BrokerId, LeaderEpoch};

use super::truth::Truth;
use crate::replication::tests::rig::{Outcome, eventually};
use crate::replication::{AppendJob, OnAppended, Partition, PartitionError, RequiredAcks};
use crate::storage::{AppendError, SequenceError};

/// Batches under way.
const PIPELINE: usize = 8;

#[derive(Debug)]
pub(super) struct Producer {
    id: i64,
    next_sequence: i32,
    next_value: u64,
    /// In order; the first `sent` are under way.
    unacknowledged: VecDeque<Batch>,
    sent: VecDeque<Outcome>,
    pub(super) target: BrokerId,
    /// Refusals in a row.
    refused: u32,
    acks: RequiredAcks,
}

#[derive(Debug)]
struct Batch {
    bytes: Bytes,
    values: Vec<u64>,
}

impl Producer {
    pub(super) fn new(number: u64, acks: RequiredAcks) -> Self {
        Self {
            id: number as i64 * 1_000,
            next_sequence: 0,
            next_value: number << 32,
            unacknowledged: VecDeque::new(),
            sent: VecDeque::new(),
            target: BrokerId(1),
            refused: 0,
            acks,
        }
    }

    /// Everything it sent was answered.
    pub(super) fn is_done(&self) -> bool {
        self.unacknowledged.is_empty()
    }

    /// A new batch, which is sent when its turn comes.
    pub(super) fn produce(&mut self, records: u64) {
        if self.unacknowledged.len() >= PIPELINE {
            return;
        }
        let values: Vec<u64> = (self.next_value..self.next_value + records).collect();
        self.next_value += records;
        let mut builder = BatchBuilder::new(4096);
        for value in &values {
            builder.append(1_000, None, Some(&value.to_be_bytes()), &[]).expect("it fits");
        }
        let stamp = ProducerStamp { id: self.id, epoch: 0, base_sequence: self.next_sequence };
        self.next_sequence += records as i32;
        self.unacknowledged.push_back(Batch { bytes: builder.finish(stamp), values });
    }

    /// Sends what is not under way.
    pub(super) fn send(&mut self, partition: &Arc<Partition>) {
        for batch in self.unacknowledged.iter().skip(self.sent.len()) {
            let outcome = Outcome::default();
            let written = append(partition, batch.bytes.clone(), self.acks, &outcome);
            self.sent.push_back(outcome);
            eventually("the write", || written.load(Ordering::Acquire));
        }
    }

    /// The answers are lost, or late: all is to be sent again.
    pub(super) fn give_up_waiting(&mut self, target: BrokerId) {
        self.sent.clear();
        self.target = target;
    }

    /// Takes answers in order. Where records were `deleted`, a leader may not know who wrote nothing
    /// since, if its own log began anew behind them.
    pub(super) fn take_answers(&mut self, truth: &mut Truth, elsewhere: BrokerId, deleted: bool) {
        while let Some(outcome) = self.sent.front() {
            let Some(answer) = outcome.lock().take() else { return };
            match answer {
                Ok(appended) => {
                    let (Some(batch), _) = (self.unacknowledged.pop_front(), self.sent.pop_front())
                    else {
                        return;
                    };
                    self.refused = 0;
                    if self.acks == RequiredAcks::All {
                        for (offset, value) in (appended.base_offset.0..).zip(&batch.values) {
                            truth.tell(offset, *value, "acknowledged");
                        }
                        truth.acknowledged += 1;
                    }
                }
                Err(PartitionError::Append(AppendError::Sequence(SequenceError::Duplicate {
                    ..
                }))) => {
                    self.unacknowledged.pop_front();
                    self.sent.pop_front();
                }
                Err(error) => {
                    self.refused += 1;
                    self.give_up_waiting(elsewhere);
                    let unknown = matches!(
                        error,
                        PartitionError::Append(AppendError::Sequence(
                            SequenceError::UnknownProducer { .. }
                        ))
                    );
                    // Records that one broker acknowledged are gone with it.
                    if self.refused > 10 && (self.acks != RequiredAcks::All || unknown && deleted) {
                        self.begin_anew();
                    }
                }
            }
        }
    }

    fn begin_anew(&mut self) {
        self.id += 1;
        self.next_sequence = 0;
        self.refused = 0;
        self.unacknowledged.clear();
    }
}

/// Appends as a client does; true when the bytes are written or refused.
fn append(
    partition: &Arc<Partition>,
    bytes: Bytes,
    acks: RequiredAcks,
    outcome: &Outcome,
) -> Arc<AtomicBool> {
    struct Written(Arc<AtomicBool>);
    impl Drop for Written {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }
    let written = Arc::new(AtomicBool::new(false));
    let (told, chunks): (Outcome, _) = (Arc::<Mutex<_>>::clone(outcome), vec![bytes]);
    partition.queue(AppendJob {
        headers: check_chunks(&chunks).expect("whole batches"),
        chunks,
        leader_epoch: LeaderEpoch::UNKNOWN,
        window: PIPELINE as u16,
        acks,
        due: Instant::now() + Duration::from_secs(600),
        hold: Some(Box::new(Written(Arc::clone(&written)))),
        done: OnAppended::new(move |result| *told.lock() = Some(result)),
    });
    partition.drive();
    written
}
