//! Opening and closing a log set: identity of the directories, the clean-stop mark, and all
//! partitions, many at a time.
//!
//! Two files of each directory, both `checked_text`: `clean-stop` is written last at a clean stop
//! and removed first at a start; `boot` has the boot id of the last start. No mark and another boot
//! id mean that bytes the kernel had not written back are gone.
//!
//! What a start finds lost is put right on the disk before others can be told, and a start that
//! follows would not see it any more. So a third file, `losses-untold`, is made before anything is
//! put right, and goes with [`LogSet::losses_told`]; a start that finds it trusts no log.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use proto::TopicPartition;

use super::checked_text;
use super::clock::Clock;
use super::compaction::Cleaning;
use super::config::LogSetConfig;
use super::context::Context;
use super::damage::DamagedRange;
use super::directories::Homes;
use super::disk::{self, Disk, OpenMode, replace_file};
use super::enter::{Entered, enter, found_twice};
use super::error::OpenError;
use super::log::Log;
use super::log_dir::LogDir;
use super::log_set::{
    Absent, DELETE_SUFFIX, Inner, LogSet, OpenDir, STRAY_SUFFIX, Started, away_name,
};
use super::maps::MapBudget;
use super::open_files::OpenFiles;
use super::opening_progress::OpeningProgress;
use super::partition_metadata;
use super::positions_checkpoint::{self, Positions};
use super::producer_state::ProducerBudget;
use super::recovery::{self, RecoveryReport, Source};
use super::retention::RetentionCounters;
use super::room::FreeMark;
use super::segment::file_name;

const CLEAN_STOP: &str = "clean-stop";
const BOOT: &str = "boot";
const LOSSES_UNTOLD: &str = "losses-untold";
const SMALL_FILE_MAX: u64 = 1 << 16;
const CHECKPOINT_MAX: u64 = 64 << 20;

/// What a start found.
#[derive(Debug, Clone, Default)]
pub struct StartReport {
    /// Every directory was closed cleanly (or is new).
    pub clean: bool,
    /// Acknowledged bytes that were not flushed may be lost: the stop was not clean and the
    /// machine was started anew since.
    pub unsynced_lost: bool,
    /// Partitions opened.
    pub opened: usize,
    /// Bytes read and checked.
    pub scanned_bytes: u64,
    /// Bytes put aside in `.cut` files.
    pub cut_bytes: u64,
    /// Damaged ranges.
    pub damaged: Vec<(TopicPartition, DamagedRange)>,
    /// Partitions whose folder cannot be opened, and why.
    pub failed: Vec<(TopicPartition, String)>,
    /// Directories that cannot be used, and why.
    pub failed_dirs: Vec<(PathBuf, String)>,
}

/// A directory that was opened, before its partitions are.
pub(super) struct FoundDir {
    pub(super) open: OpenDir,
    pub(super) clean: bool,
    /// Bytes that were not flushed may be gone.
    unsynced_lost: bool,
    /// A start before this one told nobody what it found lost.
    losses_untold: bool,
    /// The checkpoint, if it could be read.
    pub(super) positions: Option<HashMap<TopicPartition, Positions>>,
    pub(super) partitions: Vec<TopicPartition>,
    doomed: Vec<PathBuf>,
}

