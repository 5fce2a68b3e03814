//! All logs of a broker: opened at start, created, deleted, set aside, closed.
//!
//! Read on: `start` (what opening does), `creation`, `housekeeping` (what runs in the background).

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use proto::{TopicId, TopicPartition};

use super::clock::Clock;
use super::compaction;
use super::config::LogSetConfig;
use super::context::Context;
use super::directories::Homes;
use super::disk::{Disk, DiskFile, OpenMode};
use super::error::{LogSetError, Offline, OpenError};
use super::housekeeping::Housekeeping;
use super::log::Log;
use super::log_dir::LogDir;
use super::recovery::{self, Source};
use super::retention::DeletedSegments;
use super::start::{self, StartReport};

/// The end of a deleted partition's folder name, as Kafka's.
pub(super) const DELETE_SUFFIX: &str = "-delete";
/// The end of the folder name of a partition that belongs to nobody, as Kafka's.
pub(super) const STRAY_SUFFIX: &str = "-stray";
/// Name of the threads that compact.
const CLEANER: &str = "log-cleaner";
/// Longest folder name.
const NAME_MAX: usize = 255;

/// All logs of a broker; cheap to clone.
///
/// One log for each partition. Locks: `logs` is held for look-ups and changes of the map only,
/// never over I/O; `changing` is held over create, delete and set-aside, so that they exclude each
/// other.
#[derive(Clone)]
pub struct LogSet {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) context: Arc<Context>,
    pub(super) config: LogSetConfig,
    pub(super) dirs: Vec<OpenDir>,
    /// Those that could not be used at start, and why.
    pub(super) unusable: Vec<(PathBuf, String)>,
    /// Partitions that exist and are not in `logs`, and why.
    pub(super) absent: Mutex<HashMap<TopicPartition, Absent>>,
    pub(super) homes: Mutex<Homes>,
    pub(super) logs: RwLock<HashMap<TopicPartition, Arc<Log>>>,
    pub(super) changing: Mutex<()>,
    pub(super) housekeeping: Housekeeping,
    threads: Mutex<Vec<JoinHandle<()>>>,
    closed: AtomicBool,
}

/// A partition that is known and cannot be opened.
#[derive(Debug, Clone)]
pub(super) struct Absent {
    /// `None`: could not be found out.
    pub(super) topic_id: Option<TopicId>,
    pub(super) cause: String,
    /// The path of the directory that it is in.
    pub(super) directory: PathBuf,
}

/// What a start found, to make a set of.
#[derive(Default)]
pub(super) struct Started {
    pub(super) dirs: Vec<OpenDir>,
    pub(super) unusable: Vec<(PathBuf, String)>,
    pub(super) logs: HashMap<TopicPartition, Arc<Log>>,
    pub(super) absent: HashMap<TopicPartition, Absent>,
    pub(super) homes: Homes,
    pub(super) doomed: Vec<PathBuf>,
}

/// A directory in use; the lock keeps other processes out.
pub(super) struct OpenDir {
    pub(super) dir: Arc<LogDir>,
    pub(super) _lock: Box<dyn Send + Sync>,
}

/// Figures over all logs, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StorageUsage {
    /// Bytes mapped for reading.
    pub mapped_bytes: u64,
    /// Bytes of removed mappings that unsent slices still keep alive.
    pub pinned_bytes: u64,
    /// Mappings, those included that only unsent slices keep alive.
    pub maps: usize,
    /// Segments' files that are open.
    pub open_files: usize,
    /// How many may be.
    pub open_files_limit: usize,
    /// Files closed because others needed their descriptors.
    pub files_closed: u64,
    /// Times that a log file was made durable (`fdatasync`).
    pub files_synced: u64,
    /// Bytes that remembered producer batches take.
    pub producer_bytes: u64,
}

impl LogSet {
    /// Opens all partitions found in the directories, recovering what was not closed cleanly, and
    /// starts the background threads. A directory that fails is left out and reported.
    pub fn open(
        config: LogSetConfig,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, StartReport), OpenError> {
        let (inner, report) = start::open(config, disk, clock)?;
        let set = Self { inner: Arc::new(inner) };
        set.inner.threads.lock().extend(set.start_threads());
        Ok((set, report))
    }

