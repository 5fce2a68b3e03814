//! What is stored where and in what state, for people and metrics. Reads positions only, never the
//! disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::{Offset, TopicId, TopicPartition};

use super::damage::DamagedRange;
use super::disk::Space;
use super::log::Log;
use super::log_set::LogSet;

/// A log directory and what is in it.
#[derive(Debug, Clone)]
pub struct DirectoryState {
    /// Its path.
    pub path: PathBuf,
    /// Why it is offline, if so.
    pub failed: Option<String>,
    /// Room on its file system, as last seen; zeros where it could not be asked.
    pub space: Space,
    /// Whether produce is refused for want of room.
    pub low: bool,
    /// Its logs, by partition.
    pub logs: Vec<LogState>,
}

/// A log as it stands. `log_start <= high_watermark <= log_end`, `flushed <= log_end`, save where
/// one of them moved while they were read.
#[derive(Debug, Clone)]
pub struct LogState {
    /// Which partition.
    pub partition: TopicPartition,
    /// Of the topic it belongs to.
    pub topic_id: TopicId,
    /// First offset (inclusive).
    pub log_start: Offset,
    /// All below is committed (exclusive).
    pub high_watermark: Offset,
    /// All below is on stable storage (exclusive).
    pub flushed: Offset,
    /// Offset of the next record (exclusive end).
    pub log_end: Offset,
    /// Bytes of its segments.
    pub size: u64,
    /// How many segments.
    pub segments: usize,
    /// Why it is not served, if so.
    pub offline: Option<String>,
    /// Ranges that cannot be read.
    pub damaged: Arc<Vec<DamagedRange>>,
}

impl LogSet {
    /// All directories with the logs that `wanted` holds for, those that could not be opened too.
    pub fn describe(&self, wanted: impl Fn(&TopicPartition) -> bool) -> Vec<DirectoryState> {
        let logs = self.logs();
        let describe = |open: &super::log_set::OpenDir| {
            let here = logs.iter().filter(|log| Arc::ptr_eq(&log.dir, &open.dir));
            let served = here.filter(|log| wanted(log.partition())).map(|log| log.state());
            let kept = open.dir.kept().into_iter().filter(|(partition, ..)| wanted(partition));
            let kept: Vec<_> = kept.collect();
            let known = |partition: &TopicPartition| kept.iter().any(|(of, ..)| of == partition);
            let others = self.absent_in(&open.dir.path, &wanted);
            let others: Vec<_> = others.into_iter().filter(|l| !known(&l.partition)).collect();
            let unopened = kept.into_iter().map(|(partition, positions, cause)| LogState {
                partition,
                topic_id: positions.topic_id,
                log_start: positions.log_start,
                high_watermark: positions.high_watermark,
                flushed: positions.recovery_point,
                log_end: positions.recovery_point,
                size: 0,
                segments: 0,
                offline: Some(format!("it could not be opened: {cause}")),
                damaged: Arc::default(),
            });
            let mut logs: Vec<_> = served.chain(unopened).chain(others).collect();
            logs.sort_by(|a, b| a.partition.cmp(&b.partition));
            DirectoryState {
                path: open.dir.path.clone(),
                failed: open.dir.failed().map(str::to_owned),
                space: open.dir.room.space(),
                low: open.dir.room.is_low(),
                logs,
            }
        };
        let unusable = self.inner.unusable.iter().map(|(path, why)| DirectoryState {
            path: path.clone(),
            failed: Some(why.clone()),
            space: Space::default(),
            low: false,
            logs: self.absent_in(path, &wanted),
        });
        self.inner.dirs.iter().map(describe).chain(unusable).collect()
    }

    /// Partitions of a directory that are known by name alone.
    fn absent_in(
        &self,
        directory: &Path,
        wanted: &impl Fn(&TopicPartition) -> bool,
    ) -> Vec<LogState> {
        let absent = self.inner.absent.lock();
        let here = absent
            .iter()
            .filter(|(partition, absent)| absent.directory == directory && wanted(partition));
        let mut states: Vec<_> = here
            .map(|(partition, absent)| LogState {
                partition: partition.clone(),
                topic_id: absent.topic_id.unwrap_or(TopicId(uuid::Uuid::nil())),
                log_start: Offset::ZERO,
                high_watermark: Offset::ZERO,
                flushed: Offset::ZERO,
                log_end: Offset::ZERO,
                size: 0,
                segments: 0,
                offline: Some(absent.cause.clone()),
                damaged: Arc::default(),
            })
            .collect();
        states.sort_by(|a, b| a.partition.cmp(&b.partition));
        states
    }
}

impl Log {
    /// As it stands now.
    pub fn state(&self) -> LogState {
        LogState {
            partition: self.partition.clone(),
            topic_id: self.topic_id,
            log_start: self.log_start(),
            high_watermark: self.high_watermark(),
            flushed: self.flushed(),
            log_end: self.log_end(),
            size: self.size(),
            segments: self.segment_count(),
            offline: self.offline().map(|offline| offline.cause.clone()),
            damaged: self.damaged(),
        }
    }
}
