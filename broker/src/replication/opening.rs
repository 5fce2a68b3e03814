//! Batches that have to be opened before they are appended: their topic forces a codec, or wants
//! keys. Everything else is stored as it was sent.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::append_job::AppendJob;
use super::append_queue::Weight;
use super::appending::WRITE_BYTES;
use super::{Partition, PartitionError, recoding, record_keys};
use crate::storage::{CompressionPolicy, LogConfig, text_of};

/// Whether a topic's batches have to be opened.
pub(super) fn is_needed(config: &LogConfig) -> bool {
    config.cleanup_policy.compact || config.compression != CompressionPolicy::Producer
}

impl Partition {
    /// Looks for keys where a topic wants them, brings batches to the codec a topic forces, and
    /// refuses those that have none or cannot be. In the order they came and under the token, so
    /// that a producer's sequences stay in order. Small bytes may have become large ones: what is
    /// held is one write and one job.
    pub(super) fn open_and_append(&self, jobs: Vec<AppendJob>, config: &LogConfig) {
        let (mut group, mut bytes) = (Vec::new(), 0);
        for mut job in jobs {
            if let Err(error) = self.open_contained(&mut job, config) {
                job.done.tell(Err(error));
                continue;
            }
            bytes += job.weight();
            group.push(job);
            if bytes >= WRITE_BYTES {
                self.append(std::mem::take(&mut group), config);
                bytes = 0;
            }
        }
        self.append(group, config);
    }

    /// Codecs are the one place where a client's bytes are taken apart: a panic there fails the job
    /// and nothing else, since the log was not touched.
    fn open_contained(
        &self,
        job: &mut AppendJob,
        config: &LogConfig,
    ) -> Result<(), PartitionError> {
        catch_unwind(AssertUnwindSafe(|| self.open(job, config))).unwrap_or_else(|panic| {
            let (partition, panic) = (self.name(), text_of(&*panic));
            tracing::error!(%partition, panic, "opening a producer's records panicked");
            Err(PartitionError::OpeningPanicked)
        })
    }

    /// Makes of a job what the topic wants of its records.
    fn open(&self, job: &mut AppendJob, config: &LogConfig) -> Result<(), PartitionError> {
        if config.cleanup_policy.compact {
            record_keys::check(job)?;
        }
        if let CompressionPolicy::Forced(codec) = config.compression {
            let batches = recoding::recode(job, codec, config.compression_level(codec))?;
            self.context.metrics.recoded_batches.add(batches);
        }
        Ok(())
    }
}
