//! One partition's log: positions, segments, and who may do what with them.
//!
//! The work is in the files beside this one, each an `impl Log`: `append`, `append_fetched`, `read`,
//! `time_lookup`, `epochs`, `flush`, `roll`, `truncation`, `retention`; `recovery` makes a log from a
//! folder. Synchronous code, knows no tokio, no sockets and no leader.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use proto::{Offset, TopicId, TopicPartition};

use super::compaction::CompactionState;
use super::config::LogConfig;
use super::context::Context;
use super::damage::{self, DamagedRange};
use super::epoch_history::EpochHistory;
use super::epochs::Unsaved;
use super::error::{LogError, Offline};
use super::flush::FlushState;
use super::log_dir::LogDir;
use super::opening::Opening;
use super::producer_state::ProducerState;
use super::segments::Segments;
use super::set_aside::SetAside;

/// Told when positions of a log move. Called without locks of the log, on the thread that moved
/// them; must not block.
pub trait LogListener: Send + Sync {
    /// Records were appended: the log now ends at `log_end` (exclusive).
    fn log_end_advanced(&self, log_end: Offset);

    /// All below `flushed` (exclusive) is on stable storage.
    fn flushed_advanced(&self, flushed: Offset);

    /// Retention, or a request to delete records, moved the log's first offset.
    fn log_start_advanced(&self, log_start: Offset);

    /// The log takes no more part; see `Log::offline`.
    fn failed(&self, offline: &Offline);
}

/// What an append needs of the log for itself. Guarded by `Log::writer`.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) producers: ProducerState,
    /// Up to where write-back of the active segment was started.
    pub(super) written_back: u64,
    pub(super) set_aside: SetAside,
}

/// A partition's log.
///
/// `log_start <= high_watermark <= log_end` and `log_start <= flushed <= log_end`. `log_start` is
/// inclusive, the others are exclusive; `flushed` alone says something about stable storage.
/// Positions are read without a lock; each grows, save in a truncation. The first segment begins
/// at or before `log_start`: records may be deleted up to the middle of it (`delete_records`).
///
/// Locks, in the order they are taken: `compaction.replacing`, `flush.running`, `epochs_file`,
/// `writer`, `flush.waiters`. The writer lock
/// is held over a write to the page cache, never over an fsync of log data; readers take none.
pub struct Log {
    pub(super) partition: TopicPartition,
    pub(super) topic_id: TopicId,
    pub(super) folder: RwLock<PathBuf>,
    pub(super) dir: Arc<LogDir>,
    pub(super) context: Arc<Context>,
    pub(super) config: ArcSwap<LogConfig>,
    pub(super) segments: Segments,
    pub(super) log_start: AtomicI64,
    /// What the checkpoint on disk says of `log_start`.
    pub(super) stored_start: AtomicI64,
    pub(super) log_end: AtomicI64,
    pub(super) flushed: AtomicI64,
    pub(super) high_watermark: AtomicI64,
    pub(super) writer: Mutex<Writer>,
    /// Changed by `Log::change_epochs` alone; read without a lock.
    pub(super) epochs: ArcSwap<EpochHistory>,
    /// What of `epochs` its file does not have.
    pub(super) epochs_unsaved: Unsaved,
    /// See [`Log::producer_window`].
    pub(super) producer_window: AtomicU16,
    /// Held over a write of the epoch file.
    pub(super) epochs_file: Mutex<()>,
    pub(super) flush: FlushState,
    pub(super) compaction: CompactionState,
    pub(super) damage: ArcSwap<Vec<DamagedRange>>,
    pub(super) offline: OnceLock<Offline>,
    pub(super) appended_bytes: AtomicU64,
    /// It was opened after a clean stop, and nothing was scanned.
    pub(super) opened_clean: bool,
    pub(super) opening: Opening,
    pub(super) me: Weak<Log>,
    listener: RwLock<Option<Arc<dyn LogListener>>>,
}

