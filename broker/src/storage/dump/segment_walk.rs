//! Goes through a `.log` file batch by batch and tells good bytes from bad ones.
//!
//! A batch is good when its header makes sense, all of it is there, its CRC holds and it begins
//! with the offset after the batch before it: the CRC does not cover the base offset, so that a
//! batch out of place tells of damage. Behind bad bytes the walk goes on at the next good batch; a
//! batch that claims offsets which the one after it has too is a liar (a flipped base offset, a
//! piece of another segment) and belongs to the damage.

use std::io;

use proto::Offset;
use proto::record::{BatchError, BatchHeader, HEADER_LEN};

use crate::storage::disk::{DiskFile, read_fully};
use crate::storage::scan::Scan;

/// What is known about a segment besides its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The first batch begins here; `None` where the file's name does not tell.
    pub(super) base: Option<Offset>,
    /// The next segment begins here; `None` for the last one, which may still grow.
    pub(super) next_base: Option<Offset>,
    /// Bytes of the file when the walk began.
    pub(super) len: u64,
    /// Whether CRCs are checked.
    pub(super) check_crc: bool,
    /// Whether offsets may be missing between batches (logs that Kafka compacted).
    pub(super) allow_gaps: bool,
}

/// Bytes that are no good batch. Offsets `[from, to)` cannot be read; `to` is `None` where nothing
/// good follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) position: u64,
    pub(super) end_position: u64,
    pub(super) from: Option<Offset>,
    pub(super) to: Option<Offset>,
    pub(super) cause: String,
    /// What a write looks like that has not ended, or was torn at the end of the file.
    pub(super) incomplete: bool,
}

/// A part of the file.
#[derive(Debug)]
pub(super) enum Part {
    Batch { position: u64, header: BatchHeader },
    Bad(Bad),
}

/// A place in a segment.
pub(super) struct SegmentWalk<'a> {
    file: &'a dyn DiskFile,
    scan: Scan<'a>,
    bounds: Bounds,
    position: u64,
    expected: Option<Offset>,
}

impl<'a> SegmentWalk<'a> {
    /// At the beginning of `file`.
    pub(super) fn new(file: &'a dyn DiskFile, bounds: Bounds) -> Self {
        let scan = Scan::new(file, bounds.len);
        Self { file, scan, bounds, position: 0, expected: bounds.base }
    }

    /// Where the walk is.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The offset after the last good batch.
    pub(super) fn expected(&self) -> Option<Offset> {
        self.expected
    }

    /// The next part; `None` at the end.
    pub(super) fn step(&mut self) -> io::Result<Option<Part>> {
        if self.position >= self.bounds.len {
            return Ok(None);
        }
        let position = self.position;
        let cause = match self.batch_at(position)? {
            Ok(header) => match self.out_of_place(&header) {
                None => {
                    self.position += header.size_in_bytes() as u64;
                    self.expected = Some(header.next_offset());
                    return Ok(Some(Part::Batch { position, header }));
                }
                Some(cause) => Cause { text: cause, incomplete: false },
            },
            Err(cause) => cause,
        };
        let next = self.next_good(position)?;
        let from = self.expected;
        let to = next.as_ref().map(|(_, header)| header.base_offset);
        self.position = next.as_ref().map_or(self.bounds.len, |(position, _)| *position);
        self.expected = to.or(from);
        Ok(Some(Part::Bad(Bad {
            position,
            end_position: self.position,
            from: from.or(to),
            to,
            cause: cause.text,
            incomplete: to.is_none() && cause.incomplete,
        })))
    }

