//! Batches that lie in a list of chunks, as a network stream brings them: read, checked and divided
//! without being put together first.

use bytes::{Bytes, BytesMut};

use super::batch_header::{ATTRIBUTES_AT, BatchError, BatchHeader, HEADER_LEN, Outline};
use super::crc::{Crc32c, crc32c};
use crate::{LeaderEpoch, Offset};

/// Checks that `chunks` are whole batches with valid CRCs and nothing else, and returns their headers
/// in order.
///
/// The headers take no more than about twice the memory of the chunks.
pub fn check_chunks(chunks: &[Bytes]) -> Result<Vec<BatchHeader>, BatchError> {
    let mut headers = Vec::with_capacity(1);
    let mut cursor = Cursor::new(chunks);
    while cursor.left > 0 {
        let header = cursor.header()?;
        let size = header.size_in_bytes();
        let computed = match cursor.front().get(..size) {
            Some(whole) => crc32c(&whole[ATTRIBUTES_AT..]),
            None => cursor.crc(size),
        };
        if computed != header.crc {
            return Err(BatchError::CrcMismatch { stored: header.crc, computed });
        }
        cursor.advance(size);
        headers.push(header);
    }
    Ok(headers)
}

/// One batch in the chunks it came in.
#[derive(Debug, Clone)]
pub struct ChunkedBatch {
    /// Decoded.
    pub header: BatchHeader,
    /// The whole batch, header included.
    pub chunks: Vec<Bytes>,
}

impl ChunkedBatch {
    /// The batch in one piece: without copying where it came in one.
    pub fn into_bytes(mut self) -> Bytes {
        if self.chunks.len() == 1 {
            return self.chunks.swap_remove(0);
        }
        let mut whole = BytesMut::with_capacity(self.header.size_in_bytes());
        self.chunks.iter().for_each(|chunk| whole.extend_from_slice(chunk));
        whole.freeze()
    }
}

/// Divides a chunk list into its batches, without copying and without checking CRCs; ends after the
/// first error.
#[derive(Debug)]
pub struct ChunkedBatches {
    chunks: std::collections::VecDeque<Bytes>,
}

impl ChunkedBatches {
    /// Over chunks that begin with a batch.
    pub fn new(chunks: impl IntoIterator<Item = Bytes>) -> Self {
        Self { chunks: chunks.into_iter().filter(|chunk| !chunk.is_empty()).collect() }
    }

    /// What is left of the chunk that the next batch begins in; empty at the end.
    #[inline]
    pub fn front(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| chunk)
    }

    /// Takes the first `len` bytes of [`ChunkedBatches::front`] off, or all where there are fewer: a batch
    /// that was found to lie there.
    #[inline]
    pub fn split_front(&mut self, len: usize) -> Bytes {
        let Some(front) = self.chunks.front_mut() else { return Bytes::new() };
        if len < front.len() {
            return front.split_to(len);
        }
        self.chunks.pop_front().unwrap_or_default()
    }

    /// The next batch in one piece, with its header: a slice of its chunk where it lies in one, as
    /// nearly all do.
    #[inline]
    pub fn next_whole(&mut self) -> Option<Result<(BatchHeader, Bytes), BatchError>> {
        let front = self.chunks.front()?;
        if let Ok(header) = BatchHeader::parse(front)
            && let size = header.size_in_bytes()
            && size <= front.len()
        {
            return Some(Ok((header, self.split_front(size))));
        }
        self.next_gathered()
    }

    #[inline(never)]
    fn next_gathered(&mut self) -> Option<Result<(BatchHeader, Bytes), BatchError>> {
        let batch = self.next()?;
        Some(batch.map(|batch| (batch.header.clone(), batch.into_bytes())))
    }

    fn take(&mut self) -> Result<ChunkedBatch, BatchError> {
        let header = Cursor::new(self.chunks.make_contiguous()).header()?;
        let mut needed = header.size_in_bytes();
        let mut chunks = Vec::with_capacity(1);
        while needed > 0 {
            let Some(mut chunk) = self.chunks.pop_front() else { break };
            let part = chunk.split_to(needed.min(chunk.len()));
            needed -= part.len();
            chunks.push(part);
            if !chunk.is_empty() {
                self.chunks.push_front(chunk);
            }
        }
        Ok(ChunkedBatch { header, chunks })
    }
}