pub(super) fn open(
    config: LogSetConfig,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
) -> Result<(Inner, StartReport), OpenError> {
    let files = OpenFiles::new(disk, config.open_files);
    let context = Arc::new(Context {
        cleaning: Cleaning::new(config.cleaner.clone(), clock.clone(), config.background),
        disk: files.clone(),
        files,
        clock,
        scanned: AtomicU64::new(0),
        maps: MapBudget::new(config.mmap_bytes, config.mmap_count),
        producers: ProducerBudget::new(config.producer_window_bytes),
        retention: RetentionCounters::default(),
        troubles: Arc::default(),
    });
    let mut entrance = enter(&context, &config)?;
    let mut report = StartReport { clean: true, ..StartReport::default() };
    let mut found = Vec::new();
    for entered in std::mem::take(&mut entrance.entered) {
        let path = entered.path.clone();
        match open_dir(&context, entered, config.free_mark) {
            Ok(dir) => found.push(dir),
            Err(error) => {
                tracing::error!(dir = %path.display(), %error, "log directory cannot be used");
                entrance.unusable.push((path, error.to_string()));
            }
        }
    }
    if found.is_empty() {
        let first = entrance.unusable.first();
        let text = first.map(|(path, error)| format!("{}: {error}", path.display()));
        return Err(OpenError::NoDirectory(text.unwrap_or_else(|| "none is configured".into())));
    }
    let mut absent = entrance.absent(found.iter().map(|dir| dir.open.dir.id));
    set_aside_older(&*context.disk, &mut found, &entrance.homes);
    let dirs = found.iter().map(|dir| (dir.open.dir.path.as_path(), &dir.partitions[..]));
    absent.extend(found_twice(dirs));
    for dir in &mut found {
        let twice = dir.partitions.extract_if(.., |partition| absent.contains_key(partition));
        report.failed.extend(twice.map(|name| (name.clone(), absent[&name].cause.clone())));
    }
    let started = open_found(&context, &config, found, &mut report);
    let mut started = Started { unusable: entrance.unusable, ..started };
    started.absent.extend(absent);
    started.homes = entrance.homes;
    note_homes(&*context.disk, &config, &mut started);
    report.failed_dirs.clone_from(&started.unusable);
    report.opened = started.logs.len();
    Ok((LogSet::inner(context, config, started), report))
}

/// Puts away what a directory has of an earlier topic of the name, whose partition of today is known
/// to be in another one: the topic was deleted and made anew while the directory was away.
fn set_aside_older(disk: &dyn Disk, found: &mut [FoundDir], homes: &Homes) {
    let here: HashMap<_, _> =
        found.iter().map(|dir| (dir.open.dir.id, dir.partitions.clone())).collect();
    let topic_of = |folder: &Path| {
        let path = folder.join(partition_metadata::FILE_NAME);
        partition_metadata::decode(&disk::read_file(disk, &path, SMALL_FILE_MAX).ok()?)
    };
    for dir in found {
        let id = dir.open.dir.id;
        dir.partitions.retain(|partition| {
            let Some((topic_id, home)) = homes.logs.get(partition) else { return true };
            let elsewhere = *home != id && here.get(home).is_some_and(|p| p.contains(partition));
            let folder = dir.open.dir.path.join(partition.to_string());
            if !elsewhere || topic_of(&folder).is_none_or(|found| found == *topic_id) {
                return true;
            }
            let away = dir.open.dir.path.join(away_name(partition, STRAY_SUFFIX));
            tracing::warn!(
                %partition, to = %away.display(),
                "a partition of an earlier topic of the name is set aside"
            );
            disk.rename(&folder, &away).is_err()
        });
    }
}

/// Opens the partitions of all directories, the directories side by side.
fn open_found(
    context: &Arc<Context>,
    config: &LogSetConfig,
    found: Vec<FoundDir>,
    report: &mut StartReport,
) -> Started {
    let outcomes = Mutex::new(Vec::new());
    each_in_parallel(&found, found.len(), |dir| {
        let opened = open_partitions(context, config, dir);
        outcomes.lock().push((dir.open.dir.id, opened));
    });
    let mut outcomes: HashMap<_, _> = outcomes.into_inner().into_iter().collect();
    let mut started = Started::default();
    for mut dir in found {
        report.clean &= dir.clean;
        report.unsynced_lost |= dir.unsynced_lost;
        started.doomed.append(&mut dir.doomed);
        let opened = outcomes.remove(&dir.open.dir.id).unwrap_or_default();
        take_opened(&dir, opened, &mut started, report);
        if let Err(error) = dir.open.dir.write_checkpoint(&*context.disk) {
            tracing::warn!(dir = %dir.open.dir.path.display(), %error, "checkpoint not written");
        }
        started.dirs.push(dir.open);
    }
    started
}

