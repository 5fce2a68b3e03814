//! What happens to logs without being asked: checkpoints, retention, rolls by time, unmapping,
//! expiry of producers, removal of deleted partitions' files. One thread for all of it, or whoever
//! calls [`LogSet::run_due`].

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::compaction;
use super::config::{Background, LogSetConfig};
use super::log::Log;
use super::log_set::{DOOMED_AT_START, Inner, LogSet};

/// When things are due; shared with the thread.
#[derive(Clone)]
pub(super) struct Housekeeping {
    shared: Arc<(Mutex<Agenda>, Condvar)>,
}

/// Times are of the clock's `elapsed`.
struct Agenda {
    checkpoint: Duration,
    retention: Duration,
    unmap: Duration,
    space: Duration,
    /// Folders of deleted partitions.
    doomed: Vec<(Duration, PathBuf)>,
    stopping: bool,
}

/// What is to be done now.
struct Due {
    checkpoint: bool,
    retention: bool,
    unmap: bool,
    space: bool,
    doomed: Vec<PathBuf>,
}

impl Housekeeping {
    pub(super) fn new(config: &LogSetConfig, now: Duration, doomed: Vec<PathBuf>) -> Self {
        let agenda = Agenda {
            checkpoint: now + config.checkpoint,
            retention: now + config.retention_check,
            unmap: now + config.mmap_idle / 2,
            space: now + config.space_check,
            doomed: doomed.into_iter().map(|path| (now + DOOMED_AT_START, path)).collect(),
            stopping: false,
        };
        Self { shared: Arc::new((Mutex::new(agenda), Condvar::new())) }
    }

    /// Has a folder removed at a time.
    pub(super) fn doom(&self, folder: PathBuf, due: Duration) {
        self.shared.0.lock().doomed.push((due, folder));
        self.shared.1.notify_one();
    }

    pub(super) fn stop(&self) {
        self.shared.0.lock().stopping = true;
        self.shared.1.notify_one();
    }

    /// The thread: until stopped, or until the log set is gone.
    pub(super) fn run(&self, inner: &Weak<Inner>) {
        loop {
            let Some(alive) = inner.upgrade() else { return };
            if self.shared.0.lock().stopping {
                return;
            }
            let next = run_due(&alive);
            let now = alive.context.clock.elapsed();
            // Not kept alive while waiting.
            drop(alive);
            let mut agenda = self.shared.0.lock();
            if agenda.stopping {
                return;
            }
            let next = agenda.doomed.iter().map(|d| d.0).min().map_or(next, |due| due.min(next));
            self.shared.1.wait_for(&mut agenda, next.saturating_sub(now));
        }
    }

    /// Takes what is due off the agenda.
    fn take_due(&self, now: Duration, config: &LogSetConfig) -> Due {
        let mut agenda = self.shared.0.lock();
        let take = |due: &mut Duration, every: Duration| {
            let is_due = *due <= now;
            if is_due {
                *due = now + every;
            }
            is_due
        };
        let checkpoint = take(&mut agenda.checkpoint, config.checkpoint);
        let retention = take(&mut agenda.retention, config.retention_check);
        let unmap = take(&mut agenda.unmap, config.mmap_idle / 2);
        let doomed = agenda.doomed.extract_if(.., |d| d.0 <= now).map(|d| d.1).collect();
        let space = take(&mut agenda.space, config.space_check);
        Due { checkpoint, retention, unmap, space, doomed }
    }

    fn next(&self) -> Duration {
        let agenda = self.shared.0.lock();
        agenda.checkpoint.min(agenda.retention).min(agenda.unmap).min(agenda.space)
    }
}

impl LogSet {
    /// Does what is due, flushes and compaction included, on the caller's thread; for [`Background::Caller`].
    pub fn run_due(&self) {
        if self.inner.config.background == Background::Caller {
            for open in &self.inner.dirs {
                open.dir.flusher.run_due();
            }
        }
        run_due(&self.inner);
        if self.inner.config.background == Background::Caller {
            compaction::run_due(&self.inner);
        }
    }

    /// Writes recovery points and high watermarks down now.
    pub fn checkpoint(&self) {
        checkpoint(&self.inner);
    }
}

/// Does what is due; returns when to come back.
fn run_due(inner: &Inner) -> Duration {
    let now = inner.context.clock.elapsed();
    let mut due = inner.housekeeping.take_due(now, &inner.config);
    if due.space {
        let dirs = inner.dirs.iter().map(|open| &open.dir).filter(|dir| dir.failed().is_none());
        let filled = dirs.filter(|dir| dir.look_for_room(&*inner.context.disk)).count();
        // At once: it is what makes room.
        due.retention |= filled > 0;
    }
    if due.checkpoint {
        checkpoint(inner);
    }
    if due.retention || due.unmap {
        let logs: Vec<Arc<Log>> = inner.logs.read().values().cloned().collect();
        for log in logs.iter().filter(|log| log.offline().is_none()) {
            if due.retention {
                retain(inner, log);
            }
            if due.unmap {
                for segment in log.segments.load().iter() {
                    segment.maps.remove_idle(now, inner.config.mmap_idle);
                }
            }
        }
        inner.context.maps.sweep();
        inner.context.files.make_room(0);
    }
    for folder in due.doomed {
        match inner.context.disk.remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(folder = %folder.display(), %error, "deleted partition's files stay");
            }
            _ => {}
        }
    }
    inner.housekeeping.next()
}

fn retain(inner: &Inner, log: &Log) {
    let now_ms = inner.context.clock.now_ms();
    let keep_ms = i64::try_from(inner.config.producer_expiration.as_millis()).unwrap_or(i64::MAX);
    log.writer.lock().producers.expire(now_ms.saturating_sub(keep_ms));
    // A roll that fails on a full disk must not keep retention from making room.
    let rolled = log.roll_if_old(now_ms);
    if let Err(error) = log.apply_retention().and(rolled) {
        tracing::warn!(partition = %log.partition(), %error, "retention failed; tried again later");
    }
}

fn checkpoint(inner: &Inner) {
    let logs: Vec<Arc<Log>> = inner.logs.read().values().cloned().collect();
    for log in logs.iter().filter(|log| log.offline().is_none()) {
        // Logged where it fails, and tried again next time.
        let _ = log.save_epochs();
    }
    for open in &inner.dirs {
        open.dir.write_checkpoint_or_fail(&*inner.context.disk);
    }
}
