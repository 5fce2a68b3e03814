//! `cleaner-offset-checkpoint`: up to where each log of a directory is clean. Kafka's text format:
//!
//! ```text
//! 0                  version
//! 2                  entries
//! orders 0 1200      topic, partition, first dirty offset
//! orders 1 40
//! ```
//!
//! An entry that is lost costs compacting what is compact already. One that says more than is true
//! would cost more (a tombstone could go while older records of its key stay), so whoever cuts a
//! log lowers its entry first, and a partition that is made or deleted loses its.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use parking_lot::Mutex;
use proto::{Offset, TopicPartition};

use crate::storage::disk::{Disk, read_file, replace_file};

/// The file's name.
const FILE_NAME: &str = "cleaner-offset-checkpoint";
const FILE_BYTES_MAX: u64 = 64 << 20;

type Entries = BTreeMap<TopicPartition, Offset>;

/// The entries of one directory, in memory and on the disk. Read when first asked for.
#[derive(Debug, Default)]
pub(in crate::storage) struct CleanerCheckpoint {
    entries: Mutex<Option<Entries>>,
}

impl CleanerCheckpoint {
    /// The first dirty offset of a log, if it was ever compacted.
    pub(in crate::storage) fn get(
        &self,
        disk: &dyn Disk,
        dir: &Path,
        partition: &TopicPartition,
    ) -> Option<Offset> {
        let mut entries = self.entries.lock();
        entries.get_or_insert_with(|| load(disk, dir)).get(partition).copied()
    }

    /// Notes durably up to where a log is clean.
    pub(super) fn advance(
        &self,
        disk: &dyn Disk,
        dir: &Path,
        partition: &TopicPartition,
        offset: Offset,
    ) -> io::Result<()> {
        self.change(disk, dir, |entries| entries.insert(partition.clone(), offset) != Some(offset))
    }

    /// Notes durably that nothing from `offset` on is clean.
    pub(in crate::storage) fn lower(
        &self,
        disk: &dyn Disk,
        dir: &Path,
        partition: &TopicPartition,
        offset: Offset,
    ) -> io::Result<()> {
        self.change(disk, dir, |entries| match entries.get_mut(partition) {
            Some(entry) if *entry > offset => {
                *entry = offset;
                true
            }
            _ => false,
        })
    }

    /// Forgets a log durably: what has its name from now on is another one.
    pub(in crate::storage) fn forget(
        &self,
        disk: &dyn Disk,
        dir: &Path,
        partition: &TopicPartition,
    ) -> io::Result<()> {
        self.change(disk, dir, |entries| entries.remove(partition).is_some())
    }

    /// Changes the entries; they are written when `change` says so.
    fn change(
        &self,
        disk: &dyn Disk,
        dir: &Path,
        change: impl FnOnce(&mut Entries) -> bool,
    ) -> io::Result<()> {
        let mut known = self.entries.lock();
        let entries = known.get_or_insert_with(|| load(disk, dir));
        if !change(entries) {
            return Ok(());
        }
        let written = replace_file(disk, &dir.join(FILE_NAME), encode(entries).as_bytes());
        if written.is_err() {
            // The file is read again; it may be either one.
            *known = None;
        }
        written
    }
}

fn load(disk: &dyn Disk, dir: &Path) -> Entries {
    let path = dir.join(FILE_NAME);
    let bytes = match read_file(disk, &path, FILE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Entries::new(),
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "logs are compacted from their start");
            return Entries::new();
        }
    };
    decode(&bytes).unwrap_or_else(|| {
        tracing::warn!(file = %path.display(), "damaged file: logs are compacted from their start");
        Entries::new()
    })
}

fn encode(entries: &Entries) -> String {
    let mut text = format!("0\n{}\n", entries.len());
    for (TopicPartition { topic, partition }, offset) in entries {
        text.push_str(&format!("{topic} {partition} {offset}\n"));
    }
    text
}

/// `None` when version, count or a line are wrong.
fn decode(bytes: &[u8]) -> Option<Entries> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.lines();
    if lines.next()? != "0" {
        return None;
    }
    let count: usize = lines.next()?.parse().ok()?;
    let entries: Entries = lines.map(decode_line).collect::<Option<_>>()?;
    (entries.len() == count).then_some(entries)
}

fn decode_line(line: &str) -> Option<(TopicPartition, Offset)> {
    let mut fields = line.split(' ');
    let partition = TopicPartition::new(fields.next()?, fields.next()?.parse().ok()?);
    let offset = fields.next()?.parse().ok().filter(|&offset| offset >= 0)?;
    fields.next().is_none().then_some((partition, Offset(offset)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafkas_text_is_read_and_written_and_anything_else_is_refused() {
        let text = "0\n2\norders 0 1200\norders 1 40\n";
        let entries = decode(text.as_bytes()).unwrap();
        assert_eq!(entries[&TopicPartition::new("orders", 1)], Offset(40));
        assert_eq!(encode(&entries), text);
        assert_eq!(decode(b"0\n0\n").unwrap(), Entries::new());
        for bad in [
            "",
            "1\n0\n",
            "0\n",
            "0\n1\n",
            "0\n2\na 0 1\n",
            "0\n1\na 0 -1\n",
            "0\n1\na 0 1 2\n",
            "0\n1\na 0\n",
            "0\n1\na x 1\n",
            "0\n2\na 0 1\na 0 1\n",
        ] {
            assert_eq!(decode(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(decode(b"0\n1\n\xff 0 1\n"), None);
    }
}