/// Has every directory know where each partition is.
fn note_homes(disk: &dyn Disk, config: &LogSetConfig, started: &mut Started) {
    let Started { dirs, homes, logs, .. } = started;
    let used: std::collections::HashSet<_> = dirs.iter().map(|open| open.dir.id).collect();
    // What is in use was looked through: a line of a partition that was not found there is old.
    homes.logs.retain(|_, (_, home)| !used.contains(home));
    homes.logs.extend(
        logs.iter().map(|(partition, log)| (partition.clone(), (log.topic_id(), log.dir.id))),
    );
    if config.dirs.len() < 2 {
        return;
    }
    homes.generation += 1;
    for open in dirs.iter() {
        if let Err(error) = homes.write(disk, &open.dir.path) {
            tracing::warn!(dir = %open.dir.path.display(), %error, "homes not written");
        }
    }
}

fn open_dir(context: &Context, entered: Entered, mark: FreeMark) -> std::io::Result<FoundDir> {
    let Entered { path, lock, id } = entered;
    let (disk, path) = (&*context.disk, path.as_path());
    let entries = disk.list(path)?;
    let read = |name: &str, limit| disk::read_file(disk, &path.join(name), limit).ok();
    let marked =
        read(CLEAN_STOP, SMALL_FILE_MAX).is_some_and(|b| checked_text::decode(&b).is_some());
    let boot_id = disk.boot_id();
    let same_boot = read(BOOT, SMALL_FILE_MAX)
        .is_some_and(|bytes| checked_text::decode(&bytes).is_some_and(|lines| lines == [&boot_id]));
    let checkpoint = read(positions_checkpoint::FILE_NAME, CHECKPOINT_MAX);
    let positions = checkpoint.as_deref().and_then(positions_checkpoint::decode);
    let mut partitions = Vec::new();
    let mut doomed = Vec::new();
    for entry in entries.iter().filter(|entry| entry.is_dir) {
        if entry.name.ends_with(DELETE_SUFFIX) {
            doomed.push(path.join(&entry.name));
        } else if let Some(partition) = parse_folder(&entry.name) {
            partitions.push(partition);
        }
    }
    // Without its checkpoint a directory is read from the beginning, as after a crash.
    let clean = (marked && positions.is_some()) || partitions.is_empty();
    let unsynced_lost = !marked && !same_boot && !partitions.is_empty();
    let losses_untold = entries.iter().any(|entry| entry.name == LOSSES_UNTOLD);
    if !clean && !losses_untold {
        let untold = path.join(LOSSES_UNTOLD);
        replace_file(disk, &untold, checked_text::encode::<&str>(&[]).as_bytes())?;
    }
    if marked {
        disk.remove_file(&path.join(CLEAN_STOP))?;
    }
    replace_file(disk, &path.join(BOOT), checked_text::encode(&[&boot_id]).as_bytes())?;
    disk.sync_dir(path)?;
    let dir = LogDir::new(path, id, mark, context);
    dir.look_for_room(disk);
    let open = OpenDir { dir, _lock: lock };
    Ok(FoundDir { open, clean, unsynced_lost, losses_untold, positions, partitions, doomed })
}

/// The partition a folder is named after.
pub(super) fn parse_folder(name: &str) -> Option<TopicPartition> {
    if name.ends_with(STRAY_SUFFIX) {
        return None;
    }
    let (topic, partition) = name.rsplit_once('-')?;
    let digits = !topic.is_empty() && partition.bytes().all(|b| b.is_ascii_digit());
    Some(TopicPartition::new(topic, partition.parse().ok().filter(|_| digits)?))
}

type Opened = std::io::Result<Option<(Arc<Log>, RecoveryReport)>>;

