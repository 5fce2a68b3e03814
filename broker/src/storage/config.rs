//! Settings of one log and of the whole log set, as plain values.
//!
//! Parsing, bounds and documentation of the keys live with the broker's and the topics' config.

use std::path::PathBuf;
use std::time::Duration;

pub use proto::record::{Compression, TimestampType};

use super::room::FreeMark;

/// When appended bytes are forced to stable storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FlushPolicy {
    /// The kernel writes back when it likes.
    Os,
    /// After [`LogConfig::flush_messages`] records or [`LogConfig::flush_ms`], what comes first.
    #[default]
    Interval,
    /// Before a produce request is acknowledged (its owner calls `Log::flush_to`).
    BeforeAck,
}

/// Which records a consumer may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expose {
    /// All below the high watermark.
    #[default]
    Appended,
    /// Those that are flushed as well (the paper's rule).
    Flushed,
}

/// What becomes of old records (`cleanup.policy`); both may be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Old segments are deleted, by [`LogConfig::retention_ms`] and [`LogConfig::retention_bytes`].
    pub delete: bool,
    /// Of the records of a key only the newest is kept.
    pub compact: bool,
}

/// How batches are stored (`compression.type` of the topic).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CompressionPolicy {
    /// As the producer compressed them.
    #[default]
    Producer,
    /// With this codec, whatever the producer used; [`Compression::None`] is `uncompressed`.
    Forced(Compression),
}

/// Settings of one log; may be swapped at run time (`Log::set_config`).
#[derive(Debug, Clone, PartialEq)]
pub struct LogConfig {
    /// A segment is closed before it would grow beyond this many bytes (`segment.bytes`).
    pub segment_bytes: u32,
    /// A segment with records is closed this long after its first append (`segment.ms`).
    pub segment_ms: u64,
    /// A segment is closed up to so many milliseconds earlier than [`LogConfig::segment_ms`], each
    /// by another amount, so that partitions made together do not roll together; `None` is a
    /// twentieth of it (`segment.jitter.ms`).
    pub segment_jitter_ms: Option<u64>,
    /// Log bytes between two index entries (`index.interval.bytes`).
    pub index_interval_bytes: u32,
    /// Segments whose newest record is older are deleted; `None` keeps them (`retention.ms`).
    pub retention_ms: Option<u64>,
    /// Oldest segments are deleted while the log stays at least this long; `None` is no limit
    /// (`retention.bytes`).
    pub retention_bytes: Option<u64>,
    /// When appends are flushed (`flush`).
    pub flush: FlushPolicy,
    /// Records after which `interval` flushes (`flush.messages`).
    pub flush_messages: u64,
    /// Milliseconds after which `interval` flushes (`flush.ms`).
    pub flush_ms: u64,
    /// What consumers see (`expose`).
    pub expose: Expose,
    /// Largest batch in bytes (`max.message.bytes`).
    pub max_message_bytes: u32,
    /// Replicas that must be in sync for `acks=all`, and for the high watermark to move.
    pub min_insync_replicas: usize,
    /// Whose timestamps count (`message.timestamp.type`).
    pub message_timestamp_type: TimestampType,
    /// A record may be stamped at most this many milliseconds before the broker's clock; `None`
    /// is no limit (`message.timestamp.before.max.ms`, KIP-937).
    pub message_timestamp_before_max_ms: Option<u64>,
    /// A record may be stamped at most this many milliseconds after the broker's clock; `None` is
    /// no limit (`message.timestamp.after.max.ms`, KIP-937).
    pub message_timestamp_after_max_ms: Option<u64>,
    /// What becomes of old records (`cleanup.policy`).
    pub cleanup_policy: CleanupPolicy,
    /// Part of a log that may be dirty before it is compacted, 0 to 1
    /// (`min.cleanable.dirty.ratio`).
    pub min_cleanable_dirty_ratio: f64,
    /// Records younger than this are not compacted away (`min.compaction.lag.ms`, KIP-58).
    pub min_compaction_lag_ms: u64,
    /// Records older than this make a log due for compaction whatever its dirty ratio; `None` is
    /// no limit (`max.compaction.lag.ms`, KIP-354).
    pub max_compaction_lag_ms: Option<u64>,
    /// How long a tombstone stays after it was first compacted (`delete.retention.ms`, KIP-534).
    pub delete_retention_ms: u64,
    /// How batches are stored (`compression.type`).
    pub compression: CompressionPolicy,
    /// How hard gzip tries where it is forced; `None` is its default (`compression.gzip.level`).
    pub compression_gzip_level: Option<i32>,
    /// How hard zstd tries where it is forced (`compression.zstd.level`).
    pub compression_zstd_level: i32,
}

/// Most bytes that the broker decompresses the records of one batch to, wherever it has to look at
/// them: a batch above it is a bomb. As much as a consumer takes by default.
pub const DECOMPRESSED_MAX: usize = 64 << 20;

