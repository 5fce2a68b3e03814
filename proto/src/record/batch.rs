//! A whole batch in one piece of memory, borrowed.

use bytes::Bytes;

use super::batch_header::{BatchError, BatchHeader, HEADER_LEN};
use super::builder::ProducerStamp;
use super::reader::Records;

/// One whole batch, its header decoded and its CRC checked.
#[derive(Debug, Clone)]
pub struct Batch<'a> {
    header: BatchHeader,
    bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// The batch at the front of `bytes`, checked.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let batch = Self::parse_without_crc(bytes)?;
        batch.header.check_crc(batch.bytes)?;
        Ok(batch)
    }

    /// The same without the CRC, for who has checked it already (`check.crcs=false`).
    pub fn parse_without_crc(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let needed = header.size_in_bytes();
        match bytes.get(..needed) {
            Some(bytes) => Ok(Self { header, bytes }),
            None => Err(BatchError::Truncated { needed, available: bytes.len() }),
        }
    }

    /// The header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch, header included.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What follows the header: the records, as compressed as the header says.
    pub fn block(&self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..]
    }

    /// The records in order. A compressed batch yields one error
    /// ([`super::RecordError::UnsupportedCompression`]): `BatchDecoder` reads every batch.
    pub fn records(&self) -> Records<'a> {
        Records::new(&self.header, &self.bytes[HEADER_LEN..])
    }
}

/// The batches of a fetched slice, one after the other; ends after the first error.
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    rest: &'a [u8],
}

impl<'a> Batches<'a> {
    /// Over `bytes`, which begin with a batch.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The bytes not yet taken.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<Batch<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let batch = Batch::parse(self.rest);
        self.rest = match &batch {
            Ok(batch) => &self.rest[batch.bytes.len()..],
            Err(_) => &[],
        };
        Some(batch)
    }
}

/// A copy of a finished batch under another producer id, epoch and sequence, with its CRC renewed.
///
/// For the rare case that a producer had to take a new id while batches were waiting.
pub fn restamp_producer(batch: &[u8], stamp: ProducerStamp) -> Result<Bytes, BatchError> {
    let mut header = Batch::parse(batch)?.header;
    header.producer_id = stamp.id;
    header.producer_epoch = stamp.epoch;
    header.base_sequence = stamp.base_sequence;
    let records = &batch[HEADER_LEN..header.size_in_bytes()];
    header.crc = header.compute_crc([records]);
    Ok([&header.encode()[..], records].concat().into())
}