/// Opens a directory's partitions.
fn open_partitions(
    context: &Arc<Context>,
    config: &LogSetConfig,
    found: &FoundDir,
) -> Vec<(TopicPartition, Opened)> {
    let opened: Mutex<Vec<(TopicPartition, Opened)>> = Mutex::default();
    let progress = OpeningProgress::new(context, found);
    each_in_parallel(&found.partitions, config.recovery_threads, |partition| {
        let result = open_partition(context, config, found, partition);
        let mut opened = opened.lock();
        opened.push((partition.clone(), result));
        progress.tell(opened.len());
    });
    opened.into_inner()
}

/// Sorts what was opened from what was not.
fn take_opened(
    found: &FoundDir,
    opened: Vec<(TopicPartition, Opened)>,
    started: &mut Started,
    report: &mut StartReport,
) {
    for (partition, result) in opened {
        match result {
            Ok(None) => {}
            Ok(Some((log, recovered))) => {
                report.scanned_bytes += recovered.scanned_bytes;
                report.cut_bytes += recovered.cut_bytes;
                let damaged = recovered.damaged.into_iter().map(|r| (partition.clone(), r));
                report.damaged.extend(damaged);
                started.logs.insert(partition, log);
            }
            Err(error) => {
                tracing::error!(%partition, %error, "partition cannot be opened");
                let positions = found.positions.as_ref().and_then(|all| all.get(&partition));
                if let Some(positions) = positions {
                    found.open.dir.keep(partition.clone(), *positions, error.to_string());
                }
                let cause = format!("it could not be opened at start: {error}");
                let topic_id = positions.map(|positions| positions.topic_id);
                let directory = found.open.dir.path.clone();
                let absent = Absent { topic_id, cause, directory };
                started.absent.insert(partition.clone(), absent);
                report.failed.push((partition, error.to_string()));
            }
        }
    }
}

/// Calls `each` for every item on some threads, each taking the next one that is left.
pub(super) fn each_in_parallel<T: Sync>(items: &[T], threads: usize, each: impl Fn(&T) + Sync) {
    if threads.min(items.len()) < 2 {
        return items.iter().for_each(each);
    }
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(items.len()) {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    each(item);
                }
            });
        }
    });
}

/// `None` for a folder that a crash left before anything was in it.
fn open_partition(
    context: &Arc<Context>,
    config: &LogSetConfig,
    found: &FoundDir,
    partition: &TopicPartition,
) -> Opened {
    let disk = &*context.disk;
    let dir = &found.open.dir;
    let folder = dir.path.join(partition.to_string());
    let positions = found.positions.as_ref().and_then(|all| all.get(partition)).copied();
    let path = folder.join(partition_metadata::FILE_NAME);
    let stored = disk::read_file(disk, &path, SMALL_FILE_MAX).ok();
    let stored = stored.and_then(|bytes| partition_metadata::decode(&bytes));
    // The checkpoint first: it has a checksum, Kafka's text has none, and a line of another topic
    // goes before a folder of the name is made (`LogDir::forget_other_topic`).
    let Some(topic_id) = positions.map(|positions| positions.topic_id).or(stored) else {
        return without_id(disk, &folder, partition);
    };
    if stored != Some(topic_id) {
        replace_file(disk, &path, partition_metadata::encode(topic_id).as_bytes())?;
    }
    // No line in a checkpoint that can be read: the partition is younger than the checkpoint.
    let positions = positions.filter(|positions| positions.topic_id == topic_id);
    let young = found.positions.is_some().then_some(Positions::new(topic_id));
    let source = Source {
        folder,
        partition: partition.clone(),
        topic_id,
        positions: positions.or(young),
        clean: found.clean,
        unsynced_lost: found.unsynced_lost,
        losses_untold: found.losses_untold,
        existed: true,
        config: &config.log,
    };
    recovery::open(context, dir, &source).map(Some)
}