    /// The batch at a position, or why there is none.
    fn batch_at(&mut self, position: u64) -> io::Result<Result<BatchHeader, Cause>> {
        let left = self.bounds.len - position;
        let mut raw = [0; HEADER_LEN];
        let raw = &mut raw[..left.min(HEADER_LEN as u64) as usize];
        let there = read_fully(self.file, raw, position)?;
        let header = match BatchHeader::parse(&raw[..there]) {
            Ok(header) => header,
            Err(_) if raw.iter().all(|&byte| byte == 0) && self.is_zero(position)? => {
                let text = "nothing but zeros to the end of the file".to_owned();
                return Ok(Err(Cause { text, incomplete: true }));
            }
            Err(error) => {
                let incomplete = matches!(error, BatchError::Truncated { .. });
                return Ok(Err(Cause { text: error.to_string(), incomplete }));
            }
        };
        let needed = header.size_in_bytes();
        if needed as u64 > left {
            let available = usize::try_from(left).unwrap_or(usize::MAX);
            let text = BatchError::Truncated { needed, available }.to_string();
            let incomplete = self.out_of_place(&header).is_none();
            return Ok(Err(Cause { text, incomplete }));
        }
        if self.bounds.check_crc && self.scan.batch_at(position)?.is_none() {
            let text = format!("the CRC-32C of a batch of {needed} bytes does not hold");
            return Ok(Err(Cause { text, incomplete: false }));
        }
        Ok(Ok(header))
    }

    /// Why a batch that is whole cannot be the next one.
    fn out_of_place(&self, header: &BatchHeader) -> Option<String> {
        let (base, next) = (header.base_offset, header.next_offset());
        match self.expected {
            Some(expected) if base < expected || (base > expected && !self.bounds.allow_gaps) => {
                return Some(format!(
                    "a batch of offset {base} is where offset {expected} should be: its base \
                     offset is damaged, or it is of another file"
                ));
            }
            _ => {}
        }
        (!self.fits(header)).then(|| {
            format!("a batch of offsets {base} to {} reaches beyond its segment", next.0 - 1)
        })
    }

    /// Whether a segment can have such a batch at all.
    fn fits(&self, header: &BatchHeader) -> bool {
        let next = header.next_offset();
        let base = self.bounds.base.unwrap_or(header.base_offset);
        next.0.saturating_sub(base.0) <= i64::from(i32::MAX) + 1
            && self.bounds.next_base.is_none_or(|next_base| next <= next_base)
    }

    /// Where good batches go on behind bad bytes.
    fn next_good(&mut self, position: u64) -> io::Result<Option<(u64, BatchHeader)>> {
        let least = self.expected.unwrap_or(Offset::ZERO);
        let mut from = position;
        while let Some((at, header)) = self.scan.next_good(from, least)? {
            if self.fits(&header) && !self.is_contradicted(at, &header)? {
                return Ok(Some((at, header)));
            }
            from = at;
        }
        Ok(None)
    }

    /// Whether the good batch after this one says that this one is not where it claims to be, and
    /// is itself borne out by the one that follows it.
    fn is_contradicted(&mut self, at: u64, header: &BatchHeader) -> io::Result<bool> {
        let after = at + header.size_in_bytes() as u64;
        let adjacent = self.scan.batch_at(after)?;
        let strict = adjacent.is_some() && !self.bounds.allow_gaps;
        let next = match adjacent {
            Some(next) => Some((after, next)),
            None => self.scan.next_good(after.saturating_sub(1), Offset::ZERO)?,
        };
        let Some((at, next)) = next else { return Ok(false) };
        let agrees = match strict {
            true => next.base_offset == header.next_offset(),
            false => next.base_offset >= header.next_offset(),
        };
        if agrees || !self.fits(&next) {
            return Ok(false);
        }
        let witness = self.scan.batch_at(at + next.size_in_bytes() as u64)?;
        Ok(witness.is_some_and(|witness| witness.base_offset == next.next_offset()))
    }

    /// Whether there is nothing but zeros from a position on.
    fn is_zero(&self, mut position: u64) -> io::Result<bool> {
        let mut block = vec![0; 1 << 16];
        while position < self.bounds.len {
            let len = (self.bounds.len - position).min(block.len() as u64) as usize;
            let read = read_fully(self.file, &mut block[..len], position)?;
            if read == 0 {
                return Ok(true);
            }
            if block[..read].iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
            position += read as u64;
        }
        Ok(true)
    }
}

/// Why there is no good batch.
struct Cause {
    text: String,
    incomplete: bool,
}
