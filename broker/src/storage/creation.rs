//! Making the logs of new partitions, many at once: the folders are made by several threads, since
//! each waits for the disk, and what is written for all of a directory is written once.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use proto::{TopicId, TopicPartition};

use super::config::LogConfig;
use super::disk::{Disk, replace_file};
use super::error::LogSetError;
use super::log::Log;
use super::log_dir::LogDir;
use super::log_set::LogSet;
use super::partition_metadata;
use super::recovery::{self, Source};
use super::start::each_in_parallel;

/// Threads that make folders: they wait for the disk, which takes many small writes together.
const THREADS: usize = 8;

/// A partition whose log is to be there.
#[derive(Debug, Clone)]
pub struct NewLog {
    /// Which.
    pub partition: TopicPartition,
    /// Of its topic.
    pub topic_id: TopicId,
    /// Put in force also where the log is there.
    pub config: LogConfig,
}

/// Where a log is to be made.
struct Plan<'a> {
    /// In the order asked for.
    number: usize,
    new: &'a NewLog,
    dir: Arc<LogDir>,
}

type Created = Result<Arc<Log>, LogSetError>;

impl LogSet {
    /// The log of a partition, made in the directory with the fewest when it is not there. The
    /// settings are put in force either way.
    pub fn create(
        &self,
        partition: &TopicPartition,
        topic_id: TopicId,
        config: LogConfig,
    ) -> Result<Arc<Log>, LogSetError> {
        let new = [NewLog { partition: partition.clone(), topic_id, config }];
        self.create_all(&new).pop().unwrap_or(Err(LogSetError::NoDirectory))
    }

    /// The logs of many partitions, in order; see [`LogSet::create`]. What was made is durable after
    /// return.
    pub fn create_all(&self, new: &[NewLog]) -> Vec<Created> {
        let _changing = self.inner.changing.lock();
        let mut results: Vec<Option<Created>> = new.iter().map(|_| None).collect();
        let plans = self.plan(new, &mut results);
        self.note_homes(&plans);
        let made: Mutex<Vec<(usize, io::Result<Arc<Log>>)>> = Mutex::default();
        each_in_parallel(&plans, THREADS, |plan| {
            let log = self.make(plan);
            made.lock().push((plan.number, log));
        });
        let unsynced = self.sync_dirs(&plans);
        let mut logs = self.inner.logs.write();
        for (number, log) in made.into_inner() {
            let partition = new[number].partition.clone();
            let Some(plan) = plans.iter().find(|plan| plan.number == number) else { continue };
            let log = match unsynced.get(&plan.dir.path) {
                None => log,
                Some(error) => Err(io::Error::new(error.kind(), error.to_string())),
            };
            results[number] = Some(match log {
                Ok(log) => {
                    logs.insert(partition, Arc::clone(&log));
                    Ok(log)
                }
                Err(cause) => {
                    Err(LogSetError::Io { partition, what: "creating its folder", cause })
                }
            });
        }
        let asked_twice = |new: &NewLog| logs.get(&new.partition).cloned();
        let results = results.into_iter().zip(new);
        results
            .map(|(result, new)| {
                result.unwrap_or_else(|| asked_twice(new).ok_or(LogSetError::NoDirectory))
            })
            .collect()
    }

