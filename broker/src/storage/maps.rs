//! Segments mapped for reading, in windows, under one budget for the whole process.
//!
//! A segment is mapped in windows of 64 MiB at multiples of 32 MiB rather than whole: a gigabyte
//! segment would otherwise take a quarter of the budget for one reader of its tail. A window over
//! the end of a growing file becomes readable as the file grows. Windows go when unused; one whose
//! slices are still in some socket's queue is kept, and counted as pinned, until they are written.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::disk::{DiskFile, MAP_ALIGNMENT, MappedRange};
use super::wait::Wait;

const STEP: u64 = 32 << 20;
const WINDOW: u64 = 2 * STEP;

const _: () = assert!(STEP.is_multiple_of(MAP_ALIGNMENT));

/// What may be mapped, over all segments of the process.
///
/// `mapped` counts every window that exists, pinned ones of removed segments included.
pub(super) struct MapBudget {
    limit: u64,
    /// Most windows.
    count_limit: usize,
    mapped: AtomicU64,
    count: AtomicUsize,
    /// Removed windows that slices still keep alive.
    pinned: Mutex<Vec<Box<dyn MappedRange>>>,
}

impl MapBudget {
    /// At most `limit` bytes, in at most `count_limit` windows: small segments would otherwise take
    /// more mappings than the kernel gives a process.
    pub(super) fn new(limit: u64, count_limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            count_limit,
            mapped: AtomicU64::new(0),
            count: AtomicUsize::new(0),
            pinned: Mutex::new(Vec::new()),
        })
    }

    /// Windows that exist.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Bytes mapped now.
    pub(super) fn mapped(&self) -> u64 {
        self.mapped.load(Ordering::Relaxed)
    }

    /// Bytes of removed windows that unsent slices keep alive.
    pub(super) fn pinned(&self) -> u64 {
        self.sweep();
        self.pinned.lock().iter().map(|window| window.size() as u64).sum()
    }

    /// Lets go of removed windows whose slices are gone.
    pub(super) fn sweep(&self) {
        self.pinned.lock().retain(|window| {
            let keep = window.is_pinned();
            if !keep {
                self.discharge(window.size() as u64);
            }
            keep
        });
    }

    /// Takes a window's worth of both bounds, or nothing.
    fn charge(&self, bytes: u64) -> bool {
        let one_more = |count: usize| (count < self.count_limit).then_some(count + 1);
        if self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_err() {
            return false;
        }
        let take = |mapped: u64| (mapped + bytes <= self.limit).then_some(mapped + bytes);
        let taken = self.mapped.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        if !taken {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        taken
    }

    fn discharge(&self, bytes: u64) {
        self.mapped.fetch_sub(bytes, Ordering::Relaxed);
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    fn release(&self, window: Box<dyn MappedRange>) {
        if window.is_pinned() {
            self.pinned.lock().push(window);
        } else {
            self.discharge(window.size() as u64);
        }
    }
}

/// The windows of one segment.
pub(super) struct SegmentMaps {
    budget: Arc<MapBudget>,
    windows: RwLock<Vec<Window>>,
}

struct Window {
    start: u64,
    range: Box<dyn MappedRange>,
    /// Milliseconds of the clock's `elapsed`.
    last_used: AtomicU64,
}

impl Window {
    fn covers(&self, position: u64, len: u64) -> bool {
        self.start <= position && position + len <= self.start + self.range.size() as u64
    }

    fn slice(&self, position: u64, len: usize, now: Duration) -> Option<Bytes> {
        self.last_used.store(now.as_millis() as u64, Ordering::Relaxed);
        let from = (position - self.start) as usize;
        self.range.is_resident(from, len).then(|| self.range.slice(from, len))
    }
}

/// What came of asking for mapped bytes.
pub(super) enum Mapped {
    /// Here they are.
    Slice(Bytes),
    /// Some pages are on disk only.
    Cold,
    /// No maps on this disk, or the budget is used up: read instead.
    Unavailable,
}

impl SegmentMaps {
    /// Nothing mapped yet.
    pub(super) fn new(budget: Arc<MapBudget>) -> Self {
        Self { budget, windows: RwLock::new(Vec::new()) }
    }

    /// Bytes `[position, position + len)` of the file, which must all be written. `room` is the
    /// size the segment may grow to. A mapping that is there needs no open file; for a new one
    /// the file is opened, unless the caller may not wait.
    pub(super) fn slice(
        &self,
        file: &dyn DiskFile,
        position: u64,
        len: usize,
        room: u64,
        now: Duration,
        wait: Wait,
    ) -> Mapped {
        let found = |windows: &[Window]| {
            let window = windows.iter().find(|w| w.covers(position, len as u64))?;
            Some(window.slice(position, len, now).map_or(Mapped::Cold, Mapped::Slice))
        };
        if let Some(mapped) = found(&self.windows.read()) {
            return mapped;
        }
        let mut windows = self.windows.write();
        if let Some(mapped) = found(&windows) {
            return mapped;
        }
        if wait == Wait::Never && !file.is_open() {
            return Mapped::Cold;
        }
        match self.map(file, position, len as u64, room) {
            Ok(Some(window)) => {
                let slice = window.slice(position, len, now);
                windows.push(window);
                slice.map_or(Mapped::Cold, Mapped::Slice)
            }
            Ok(None) => Mapped::Unavailable,
            Err(error) => {
                if error.kind() != io::ErrorKind::Unsupported {
                    tracing::debug!(%error, "cannot map a segment, reading it instead");
                }
                Mapped::Unavailable
            }
        }
    }

    fn map(
        &self,
        file: &dyn DiskFile,
        position: u64,
        len: u64,
        room: u64,
    ) -> io::Result<Option<Window>> {
        let (start, end) = if position % STEP + len <= WINDOW {
            let start = position / STEP * STEP;
            (start, (start + WINDOW).min(room.max(position + len)))
        } else {
            (position / MAP_ALIGNMENT * MAP_ALIGNMENT, position + len)
        };
        let size = (end - start).next_multiple_of(MAP_ALIGNMENT);
        let Ok(map_len) = usize::try_from(size) else { return Ok(None) };
        if !self.budget.charge(size) {
            self.budget.sweep();
            if !self.budget.charge(size) {
                return Ok(None);
            }
        }
        match file.map(start, map_len) {
            Ok(range) => Ok(Some(Window { start, range, last_used: AtomicU64::new(0) })),
            Err(e) => {
                self.budget.discharge(size);
                Err(e)
            }
        }
    }

    /// Removes windows not used for `idle`.
    pub(super) fn remove_idle(&self, now: Duration, idle: Duration) {
        let limit = now.saturating_sub(idle).as_millis() as u64;
        if now < idle || self.windows.read().is_empty() {
            return;
        }
        for window in self.windows.write().extract_if(.., |w| *w.last_used.get_mut() <= limit) {
            self.budget.release(window.range);
        }
    }
}

impl Drop for SegmentMaps {
    fn drop(&mut self) {
        for window in self.windows.get_mut().drain(..) {
            self.budget.release(window.range);
        }
    }
}
