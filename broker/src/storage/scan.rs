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
    /// Bytes that a search may still look at: many headers in a value may each tell of a batch that
    /// reaches to the end.
    work_left: u64,
}

impl<'a> Scan<'a> {
    /// Over the file's bytes below `end`.
    pub(super) fn new(file: &'a dyn DiskFile, end: u64) -> Self {
        Self { file, end, buffer: Vec::new(), at: 0, work_left: u64::MAX }
    }

    /// Up to `len` bytes at `position`; fewer at the end.
    fn bytes(&mut self, position: u64, len: usize) -> io::Result<&[u8]> {
        let len = (self.end.saturating_sub(position)).min(len as u64) as usize;
        if len == 0 {
            return Ok(&[]);
        }
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
        self.work_left = self.work_left.saturating_sub(size as u64);
        Ok(self.holds(position, &header)?.then_some(header))
    }

    /// Whether the CRC of a batch of this header holds for the bytes at `position`.
    pub(super) fn holds(&mut self, position: u64, header: &BatchHeader) -> io::Result<bool> {
        let size = header.size_in_bytes();
        let mut crc = Crc32c::new();
        let mut done = CRC_FROM;
        while done < size {
            let piece = self.bytes(position + done as u64, (size - done).min(BLOCK))?;
            if piece.is_empty() {
                return Ok(false);
            }
            crc.update(piece);
            done += piece.len();
        }
        Ok(crc.finish() == header.crc)
    }

    /// The first place after `position` where a whole batch of an offset at or above `offset`
    /// begins; nobody vouches that it is a batch of the log.
    pub(super) fn next_good(
        &mut self,
        position: u64,
        offset: Offset,
    ) -> io::Result<Option<(u64, BatchHeader)>> {
        let mut position = position + 1;
        while let Some(at) = self.next_header(position, |header| header.base_offset >= offset)? {
            if let Some(header) = self.batch_at(at)? {
                return Ok(Some((at, header)));
            }
            position = at + 1;
        }
        Ok(None)
    }

    /// The first place at or after `position` where a header that is `wanted` could be.
    fn next_header(
        &mut self,
        mut position: u64,
        wanted: impl Fn(&BatchHeader) -> bool,
    ) -> io::Result<Option<u64>> {
        while position + HEADER_LEN as u64 <= self.end {
            let block = self.bytes(position, BLOCK)?;
            let Some(last) = block.len().checked_sub(HEADER_LEN) else { break };
            let candidate = (0..=last).find(|&i| {
                block[i + MAGIC_AT] == proto::record::MAGIC as u8
                    && BatchHeader::parse(&block[i..]).is_ok_and(|header| wanted(&header))
            });
            match candidate {
                Some(i) => return Ok(Some(position + i as u64)),
                None => position += last as u64 + 1,
            }
        }
        Ok(None)
    }

    /// Where the log goes on behind bad bytes at `bad`, at or before the offset `until` that the
    /// segment should reach at least, and not beyond `limit` (both exclusive): the next batch of
    /// which all holds and that others vouch for, since its CRC covers neither its base offset nor
    /// that it is a batch of the log and not somebody's value.
    /// These vouch: the header of the bad batch, if the batch begins right where and with the
    /// offset that it tells; or the batches behind, if they follow each other to the end. Where
    /// nobody does (more damage ahead), two that follow each other are believed.
    pub(super) fn next_vouched(
        &mut self,
        bad: Tip,
        until: Offset,
        limit: Offset,
    ) -> io::Result<Option<Tip>> {
        if let Some(next) = self.told_by_header(bad, until)? {
            return Ok(next);
        }
        let wanted = |header: &BatchHeader| {
            (bad.end_offset..=until).contains(&header.base_offset) && header.next_offset() <= limit
        };
        let mut position = bad.size + 1;
        let mut second_best = None;
        self.work_left = 8 * (self.end - bad.size) + BATCH_MAX as u64;
        while self.work_left > 0
            && let Some(at) = self.next_header(position, wanted)?
        {
            if let Some(header) = self.batch_at(at)? {
                let found = Tip { end_offset: header.base_offset, size: at };
                match self.followers(at, &header, until, limit)? {
                    Followers::ToTheEnd => return Ok(Some(found)),
                    Followers::Some if second_best.is_none() => second_best = Some(found),
                    _ => {}
                }
            }
            position = at + 1;
        }
        Ok(second_best)
    }

    /// The batch behind the bad one, by the bad one's header; `Some(None)` where it was the last.
    fn told_by_header(&mut self, bad: Tip, until: Offset) -> io::Result<Option<Option<Tip>>> {
        let Ok(header) = BatchHeader::parse(self.bytes(bad.size, HEADER_LEN)?) else {
            return Ok(None);
        };
        if header.base_offset != bad.end_offset || header.next_offset() > until {
            return Ok(None);
        }
        let end = bad.size + header.size_in_bytes() as u64;
        if end == self.end && header.next_offset() == until {
            return Ok(Some(None));
        }
        let next = self.batch_at(end)?.filter(|next| next.base_offset == header.next_offset());
        Ok(next.map(|next| Some(Tip { end_offset: next.base_offset, size: end })))
    }

    /// What comes behind a good batch, by headers.
    fn followers(
        &mut self,
        position: u64,
        header: &BatchHeader,
        until: Offset,
        limit: Offset,
    ) -> io::Result<Followers> {
        let mut at = position + header.size_in_bytes() as u64;
        let mut offset = header.next_offset();
        let mut count = 0;
        while offset < until && self.work_left > 0 {
            self.work_left = self.work_left.saturating_sub(HEADER_LEN as u64);
            let Ok(next) = BatchHeader::parse(self.bytes(at, HEADER_LEN)?) else { break };
            if next.base_offset != offset || next.next_offset() > limit {
                break;
            }
            count += 1;
            at += next.size_in_bytes() as u64;
            offset = next.next_offset();
        }
        Ok(match count {
            _ if offset >= until && at <= self.end => Followers::ToTheEnd,
            0 => Followers::None,
            _ => Followers::Some,
        })
    }
}

/// How far batches follow a batch.
enum Followers {
    ToTheEnd,
    Some,
    None,
}
