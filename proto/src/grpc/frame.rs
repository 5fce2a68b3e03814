//! The prefix of every gRPC message: one byte "compressed?" (always 0 here), four bytes length,
//! big-endian.

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes before each message.
pub const PREFIX_LEN: usize = 5;
/// The longest message either end takes.
pub const MESSAGE_LEN_MAX: usize = 64 << 20;

/// Why bytes are not the gRPC message they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Its compressed flag is set.
    #[error(
        "a compressed gRPC message came, which is not supported here: switch off the gRPC \
         compression of the peer (records are compressed inside their batches)"
    )]
    Compressed,
    /// The first byte is neither 0 nor 1.
    #[error("the peer does not speak gRPC: a message begins with byte {0:#04x}; check the port")]
    NotGrpc(u8),
    /// Longer than this end takes.
    #[error("a gRPC message of {len} bytes came, the limit is {max}: send smaller batches")]
    TooLarge {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The stream ended inside a message.
    #[error("the stream ended inside a gRPC message: {missing} bytes or more are missing")]
    Truncated {
        /// How many bytes were still to come at least.
        missing: usize,
    },
    /// Not the protobuf message it should be.
    #[error("a gRPC message cannot be decoded ({0}): the peer is of another version, or faulty")]
    Malformed(String),
}

impl From<prost::DecodeError> for FrameError {
    fn from(error: prost::DecodeError) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// The prefix of a message of `len` bytes.
pub fn encode_prefix(len: usize) -> Result<[u8; PREFIX_LEN], FrameError> {
    if len > MESSAGE_LEN_MAX {
        return Err(FrameError::TooLarge { len, max: MESSAGE_LEN_MAX });
    }
    let [a, b, c, d] = (len as u32).to_be_bytes();
    Ok([0, a, b, c, d])
}

/// The length a prefix tells, at most `max`.
pub fn decode_prefix(prefix: [u8; PREFIX_LEN], max: usize) -> Result<usize, FrameError> {
    let [flag, a, b, c, d] = prefix;
    match flag {
        0 => {}
        1 => return Err(FrameError::Compressed),
        other => return Err(FrameError::NotGrpc(other)),
    }
    let len = u32::from_be_bytes([a, b, c, d]) as usize;
    if len > max { Err(FrameError::TooLarge { len, max }) } else { Ok(len) }
}

/// A whole message with its prefix.
pub fn encode_message(message: &impl prost::Message) -> Result<Bytes, FrameError> {
    let len = message.encoded_len();
    let prefix = encode_prefix(len)?;
    let mut out = Vec::with_capacity(PREFIX_LEN + len);
    out.extend_from_slice(&prefix);
    message.encode_raw(&mut out);
    Ok(out.into())
}

/// The same, appended to `out`.
pub fn encode_message_into(
    message: &impl prost::Message,
    out: &mut BytesMut,
) -> Result<(), FrameError> {
    let len = message.encoded_len();
    let prefix = encode_prefix(len)?;
    out.reserve(PREFIX_LEN + len);
    out.put_slice(&prefix);
    message.encode_raw(out);
    Ok(())
}
