//! Kafka record batches, version 2 (magic 2): the unit on the wire, on disk and in the consumer.
//!
//! A producer encodes with [`BatchBuilder`]; a broker reads [`BatchHeader`]s, checks the CRC over the
//! chunks as they came ([`check_chunks`]) and stamps base offset and leader epoch; a consumer decodes
//! [`Batch`]es to borrowed [`RecordRef`]s, decompressing where the batch is compressed (`codec`,
//! feature `compression`). Nothing here does I/O, knows a topic, or panics on bytes
//! of a peer.
//!
//! Read on: `batch_header` (the layout and what the CRC covers), `record` (one record's layout).

mod batch;
mod batch_header;
mod builder;
mod chunks;
#[cfg(feature = "compression")]
mod codec;
mod compression;
mod control;
mod crc;
mod reader;
#[allow(clippy::module_inception, reason = "Kafka's noun: one record of record batches")]
mod record;
mod usual_record;
pub mod varint;

#[cfg(test)]
mod tests;

pub use batch::{Batch, Batches, restamp_producer};
pub use batch_header::{Attributes, BatchError, BatchHeader, HEADER_LEN, MAGIC, TimestampType};
pub use builder::{AppendError, BatchBuilder, ProducerStamp};
pub use chunks::{ChunkedBatch, ChunkedBatches, check_chunks, leader_epochs};
#[cfg(feature = "compression")]
pub use codec::{
    BatchDecoder, CompressError, Compressor, DecodedBatch, Decompressor, InvalidLevel, RecodeError,
    Recoder, compress, decompress,
};
pub use compression::{Compression, DecompressError, UnknownCompression};
pub use control::{ControlType, control_type};
pub use crc::{Crc32c, crc32c};
pub use reader::{RecordError, Records};
pub use record::{Header, Headers, RecordRef};
