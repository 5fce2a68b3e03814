//! Reads a segment batch by batch with CRCs checked, and finds where good batches go on behind
//! bad bytes. For disk threads: it waits, and reads everything.

use std::io;

use proto::Offset;
use proto::record::{BatchHeader, Crc32c, HEADER_LEN};

use super::disk::{DiskFile, read_fully};
use super::segment::Tip;

/// Bytes read at a time.
const BLOCK: usize = 1 << 20;
/// Headers that tell of more are garbage; bounds the work behind each.
const BATCH_MAX: usize = 256 << 20;
/// Where the CRC's range begins in a batch, and where the magic byte is.
const CRC_FROM: usize = 21;
const MAGIC_AT: usize = 16;

/// A window over a file that moves forward.
pub(super) struct Scan<'a> {
    file: &'a dyn DiskFile,
    end: u64,
    buffer: Vec<u8>,
    at: u64,
}

impl<'a> Scan<'a> {
    /// Over the file's bytes below `end`.
    pub(super) fn new(file: &'a dyn DiskFile, end: u64) -> Self {
        Self { file, end, buffer: Vec::new(), at: 0 }
    }

    /// Up to `len` bytes at `position`; fewer at the end.
    fn bytes(&mut self, position: u64, len: usize) -> io::Result<&[u8]> {
        let len = (self.end.saturating_sub(position)).min(len as u64) as usize;
        let loaded =
            position >= self.at && position + len as u64 <= self.at + self.buffer.len() as u64;
        if !loaded {
            let wanted = (self.end - position).min(len.max(BLOCK) as u64) as usize;
            self.buffer.clear();
            self.buffer.resize(wanted, 0);
            self.at = position;
            let read = read_fully(self.file, &mut self.buffer, position)?;
            self.buffer.truncate(read);
        }
        let from = (position - self.at) as usize;
        let to = self.buffer.len().min(from + len);
        Ok(&self.buffer[from..to])
    }

    /// The batch at `position` if it is whole and its CRC holds.
    pub(super) fn batch_at(&mut self, position: u64) -> io::Result<Option<BatchHeader>> {
        let left = self.end.saturating_sub(position);
        let Ok(header) = BatchHeader::parse(self.bytes(position, HEADER_LEN)?) else {
            return Ok(None);
        };
        let size = header.size_in_bytes();
        if size as u64 > left || size > BATCH_MAX {
            return Ok(None);
        }
        let mut crc = Crc32c::new();
        let mut done = CRC_FROM;
        while done < size {
            let piece = self.bytes(position + done as u64, (size - done).min(BLOCK))?;
            if piece.is_empty() {
                return Ok(None);
            }
            crc.update(piece);
            done += piece.len();
        }
        Ok((crc.finish() == header.crc).then_some(header))
    }

    /// The first place after `position` where a good batch of an offset at or above `offset`
    /// begins.
    pub(super) fn next_good(
        &mut self,
        position: u64,
        offset: Offset,
    ) -> io::Result<Option<(u64, BatchHeader)>> {
        let mut position = position + 1;
        while position + HEADER_LEN as u64 <= self.end {
            let block = self.bytes(position, BLOCK)?;
            let Some(last) = block.len().checked_sub(HEADER_LEN) else { return Ok(None) };
            let candidate = (0..=last).find(|&i| {
                block[i + MAGIC_AT] == proto::record::MAGIC as u8
                    && BatchHeader::parse(&block[i..]).is_ok_and(|h| h.base_offset >= offset)
            });
            let Some(i) = candidate else {
                position += last as u64 + 1;
                continue;
            };
            position += i as u64;
            if let Some(header) = self.batch_at(position)? {
                return Ok(Some((position, header)));
            }
            position += 1;
        }
        Ok(None)
    }
}

/// The first good batch behind bad bytes at `position`, as its base offset and place.
pub(super) fn next_good_batch(
    file: &dyn DiskFile,
    position: u64,
    end: u64,
    offset: Offset,
) -> io::Result<Option<Tip>> {
    let found = Scan::new(file, end).next_good(position, offset)?;
    Ok(found.map(|(size, header)| Tip { end_offset: header.base_offset, size }))
}
