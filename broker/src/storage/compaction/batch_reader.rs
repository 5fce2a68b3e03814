//! Reads a segment batch by batch, whole and with CRCs checked, in large sequential reads.
//!
//! What it cannot vouch for it does not give: a bad batch ends the cleaning before it, never the
//! records behind it.

use proto::Offset;
use proto::record::{Batch, BatchHeader, HEADER_LEN};

use super::cleaning::Cleaning;
use super::error::{BadBatch, CompactionError};
use crate::storage::disk::{DiskFile, read_fully};
use crate::storage::segment::{Segment, Tip};

/// Bytes read at a time.
const BLOCK: usize = 1 << 20;

/// A place in a segment, going forward to its tip.
pub(super) struct BatchReader<'a> {
    file: &'a dyn DiskFile,
    segment: Offset,
    cleaning: &'a Cleaning,
    tip: Tip,
    position: u64,
    /// The offset the next batch must begin with.
    expected: Offset,
    buffer: Vec<u8>,
    buffer_at: u64,
}

impl<'a> BatchReader<'a> {
    /// From `start`, a batch boundary, to the tip of the moment.
    pub(super) fn new(segment: &'a Segment, start: Tip, cleaning: &'a Cleaning) -> Self {
        Self {
            file: &*segment.file,
            segment: segment.base_offset,
            cleaning,
            tip: segment.tip(),
            position: start.size,
            expected: start.end_offset,
            buffer: Vec::new(),
            buffer_at: 0,
        }
    }

    /// The next batch.
    pub(super) fn next(&mut self) -> Result<Option<Batch<'_>>, CompactionError> {
        if self.position >= self.tip.size {
            return match self.expected == self.tip.end_offset {
                true => Ok(None),
                false => Err(self.bad()),
            };
        }
        let position = self.position;
        let left = self.tip.size - position;
        self.load(HEADER_LEN)?;
        let Ok(header) = BatchHeader::parse(self.loaded()) else { return Err(self.bad()) };
        let size = header.size_in_bytes();
        let in_place = header.base_offset == self.expected
            && header.next_offset() <= self.tip.end_offset
            && size as u64 <= left;
        if !in_place {
            return Err(self.bad());
        }
        self.load(size)?;
        if Batch::parse(self.loaded()).is_err() {
            // Once more, from the disk: a bit may have flipped on the way.
            self.buffer.clear();
            self.load(size)?;
        }
        let bad = self.bad();
        self.position += size as u64;
        self.expected = header.next_offset();
        let from = (position - self.buffer_at) as usize;
        Batch::parse(&self.buffer[from..]).map(Some).map_err(|_| bad)
    }

    /// The bytes in memory from the position on.
    fn loaded(&self) -> &[u8] {
        let from = self.position.saturating_sub(self.buffer_at) as usize;
        self.buffer.get(from..).unwrap_or_default()
    }

    /// Has up to `len` bytes at the position in memory; fewer only at the segment's end.
    fn load(&mut self, len: usize) -> Result<(), CompactionError> {
        let within = self.position >= self.buffer_at
            && self.position + len as u64 <= self.buffer_at + self.buffer.len() as u64;
        if within {
            return Ok(());
        }
        let wanted = (self.tip.size - self.position).min(len.max(BLOCK) as u64) as usize;
        self.cleaning.take_read(wanted)?;
        self.buffer.resize(wanted, 0);
        self.buffer_at = self.position;
        let read = read_fully(self.file, &mut self.buffer, self.position)
            .map_err(|cause| CompactionError::Read { cause })?;
        self.buffer.truncate(read);
        Ok(())
    }

    fn bad(&self) -> CompactionError {
        CompactionError::Damaged(BadBatch {
            segment: self.segment,
            position: self.position,
            offset: self.expected,
        })
    }
}
