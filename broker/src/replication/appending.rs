//! How clients' records get into the log: queued, written together by whoever holds the append
//! token, answered when those have them whose acknowledgement the client wants.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use proto::LeaderEpoch;

use super::acks::{self, Completed, Waiting};
use super::append_job::{AppendJob, OnAppended, RequiredAcks};
use super::append_queue::Driven;
use super::leadership::{Tenure, check_epoch};
use super::writer::Stopwatch;
use super::{Partition, PartitionError, opening};
use crate::storage::{
    AppendError, AppendRequest, Appended, FlushError, FlushPolicy, LogConfig, SequenceError,
};

/// Bytes handed to the log in one call.
pub(super) const WRITE_BYTES: usize = 1 << 20;
/// Calls one thread makes for others before the writer thread goes on with the rest.
const WRITES_INLINE: usize = 16;

/// Answers to be given when the token is put back.
type Answers = Vec<(OnAppended, Result<Appended, PartitionError>)>;

impl Partition {
    /// Queues an append. The caller drives the partition afterwards, once for all it has queued.
    pub fn queue(&self, job: AppendJob) {
        self.queue.push(job);
    }

    /// Has what is queued written: here if the disk is calm and nobody else is at it, else by the
    /// directory's writer thread or by who holds the token.
    pub fn drive(self: &Arc<Self>) {
        let config = self.log.config();
        if self.writer.is_slow() || opening::is_needed(&config) {
            self.schedule(&config);
        } else {
            self.write_queued(&config);
        }
    }

    fn schedule(self: &Arc<Self>, config: &LogConfig) {
        if !self.scheduled.swap(true, Ordering::AcqRel) {
            let partition = Arc::clone(self);
            match opening::is_needed(config) {
                true => self.writer.schedule_recoding(partition),
                false => self.writer.schedule(partition),
            }
        }
    }

    /// The part of the directory's threads.
    pub(super) fn write_scheduled(self: &Arc<Self>) {
        // Cleared first: who queues from here on schedules again.
        self.scheduled.store(false, Ordering::Release);
        self.write_queued(&self.log.config());
    }

    /// Writes what is queued, in order; what is left goes behind the other partitions of the
    /// directory.
    fn write_queued(self: &Arc<Self>, config: &LogConfig) {
        let opens = opening::is_needed(config);
        let driven = self.queue.drive(WRITE_BYTES, WRITES_INLINE, |jobs| {
            // A panic ends this log here, not the thread, which serves others, too. Who is not
            // answered then is told by the drop of its job.
            let _ = self.log.contain("writing for producers", || match opens {
                true => self.open_and_append(jobs, config),
                false => self.append(jobs, config),
            });
        });
        if driven == Driven::More {
            self.schedule(config);
        }
    }

    /// Appends jobs in order; the caller holds the token.
    pub(super) fn append(&self, jobs: Vec<AppendJob>, config: &LogConfig) {
        if self.leading().is_none() {
            // Told without the lock: whoever follows may be cutting the log under it.
            jobs.into_iter().for_each(|job| job.done.tell(Err(PartitionError::NotLeader)));
            return;
        }
        let mut answers = Vec::with_capacity(jobs.len());
        let tenure = self.tenure.lock();
        let (epoch, jobs) = self.refuse(*tenure, jobs, config, &mut answers);
        if !jobs.is_empty() {
            let requests: Vec<AppendRequest<'_>> = jobs
                .iter()
                .map(|job| AppendRequest {
                    chunks: &job.chunks,
                    headers: &job.headers,
                    leader_epoch: epoch,
                    window: job.window,
                })
                .collect();
            let watch = Stopwatch::start();
            let results = self.log.append(&requests);
            self.writer.took(watch.stop());
            drop(requests);
            self.settle(jobs, results, config, &mut answers);
        }
        drop(tenure);
        answers.into_iter().for_each(|(done, outcome)| done.tell(outcome));
    }

    /// Refuses what may not be appended in the present epoch; returns that and the rest. The caller
    /// holds the tenure.
    fn refuse(
        &self,
        tenure: Tenure,
        jobs: Vec<AppendJob>,
        config: &LogConfig,
        answers: &mut Answers,
    ) -> (LeaderEpoch, Vec<AppendJob>) {
        let Tenure::Leads(epoch) = tenure else {
            let refused = jobs.into_iter().map(|job| (job.done, Err(PartitionError::NotLeader)));
            answers.extend(refused);
            return (LeaderEpoch::UNKNOWN, Vec::new());
        };
        let to_all = match jobs.iter().any(|job| job.acks == RequiredAcks::All) {
            true => self.check_replicas(config),
            false => Ok(()),
        };
        let mut accepted = Vec::with_capacity(jobs.len());
        for job in jobs {
            let allowed = match job.acks {
                RequiredAcks::All => to_all.clone(),
                RequiredAcks::Leader | RequiredAcks::None => Ok(()),
            };
            match check_epoch(epoch, job.leader_epoch).and(allowed) {
                Ok(()) => accepted.push(job),
                Err(error) => answers.push((job.done, Err(error))),
            }
        }
        (epoch, accepted)
    }

