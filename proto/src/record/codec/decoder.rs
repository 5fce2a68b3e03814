//! The records of any batch, decompressed where they are compressed.

use bytes::Bytes;

use super::super::batch::Batch;
use super::super::batch_header::{BatchHeader, HEADER_LEN};
use super::super::compression::Compression;
use super::super::reader::{RecordError, Records};
use super::decompressor::Decompressor;

/// Memory up to which a decoder keeps its buffer; above it, only while batches fill it.
const KEPT_MAX: usize = 4 << 20;

/// Reads the records of batches, plain and compressed, into one buffer that is used again: nothing
/// is allocated a record, and nothing a batch once the buffer is large enough.
#[derive(Debug)]
pub struct BatchDecoder {
    decompressor: Decompressor,
    max: usize,
    scratch: Vec<u8>,
    /// What was handed out last: its memory is taken back when nobody has it any more.
    lent: Option<Bytes>,
}

impl BatchDecoder {
    /// `max`: the bytes a batch's records may take decompressed; a batch above it is an error.
    pub fn new(max: usize) -> Self {
        Self { decompressor: Decompressor::new(), max, scratch: Vec::new(), lent: None }
    }

    /// The records of `batch`, borrowed from it, or from this decoder if they are compressed.
    pub fn records<'a>(&'a mut self, batch: &Batch<'a>) -> Result<Records<'a>, RecordError> {
        let header = batch.header();
        let block = batch.block();
        match codec_of(header, block)? {
            Compression::None => Ok(Records::over(header, block)),
            codec => {
                self.reclaim();
                self.decompress(header, codec, block)?;
                Ok(Records::over(header, &self.scratch))
            }
        }
    }

    /// The same for keeping: `block` are the bytes behind the header, which plain records stay in.
    ///
    /// The memory of compressed ones is used again once every slice of it is gone.
    pub fn decode(
        &mut self,
        header: &BatchHeader,
        block: Bytes,
    ) -> Result<DecodedBatch, RecordError> {
        let block = match codec_of(header, &block)? {
            Compression::None => block,
            codec => {
                self.reclaim();
                self.decompress(header, codec, &block)?;
                let mut whole = std::mem::take(&mut self.scratch);
                if whole.capacity() / 2 > whole.len() {
                    // Records may be kept long: they keep no more than they need.
                    whole.shrink_to(whole.len());
                }
                self.lent.insert(Bytes::from(whole)).clone()
            }
        };
        Ok(DecodedBatch { header: header.clone(), block, from: 0 })
    }

    /// The same of a batch in one piece, header included, which plain records stay in.
    #[inline]
    pub fn decode_whole(
        &mut self,
        header: BatchHeader,
        whole: Bytes,
    ) -> Result<DecodedBatch, RecordError> {
        let block = whole.get(HEADER_LEN..).unwrap_or_default();
        match codec_of(&header, block)? {
            Compression::None => Ok(DecodedBatch::of_plain(header, whole)),
            _ => self.decode(&header, whole.slice(HEADER_LEN.min(whole.len())..)),
        }
    }

    fn decompress(
        &mut self,
        header: &BatchHeader,
        codec: Compression,
        block: &[u8],
    ) -> Result<(), RecordError> {
        if self.scratch.capacity() > KEPT_MAX && self.scratch.capacity() / 4 > self.scratch.len() {
            self.scratch = Vec::new();
        }
        let done = self.decompressor.decompress(codec, block, self.max, &mut self.scratch);
        done.map_err(|source| RecordError::Compressed {
            offset: header.base_offset,
            last_offset: header.last_offset(),
            source,
        })
    }

    fn reclaim(&mut self) {
        if let Some(lent) = self.lent.take().filter(Bytes::is_unique) {
            self.scratch = lent.into();
        }
    }
}

/// The codec to decompress with: none for an empty batch, which compaction leaves where nothing
/// survived.
#[inline]
fn codec_of(header: &BatchHeader, block: &[u8]) -> Result<Compression, RecordError> {
    if header.record_count == 0 && block.is_empty() {
        return Ok(Compression::None);
    }
    Ok(header.attributes.compression()?)
}

/// A batch whose records lie open.
#[derive(Debug, Clone)]
pub struct DecodedBatch {
    header: BatchHeader,
    block: Bytes,
    /// Where in it the records begin.
    from: usize,
}

impl DecodedBatch {
    /// A batch in one piece whose header tells no codec.
    #[inline]
    pub fn of_plain(header: BatchHeader, whole: Bytes) -> Self {
        Self { header, block: whole, from: HEADER_LEN }
    }

    /// As it came: length, CRC and codec are those of the compressed batch.
    #[inline]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The memory the records lie in, for slices of it.
    #[inline]
    pub fn block(&self) -> &Bytes {
        &self.block
    }

    /// The records in order.
    #[inline]
    pub fn records(&self) -> Records<'_> {
        Records::over(&self.header, self.block.get(self.from..).unwrap_or_default())
    }
}
