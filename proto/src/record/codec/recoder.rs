//! Brings batches to one codec, for a topic that forces it.

use bytes::Bytes;

use super::super::batch::Batch;
use super::super::batch_header::HEADER_LEN;
use super::super::compression::Compression;
use super::super::reader::{RecordError, Records};
use super::compressor::Compressor;
use super::decompressor::Decompressor;

/// Why a batch could not be brought to another codec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecodeError {
    /// What came cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The header counts other records than there are.
    #[error("the batch has {found} records, its header says {expected}: the producer is faulty")]
    RecordCount {
        /// As the header says.
        expected: i32,
        /// As they lie there.
        found: i32,
    },
}

/// Decompresses, checks and compresses anew. Reuse it: its tables and buffer are large.
#[derive(Debug)]
pub struct Recoder {
    decompressor: Decompressor,
    compressor: Compressor,
    plain: Vec<u8>,
}

impl Recoder {
    /// To the codec of `compressor`.
    pub fn new(compressor: Compressor) -> Self {
        Self { decompressor: Decompressor::new(), compressor, plain: Vec::new() }
    }

    /// Bytes that the records of the batch that was recoded last took decompressed.
    pub fn plain_len(&self) -> usize {
        self.plain.len()
    }

    /// The batch with its records under the codec, its length, codec and CRC renewed and everything
    /// else (offsets, producer, sequences, timestamps) as it was; `None` where it has the codec
    /// already. Records that the codec makes no smaller are left uncompressed, as producers do it.
    /// Records that take more than `max` bytes decompressed are an error.
    ///
    /// Every record is checked on the way: with the CRC renewed here, nobody else would notice that
    /// the old one covered nonsense.
    pub fn recode(&mut self, batch: &Batch<'_>, max: usize) -> Result<Option<Bytes>, RecodeError> {
        let header = batch.header();
        let from = header.attributes.compression().map_err(RecordError::from)?;
        if from == self.compressor.codec() {
            return Ok(None);
        }
        let done = self.decompressor.decompress(from, batch.block(), max, &mut self.plain);
        done.map_err(|source| RecordError::Compressed {
            offset: header.base_offset,
            last_offset: header.last_offset(),
            source,
        })?;
        let mut found = 0;
        for record in Records::over(header, &self.plain) {
            record?;
            found += 1;
        }
        if found != header.record_count {
            return Err(RecodeError::RecordCount { expected: header.record_count, found });
        }
        let to = self.compressor.codec();
        let (codec, block) = match self.compressor.compress(&self.plain) {
            Ok(block) if block.len() < self.plain.len() => (to, block),
            Ok(_) => (Compression::None, &self.plain[..]),
            Err(error) => {
                tracing::warn!(%error, "a batch is stored uncompressed");
                (Compression::None, &self.plain[..])
            }
        };
        if codec == from {
            return Ok(None);
        }
        let mut header = header.clone();
        header.set_block(codec, block);
        let mut whole = Vec::with_capacity(HEADER_LEN + block.len());
        whole.extend_from_slice(&header.encode());
        whole.extend_from_slice(block);
        Ok(Some(whole.into()))
    }
}
