//! One of the folders in `log.dirs`: its flusher, its logs, their checkpoint, and whether it still
//! works.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use proto::{TopicId, TopicPartition};
use uuid::Uuid;

use super::compaction::CleanerCheckpoint;
use super::context::Context;
use super::directories::Identity;
use super::disk::{self, Disk, replace_file};
use super::flush::Flusher;
use super::log::Log;
use super::positions_checkpoint::{self, Positions};
use super::room::{FreeMark, Room};
use super::troubles::Troubles;

/// A log directory. Once failed it stays so until the broker starts anew.
#[derive(Debug)]
pub(super) struct LogDir {
    pub(super) path: PathBuf,
    pub(super) id: Uuid,
    pub(super) flusher: Flusher,
    /// Up to where its logs are clean.
    pub(super) cleaned: CleanerCheckpoint,
    pub(super) room: Room,
    failed: OnceLock<String>,
    troubles: Arc<Troubles>,
    logs: Mutex<Vec<Weak<Log>>>,
    /// Lines of partitions that could not be opened, and why: kept for the day they can.
    kept: Mutex<Vec<(TopicPartition, Positions, String)>>,
    /// The checkpoint as last written.
    checkpoint: Mutex<String>,
}

impl LogDir {
    pub(super) fn new(path: &Path, id: Uuid, mark: FreeMark, context: &Context) -> Arc<Self> {
        Arc::new(Self {
            path: path.to_owned(),
            id,
            flusher: Flusher::new(context.clock.clone()),
            cleaned: CleanerCheckpoint::default(),
            room: Room::new(mark),
            failed: OnceLock::new(),
            troubles: Arc::clone(&context.troubles),
            logs: Mutex::default(),
            kept: Mutex::default(),
            checkpoint: Mutex::default(),
        })
    }

    /// Keeps the line of a partition that could not be opened, and why.
    pub(super) fn keep(&self, partition: TopicPartition, positions: Positions, cause: String) {
        self.kept.lock().push((partition, positions, cause));
    }

    /// Partitions that could not be opened, with what was known of them.
    pub(super) fn kept(&self) -> Vec<(TopicPartition, Positions, String)> {
        self.kept.lock().clone()
    }

    /// Whether a partition could not be opened.
    pub(super) fn has_kept(&self) -> bool {
        !self.kept.lock().is_empty()
    }

    /// Lets a log go, which is deleted, set aside or replaced.
    pub(super) fn release(&self, log: &Log) {
        self.logs.lock().retain(|other| !Weak::ptr_eq(other, &log.me));
    }

    /// Writes down what the logs have flushed and committed, if that says something new.
    pub(super) fn write_checkpoint(&self, disk: &dyn Disk) -> io::Result<()> {
        if !self.verify(disk) {
            return Ok(());
        }
        // Held from reading the positions to writing them: an older text never follows a newer.
        let mut written = self.checkpoint.lock();
        let logs: Vec<_> = self.logs.lock().iter().filter_map(Weak::upgrade).collect();
        let kept = self.kept.lock();
        let mut all: Vec<_> = kept.iter().map(|(of, line, _)| (of.clone(), *line)).collect();
        drop(kept);
        let positions: Vec<Positions> = logs.iter().map(|log| log.positions()).collect();
        let of_logs = logs.iter().zip(&positions);
        all.extend(of_logs.map(|(log, positions)| (log.partition().clone(), *positions)));
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let text = positions_checkpoint::encode(&all);
        if *written != text {
            replace_file(disk, &self.path.join(positions_checkpoint::FILE_NAME), text.as_bytes())?;
            *written = text;
        }
        for (log, positions) in logs.iter().zip(&positions) {
            log.start_stored(positions.log_start);
        }
        Ok(())
    }

    /// Writes the checkpoint down; where that fails, the directory may be at its end.
    pub(super) fn write_checkpoint_or_fail(&self, disk: &dyn Disk) {
        if let Err(error) = self.write_checkpoint(disk) {
            tracing::warn!(dir = %self.path.display(), %error, "checkpoint not written");
            self.judge("writing its checkpoint", &error);
        }
    }

    /// Makes sure that the checkpoint on disk has no line of an earlier topic of this name: the id
    /// in it counts more than the one in the folder.
    pub(super) fn forget_other_topic(
        &self,
        disk: &dyn Disk,
        partition: &TopicPartition,
        topic_id: TopicId,
    ) -> io::Result<()> {
        let begin = format!("\n{} {} ", partition.topic, partition.partition);
        let other = {
            let checkpoint = self.checkpoint.lock();
            let line = checkpoint.split_once(&begin);
            line.is_some_and(|(_, line)| !line.starts_with(&topic_id.to_string()))
        };
        if other { self.write_checkpoint(disk) } else { Ok(()) }
    }

    /// Takes a log in, so that it goes offline with the directory.
    pub(super) fn adopt(&self, log: &Log) {
        let mut logs = self.logs.lock();
        logs.retain(|log| log.strong_count() > 0);
        logs.push(log.me.clone());
    }

    /// Asks how much room there is. True when there is too little and it was not known before.
    pub(super) fn look_for_room(&self, disk: &dyn Disk) -> bool {
        let Ok(space) = disk.space(&self.path) else { return false };
        let changed = self.room.update(space);
        let (dir, free, mark) = (self.path.display(), space.free, self.room.mark());
        match changed {
            Some(true) => tracing::error!(
                %dir, free, mark,
                "the disk is almost full: produce is refused until a quarter more than the mark is \
                 free; retention, reads and administration go on"
            ),
            Some(false) => tracing::warn!(%dir, free, mark, "there is room again, produce goes on"),
            None => {}
        }
        changed == Some(true)
    }

    /// Looks whether the directory is still the one it was: takes it offline where its disk was
    /// unmounted, replaced, or cannot be read. False when it is offline.
    pub(super) fn verify(&self, disk: &dyn Disk) -> bool {
        if self.failed().is_some() {
            return false;
        }
        match Identity::read(disk, &self.path) {
            Ok(Some(identity)) if identity.id == self.id => {}
            Ok(_) => self.fail("it is not the directory it was: its disk was unmounted?"),
            Err(error) => self.judge("reading its file `directory`", &error),
        }
        self.failed().is_none()
    }

    /// Takes the directory offline for an error that is not going to pass.
    pub(super) fn judge(&self, what: &str, error: &io::Error) {
        if !disk::is_full(error) && !disk::is_out_of_files(error) {
            self.fail(&format!("{what} failed: {error}"));
        }
    }

    /// Why it failed, if it did.
    pub(super) fn failed(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }

    /// Takes the directory offline, with all logs in it. Callers hold no lock of a log.
    pub(super) fn fail(&self, cause: &str) {
        if self.failed.set(cause.to_owned()).is_err() {
            return;
        }
        tracing::error!(dir = %self.path.display(), cause, "log directory goes offline");
        let logs: Vec<_> = self.logs.lock().iter().filter_map(Weak::upgrade).collect();
        for log in logs {
            log.fail(&format!("its log directory failed: {cause}"));
        }
        self.troubles.tell();
    }
}
