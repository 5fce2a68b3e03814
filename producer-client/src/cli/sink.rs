//! Where lines go: to the producer, counted.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use parking_lot::{Condvar, Mutex};
use producer_client::{Header, Producer, SendError};

use super::record_rule::RecordRule;

/// What the reading thread has done, and the wish that it stop.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Lines handed to the producer.
    pub(crate) lines: AtomicU64,
    /// Their bytes, line ends left out.
    pub(crate) bytes: AtomicU64,
    /// Lines left out because they were too long.
    pub(crate) skipped: AtomicU64,
    /// Unfinished lines that were not sent.
    pub(crate) unfinished: AtomicU64,
    /// The reader is in a call that may never return.
    pub(crate) is_waiting: AtomicBool,
    stopped: AtomicBool,
    stop: Mutex<()>,
    wake: Condvar,
}

impl Progress {
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _lock = self.stop.lock();
        self.wake.notify_all();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Waits for `time`, or less if it is to stop.
    pub(crate) fn pause(&self, time: Duration) {
        let mut lock = self.stop.lock();
        if !self.is_stopped() {
            let _ = self.wake.wait_for(&mut lock, time);
        }
    }
}

/// Takes lines.
pub(crate) trait Sink {
    /// Takes line `number` of `source`.
    fn line(&mut self, line: &[u8], source: &Path, number: u64) -> Result<()>;
    /// A line of at least `len` bytes is more than may be sent.
    fn too_long(&mut self, len: usize, source: &Path, number: u64) -> Result<()>;
    /// No more lines are wanted. Asked every few hundred lines and before every read.
    fn is_over(&mut self) -> bool;
    /// Counts, and what is told about stopping.
    fn progress(&self) -> &Progress;
}

/// Sends lines to a topic.
pub(crate) struct ProducerSink<'a> {
    producer: &'a Producer,
    rule: &'a RecordRule,
    headers: Vec<Header<'a>>,
    progress: &'a Progress,
    skip_long_lines: bool,
    keep_going: bool,
    lines: u64,
    bytes: u64,
    has_failed: bool,
}

impl<'a> ProducerSink<'a> {
    pub(crate) fn new(
        producer: &'a Producer,
        rule: &'a RecordRule,
        progress: &'a Progress,
        skip_long_lines: bool,
        keep_going: bool,
    ) -> Self {
        Self {
            producer,
            rule,
            headers: rule.headers(),
            progress,
            skip_long_lines,
            keep_going,
            lines: 0,
            bytes: 0,
            has_failed: false,
        }
    }

    fn publish(&mut self) {
        self.progress.lines.store(self.lines, Ordering::Relaxed);
        self.progress.bytes.store(self.bytes, Ordering::Relaxed);
        self.has_failed = self.producer.stats().failed > 0;
    }
}

impl Sink for ProducerSink<'_> {
    fn line(&mut self, line: &[u8], source: &Path, number: u64) -> Result<()> {
        let record = self.rule.record(line, &self.headers);
        match self.producer.send_detached(record) {
            Ok(()) => {}
            // The producer has counted it as failed.
            Err(_) if self.keep_going => {}
            Err(SendError::RecordTooLarge { size, .. }) => {
                return self.too_long(size, source, number);
            }
            // Closed because it was interrupted.
            Err(SendError::Closed { .. }) if self.progress.is_stopped() => return Ok(()),
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("{} line {number} was not sent", source.display()));
            }
        }
        self.lines += 1;
        self.bytes += line.len() as u64;
        Ok(())
    }

    fn too_long(&mut self, len: usize, source: &Path, number: u64) -> Result<()> {
        if self.skip_long_lines {
            self.progress.skipped.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        Err(anyhow!(
            "{} line {number} has {len} bytes or more and max.request.size is {}: raise it (and \
             max.message.bytes of the topic), or leave such lines out with --skip-long-lines",
            source.display(),
            self.producer.config().max_request_size,
        ))
    }

    fn is_over(&mut self) -> bool {
        self.publish();
        self.progress.is_stopped() || (self.has_failed && !self.keep_going)
    }

    fn progress(&self) -> &Progress {
        self.progress
    }
}

impl Drop for ProducerSink<'_> {
    fn drop(&mut self) {
        self.publish();
    }
}
