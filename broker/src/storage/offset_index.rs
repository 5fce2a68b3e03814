//! `<base>.index`: from an offset to a place in the segment, an entry every few KiB of log.
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0..4 | relative offset | last offset of a batch, minus the segment's base offset |
//! | 4..8 | position | where that batch begins in the `.log` file |
//!
//! Kafka's format. Both fields grow from entry to entry; the log may be scanned from any entry.

use std::io;
use std::sync::Arc;

use proto::Offset;

use super::index_file::IndexFile;
use super::pooled_file::PooledFile;
use super::wait::Wait;

const ENTRY_LEN: usize = 8;

/// A batch the index points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IndexEntry {
    /// Last offset of the batch, inclusive.
    pub(super) last_offset: Offset,
    /// Where the batch begins.
    pub(super) position: u64,
}

/// The offset index of one segment.
#[derive(Debug)]
pub(super) struct OffsetIndex {
    base_offset: Offset,
    entries: IndexFile<ENTRY_LEN>,
}

impl OffsetIndex {
    /// Over an open file.
    pub(super) fn open(file: Arc<PooledFile>, base_offset: Offset) -> io::Result<Self> {
        Ok(Self { base_offset, entries: IndexFile::open(file)? })
    }

    /// Adds an entry; both fields must be beyond the last entry's and fit their 32 bits.
    pub(super) fn push(&self, entry: IndexEntry) {
        let relative = u32::try_from(entry.last_offset.0 - self.base_offset.0);
        let (Ok(relative), Ok(position)) = (relative, u32::try_from(entry.position)) else {
            return;
        };
        let mut bytes = [0; ENTRY_LEN];
        bytes[..4].copy_from_slice(&relative.to_be_bytes());
        bytes[4..].copy_from_slice(&position.to_be_bytes());
        self.entries.push(bytes);
    }

    /// The last batch known to end at or before `offset`, where a scan for it may start.
    pub(super) fn floor_offset(
        &self,
        offset: Offset,
        wait: Wait,
    ) -> io::Result<Option<IndexEntry>> {
        let after = self.entries.partition_point(wait, |e| self.decode(e).last_offset <= offset)?;
        self.before(after, wait)
    }

    /// The last indexed batch that begins at or before `position`.
    pub(super) fn floor_position(
        &self,
        position: u64,
        wait: Wait,
    ) -> io::Result<Option<IndexEntry>> {
        let after = self.entries.partition_point(wait, |e| self.decode(e).position <= position)?;
        self.before(after, wait)
    }

    /// The last entry.
    pub(super) fn last(&self) -> io::Result<Option<IndexEntry>> {
        Ok(self.entries.last()?.map(|e| self.decode(&e)))
    }

    /// Whether offsets and positions grow from entry to entry.
    pub(super) fn is_in_order(&self) -> io::Result<bool> {
        self.entries.is_sorted(|a, b| {
            let (a, b) = (self.decode(a), self.decode(b));
            a.last_offset < b.last_offset && a.position < b.position
        })
    }

    /// Drops entries at or after `position`.
    pub(super) fn truncate_to(&self, position: u64) -> io::Result<()> {
        let keep =
            self.entries.partition_point(Wait::Allowed, |e| self.decode(e).position < position)?;
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

    fn before(&self, number: u64, wait: Wait) -> io::Result<Option<IndexEntry>> {
        let Some(number) = number.checked_sub(1) else { return Ok(None) };
        Ok(self.entries.get(number, wait)?.map(|e| self.decode(&e)))
    }

    fn decode(&self, bytes: &[u8; ENTRY_LEN]) -> IndexEntry {
        let [a, b, c, d, e, f, g, h] = *bytes;
        IndexEntry {
            last_offset: self.base_offset.plus(u32::from_be_bytes([a, b, c, d]).into()),
            position: u32::from_be_bytes([e, f, g, h]).into(),
        }
    }
}
