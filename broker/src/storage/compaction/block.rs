//! The records of a batch as one block: opened (decompressed) for judging, closed (compressed) with
//! the codec it had.
//!
//! Buffers and the codecs' tables are used again from batch to batch.

use proto::record::{Batch, BatchHeader, Compression, Compressor, Decompressor, HEADER_LEN};

use super::raw_record::{Malformed, RawRecords};
use crate::storage::config::DECOMPRESSED_MAX;

/// Opens and closes blocks. A block that is larger decompressed than [`DECOMPRESSED_MAX`] is not
/// opened; its batch stays as it is.
#[derive(Default)]
pub(super) struct Blocks {
    decompressor: Decompressor,
    scratch: Vec<u8>,
    compressor: Option<Compressor>,
}

impl Blocks {
    /// The records of a batch, uncompressed.
    pub(super) fn open<'a>(&'a mut self, batch: &Batch<'a>) -> Result<&'a [u8], Malformed> {
        let header = batch.header();
        if header.record_count == 0 {
            return Ok(batch.block());
        }
        match header.attributes.compression().map_err(|_| Malformed)? {
            Compression::None => Ok(batch.block()),
            codec => {
                let block = batch.block();
                self.decompressor
                    .decompress(codec, block, DECOMPRESSED_MAX, &mut self.scratch)
                    .map_err(|_| Malformed)?;
                Ok(&self.scratch)
            }
        }
    }

    /// Puts the batch of this header and these records in `out`; length and CRC are worked out.
    pub(super) fn close(
        &mut self,
        mut header: BatchHeader,
        records: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        let codec = header.attributes.compression().map_err(|_| Malformed)?;
        if self.compressor.as_ref().is_none_or(|compressor| compressor.codec() != codec) {
            self.compressor = Some(Compressor::new(codec, None).map_err(|_| Malformed)?);
        }
        let Some(compressor) = &mut self.compressor else { return Err(Malformed) };
        let block = compressor.compress(records).map_err(|_| Malformed)?;
        header.set_block(codec, block);
        out.clear();
        out.reserve(HEADER_LEN + block.len());
        out.extend_from_slice(&header.encode());
        out.extend_from_slice(block);
        Ok(())
    }
}

/// Steps over the records of an opened block.
pub(super) fn raw_records<'a>(header: &BatchHeader, block: &'a [u8]) -> RawRecords<'a> {
    RawRecords::new(block, header.record_count, header.last_offset_delta)
}