impl LogConfig {
    /// The level batches are compressed with here; `None` is the codec's default.
    pub fn compression_level(&self, codec: Compression) -> Option<i32> {
        match codec {
            Compression::Gzip => self.compression_gzip_level,
            Compression::Zstd => Some(self.compression_zstd_level),
            Compression::None | Compression::Snappy | Compression::Lz4 => None,
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        const DAY_MS: u64 = 24 * 60 * 60 * 1000;
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 7 * DAY_MS,
            segment_jitter_ms: None,
            index_interval_bytes: 4096,
            retention_ms: Some(7 * DAY_MS),
            retention_bytes: None,
            flush: FlushPolicy::default(),
            flush_messages: 10_000,
            flush_ms: 1000,
            expose: Expose::default(),
            max_message_bytes: 1024 * 1024 + 12,
            min_insync_replicas: 1,
            message_timestamp_type: TimestampType::CreateTime,
            message_timestamp_before_max_ms: None,
            message_timestamp_after_max_ms: Some(60 * 60 * 1000),
            cleanup_policy: CleanupPolicy { delete: true, compact: false },
            min_cleanable_dirty_ratio: 0.5,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: None,
            delete_retention_ms: DAY_MS,
            compression: CompressionPolicy::default(),
            compression_gzip_level: None,
            compression_zstd_level: 3,
        }
    }
}

/// Settings of a log set.
#[derive(Debug, Clone)]
pub struct LogSetConfig {
    /// Folders that hold partitions (`log.dirs`).
    pub dirs: Vec<PathBuf>,
    /// Whose they are (`broker.id`); directories of another broker are refused.
    pub broker_id: i32,
    /// What a log is opened with until the topic's own config is known.
    pub log: LogConfig,
    /// Most bytes mapped at a time, over all logs (`log.mmap.bytes`).
    pub mmap_bytes: u64,
    /// Most mappings at a time, over all logs: the kernel bounds those of a process
    /// (`vm.max_map_count`), and allocators need some.
    pub mmap_count: usize,
    /// Segments' files kept open, over all logs (`log.open.files.max`).
    pub open_files: usize,
    /// What is to stay free of a directory's file system: below it appends are refused.
    pub free_mark: FreeMark,
    /// How often the room on the disks is looked at.
    pub space_check: Duration,
    /// A mapping unused for this long goes.
    pub mmap_idle: Duration,
    /// How often retention looks (`log.retention.check.interval.ms`).
    pub retention_check: Duration,
    /// How often recovery points and high watermarks are written
    /// (`log.flush.offset.checkpoint.interval.ms`).
    pub checkpoint: Duration,
    /// How long a deleted partition's folder stays before its files go (`file.delete.delay.ms`).
    pub delete_delay: Duration,
    /// A producer that wrote nothing for this long is forgotten (`producer.id.expiration.ms`).
    pub producer_expiration: Duration,
    /// Bytes that remembered producer batches may take, over all logs.
    pub producer_window_bytes: u64,
    /// Threads a directory's partitions are opened and recovered with
    /// (`num.recovery.threads.per.data.dir`).
    pub recovery_threads: usize,
    /// The log cleaners.
    pub cleaner: CleanerConfig,
    /// Who runs flushes, retention, compaction and checkpoints.
    pub background: Background,
}

/// Settings of the log cleaners, which compact.
#[derive(Debug, Clone, PartialEq)]
pub struct CleanerConfig {
    /// Whether they run at all (`log.cleaner.enable`).
    pub enable: bool,
    /// Threads (`log.cleaner.threads`).
    pub threads: usize,
    /// How long a thread waits when nothing is due (`log.cleaner.backoff.ms`).
    pub backoff: Duration,
    /// Memory of the key maps of all threads together (`log.cleaner.dedupe.buffer.size`).
    pub dedupe_buffer_bytes: usize,
    /// How full a key map may get, 0 to 1 (`log.cleaner.io.buffer.load.factor`).
    pub dedupe_buffer_load_factor: f64,
    /// Most bytes read and written a second, all threads together; `None` is no limit
    /// (`log.cleaner.io.max.bytes.per.second`).
    pub io_bytes_per_second: Option<u64>,
}

impl Default for CleanerConfig {
    fn default() -> Self {
        Self {
            enable: true,
            threads: 1,
            backoff: Duration::from_secs(15),
            dedupe_buffer_bytes: 128 << 20,
            dedupe_buffer_load_factor: 0.9,
            io_bytes_per_second: None,
        }
    }
}

/// Who runs the periodic work of a log set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Background {
    /// Threads of the log set.
    #[default]
    Threads,
    /// Whoever calls `LogSet::run_due` (tests).
    Caller,
}

impl LogSetConfig {
    /// The defaults, over these folders.
    pub fn new(dirs: Vec<PathBuf>) -> Self {
        Self {
            dirs,
            broker_id: 1,
            log: LogConfig::default(),
            mmap_bytes: 4 << 30,
            mmap_count: 16_384,
            free_mark: FreeMark { bytes: 1 << 30, percent: 5 },
            space_check: Duration::from_secs(1),
            open_files: 4096,
            mmap_idle: Duration::from_secs(10),
            retention_check: Duration::from_secs(60),
            checkpoint: Duration::from_secs(5),
            delete_delay: Duration::from_secs(60),
            producer_expiration: Duration::from_secs(24 * 60 * 60),
            producer_window_bytes: 64 << 20,
            recovery_threads: 4,
            cleaner: CleanerConfig::default(),
            background: Background::Threads,
        }
    }
}
