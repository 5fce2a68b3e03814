//! Kafka's wire protocol: framing, headers, and every request and answer by version.
//!
//! [`messages`] has one file an API, each a declaration that reads as Kafka's own definitions do:
//! field, type, versions. The macro behind them ([`message`]) writes reading and writing from it, so
//! what is known about a version stands in one place. [`api_key`] is the table of APIs, [`header`]
//! what stands before each message.
//!
//! Decoded by ourselves, not by the crate `kafka-protocol`: that reserves memory for as many items as
//! an array says it has, so that a request of eight bytes ends the process, and it copies records
//! into answers. Here a length is looked at before anything is reserved ([`Reader`]): it must fit the
//! bytes that are left, and all items of one request together may take only a small multiple of its
//! frame. The crate stays as the measure: tests compare every API and version with it.
//!
//! Texts are copied out of the frame, since group and member names outlive it. Opaque bytes and
//! records are slices of it: who keeps them longer than the request copies them.

pub mod api_key;
pub mod consumer_protocol;
pub mod group_records;
pub mod header;
mod message;
pub mod messages;
mod reader;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;
mod wire;
mod writer;

pub use api_key::ApiKey;
pub use header::{Decoded, RequestHead, decode, decode_response, encode, encode_request};
pub use reader::{Malformed, Reader};
pub use wire::{Records, Request, Str, Wire};
pub use writer::{Encoded, Gap, Tagged, Writer};
