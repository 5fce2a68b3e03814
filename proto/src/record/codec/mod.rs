//! The codecs of compressed batches: what is under [`Compression`](super::Compression)'s numbers.
//!
//! A batch's records are compressed as one block behind the header. A producer compresses
//! ([`Compressor`]), a consumer decompresses ([`BatchDecoder`]); a broker does either only where it
//! has to look at records (compaction, times, a topic's own codec: [`Recoder`]).
//!
//! Decompression is bounded: the caller says how many bytes may come out, and no more than a small
//! multiple of that is ever taken, whatever the bytes say. What is read is what Kafka's own clients
//! write (and what other clients do): several gzip members, snappy with and without the xerial
//! framing, LZ4 frames with linked blocks, any zstd frame. Bytes behind the end are an error.
//!
//! | codec | written as | levels |
//! |---|---|---|
//! | gzip | one member, RFC 1952 | 1 (fast) to 9 (small); default 6 |
//! | snappy | xerial framing, blocks of 32 KiB | none |
//! | lz4 | one frame, independent blocks of 64 KiB | none: the encoder here has one level, LZ4's fast one |
//! | zstd | one frame with its content size | -131072 (fast) to 22 (small); default 3 |

mod compressor;
mod decoder;
mod decompressor;
mod gzip;
mod lz4;
mod recoder;
mod snappy;
mod zstd;

#[cfg(test)]
mod tests;

pub use compressor::{CompressError, Compressor, InvalidLevel, compress};
pub use decoder::{BatchDecoder, DecodedBatch};
pub use decompressor::{Decompressor, decompress};
pub use recoder::{RecodeError, Recoder};