    /// Decides what is to be made, and where: in the directory with the fewest. The others have their
    /// results.
    fn plan<'a>(&self, new: &'a [NewLog], results: &mut [Option<Created>]) -> Vec<Plan<'a>> {
        let disk = &*self.inner.context.disk;
        let mut plans: Vec<Plan<'a>> = Vec::new();
        let mut planned: HashSet<&TopicPartition> = HashSet::new();
        let mut dirs: Option<Vec<(usize, Arc<LogDir>)>> = None;
        for (number, new) in new.iter().enumerate() {
            if !planned.insert(&new.partition) {
                continue;
            }
            results[number] = match self.existing(new) {
                Ok(Some(log)) => Some(Ok(log)),
                Err(error) => Some(Err(error)),
                Ok(None) => {
                    let dirs = dirs.get_or_insert_with(|| self.used_dirs(disk));
                    match dirs.iter_mut().min_by_key(|(used, _)| *used) {
                        None => Some(Err(LogSetError::NoDirectory)),
                        Some((used, dir)) => {
                            *used += 1;
                            plans.push(Plan { number, new, dir: Arc::clone(dir) });
                            None
                        }
                    }
                }
            };
        }
        plans
    }

    /// The log, if it is there; an error where none may be made.
    fn existing(&self, new: &NewLog) -> Result<Option<Arc<Log>>, LogSetError> {
        let NewLog { partition, topic_id, config } = new;
        if let Some(log) = self.get(partition) {
            self.check_id(&log, *topic_id)?;
            log.check_online()?;
            log.set_config(config.clone());
            return Ok(Some(log));
        }
        self.check_no_folder(partition)?;
        match self.absence(partition, *topic_id) {
            Some(cause) => Err(LogSetError::Absent { partition: partition.clone(), cause }),
            None => Ok(None),
        }
    }

    /// The directories that work, with how many logs each has.
    fn used_dirs(&self, disk: &dyn Disk) -> Vec<(usize, Arc<LogDir>)> {
        let logs = self.inner.logs.read();
        let used = |dir: &Arc<LogDir>| logs.values().filter(|l| Arc::ptr_eq(&l.dir, dir)).count();
        let usable = self.inner.dirs.iter().map(|open| &open.dir).filter(|dir| dir.verify(disk));
        usable.map(|dir| (used(dir), Arc::clone(dir))).collect()
    }

    /// Has every directory know where partitions are going to be. One that cannot be told fails.
    fn note_homes(&self, plans: &[Plan<'_>]) {
        if self.inner.config.dirs.len() < 2 || plans.is_empty() {
            return;
        }
        let mut homes = self.inner.homes.lock();
        for Plan { new, dir, .. } in plans {
            homes.logs.insert(new.partition.clone(), (new.topic_id, dir.id));
        }
        homes.generation += 1;
        for open in self.inner.dirs.iter().filter(|open| open.dir.failed().is_none()) {
            if let Err(error) = homes.write(&*self.inner.context.disk, &open.dir.path) {
                tracing::warn!(dir = %open.dir.path.display(), %error, "homes not written");
                open.dir.judge("writing its file `homes`", &error);
            }
        }
    }

    /// Makes a folder and an empty log in it; the folder's own name is not durable yet.
    fn make(&self, plan: &Plan<'_>) -> io::Result<Arc<Log>> {
        let Plan { new: NewLog { partition, topic_id, config }, dir, .. } = plan;
        let disk = &*self.inner.context.disk;
        let folder = dir.path.join(partition.to_string());
        dir.forget_other_topic(disk, partition, *topic_id)?;
        disk.create_dir_all(&folder)?;
        // Left by another topic of the same name.
        dir.cleaned.forget(disk, &dir.path, partition)?;
        let text = partition_metadata::encode(*topic_id);
        replace_file(disk, &folder.join(partition_metadata::FILE_NAME), text.as_bytes())?;
        let source = Source {
            folder,
            partition: partition.clone(),
            topic_id: *topic_id,
            positions: None,
            clean: true,
            unsynced_lost: false,
            losses_untold: false,
            existed: false,
            config,
        };
        recovery::open(&self.inner.context, dir, &source).map(|(log, _)| log)
    }

    /// Makes the names of the folders durable; gives the directories where that failed.
    fn sync_dirs(&self, plans: &[Plan<'_>]) -> HashMap<PathBuf, io::Error> {
        let mut failed = HashMap::new();
        let dirs: HashSet<&Path> = plans.iter().map(|plan| plan.dir.path.as_path()).collect();
        for dir in dirs {
            if let Err(error) = self.inner.context.disk.sync_dir(dir) {
                failed.insert(dir.to_owned(), error);
            }
        }
        failed
    }

    /// A folder with a log that is not in the set failed to open: nothing is put on top of it.
    fn check_no_folder(&self, partition: &TopicPartition) -> Result<(), LogSetError> {
        for open in &self.inner.dirs {
            let folder = open.dir.path.join(partition.to_string());
            let entries = self.inner.context.disk.list(&folder).unwrap_or_default();
            if entries.iter().any(|entry| entry.name.ends_with(".log") && entry.len > 0) {
                return Err(LogSetError::NotOpened { partition: partition.clone(), folder });
            }
        }
        Ok(())
    }

    /// Whether a log is of this topic.
    pub(super) fn check_id(&self, log: &Log, expected: TopicId) -> Result<(), LogSetError> {
        let found = log.topic_id();
        if found == expected {
            return Ok(());
        }
        Err(LogSetError::OtherTopic { partition: log.partition().clone(), found, expected })
    }
}
