//! What all cleanings of a process share: memory and speed they may use, the order to stop, and
//! the figures they leave.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::error::CompactionError;
use super::throttle::Throttle;
use crate::storage::clock::Clock;
use crate::storage::config::{Background, CleanerConfig};

/// Counted since the start, for metrics.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) cleanings: AtomicU64,
    pub(super) passes: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) read_bytes: AtomicU64,
    pub(super) written_bytes: AtomicU64,
    pub(super) records_read: AtomicU64,
    pub(super) records_removed: AtomicU64,
    pub(super) restarts: AtomicU64,
    /// Threads that should run and do not.
    pub(super) dead_threads: AtomicU64,
    /// Of the last cleaning: bytes written per hundred read.
    pub(super) recopy_percent: AtomicU64,
    /// Of the last look: the dirtiest log's dirty part.
    pub(super) max_dirty_percent: AtomicU64,
    /// Of the last cleaning: how full the map got.
    pub(super) buffer_percent: AtomicU64,
    /// By the broker's clock; 0: never.
    pub(super) last_run_ms: AtomicI64,
}

/// See the module.
pub(in crate::storage) struct Cleaning {
    pub(super) config: CleanerConfig,
    pub(super) figures: Figures,
    clock: Arc<dyn Clock>,
    throttle: Throttle,
    /// Whether to wait for the throttle: a caller who drives a clock of his own would wait for ever.
    waits: bool,
    stopping: Mutex<bool>,
    wake: Condvar,
    /// When a caller who drives the cleaners next looks, by the clock's `elapsed`.
    next_look: Mutex<Duration>,
}

impl Cleaning {
    pub(in crate::storage) fn new(
        config: CleanerConfig,
        clock: Arc<dyn Clock>,
        background: Background,
    ) -> Arc<Self> {
        Arc::new(Self {
            throttle: Throttle::new(config.io_bytes_per_second),
            config,
            figures: Figures::default(),
            clock,
            waits: background == Background::Threads,
            stopping: Mutex::new(false),
            wake: Condvar::new(),
            next_look: Mutex::default(),
        })
    }

    /// Ends cleanings at their next read or write, and the pool's threads.
    pub(in crate::storage) fn stop(&self) {
        *self.stopping.lock() = true;
        self.wake.notify_all();
    }

    pub(super) fn is_stopping(&self) -> bool {
        *self.stopping.lock()
    }

    /// Waits; true when it is time to stop.
    pub(super) fn pause(&self, pause: Duration) -> bool {
        let mut stopping = self.stopping.lock();
        if !*stopping && !pause.is_zero() {
            self.wake.wait_while_for(&mut stopping, |stopping| !*stopping, pause);
        }
        *stopping
    }

    /// Whether `log.cleaner.backoff.ms` is over; it begins anew then.
    pub(super) fn is_due(&self) -> bool {
        let (now, mut next) = (self.clock.elapsed(), self.next_look.lock());
        let due = *next <= now;
        if due {
            *next = now + self.config.backoff;
        }
        due
    }

    /// Before so many bytes are read.
    pub(super) fn take_read(&self, bytes: usize) -> Result<(), CompactionError> {
        self.figures.read_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.take(bytes)
    }

    /// Before so many bytes are written.
    pub(super) fn take_written(&self, bytes: usize) -> Result<(), CompactionError> {
        self.figures.written_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.take(bytes)
    }

    fn take(&self, bytes: usize) -> Result<(), CompactionError> {
        let wait = self.throttle.take(bytes, self.clock.elapsed());
        let wait = if self.waits { wait } else { Duration::ZERO };
        match self.pause(wait) {
            true => Err(CompactionError::Stopping),
            false => Ok(()),
        }
    }

    /// A thread that should run does not.
    pub(in crate::storage) fn thread_is_dead(&self) {
        self.figures.dead_threads.fetch_add(1, Ordering::Relaxed);
    }

    /// Threads to run.
    pub(in crate::storage) fn threads(&self) -> usize {
        if self.config.enable { self.config.threads } else { 0 }
    }

    /// Bytes of a thread's map.
    pub(super) fn map_bytes(&self) -> usize {
        self.config.dedupe_buffer_bytes / self.config.threads.max(1)
    }
}
