//! Who this broker is: `broker.json` in each of its log directories keeps the cluster, the id, and
//! the incarnations that have used the directory.
//!
//! An incarnation is one run of the process. The directory is locked by the running one, so every
//! other incarnation in the file is known to be dead, and its registration may be taken over.

use std::path::{Path, PathBuf};

use proto::BrokerId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::storage::disk::{Disk, read_file, replace_file};

const FILE_LEN_MAX: u64 = 64 << 10;
const FILE_NAME: &str = "broker.json";
/// Dead incarnations kept: more than can have been started within a session timeout.
const DEAD_MAX: usize = 64;

/// The file.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: u32,
    broker_id: i32,
    /// Absent until the broker has joined a cluster.
    cluster_id: Option<String>,
    /// Oldest first; the last one is the present or the last run.
    incarnations: Vec<Uuid>,
}

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Another broker's.
    #[error(
        "the log directory {directory} belongs to broker {found}, this is broker {asked}: give each \
         broker its own directory, or correct broker.id"
    )]
    OtherBroker {
        /// The directory.
        directory: String,
        /// Who used it.
        found: i32,
        /// Who wants it.
        asked: BrokerId,
    },
    /// Another cluster's.
    #[error(
        "the log directory {directory} belongs to cluster {found}, ZooKeeper says {asked}: check \
         zookeeper.connect, or give this broker an empty directory"
    )]
    OtherCluster {
        /// The directory.
        directory: String,
        /// The cluster it was used in.
        found: String,
        /// The cluster it is used in now.
        asked: String,
    },
    /// The disk.
    #[error("cannot read or write {FILE_NAME} in {directory}: {source}; check the directory")]
    Io {
        /// The directory.
        directory: String,
        /// What the disk says.
        source: std::io::Error,
    },
}

/// This run of this broker.
#[derive(Debug)]
pub struct Identity {
    /// Its number.
    pub id: BrokerId,
    /// This run.
    pub incarnation: Uuid,
    /// Earlier runs, all dead.
    pub dead: Vec<Uuid>,
    cluster_id: Option<String>,
    /// Each has the file, so that any of them may fail.
    directories: Vec<PathBuf>,
}

impl Identity {
    /// Begins a run in directories, which the caller has locked: makes a new incarnation and writes
    /// it down before it can be registered. What an earlier run wrote to any of them counts.
    pub fn begin(
        disk: &dyn Disk,
        directories: Vec<PathBuf>,
        id: BrokerId,
    ) -> Result<Self, IdentityError> {
        let mut dead: Vec<Uuid> = Vec::new();
        let mut cluster_id: Option<String> = None;
        for directory in &directories {
            let Some(record) = read(disk, directory)? else { continue };
            if record.broker_id != id.0 {
                return Err(IdentityError::OtherBroker {
                    directory: directory.display().to_string(),
                    found: record.broker_id,
                    asked: id,
                });
            }
            dead.extend(
                record
                    .incarnations
                    .iter()
                    .filter(|run| !dead.contains(run))
                    .copied()
                    .collect::<Vec<_>>(),
            );
            match (&cluster_id, record.cluster_id) {
                (Some(known), Some(found)) if *known != found => {
                    return Err(IdentityError::OtherCluster {
                        directory: directory.display().to_string(),
                        found,
                        asked: known.clone(),
                    });
                }
                (None, found) => cluster_id = found,
                _ => {}
            }
        }
        let incarnation = Uuid::new_v4();
        let identity = Self { id, incarnation, dead, cluster_id, directories };
        identity.write_down(disk)?;
        Ok(identity)
    }

    /// Checks that the registry is the one of the directories' cluster; the first one is noted.
    pub fn join(&mut self, disk: &dyn Disk, cluster_id: &str) -> Result<(), IdentityError> {
        match &self.cluster_id {
            Some(known) if known == cluster_id => Ok(()),
            Some(known) => Err(IdentityError::OtherCluster {
                directory: self
                    .directories
                    .first()
                    .map_or_else(String::new, |d| d.display().to_string()),
                found: known.clone(),
                asked: cluster_id.to_owned(),
            }),
            None => {
                self.cluster_id = Some(cluster_id.to_owned());
                self.write_down(disk)
            }
        }
    }

    /// Writes the file to every directory; an error where none of them takes it.
    fn write_down(&self, disk: &dyn Disk) -> Result<(), IdentityError> {
        let mut incarnations = self.dead.clone();
        incarnations.push(self.incarnation);
        let surplus = incarnations.len().saturating_sub(DEAD_MAX);
        incarnations.drain(..surplus);
        let record = Record {
            version: 1,
            broker_id: self.id.0,
            cluster_id: self.cluster_id.clone(),
            incarnations,
        };
        let mut outcome = Ok(());
        let mut written = false;
        for directory in &self.directories {
            match write(disk, directory, &record) {
                Ok(()) => written = true,
                Err(error) => {
                    tracing::error!(%error, "who this broker is was not written down");
                    outcome = Err(error);
                }
            }
        }
        if written { Ok(()) } else { outcome }
    }
}

fn read(disk: &dyn Disk, directory: &Path) -> Result<Option<Record>, IdentityError> {
    let io = |source| IdentityError::Io { directory: directory.display().to_string(), source };
    let bytes = match read_file(disk, &directory.join(FILE_NAME), FILE_LEN_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| io(error.into()))
}

fn write(disk: &dyn Disk, directory: &Path, record: &Record) -> Result<(), IdentityError> {
    let io = |source| IdentityError::Io { directory: directory.display().to_string(), source };
    let bytes = serde_json::to_vec_pretty(record).map_err(|error| io(error.into()))?;
    replace_file(disk, &directory.join(FILE_NAME), &bytes).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::disk::RealDisk;

    #[test]
    fn each_run_knows_the_runs_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk;
        let first = Identity::begin(&disk, vec![dir.path().to_owned()], BrokerId(1)).unwrap();
        let second = Identity::begin(&disk, vec![dir.path().to_owned()], BrokerId(1)).unwrap();
        assert!(first.dead.is_empty());
        assert_eq!(second.dead, [first.incarnation]);
        assert_ne!(second.incarnation, first.incarnation);
    }

    #[test]
    fn any_of_several_directories_may_be_missing_at_a_start() {
        let [a, b] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let paths = || [&a, &b].map(|dir| dir.path().to_owned());
        let mut first = Identity::begin(&RealDisk, paths().into(), BrokerId(1)).unwrap();
        first.join(&RealDisk, "a").unwrap();
        let second = Identity::begin(&RealDisk, vec![paths()[1].clone()], BrokerId(1)).unwrap();
        let mut third = Identity::begin(&RealDisk, paths().into(), BrokerId(1)).unwrap();
        assert_eq!(third.dead, [first.incarnation, second.incarnation]);
        let error = third.join(&RealDisk, "b").unwrap_err();
        assert!(matches!(error, IdentityError::OtherCluster { .. }));
    }

    #[test]
    fn a_directory_of_another_broker_or_cluster_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk;
        let mut first = Identity::begin(&disk, vec![dir.path().to_owned()], BrokerId(1)).unwrap();
        first.join(&disk, "a").unwrap();
        let error = Identity::begin(&disk, vec![dir.path().to_owned()], BrokerId(2)).unwrap_err();
        assert!(matches!(error, IdentityError::OtherBroker { found: 1, .. }));
        let mut second = Identity::begin(&disk, vec![dir.path().to_owned()], BrokerId(1)).unwrap();
        assert!(matches!(second.join(&disk, "b"), Err(IdentityError::OtherCluster { .. })));
        second.join(&disk, "a").unwrap();
    }
}
