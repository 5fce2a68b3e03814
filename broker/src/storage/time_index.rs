//! `<base>.timeindex`: from a time to an offset, an entry beside each offset index entry.
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0..8 | timestamp | largest timestamp in the segment up to here, milliseconds |
//! | 8..12 | relative offset | of the record that has it, minus the segment's base offset |
//!
//! Kafka's format. Timestamps grow strictly from entry to entry, so every record of a later
//! timestamp lies behind the entry's offset.

use std::io;
use std::sync::Arc;

use proto::Offset;

use super::index_file::IndexFile;
use super::pooled_file::PooledFile;
use super::wait::Wait;

const ENTRY_LEN: usize = 12;

/// The newest record up to some place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimeEntry {
    /// Its timestamp.
    pub(super) timestamp: i64,
    /// Its offset, or the last offset of its batch.
    pub(super) offset: Offset,
}

/// The time index of one segment.
#[derive(Debug)]
pub(super) struct TimeIndex {
    base_offset: Offset,
    entries: IndexFile<ENTRY_LEN>,
}

impl TimeIndex {
    /// Over an open file.
    pub(super) fn open(file: Arc<PooledFile>, base_offset: Offset) -> io::Result<Self> {
        Ok(Self { base_offset, entries: IndexFile::open(file)? })
    }

    /// Adds an entry; its timestamp must be later than the last entry's.
    pub(super) fn push(&self, entry: TimeEntry) {
        let Ok(relative) = u32::try_from(entry.offset.0 - self.base_offset.0) else { return };
        let mut bytes = [0; ENTRY_LEN];
        bytes[..8].copy_from_slice(&entry.timestamp.to_be_bytes());
        bytes[8..].copy_from_slice(&relative.to_be_bytes());
        self.entries.push(bytes);
    }

    /// The last entry earlier than `timestamp`: what is looked for lies behind its offset.
    pub(super) fn before(&self, timestamp: i64) -> io::Result<Option<TimeEntry>> {
        let after = self
            .entries
            .partition_point(Wait::Allowed, |e| self.decode(e).timestamp < timestamp)?;
        let Some(number) = after.checked_sub(1) else { return Ok(None) };
        Ok(self.entries.get(number, Wait::Allowed)?.map(|e| self.decode(&e)))
    }

    /// The last entry.
    pub(super) fn last(&self) -> io::Result<Option<TimeEntry>> {
        Ok(self.entries.last()?.map(|e| self.decode(&e)))
    }

    /// Whether timestamps and offsets grow from entry to entry.
    pub(super) fn is_in_order(&self) -> io::Result<bool> {
        self.entries.is_sorted(|a, b| {
            let (a, b) = (self.decode(a), self.decode(b));
            a.timestamp < b.timestamp && a.offset <= b.offset
        })
    }

    /// Drops entries of `offset` and later.
    pub(super) fn truncate_to(&self, offset: Offset) -> io::Result<()> {
        let keep =
            self.entries.partition_point(Wait::Allowed, |e| self.decode(e).offset < offset)?;
        self.entries.truncate(keep)
    }

    /// Writes out and syncs.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.entries.sync()
    }

    /// The file.
    pub(super) fn file(&self) -> &PooledFile {
        self.entries.file()
    }

    /// The file is not opened any more.
    pub(super) fn retire(&self) {
        self.entries.retire();
    }

    /// Writes out.
    pub(super) fn write_out(&self) -> io::Result<()> {
        self.entries.write_out()
    }

    fn decode(&self, bytes: &[u8; ENTRY_LEN]) -> TimeEntry {
        let (timestamp, relative) = bytes.split_at(8);
        let timestamp = timestamp.try_into().map(i64::from_be_bytes).unwrap_or_default();
        let relative = relative.try_into().map(u32::from_be_bytes).unwrap_or_default();
        TimeEntry { timestamp, offset: self.base_offset.plus(relative.into()) }
    }
}
