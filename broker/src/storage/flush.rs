//! Forcing a log to stable storage: what one log does, and the thread of a directory that does it
//! for all logs there.
//!
//! Group commit: whoever waits for a flush leaves a callback; one fdatasync answers all who came
//! before it began. A failed fdatasync is never tried again: the log goes offline.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use proto::Offset;

use super::clock::Clock;
use super::config::FlushPolicy;
use super::disk::DiskFile;
use super::error::{FlushError, Offline};
use super::log::Log;
use super::roll::Closing;
use super::segment::Segment;

/// Ranges of one directory that wait for their write-back to be started.
const WRITE_BACKS_MAX: usize = 64;

/// Called once, on the flusher's thread or the caller's, without locks of the log; must not block.
pub type FlushDone = Box<dyn FnOnce(Result<(), FlushError>) + Send>;

/// Called once, when a log start was written down; must neither block nor touch the log, whose locks
/// may be held.
pub type StartStored = Box<dyn FnOnce() + Send>;

struct Waiter {
    /// Satisfied when `flushed` reaches it (exclusive).
    upto: Offset,
    done: FlushDone,
}

/// What a log knows about its own flushing.
#[derive(Default)]
pub(super) struct FlushState {
    /// Held while bytes are forced out; excludes truncation.
    pub(super) running: Mutex<()>,
    waiters: Mutex<Vec<Waiter>>,
    /// The log is in its flusher's queue.
    queued: AtomicBool,
    /// The log start has moved and is to be written down, by the flusher.
    start_moved: AtomicBool,
    /// Told when the log start is written down.
    start_waiters: Mutex<Vec<StartStored>>,
    /// The log has a deadline in its flusher's list.
    deadline: AtomicBool,
    /// Records appended since the last flush began.
    records: AtomicU64,
    /// Segments that were closed and whose indexes and snapshots are yet to be written.
    pub(super) closing: Mutex<Vec<Closing>>,
}

impl fmt::Debug for FlushState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlushState").field("records", &self.records).finish_non_exhaustive()
    }
}

impl FlushState {
    /// Counts appended records.
    pub(super) fn count(&self, records: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
    }
}

/// How far a flush goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// To the log end.
    All,
    /// Closed segments only; the kernel writes back the active one.
    Closed,
}

impl Log {
    /// Forces all that is appended to stable storage, on the caller's thread; returns up to where.
    /// May overlap with appends: what they add meanwhile may or may not be included.
    pub fn flush(&self) -> Result<Offset, FlushError> {
        self.flush_reach(Reach::All)
    }

    /// Calls `done` when all below `upto` (exclusive, at most the log end) is on stable storage:
    /// at once where it is, else after the directory's flusher came by.
    pub fn flush_to(&self, upto: Offset, done: FlushDone) {
        let upto = upto.min(self.log_end());
        let done = {
            let mut waiters = self.flush.waiters.lock();
            match self.check_online() {
                Err(offline) => (done, Err(FlushError(offline))),
                Ok(()) if upto <= self.flushed() => (done, Ok(())),
                Ok(()) => {
                    waiters.push(Waiter { upto, done });
                    drop(waiters);
                    self.dir.flusher.enqueue(self);
                    return;
                }
            }
        };
        let (done, result) = done;
        done(result);
    }

    /// Has the flusher write the log start down, for all logs of the directory together.
    pub(super) fn write_start_soon(&self) {
        self.flush.start_moved.store(true, Ordering::SeqCst);
        self.dir.flusher.enqueue(self);
    }

    /// Calls `done` when the log start of now is written down: at once where it is, else with the
    /// directory's next checkpoint. Never where the directory fails before.
    pub fn when_start_stored(&self, done: StartStored) {
        {
            let mut waiters = self.flush.start_waiters.lock();
            if self.stored_start() < self.log_start() {
                waiters.push(done);
                return;
            }
        }
        done();
    }

