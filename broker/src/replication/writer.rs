//! Who appends: the thread that took the request while its directory is calm, the directory's own
//! writer thread from the first slow append until the disk has been calm for a second.
//!
//! An append is slow where it waited for long. One that took as long because its thread lost its
//! processor to others says nothing about the disk ([`Stopwatch`]), and on a machine that is busy every
//! second would have one.
//!
//! So a slow disk stalls one thread of its own and never the sockets. Nor does compressing: what is
//! written to topics that force a codec always goes to threads of its own.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use parking_lot::Mutex;

use super::Partition;
use crate::metrics::Metrics;

/// An append that takes longer makes the directory slow.
const SLOW: Duration = Duration::from_millis(5);
/// A directory without a slow append for this long is calm again.
const CALM_AFTER: Duration = Duration::from_secs(1);

/// The writer thread of one directory. It ends when the last handle drops.
pub(crate) struct DirectoryWriter {
    slow: AtomicBool,
    /// Milliseconds from `start` to the last slow append.
    last_slow: AtomicU64,
    start: Instant,
    scheduled: mpsc::Sender<Arc<Partition>>,
    /// To the threads that compress, once there are any.
    recoding: OnceLock<mpsc::Sender<Arc<Partition>>>,
    metrics: Arc<Metrics>,
}

impl DirectoryWriter {
    /// Starts the thread.
    pub(crate) fn start(name: &str, metrics: Arc<Metrics>) -> io::Result<Arc<Self>> {
        let (scheduled, inbox) = mpsc::channel::<Arc<Partition>>();
        std::thread::Builder::new().name(format!("writer-{name}")).spawn(move || {
            while let Ok(partition) = inbox.recv() {
                partition.write_scheduled();
            }
        })?;
        Ok(Arc::new(Self {
            slow: AtomicBool::new(false),
            last_slow: AtomicU64::new(0),
            start: Instant::now(),
            scheduled,
            recoding: OnceLock::new(),
            metrics,
        }))
    }

    /// Whether appends go to the writer thread now.
    pub(crate) fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }

    /// Has the thread write what is queued at a partition.
    pub(crate) fn schedule(&self, partition: Arc<Partition>) {
        // The thread lives as long as this handle: sending cannot fail before then.
        let _ = self.scheduled.send(partition);
    }

    /// Has a thread for compressing write what is queued at a partition. They are started with the
    /// first such partition.
    pub(crate) fn schedule_recoding(&self, partition: Arc<Partition>) {
        let sender = self.recoding.get_or_init(|| {
            let (sender, inbox) = mpsc::channel::<Arc<Partition>>();
            let inbox = Arc::new(Mutex::new(inbox));
            let started = (0..recoders()).filter(|number| {
                let inbox = Arc::clone(&inbox);
                let thread = std::thread::Builder::new().name(format!("recoder-{number}"));
                thread.spawn(move || recode_scheduled(&inbox)).is_ok()
            });
            match started.count() {
                // The writer thread has to do then, which waits longer for itself.
                0 => self.scheduled.clone(),
                _ => sender,
            }
        });
        let _ = sender.send(partition);
    }

    /// Notes how long an append took.
    pub(crate) fn took(&self, time: Duration) {
        self.metrics.appends.one();
        let now = self.start.elapsed();
        if time > SLOW {
            self.metrics.appends_slow.one();
            self.last_slow.store(now.as_millis() as u64, Ordering::Relaxed);
            self.slow.store(true, Ordering::Relaxed);
        } else if self.is_slow() {
            let last = Duration::from_millis(self.last_slow.load(Ordering::Relaxed));
            if now.saturating_sub(last) > CALM_AFTER {
                self.slow.store(false, Ordering::Relaxed);
            }
        }
    }
}

/// The time of an append in which its thread may have waited for the disk.
pub(super) struct Stopwatch {
    start: Instant,
    waits: Option<i64>,
}

impl Stopwatch {
    pub(super) fn start() -> Self {
        Self { start: Instant::now(), waits: waits_of_this_thread() }
    }

    /// The time since; none where the thread has not waited for anything, but was only kept from
    /// running.
    pub(super) fn stop(self) -> Duration {
        let time = self.start.elapsed();
        let is_long = time > SLOW;
        if is_long && self.waits.is_some() && self.waits == waits_of_this_thread() {
            return Duration::ZERO;
        }
        time
    }
}

/// How often this thread has given up its processor because it had to wait, where that is known.
fn waits_of_this_thread() -> Option<i64> {
    Some(getrusage(UsageWho::RUSAGE_THREAD).ok()?.voluntary_context_switches())
}

/// Threads that compress: half the cores, so that the sockets have the others.
fn recoders() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
}

/// Until the last handle of the directory drops.
fn recode_scheduled(inbox: &Mutex<mpsc::Receiver<Arc<Partition>>>) {
    loop {
        // The lock is held while waiting: the others wait for it instead of the channel.
        let next = inbox.lock().recv();
        let Ok(partition) = next else { return };
        partition.write_scheduled();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_append_makes_a_directory_slow_until_it_was_calm_for_long() {
        let writer = DirectoryWriter::start("test", Arc::default()).unwrap();
        writer.took(Duration::from_millis(1));
        assert!(!writer.is_slow());
        writer.took(Duration::from_millis(6));
        assert!(writer.is_slow());
        writer.took(Duration::from_millis(1));
        assert!(writer.is_slow(), "not calm for long yet");
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "stands for a disk that is waited for")]
    fn time_in_which_a_thread_waited_counts_and_time_in_which_it_was_kept_from_running_does_not() {
        let watch = Stopwatch::start();
        std::thread::sleep(2 * SLOW);
        assert!(watch.stop() > SLOW);
        // Whoever computes without a pause is in the same position as who is kept from running.
        let is_slow = || {
            let watch = Stopwatch::start();
            while watch.start.elapsed() <= 2 * SLOW {}
            watch.stop() > SLOW
        };
        assert!((0..10).any(|_| !is_slow()), "no wait was seen, and the time counts");
    }
}