/// What `recovery` found in a folder.
pub(super) struct LogParts {
    pub(super) partition: TopicPartition,
    pub(super) topic_id: TopicId,
    pub(super) folder: PathBuf,
    pub(super) segments: Segments,
    pub(super) log_start: Offset,
    pub(super) log_end: Offset,
    pub(super) flushed: Offset,
    pub(super) high_watermark: Offset,
    pub(super) writer: Writer,
    pub(super) epochs: EpochHistory,
    /// They differ from their file.
    pub(super) epochs_unsaved: bool,
    pub(super) damage: Vec<DamagedRange>,
    pub(super) opened_clean: bool,
    pub(super) opening: Opening,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("partition", &self.partition)
            .field("log_start", &self.log_start())
            .field("log_end", &self.log_end())
            .field("flushed", &self.flushed())
            .finish_non_exhaustive()
    }
}

impl Log {
    pub(super) fn new(
        context: Arc<Context>,
        dir: Arc<LogDir>,
        config: LogConfig,
        parts: LogParts,
    ) -> Arc<Self> {
        let high_watermark = parts.high_watermark.clamp(parts.log_start, parts.log_end);
        Arc::new_cyclic(|me| Self {
            partition: parts.partition,
            topic_id: parts.topic_id,
            folder: RwLock::new(parts.folder),
            dir,
            context,
            config: ArcSwap::from_pointee(config),
            segments: parts.segments,
            log_start: AtomicI64::new(parts.log_start.0),
            // Found on disk, so the next run would find it, too.
            stored_start: AtomicI64::new(parts.log_start.0),
            log_end: AtomicI64::new(parts.log_end.0),
            flushed: AtomicI64::new(parts.flushed.min(parts.log_end).0),
            high_watermark: AtomicI64::new(high_watermark.0),
            producer_window: AtomicU16::new(parts.writer.producers.deepest_window()),
            writer: Mutex::new(parts.writer),
            epochs: ArcSwap::from_pointee(parts.epochs),
            epochs_unsaved: Unsaved::new(parts.epochs_unsaved),
            epochs_file: Mutex::new(()),
            flush: FlushState::default(),
            compaction: CompactionState::default(),
            damage: ArcSwap::from_pointee(parts.damage),
            offline: OnceLock::new(),
            appended_bytes: AtomicU64::new(0),
            opened_clean: parts.opened_clean,
            opening: parts.opening,
            me: me.clone(),
            listener: RwLock::new(None),
        })
    }

    /// Which partition.
    pub fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// The id of the topic that the folder belongs to.
    pub fn topic_id(&self) -> TopicId {
        self.topic_id
    }

    /// Where its files are.
    pub fn folder(&self) -> PathBuf {
        self.folder.read().clone()
    }

    /// The first offset (inclusive).
    pub fn log_start(&self) -> Offset {
        Offset(self.log_start.load(Ordering::Acquire))
    }

    /// The first offset as it is written down: after a crash the log starts there or later.
    pub fn stored_start(&self) -> Offset {
        Offset(self.stored_start.load(Ordering::Acquire))
    }

    /// The offset of the next record (exclusive end).
    pub fn log_end(&self) -> Offset {
        Offset(self.log_end.load(Ordering::Acquire))
    }

    /// All below is on stable storage (exclusive).
    pub fn flushed(&self) -> Offset {
        Offset(self.flushed.load(Ordering::Acquire))
    }

    /// All below is committed (exclusive), as last told by [`Log::set_high_watermark`], or as the
    /// last run wrote it down.
    pub fn high_watermark(&self) -> Offset {
        Offset(self.high_watermark.load(Ordering::Acquire))
    }

    /// Moves the high watermark, within the log. It is written down every few seconds, and kept
    /// segments and retention go by it.
    pub fn set_high_watermark(&self, offset: Offset) {
        let offset = offset.clamp(self.log_start(), self.log_end());
        self.high_watermark.store(offset.0, Ordering::Release);
    }

    /// How many batches the deepest producer keeps in flight, as far as producers, or the leader
    /// that this log follows, declared it. What followers append with.
    pub fn producer_window(&self) -> u16 {
        self.producer_window.load(Ordering::Relaxed)
    }