    /// The checkpoint on disk says that the log starts at `offset`.
    pub(super) fn start_stored(&self, offset: Offset) {
        self.stored_start.store(offset.0, Ordering::Release);
        if offset < self.log_start() {
            // It moved on meanwhile: the next checkpoint has it.
            return;
        }
        let waiters = std::mem::take(&mut *self.flush.start_waiters.lock());
        waiters.into_iter().for_each(|done| done());
    }

    /// Whether the log start is to be written down; the caller does it.
    fn take_start_moved(&self) -> bool {
        self.flush.start_moved.swap(false, Ordering::SeqCst)
    }

    pub(super) fn fail_waiters(&self, offline: &Offline) {
        let waiters = std::mem::take(&mut *self.flush.waiters.lock());
        for waiter in waiters {
            (waiter.done)(Err(FlushError(offline.clone())));
        }
    }

    pub(super) fn flush_reach(&self, reach: Reach) -> Result<Offset, FlushError> {
        let flushed = {
            let _running = self.flush.running.lock();
            self.check_online()?;
            match self.force_out(reach) {
                Ok(flushed) => flushed,
                Err(error) => {
                    drop(_running);
                    let cause = format!(
                        "fdatasync failed: {error}; what it should have stored may be lost"
                    );
                    return Err(FlushError(self.fail(&cause)));
                }
            }
        };
        let ready: Vec<_> =
            self.flush.waiters.lock().extract_if(.., |w| w.upto <= flushed).collect();
        for waiter in ready {
            (waiter.done)(Ok(()));
        }
        self.tell(|listener| listener.flushed_advanced(flushed));
        Ok(flushed)
    }

    fn force_out(&self, reach: Reach) -> std::io::Result<Offset> {
        if reach == Reach::All {
            // Appends from here on count anew.
            self.flush.deadline.store(false, Ordering::SeqCst);
            self.flush.records.store(0, Ordering::SeqCst);
        }
        let folder = self.folder();
        let closing = std::mem::take(&mut *self.flush.closing.lock());
        let target = self.log_end();
        let list = self.segments.load();
        let (last, closed) = match list.split_last() {
            Some((last, closed)) => (last, closed),
            None => return Ok(self.flushed()),
        };
        let target = if reach == Reach::All { target } else { last.base_offset };
        let from = self.flushed();
        for segment in closed.iter().filter(|s| s.tip().end_offset > from && s.base_offset < target)
        {
            segment.sync(&self.context, &folder)?;
        }
        if reach == Reach::All && target > from.max(last.base_offset) {
            last.sync(&self.context, &folder)?;
        }
        self.flushed.fetch_max(target.0, Ordering::AcqRel);
        for closed in &closing {
            self.finish_closing(closed);
        }
        Ok(self.flushed())
    }
}

/// Flushes the logs of one directory, on one thread, so that one slow disk delays nobody else.
pub(super) struct Flusher {
    clock: Arc<dyn Clock>,
    state: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    /// To be flushed now; each log at most once.
    urgent: Vec<Arc<Log>>,
    /// To be flushed at a time of the clock's `elapsed`; each log at most once.
    deadlines: Vec<(Duration, Weak<Log>)>,
    /// Ranges of segments whose write-back is to be started: at most [`WRITE_BACKS_MAX`].
    write_backs: VecDeque<(Arc<Segment>, (u64, u64))>,
    stopping: bool,
}

impl fmt::Debug for Flusher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flusher").finish_non_exhaustive()
    }
}