impl Iterator for ChunkedBatches {
    type Item = Result<ChunkedBatch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.chunks.is_empty() {
            return None;
        }
        let batch = self.take();
        if batch.is_err() {
            self.chunks.clear();
        }
        Some(batch)
    }
}

/// Leader epoch and base offset of each batch in a chunk list, in order, up to the first that cannot be
/// a batch. All other checks are left to who reads the batches; nothing is allocated.
pub fn leader_epochs(chunks: &[Bytes]) -> impl Iterator<Item = (LeaderEpoch, Offset)> {
    let mut cursor = Cursor::new(chunks);
    std::iter::from_fn(move || {
        let outline = cursor.outline()?;
        cursor.advance(outline.size_in_bytes);
        Some((outline.leader_epoch, outline.base_offset))
    })
}

/// A place in a chunk list; `left` bytes lie behind it.
struct Cursor<'a> {
    chunks: &'a [Bytes],
    /// Position in the first chunk.
    at: usize,
    left: usize,
}

impl<'a> Cursor<'a> {
    fn new(chunks: &'a [Bytes]) -> Self {
        Self { chunks, at: 0, left: chunks.iter().map(Bytes::len).sum() }
    }

    /// What is left of the first chunk.
    #[inline]
    fn front(&self) -> &'a [u8] {
        self.chunks.first().map_or(&[], |chunk| &chunk[self.at..])
    }

    /// The next `len` bytes in pieces.
    fn pieces(&self, mut len: usize) -> impl Iterator<Item = &'a [u8]> {
        let rest = self.chunks.iter().skip(1).map(|chunk| &chunk[..]);
        std::iter::once(self.front()).chain(rest).map_while(move |piece| {
            let piece = &piece[..len.min(piece.len())];
            len -= piece.len();
            (len > 0 || !piece.is_empty()).then_some(piece)
        })
    }

    /// The outline of the batch here, where all of it is there.
    #[inline]
    fn outline(&self) -> Option<Outline> {
        let outline = Outline::peek(self.front()).or_else(|| {
            let (raw, filled) = self.gathered_header();
            Outline::peek(&raw[..filled])
        })?;
        (outline.size_in_bytes <= self.left).then_some(outline)
    }

    /// The header's bytes out of the pieces they lie in, and how many there are.
    #[cold]
    fn gathered_header(&self) -> ([u8; HEADER_LEN], usize) {
        let mut raw = [0; HEADER_LEN];
        let mut filled = 0;
        for piece in self.pieces(HEADER_LEN) {
            raw[filled..filled + piece.len()].copy_from_slice(piece);
            filled += piece.len();
        }
        (raw, filled)
    }

    /// Decodes the header here and checks that the whole batch is there.
    fn header(&self) -> Result<BatchHeader, BatchError> {
        let available = self.left;
        let header = if self.front().len() >= HEADER_LEN {
            BatchHeader::parse(self.front())?
        } else {
            let (raw, filled) = self.gathered_header();
            BatchHeader::parse(&raw[..filled])?
        };
        let needed = header.size_in_bytes();
        if needed > available {
            return Err(BatchError::Truncated { needed, available });
        }
        Ok(header)
    }

    /// The CRC of the batch of `size` bytes that begins here.
    fn crc(&self, size: usize) -> u32 {
        let mut crc = Crc32c::new();
        let mut skip = ATTRIBUTES_AT;
        for piece in self.pieces(size) {
            let skipped = skip.min(piece.len());
            skip -= skipped;
            crc.update(&piece[skipped..]);
        }
        crc.finish()
    }

    #[inline]
    fn advance(&mut self, mut len: usize) {
        self.left -= len;
        while let Some(chunk) = self.chunks.first() {
            let here = chunk.len() - self.at;
            if len < here {
                self.at += len;
                return;
            }
            len -= here;
            self.at = 0;
            self.chunks = &self.chunks[1..];
        }
    }
}
