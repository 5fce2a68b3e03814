//! Steps over the batches of a segment by their headers, reading the file a few KiB at a time.
//!
//! Checks what a header alone can show. CRCs are `recovery`'s business.

use std::io;

use proto::Offset;
use proto::record::{BatchError, BatchHeader, HEADER_LEN};

use super::disk::DiskFile;
use super::segment::Tip;
use super::wait::Wait;

/// Bytes read at a time: about an index interval, so that a look-up is one read.
const BLOCK: usize = 4096;

/// Why a walk stopped early.
#[derive(Debug, thiserror::Error)]
pub(super) enum WalkError {
    /// There is no batch at this position.
    #[error("at byte {position}: {cause}")]
    Bad {
        /// Where it should begin.
        position: u64,
        /// What is wrong with it.
        cause: BatchError,
    },
    /// The file could not be read, or not without waiting.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A place in a segment, at the beginning of a batch, going forward to `end`.
pub(super) struct HeaderWalk<'a> {
    file: &'a dyn DiskFile,
    wait: Wait,
    position: u64,
    end: u64,
    /// The offset the next batch must begin with, where that is known.
    expected: Option<Offset>,
    /// No batch may end after this offset.
    end_offset: Offset,
    block: Vec<u8>,
    block_at: u64,
    block_len: usize,
}

impl<'a> HeaderWalk<'a> {
    /// From `position`, a batch boundary, to `tip`. Batches must follow each other without a gap:
    /// the CRC does not cover the base offset, so an order that is broken tells of damage.
    pub(super) fn new(file: &'a dyn DiskFile, position: u64, tip: Tip, wait: Wait) -> Self {
        Self {
            file,
            wait,
            position,
            end: tip.size,
            expected: None,
            end_offset: tip.end_offset,
            block: Vec::new(),
            block_at: 0,
            block_len: 0,
        }
    }

    /// Says with which offset the next batch must begin.
    pub(super) fn expecting(mut self, offset: Offset) -> Self {
        self.expected = Some(offset);
        self
    }

    /// The batch here, and where it begins, without stepping over it.
    pub(super) fn peek(&mut self) -> Result<Option<(u64, BatchHeader)>, WalkError> {
        if self.position >= self.end {
            return Ok(None);
        }
        let position = self.position;
        let left = self.end - position;
        let header = BatchHeader::parse(self.bytes()?)
            .map_err(|cause| WalkError::Bad { position, cause })?;
        let (needed, base_offset) = (header.size_in_bytes(), header.base_offset);
        if needed as u64 > left {
            let cause = BatchError::Truncated { needed, available: left as usize };
            return Err(WalkError::Bad { position, cause });
        }
        let out_of_place = self.expected.is_some_and(|expected| expected != base_offset);
        if out_of_place || header.next_offset() > self.end_offset {
            let cause = BatchError::InvalidField { field: "base offset", value: base_offset.0 };
            return Err(WalkError::Bad { position, cause });
        }
        Ok(Some((position, header)))
    }

    /// The next batch and where it begins.
    pub(super) fn step(&mut self) -> Result<Option<(u64, BatchHeader)>, WalkError> {
        let next = self.peek()?;
        if let Some((_, header)) = &next {
            self.position += header.size_in_bytes() as u64;
            self.expected = Some(header.next_offset());
        }
        Ok(next)
    }

    /// Goes on at another place: where a batch of this base offset begins.
    pub(super) fn jump(&mut self, to: Tip) {
        self.position = to.size;
        self.expected = Some(to.end_offset);
    }

    /// Up to a header's bytes at the position.
    fn bytes(&mut self) -> io::Result<&[u8]> {
        let wanted = (self.end - self.position).min(HEADER_LEN as u64) as usize;
        let loaded = self.position >= self.block_at
            && self.position + wanted as u64 <= self.block_at + self.block_len as u64;
        if !loaded {
            let len = (self.end - self.position).min(BLOCK as u64) as usize;
            self.block.resize(BLOCK, 0);
            self.block_at = self.position;
            self.block_len = 0;
            self.block_len = self.wait.read(self.file, &mut self.block[..len], self.position)?;
        }
        let from = (self.position - self.block_at) as usize;
        Ok(&self.block[from..self.block_len.min(from + wanted)])
    }
}