    /// Refuses records that all replicas are to have, where they cannot be committed now.
    fn check_replicas(&self, config: &LogConfig) -> Result<(), PartitionError> {
        let waiting = usize::try_from(self.context.metrics.produce_purgatory.get()).unwrap_or(0);
        if waiting >= acks::WAITING_MAX {
            return Err(PartitionError::TooManyWaiting { waiting });
        }
        let leader = self.leader.lock();
        let leader = leader.as_ref().ok_or(PartitionError::NotLeader)?;
        leader.check_minimum(config.min_insync_replicas)
    }

    /// Answers what is done and has the rest wait: for a flush, or for the replicas.
    fn settle(
        &self,
        jobs: Vec<AppendJob>,
        results: Vec<Result<Appended, AppendError>>,
        config: &LogConfig,
        answers: &mut Answers,
    ) {
        let before_ack = config.flush == FlushPolicy::BeforeAck;
        let high_watermark = self.log.high_watermark();
        let mut waiting = Vec::new();
        self.count(&jobs, &results);
        for (job, result) in jobs.into_iter().zip(results) {
            let AppendJob { chunks, headers, hold, acks, due, done, .. } = job;
            drop((chunks, headers, hold));
            let upto = match &result {
                Ok(appended) => Some(appended.last_offset.plus(1)),
                // Appended before, who knows where: below the log's end.
                Err(AppendError::Sequence(SequenceError::Duplicate { .. })) => {
                    Some(self.log.log_end())
                }
                Err(_) => None,
            };
            let answer = result.map_err(PartitionError::from);
            match (acks, upto) {
                (RequiredAcks::All, Some(upto)) if upto > high_watermark => {
                    waiting.push(Waiting { upto, answer, due, done });
                }
                (RequiredAcks::Leader, Some(_)) if before_ack && answer.is_ok() => {
                    self.acknowledge_flushed(answer, done);
                }
                _ => answers.push((done, answer)),
            }
        }
        if !waiting.is_empty() {
            self.wait_for_replicas(waiting, before_ack, answers);
        }
    }

    /// The caller holds the tenure, so this broker still leads.
    fn wait_for_replicas(&self, waiting: Vec<Waiting>, before_ack: bool, answers: &mut Answers) {
        let upto = waiting.iter().map(|request| request.upto).max();
        let mut completed = Vec::new();
        match &mut *self.leader.lock() {
            Some(leader) => leader.wait(waiting, self.positions(), &mut completed),
            None => {
                let refused = waiting.into_iter().map(|w| (w.done, Err(PartitionError::NotLeader)));
                answers.extend(refused);
            }
        }
        answers.extend(completed.into_iter().map(Completed::into_answer));
        if let Some(upto) = upto.filter(|_| before_ack) {
            // Its end moves the high watermark; its failure takes the log offline.
            self.log.flush_to(upto, Box::new(|_| ()));
        }
        if let Some(offline) = self.log.offline() {
            // It may have failed before they waited, and told only those who did.
            self.fail_waiting(&PartitionError::Append(AppendError::Offline(offline.clone())));
        }
    }

    fn count(&self, jobs: &[AppendJob], results: &[Result<Appended, AppendError>]) {
        let is_new = |result: &Result<Appended, AppendError>| {
            matches!(result, Ok(Appended { duplicate: false, .. }))
        };
        let new = jobs.iter().zip(results).filter(|(_, result)| is_new(result));
        let (mut bytes, mut records) = (0, 0);
        for header in new.flat_map(|(job, _)| &job.headers) {
            bytes += header.size_in_bytes() as u64;
            records += header.record_count.max(0) as u64;
        }
        self.context.metrics.produce_bytes.add(bytes);
        self.context.metrics.produce_records.add(records);
    }

    fn acknowledge_flushed(&self, answer: Result<Appended, PartitionError>, done: OnAppended) {
        let end = match &answer {
            Ok(appended) => appended.last_offset.plus(1),
            Err(_) => self.log.log_end(),
        };
        let told = Box::new(move |flushed: Result<(), FlushError>| match flushed {
            Ok(()) => done.tell(answer),
            Err(error) => done.tell(Err(error.into())),
        });
        self.log.flush_to(end, told);
    }
}