    pub(super) fn inner(context: Arc<Context>, config: LogSetConfig, started: Started) -> Inner {
        let housekeeping = Housekeeping::new(&config, context.clock.elapsed(), started.doomed);
        Inner {
            context,
            config,
            dirs: started.dirs,
            unusable: started.unusable,
            absent: Mutex::new(started.absent),
            homes: Mutex::new(started.homes),
            logs: RwLock::new(started.logs),
            changing: Mutex::new(()),
            housekeeping,
            threads: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// A partition's log.
    pub fn get(&self, partition: &TopicPartition) -> Option<Arc<Log>> {
        self.inner.logs.read().get(partition).cloned()
    }

    /// All logs, in no order.
    pub fn logs(&self) -> Vec<Arc<Log>> {
        self.inner.logs.read().values().cloned().collect()
    }

    /// What the logs take of memory's bounds.
    pub fn usage(&self) -> StorageUsage {
        let context = &self.inner.context;
        StorageUsage {
            mapped_bytes: context.maps.mapped(),
            pinned_bytes: context.maps.pinned(),
            maps: context.maps.count(),
            open_files: context.files.open_now(),
            open_files_limit: context.files.limit(),
            files_closed: context.files.closed(),
            files_synced: context.files.synced(),
            producer_bytes: context.producers.used(),
        }
    }

    /// What retention has deleted since the start.
    pub fn deleted_segments(&self) -> DeletedSegments {
        self.inner.context.retention.totals()
    }

    /// Has `listener` called whenever a log goes offline or is found damaged, or a directory fails;
    /// set once. It is called on the thread that found it, and must not block.
    pub fn on_trouble(&self, listener: impl Fn() + Send + Sync + 'static) {
        self.inner.context.troubles.set_listener(listener);
    }

    /// Directories that failed, at start or since, and why.
    pub fn failed_dirs(&self) -> Vec<(PathBuf, String)> {
        let dirs = self.inner.dirs.iter();
        let failed =
            dirs.filter_map(|open| Some((open.dir.path.clone(), open.dir.failed()?.to_owned())));
        self.inner.unusable.iter().cloned().chain(failed).collect()
    }

    /// Whoever may count on the logs here knows what [`Log::opening`] found, or counts on none of
    /// them: the next start need not tell it again.
    pub fn losses_told(&self) {
        start::losses_told(&self.inner);
    }

    /// Directories in use.
    pub fn usable_dirs(&self) -> Vec<PathBuf> {
        let usable = self.inner.dirs.iter().filter(|open| open.dir.failed().is_none());
        usable.map(|open| open.dir.path.clone()).collect()
    }

    /// Why a partition that exists here has no log, if so.
    pub fn absence(&self, partition: &TopicPartition, topic_id: TopicId) -> Option<String> {
        let absent = self.inner.absent.lock();
        let absent = absent.get(partition)?;
        let same = absent.topic_id.is_none_or(|known| known == topic_id);
        same.then(|| absent.cause.clone())
    }

    /// How many partitions exist here and have no log.
    pub fn absent_count(&self) -> usize {
        self.inner.absent.lock().len()
    }

    /// Deletes a partition: its log ends at once, the folder is renamed, the files go later.
    /// Needs no space on the disk.
    pub fn delete(&self, partition: &TopicPartition, topic_id: TopicId) -> Result<(), LogSetError> {
        let _changing = self.inner.changing.lock();
        let log = self.get(partition).ok_or_else(|| LogSetError::Unknown(partition.clone()))?;
        self.check_id(&log, topic_id)?;
        let folder = self.put_away(&log, DELETE_SUFFIX, "it was deleted")?;
        let due = self.inner.context.clock.elapsed() + self.inner.config.delete_delay;
        self.inner.housekeeping.doom(folder, due);
        Ok(())
    }

    /// Puts a partition's folder aside under another name, for a person to look at: it belongs to
    /// a topic that is not there any more. Returns the folder's new path.
    pub fn set_aside(&self, partition: &TopicPartition) -> Result<PathBuf, LogSetError> {
        let _changing = self.inner.changing.lock();
        let log = self.get(partition).ok_or_else(|| LogSetError::Unknown(partition.clone()))?;
        self.put_away(&log, STRAY_SUFFIX, "its folder was set aside: it is of another topic")
    }

    fn put_away(&self, log: &Log, suffix: &str, cause: &str) -> Result<PathBuf, LogSetError> {
        let partition = log.partition();
        log.end(cause);
        // Waits for an append, a flush or a swap of compacted segments under way.
        let _replacing = log.compaction.replacing.lock();
        let _running = log.flush.running.lock();
        let _writer = log.writer.lock();
        let from = log.folder();
        let to = log.dir.path.join(away_name(partition, suffix));
        let disk = &*self.inner.context.disk;
        let io = |cause| LogSetError::Io {
            partition: partition.clone(),
            what: "renaming its folder",
            cause,
        };
        disk.rename(&from, &to).map_err(io)?;
        *log.folder.write() = to.clone();
        self.inner.logs.write().remove(partition);
        self.inner.homes.lock().logs.remove(partition);
        log.dir.release(log);
        if let Err(error) = log.dir.cleaned.forget(disk, &log.dir.path, partition) {
            tracing::warn!(%partition, %error, "cleaner checkpoint not written");
        }
        disk.sync_dir(&log.dir.path).map_err(io)?;
        Ok(to)
    }

    /// Opens a partition's log anew after it went offline by a failed flush: what is really on the
    /// disk is read with CRCs from the last recovery point on, and what is not goes. The old
    /// object stays offline.
    pub fn reopen(&self, partition: &TopicPartition) -> Result<Arc<Log>, LogSetError> {
        let _changing = self.inner.changing.lock();
        let log = self.get(partition).ok_or_else(|| LogSetError::Unknown(partition.clone()))?;
        if !log.dir.verify(&*self.inner.context.disk) {
            let cause = log.dir.failed().unwrap_or("it failed");
            let cause = format!("its log directory failed: {cause}");
            return Err(Offline { partition: partition.clone(), cause }.into());
        }
        log.end("it is opened anew");
        let _replacing = log.compaction.replacing.lock();
        let _running = log.flush.running.lock();
        let _writer = log.writer.lock();
        for segment in log.segments.load().iter() {
            segment.file.forget_cached();
        }
        let source = Source {
            folder: log.folder(),
            partition: partition.clone(),
            topic_id: log.topic_id(),
            positions: Some(log.positions()),
            clean: false,
            unsynced_lost: true,
            losses_untold: false,
            existed: true,
            config: &log.config(),
        };
        let opened = recovery::open(&self.inner.context, &log.dir, &source);
        let (fresh, _) = opened.map_err(|cause| LogSetError::Io {
            partition: partition.clone(),
            what: "opening it anew",
            cause,
        })?;
        log.dir.release(&log);
        self.inner.logs.write().insert(partition.clone(), fresh.clone());
        Ok(fresh)
    }

    /// A clean stop: flushes and closes every log, and marks the directories, so that the next
    /// start reads nothing. Logs end; later calls do nothing.
    pub fn close(&self) {
        if self.inner.closed.swap(true, Ordering::SeqCst) {
            return;
        }
        self.inner.housekeeping.stop();
        self.inner.context.cleaning.stop();
        for open in &self.inner.dirs {
            open.dir.flusher.stop();
        }
        for thread in std::mem::take(&mut *self.inner.threads.lock()) {
            if thread.join().is_err() {
                tracing::error!("a storage thread had panicked");
            }
        }
        start::close(&self.inner);
    }

    fn start_threads(&self) -> Vec<JoinHandle<()>> {
        if self.inner.config.background != super::config::Background::Threads {
            return Vec::new();
        }
        let mut threads = Vec::new();
        let mut spawn =
            |name: &str, run: Box<dyn FnOnce() + Send>| match std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(run)
            {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    tracing::error!(%error, name, "cannot start a storage thread");
                    if name == CLEANER {
                        self.inner.context.cleaning.thread_is_dead();
                    }
                }
            };
        for open in &self.inner.dirs {
            let dir = open.dir.clone();
            let run = move || {
                if catch_unwind(AssertUnwindSafe(|| dir.flusher.run())).is_err() {
                    // Nobody would answer who waits for a flush.
                    dir.fail("its flush thread panicked");
                }
            };
            spawn("log-flusher", Box::new(run));
        }
        let weak = Arc::downgrade(&self.inner);
        let housekeeping = self.inner.housekeeping.clone();
        let run = move || {
            while catch_unwind(AssertUnwindSafe(|| housekeeping.run(&weak))).is_err() {
                tracing::error!("housekeeping of the logs panicked, it goes on");
            }
        };
        spawn("log-housekeeping", Box::new(run));
        for _ in 0..self.inner.context.cleaning.threads() {
            let weak = Arc::downgrade(&self.inner);
            spawn(CLEANER, Box::new(move || compaction::run(&weak)));
        }
        threads
    }
}

/// A name for a folder that is put away: unlike any other, and not too long.
pub(super) fn away_name(partition: &TopicPartition, suffix: &str) -> String {
    let unique = uuid::Uuid::new_v4().simple();
    let tail = format!("-{}.{unique}{suffix}", partition.partition);
    let topic: String = partition.topic.chars().take(NAME_MAX - tail.len()).collect();
    format!("{topic}{tail}")
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Not closed: the threads are told to end, and the next start recovers.
        self.housekeeping.stop();
        self.context.cleaning.stop();
        for open in &self.dirs {
            open.dir.flusher.stop();
        }
    }
}

/// How long a partition's folder waits before it goes when it was found at start.
pub(super) const DOOMED_AT_START: Duration = Duration::ZERO;

/// Locks a directory against other processes.
pub(super) fn lock_dir(disk: &dyn Disk, dir: &Path) -> io::Result<Option<Box<dyn Send + Sync>>> {
    let path = dir.join(".lock");
    disk.open(&path, OpenMode::Create)?;
    disk.lock(&path)
}