impl Flusher {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default(), wake: Condvar::new() }
    }

    /// After an append: an `interval` log is flushed at once when it has enough records, else
    /// when its time has come.
    pub(super) fn appended(&self, log: &Log) {
        let config = log.config.load();
        if config.flush != FlushPolicy::Interval {
            return;
        }
        if log.flush.records.load(Ordering::Relaxed) >= config.flush_messages {
            self.enqueue(log);
        } else if !log.flush.deadline.swap(true, Ordering::SeqCst) {
            let at = self.clock.elapsed() + Duration::from_millis(config.flush_ms);
            self.state.lock().deadlines.push((at, log.me.clone()));
            self.wake.notify_one();
        }
    }

    /// After a change of settings: what is unflushed gets the new deadline.
    pub(super) fn reconsider(&self, log: &Log) {
        if log.flushed() < log.log_end() {
            log.flush.deadline.store(false, Ordering::SeqCst);
            self.appended(log);
        }
    }

    /// Has a log flushed as soon as may be.
    pub(super) fn enqueue(&self, log: &Log) {
        if log.flush.queued.swap(true, Ordering::SeqCst) {
            return;
        }
        let Some(log) = log.me.upgrade() else { return };
        self.state.lock().urgent.push(log);
        self.wake.notify_one();
    }

    /// Has write-back of a range of a segment started, which may wait for the disk and takes the
    /// time of whoever starts it. False when the disk is behind with it: to be asked again, for more.
    pub(super) fn write_back(&self, segment: Arc<Segment>, range: (u64, u64)) -> bool {
        let mut state = self.state.lock();
        if state.write_backs.len() >= WRITE_BACKS_MAX {
            return false;
        }
        state.write_backs.push_back((segment, range));
        self.wake.notify_one();
        true
    }

    /// Starts one write-back: who waits for a flush goes before the others.
    fn start_write_back(&self) {
        let next = self.state.lock().write_backs.pop_front();
        if let Some((segment, (from, to))) = next {
            segment.file.start_write_back(from, to - from);
        }
    }

    /// Flushes what is due; returns when the next deadline is.
    pub(super) fn run_due(&self) -> Option<Duration> {
        let now = self.clock.elapsed();
        let (urgent, due) = {
            let mut state = self.state.lock();
            let due: Vec<_> = state.deadlines.extract_if(.., |d| d.0 <= now).collect();
            (std::mem::take(&mut state.urgent), due)
        };
        if urgent.len() > 1 {
            // The disk writes them side by side while the first is waited for.
            let actives = urgent.iter().filter_map(|log| log.segments.active());
            actives.for_each(|segment| segment.file.start_write_back(0, 0));
        }
        let mut moved = None;
        for log in urgent {
            // Before the log end is read: who comes later queues the log again.
            log.flush.queued.store(false, Ordering::SeqCst);
            let waiting = !log.flush.waiters.lock().is_empty();
            let counts = log.config.load().flush == FlushPolicy::Interval;
            let reach = if waiting || counts { Reach::All } else { Reach::Closed };
            // Failures are logged and told where they happen.
            let _ = log.flush_reach(reach);
            if log.take_start_moved() {
                moved = Some(log);
            }
        }
        if let Some(log) = moved {
            log.dir.write_checkpoint_or_fail(&*log.context.disk);
        }
        for (_, log) in due {
            let Some(log) = log.upgrade() else { continue };
            if log.flush.deadline.load(Ordering::SeqCst) {
                let _ = log.flush_reach(Reach::All);
            }
        }
        self.state.lock().deadlines.iter().map(|d| d.0).min()
    }

    /// The thread: runs until stopped.
    pub(super) fn run(&self) {
        loop {
            let next = self.run_due();
            self.start_write_back();
            let mut state = self.state.lock();
            if state.stopping {
                return;
            }
            if !state.urgent.is_empty() || !state.write_backs.is_empty() {
                continue;
            }
            // A deadline that came between is seen here; one that comes now wakes.
            let next = state.deadlines.iter().map(|d| d.0).min().or(next);
            match next {
                None => self.wake.wait(&mut state),
                Some(at) => {
                    let wait = at.saturating_sub(self.clock.elapsed());
                    self.wake.wait_for(&mut state, wait);
                }
            }
        }
    }

    /// Makes [`Flusher::run`] return after what is due now.
    pub(super) fn stop(&self) {
        self.state.lock().stopping = true;
        self.wake.notify_one();
    }
}
