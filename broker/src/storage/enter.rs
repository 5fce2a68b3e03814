//! Entering log directories at a start: locked, known by their id, and compared with what they know
//! of each other, before anything in them is opened or changed.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use proto::TopicPartition;
use uuid::Uuid;

use super::config::LogSetConfig;
use super::context::Context;
use super::directories::{Homes, Identity, not_the_one, take_replaced_mark};
use super::disk::Disk;
use super::error::OpenError;
use super::log_set::{Absent, lock_dir};

/// A directory that may be used.
pub(super) struct Entered {
    pub(super) path: PathBuf,
    pub(super) lock: Box<dyn Send + Sync>,
    pub(super) id: Uuid,
}

/// What entering the directories found.
#[derive(Default)]
pub(super) struct Entrance {
    pub(super) entered: Vec<Entered>,
    /// Directories that cannot be used, and why.
    pub(super) unusable: Vec<(PathBuf, String)>,
    pub(super) homes: Homes,
}

/// A directory whose identity is yet to be judged.
struct Found {
    path: PathBuf,
    lock: Box<dyn Send + Sync>,
    identity: Option<Identity>,
}

/// Enters every directory that can be used.
pub(super) fn enter(context: &Context, config: &LogSetConfig) -> Result<Entrance, OpenError> {
    let disk = &*context.disk;
    let mut entrance = Entrance::default();
    let mut found = Vec::new();
    for path in &config.dirs {
        match look(disk, path) {
            Ok(Some(directory)) => found.push(directory),
            Ok(None) => return Err(OpenError::Locked(path.clone())),
            Err(error) => entrance.refuse(path, error.to_string()),
        }
    }
    let mut homes = Vec::new();
    for directory in &found {
        let Some(Identity { broker, .. }) = directory.identity else { continue };
        if broker != config.broker_id {
            let (directory, asked) = (directory.path.clone(), config.broker_id);
            return Err(OpenError::OtherBroker { directory, found: broker, asked });
        }
        homes.push(Homes::read(disk, &directory.path));
    }
    entrance.homes = Homes::merge(homes);
    let mut present: HashSet<_> =
        found.iter().filter_map(|directory| Some(directory.identity?.id)).collect();
    for directory in found {
        entrance.admit(disk, config.broker_id, directory, &mut present);
    }
    let Entrance { entered, homes, .. } = &mut entrance;
    homes.dirs.extend(entered.iter().map(|directory| (directory.id, directory.path.clone())));
    Ok(entrance)
}

/// `None` when another process has it.
fn look(disk: &dyn Disk, path: &Path) -> io::Result<Option<Found>> {
    disk.create_dir_all(path)?;
    let Some(lock) = lock_dir(disk, path)? else { return Ok(None) };
    let identity = Identity::read(disk, path)?;
    Ok(Some(Found { path: path.to_owned(), lock, identity }))
}

impl Entrance {
    fn refuse(&mut self, path: &Path, cause: String) {
        tracing::error!(
            dir = %path.display(), cause,
            "log directory cannot be used; its partitions are offline"
        );
        self.unusable.push((path.to_owned(), cause));
    }

    fn admit(
        &mut self,
        disk: &dyn Disk,
        broker: i32,
        directory: Found,
        present: &mut HashSet<Uuid>,
    ) {
        let Found { path, lock, identity } = directory;
        if let Some(Identity { id, .. }) = identity {
            match self.entered.iter().find(|other| other.id == id) {
                None => self.entered.push(Entered { path, lock, id }),
                Some(other) => {
                    let cause = format!("it is the same directory as {}", other.path.display());
                    self.refuse(&path, cause);
                }
            }
            return;
        }
        if let Some(lost) = self.homes.lost_at(&path, present) {
            if !take_replaced_mark(disk, &path) {
                return self.refuse(&path, not_the_one(lost));
            }
            tracing::warn!(
                dir = %path.display(), directory = %lost,
                "the disk was replaced: the partitions of the old one are made anew"
            );
            self.homes.forget(lost);
        }
        let id = Uuid::new_v4();
        match (Identity { id, broker }).write(disk, &path) {
            Ok(()) => {
                present.insert(id);
                self.entered.push(Entered { path, lock, id });
            }
            Err(error) => self.refuse(&path, error.to_string()),
        }
    }

    /// Partitions in directories that are not in use. Where all that are configured are, the
    /// others were taken away on purpose.
    pub(super) fn absent(
        &mut self,
        used: impl Iterator<Item = Uuid>,
    ) -> HashMap<TopicPartition, Absent> {
        let used: HashSet<_> = used.collect();
        let mut absent = HashMap::new();
        let unused: Vec<_> =
            self.homes.dirs.keys().filter(|id| !used.contains(id)).copied().collect();
        for id in unused {
            let directory = self.homes.dirs[&id].clone();
            if self.unusable.is_empty() {
                let partitions = self.homes.logs.values().filter(|(_, home)| *home == id).count();
                tracing::warn!(
                    dir = %directory.display(), partitions,
                    "a directory is not in log.dirs any more: its partitions are made anew"
                );
                self.homes.forget(id);
                continue;
            }
            let why = self.unusable.iter().find(|(path, _)| *path == directory);
            let why = why.map_or("it is not in use", |(_, why)| why);
            let cause = format!("its log directory {} cannot be used: {why}", directory.display());
            let here = self.homes.logs.iter().filter(|(_, (_, home))| *home == id);
            absent.extend(here.map(|(partition, &(topic_id, _))| {
                let (topic_id, cause) = (Some(topic_id), cause.clone());
                (partition.clone(), Absent { topic_id, cause, directory: directory.clone() })
            }));
        }
        absent
    }
}

/// Partitions of which several directories have a folder: none of them is served, since nobody can
/// tell which one is right.
pub(super) fn found_twice<'a>(
    found: impl Iterator<Item = (&'a Path, &'a [TopicPartition])>,
) -> HashMap<TopicPartition, Absent> {
    let mut folders: HashMap<&TopicPartition, Vec<&Path>> = HashMap::new();
    for (directory, partitions) in found {
        for partition in partitions {
            folders.entry(partition).or_default().push(directory);
        }
    }
    let twice = folders.into_iter().filter(|(_, directories)| directories.len() > 1);
    twice
        .map(|(partition, directories)| {
            let shown: Vec<_> = directories.iter().map(|dir| dir.display().to_string()).collect();
            let cause = format!(
                "it is in several log directories ({}): move all but the right one away",
                shown.join(", ")
            );
            let directory = directories[0].to_owned();
            (partition.clone(), Absent { topic_id: None, cause, directory })
        })
        .collect()
}