    /// The settings in force.
    pub fn config(&self) -> Arc<LogConfig> {
        self.config.load_full()
    }

    /// Puts other settings in force, from the next append, flush or retention on.
    pub fn set_config(&self, config: LogConfig) {
        self.config.store(Arc::new(config));
        self.dir.flusher.reconsider(self);
    }

    /// Whom to tell when positions move; replaces the one before.
    pub fn set_listener(&self, listener: Arc<dyn LogListener>) {
        *self.listener.write() = Some(listener);
    }

    pub(super) fn tell(&self, what: impl FnOnce(&dyn LogListener)) {
        let listener = self.listener.read().clone();
        if let Some(listener) = listener {
            what(&*listener);
        }
    }

    /// Ranges known to be damaged, of those that were not deleted.
    pub fn damaged(&self) -> Arc<Vec<DamagedRange>> {
        let (all, log_start) = (self.damage.load_full(), self.log_start());
        if all.iter().all(|range| range.to > log_start) {
            return all;
        }
        Arc::new(all.iter().copied().filter(|range| range.to > log_start).collect())
    }

    /// Takes note of a damaged range, says so in the log and writes it down, once. False when it
    /// was known.
    pub(super) fn note_damage(&self, range: DamagedRange) -> bool {
        let mut is_new = false;
        self.damage.rcu(|ranges| {
            let mut ranges = Vec::clone(ranges);
            is_new = damage::add(&mut ranges, range);
            ranges
        });
        if is_new {
            damage::log(&self.partition, &range);
            self.write_damage();
            self.context.troubles.tell();
        }
        is_new
    }

    /// Bytes on disk, indexes left out.
    pub fn size(&self) -> u64 {
        self.segments.size()
    }

    /// How many segments there are.
    pub fn segment_count(&self) -> usize {
        self.segments.load().len()
    }

    /// Bytes appended since the log was opened.
    pub fn appended_bytes(&self) -> u64 {
        self.appended_bytes.load(Ordering::Relaxed)
    }

    /// Producers remembered for telling retries.
    pub fn producer_count(&self) -> usize {
        self.writer.lock().producers.len()
    }

    /// Why the log takes no more part, if so.
    pub fn offline(&self) -> Option<&Offline> {
        self.offline.get()
    }

    pub(super) fn check_online(&self) -> Result<(), Offline> {
        self.offline.get().map_or(Ok(()), |offline| Err(offline.clone()))
    }

    /// Takes the log offline for good (this object: opening it anew makes another). Waiting
    /// flushes fail. Callers hold no lock of the log.
    pub(super) fn fail(&self, cause: &str) -> Offline {
        if self.mark_offline(cause) {
            self.announce_offline();
        }
        self.offline_or(cause)
    }

    /// Has nothing begin any more; true where this is why. [`Log::announce_offline`] must follow
    /// then, without locks.
    pub(super) fn mark_offline(&self, cause: &str) -> bool {
        self.offline.set(self.offline_for(cause)).is_ok()
    }

    /// Says so, and to all who wait.
    pub(super) fn announce_offline(&self) {
        let Some(offline) = self.offline.get() else { return };
        tracing::error!(
            partition = %self.partition, cause = offline.cause, "partition goes offline"
        );
        self.fail_waiters(offline);
        self.tell(|listener| listener.failed(offline));
        self.context.troubles.tell();
    }

    /// Why the log is offline; where it is not, `cause`.
    pub(super) fn offline_or(&self, cause: &str) -> Offline {
        self.offline.get().cloned().unwrap_or_else(|| self.offline_for(cause))
    }

    fn offline_for(&self, cause: &str) -> Offline {
        Offline { partition: self.partition.clone(), cause: cause.to_owned() }
    }

    /// Ends the log quietly: deleted, set aside, or closed with the process.
    pub(super) fn end(&self, cause: &str) {
        if self.mark_offline(cause) {
            self.fail_waiters(&self.offline_or(cause));
        }
    }

    pub(super) fn io_error(&self, what: &'static str, cause: std::io::Error) -> LogError {
        LogError::Io { partition: self.partition.clone(), what, cause }
    }
}
