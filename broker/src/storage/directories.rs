//! What log directories know about themselves and each other, so that a disk that is missing is
//! missed: a partition that was on it is offline, and not made anew, empty, on another one.
//!
//! Two files of each directory, both `checked_text`:
//!
//! - `directory`: its id, and the broker it belongs to (`id broker`). Written once; never two
//!   directories of one id.
//! - `homes`, where a broker has several directories: all of them (`dir id path`), and which one
//!   each partition is in (`log topic partition topic-id id`). Every directory has a copy, written
//!   before a partition is made.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use proto::{TopicId, TopicPartition};
use uuid::Uuid;

use super::checked_text;
use super::disk::{self, Disk, replace_file};

const DIRECTORY: &str = "directory";
const HOMES: &str = "homes";
/// An empty file that a person makes in a new disk's directory: what was on the old one is gone.
const REPLACED: &str = "replaced";
const DIRECTORY_MAX: u64 = 4096;
const HOMES_MAX: u64 = 256 << 20;

/// Who a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: Uuid,
    pub(super) broker: i32,
}

impl Identity {
    /// A directory's; `None` where it has none yet.
    pub(super) fn read(disk: &dyn Disk, folder: &Path) -> io::Result<Option<Self>> {
        let bytes = match disk::read_file(disk, &folder.join(DIRECTORY), DIRECTORY_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes?,
        };
        let decode = || {
            let lines = checked_text::decode(&bytes)?;
            let (id, broker) = lines.first()?.split_once(' ')?;
            Some(Self { id: id.parse().ok()?, broker: broker.parse().ok()? })
        };
        let decoded = decode();
        if decoded.is_none() && !has_file(disk, folder, HOMES) {
            // The only directory of its broker: nobody asks for its id, and it gets another one.
            tracing::warn!(dir = %folder.display(), "the file `directory` was damaged, written anew");
            return Ok(None);
        }
        decoded.map(Some).ok_or_else(|| {
            let text = "the file `directory`, which says whose it is, cannot be read";
            io::Error::new(io::ErrorKind::InvalidData, text)
        })
    }

    /// Gives a directory its identity.
    pub(super) fn write(self, disk: &dyn Disk, folder: &Path) -> io::Result<()> {
        let text = checked_text::encode(&[format!("{} {}", self.id, self.broker)]);
        replace_file(disk, &folder.join(DIRECTORY), text.as_bytes())
    }
}

fn has_file(disk: &dyn Disk, folder: &Path, name: &str) -> bool {
    disk.list(folder).is_ok_and(|entries| entries.iter().any(|entry| entry.name == name))
}

/// Which partition is in which directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Homes {
    /// Grows with each change: a directory that was away knows older things than the others.
    pub(super) generation: u64,
    pub(super) dirs: BTreeMap<Uuid, PathBuf>,
    pub(super) logs: HashMap<TopicPartition, (TopicId, Uuid)>,
}

impl Homes {
    /// What a directory knows; nothing where it cannot be read.
    pub(super) fn read(disk: &dyn Disk, folder: &Path) -> Self {
        let bytes = disk::read_file(disk, &folder.join(HOMES), HOMES_MAX);
        bytes.ok().and_then(|bytes| Self::decode(&bytes)).unwrap_or_default()
    }

    /// Has a directory know it.
    pub(super) fn write(&self, disk: &dyn Disk, folder: &Path) -> io::Result<()> {
        replace_file(disk, &folder.join(HOMES), self.encode().as_bytes())
    }

    /// What several directories know: of a partition, what was written last.
    pub(super) fn merge(mut all: Vec<Self>) -> Self {
        all.sort_by_key(|homes| homes.generation);
        let mut merged = Self::default();
        for homes in all {
            merged.generation = homes.generation;
            merged.dirs.extend(homes.dirs);
            merged.logs.extend(homes.logs);
        }
        merged
    }

    /// A directory that was at this path when it was last seen, is none of those `present`, and
    /// has partitions.
    pub(super) fn lost_at(&self, path: &Path, present: &HashSet<Uuid>) -> Option<Uuid> {
        let was_here =
            |id: &&Uuid| !present.contains(id) && self.logs.values().any(|(_, home)| home == *id);
        let at = |(_, known): &(&Uuid, &PathBuf)| known.as_path() == path;
        self.dirs.iter().filter(at).map(|(id, _)| id).find(was_here).copied()
    }

    /// Forgets a directory and what was in it.
    pub(super) fn forget(&mut self, gone: Uuid) {
        self.dirs.remove(&gone);
        self.logs.retain(|_, (_, home)| *home != gone);
    }

    fn encode(&self) -> String {
        let dirs = self.dirs.iter().map(|(id, path)| {
            format!("dir {id} {}", path.display().to_string().replace('\n', "?"))
        });
        let mut logs: Vec<_> = self.logs.iter().collect();
        logs.sort_unstable_by_key(|(partition, _)| *partition);
        let logs = logs.into_iter().map(|(name, (topic_id, home))| {
            format!("log {} {} {topic_id} {home}", name.topic, name.partition)
        });
        let generation = std::iter::once(format!("generation {}", self.generation));
        checked_text::encode(&generation.chain(dirs).chain(logs).collect::<Vec<_>>())
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut homes = Self::default();
        for line in checked_text::decode(bytes)? {
            let (kind, rest) = line.split_once(' ')?;
            if kind == "generation" {
                homes.generation = rest.parse().ok()?;
                continue;
            }
            if kind == "dir" {
                let (id, path) = rest.split_once(' ')?;
                homes.dirs.insert(id.parse().ok()?, PathBuf::from(path));
                continue;
            }
            let mut fields = rest.split(' ');
            let partition = TopicPartition::new(fields.next()?, fields.next()?.parse().ok()?);
            let home = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            homes.logs.insert(partition, home);
        }
        Some(homes)
    }
}

/// Whether a person has said that the disk at this path is a new one; said once.
pub(super) fn take_replaced_mark(disk: &dyn Disk, folder: &Path) -> bool {
    disk.remove_file(&folder.join(REPLACED)).is_ok()
}

/// What to say of a directory that is not the one it was.
pub(super) fn not_the_one(lost: Uuid) -> String {
    format!(
        "it is empty, but directory {lost} with partitions was here before: its disk is not \
         mounted? Where the disk was replaced on purpose, make an empty file named `{REPLACED}` in \
         it: its partitions are made anew then"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_read_as_they_were_written_and_a_lost_directory_is_known_by_its_path() {
        let [a, b] = [Uuid::from_u128(1), Uuid::from_u128(2)];
        let mut homes = Homes::default();
        homes.dirs.insert(a, PathBuf::from("/data/a b"));
        homes.dirs.insert(b, PathBuf::from("/data/b"));
        homes.logs.insert(TopicPartition::new("t", 3), (TopicId::random(), a));
        assert_eq!(Homes::decode(homes.encode().as_bytes()).unwrap(), homes);
        let nobody = HashSet::new();
        assert_eq!(homes.lost_at(Path::new("/data/a b"), &nobody), Some(a));
        assert_eq!(homes.lost_at(Path::new("/data/a b"), &HashSet::from([a])), None);
        assert_eq!(homes.lost_at(Path::new("/data/b"), &nobody), None, "nothing was in it");
        homes.forget(a);
        assert!(homes.logs.is_empty() && homes.dirs.len() == 1);
    }
}
