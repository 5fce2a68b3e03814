//! The gRPC framing that both ends of the data path share, for messages whose last field (number 15)
//! is a payload that is never copied.
//!
//! A gRPC message on an HTTP/2 stream is a five-byte prefix and the protobuf message. Writing, the
//! prefix and all fields before the payload are one small piece ([`payload_head`]) and the payload
//! follows as it lies. Reading, an [`Assembler`] cuts the stream's chunks into messages
//! ([`Message`], still chunk lists), and [`split_payload`] takes the payload's chunks out.
//!
//! Knows no connection and no service. What it writes any gRPC implementation reads, and it reads
//! what any writes.

mod assembler;
mod frame;
mod message;
mod payload;

#[cfg(test)]
mod tests;

pub use assembler::Assembler;
pub use frame::{
    FrameError, MESSAGE_LEN_MAX, PREFIX_LEN, decode_prefix, encode_message, encode_message_into,
    encode_prefix,
};
pub use message::Message;
pub use payload::{
    HEAD_LEN_MAX, PAYLOAD_TAG, fetch_response_head, payload_head, produce_request_head,
    split_payload,
};
