//! A segment in the making: the compacted copy of some segments, under names that mean nothing to
//! anybody yet.

use proto::Offset;
use proto::record::{Batch, BatchHeader};

use super::cleaning::Cleaning;
use super::error::CompactionError;
use super::swap;
use crate::storage::disk::{DiskFile, write_fully};
use crate::storage::log::Log;
use crate::storage::segment::{Segment, Tip};

/// Bytes gathered for one write.
const BLOCK: usize = 1 << 20;

/// Batches are appended in order; readers see nothing of it before the swap. Whoever gives it up
/// calls [`swap::discard`].
pub(super) struct Output<'a> {
    cleaning: &'a Cleaning,
    segment: Segment,
    tip: Tip,
    index_interval: u32,
    buffer: Vec<u8>,
}

impl<'a> Output<'a> {
    /// Begins a copy that is to take the place of a segment of this base offset.
    pub(super) fn create(
        log: &Log,
        cleaning: &'a Cleaning,
        base_offset: Offset,
    ) -> Result<Self, CompactionError> {
        // The folder is not renamed meanwhile, so that no other log's folder is written to.
        let _replacing = log.compaction.replacing.lock();
        log.check_online()?;
        let segment = Segment::create_as(&log.context, &log.folder(), base_offset, swap::CLEANED)
            .map_err(CompactionError::write("making a file for the compacted copy"))?;
        Ok(Self {
            cleaning,
            segment,
            tip: Tip { end_offset: base_offset, size: 0 },
            index_interval: log.config().index_interval_bytes,
            buffer: Vec::new(),
        })
    }

    /// Bytes so far.
    pub(super) fn size(&self) -> u64 {
        self.tip.size
    }

    /// Where the copy begins.
    pub(super) fn base_offset(&self) -> Offset {
        self.segment.base_offset
    }

    /// Appends a batch that follows the one before.
    pub(super) fn push(
        &mut self,
        header: &BatchHeader,
        bytes: &[u8],
    ) -> Result<(), CompactionError> {
        debug_assert_eq!(header.base_offset, self.tip.end_offset, "offsets stay dense");
        debug_assert!(Batch::parse(bytes).is_ok_and(|batch| batch.header() == header));
        if self.tip.size + bytes.len() as u64 > u64::from(u32::MAX) {
            let cause = std::io::Error::other("the copy of a segment outgrows 4 GiB");
            return Err(CompactionError::Write { what: "compacting", cause });
        }
        if self.buffer.len() + bytes.len() > BLOCK {
            self.write_out()?;
        }
        self.segment.note(self.tip.size, header, self.index_interval);
        self.buffer.extend_from_slice(bytes);
        self.tip.size += bytes.len() as u64;
        self.tip.end_offset = header.next_offset();
        Ok(())
    }

    fn write_out(&mut self) -> Result<(), CompactionError> {
        let len = self.buffer.len() as u64;
        self.cleaning.take_written(self.buffer.len())?;
        let position = self.tip.size - len;
        write_fully(&*self.segment.file, &self.buffer, position)
            .map_err(CompactionError::write("writing the compacted copy"))?;
        self.segment.file.start_write_back(position, len);
        self.buffer.clear();
        Ok(())
    }

    /// Makes the copy whole and durable: a segment but for its names.
    pub(super) fn finish(
        mut self,
        first_append_ms: Option<i64>,
    ) -> Result<Segment, CompactionError> {
        self.write_out()?;
        let synced = self.segment.file.sync().and_then(|()| self.segment.close_indexes());
        synced.map_err(CompactionError::write("syncing the compacted copy"))?;
        let newest = self.segment.newest();
        self.segment.resume(self.tip, newest, first_append_ms.unwrap_or(i64::MAX));
        Ok(self.segment)
    }
}