/// A folder whose topic id is unknown is never served: an empty one goes, another is kept.
fn without_id(disk: &dyn Disk, folder: &Path, partition: &TopicPartition) -> Opened {
    let has_bytes = |entry: &disk::Entry| entry.name.ends_with(".log") && entry.len > 0;
    if disk.list(folder)?.iter().any(has_bytes) {
        let name = format!("{partition}.{}{STRAY_SUFFIX}", uuid::Uuid::new_v4().simple());
        disk.rename(folder, &folder.with_file_name(name))?;
        let text = "its topic id is unknown (partition.metadata is missing); it was set aside";
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, text));
    }
    disk.remove_dir_all(folder)?;
    Ok(None)
}

/// Others know what this start found lost.
pub(super) fn losses_told(inner: &Inner) {
    for open in &inner.dirs {
        let path = open.dir.path.join(LOSSES_UNTOLD);
        let disk = &*inner.context.disk;
        if let Err(error) = disk.remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            // The next start trusts no log then: its replicas catch up once more.
            tracing::warn!(path = %path.display(), %error, "cannot be removed");
        }
    }
}

/// Closes all logs and marks the directories where everything could be written.
pub(super) fn close(inner: &Inner) {
    let logs: Vec<Arc<Log>> = inner.logs.read().values().cloned().collect();
    for open in &inner.dirs {
        let logs: Vec<_> = logs.iter().filter(|log| Arc::ptr_eq(&log.dir, &open.dir)).collect();
        // A partition that could not be opened is still as the crash left it.
        let unclean = AtomicBool::new(open.dir.failed().is_some() || open.dir.has_kept());
        each_in_parallel(&logs, inner.config.recovery_threads, |log| {
            if log.offline().is_some() || !log.close() {
                unclean.store(true, Ordering::Relaxed);
            }
        });
        let clean = !unclean.into_inner();
        let marked = open.dir.write_checkpoint(&*inner.context.disk).and_then(|()| match clean {
            true => {
                let text = checked_text::encode::<&str>(&[]);
                let path = open.dir.path.join(CLEAN_STOP);
                replace_file(&*inner.context.disk, &path, text.as_bytes())
            }
            false => Ok(()),
        });
        if let Err(error) = marked {
            tracing::warn!(dir = %open.dir.path.display(), %error, "the stop is not marked clean");
        }
    }
}

impl Log {
    /// What the checkpoint says of the log.
    pub(super) fn positions(&self) -> Positions {
        // The recovery point last: the log start never passes it.
        let (log_start, high_watermark) = (self.log_start(), self.high_watermark());
        // Behind it recovery reads the batches' epochs, too.
        let recovery_point = self.flushed().min(self.epochs_saved_below()).max(log_start);
        Positions { topic_id: self.topic_id, log_start, recovery_point, high_watermark }
    }

    /// Whether what the last clean stop wrote still says all there is.
    fn is_untouched(&self) -> bool {
        let name = file_name(self.log_end(), "window");
        let opened = self.context.disk.open(&self.folder().join(name), OpenMode::Existing);
        self.opened_clean && self.appended_bytes() == 0 && opened.is_ok()
    }

    /// Flushes, writes the producers down and ends the log. True when all of it was written.
    fn close(&self) -> bool {
        let flushed = self.flush().is_ok() && self.save_epochs().is_ok();
        if self.offline().is_some() {
            // What memory holds of it is not what a start should go by.
            return false;
        }
        let log_end = self.log_end();
        if flushed && self.is_untouched() {
            self.end("the broker is stopping");
            return log_end == self.log_end();
        }
        let (snapshot, window) = self.encode_producers();
        self.end("the broker is stopping");
        if let Err(error) = self.give_back_room() {
            tracing::warn!(partition = %self.partition, %error, "room on the disk not given back");
        }
        let indexes = self.segments.active().map_or(Ok(()), |active| active.close_indexes());
        let written = indexes.and_then(|()| self.write_snapshot(log_end, &snapshot, &window));
        if let Err(error) = &written {
            tracing::warn!(partition = %self.partition, %error, "the log is not closed cleanly");
        }
        // An append that slipped in meanwhile is recovered by the next start.
        flushed && written.is_ok() && log_end == self.log_end() && self.flushed() == log_end
    }
}
