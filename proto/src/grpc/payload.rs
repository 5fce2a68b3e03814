//! Messages whose field 15 is a large payload: everything else is the head.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::encoding::{
    WireType, decode_key, decode_varint, encode_key, encode_varint, encoded_len_varint, key_len,
};

use super::frame::{FrameError, PREFIX_LEN, encode_prefix};
use super::message::Message;
use crate::v1;

/// The field number of the payload, the last of its message.
pub const PAYLOAD_TAG: u32 = 15;
/// The longest head: topic names and error texts are short.
pub const HEAD_LEN_MAX: usize = 64 << 10;

/// The gRPC prefix, the fields of `head` (whose own payload field is empty), and the tag and length
/// of the payload: what is sent before a payload of `payload_len` bytes.
pub fn payload_head(head: &impl prost::Message, payload_len: usize) -> Result<Bytes, FrameError> {
    let fields_len = head.encoded_len();
    let intro_len = match payload_len {
        0 => 0,
        len => key_len(PAYLOAD_TAG) + encoded_len_varint(len as u64),
    };
    let prefix = encode_prefix((fields_len + intro_len).saturating_add(payload_len))?;
    let mut out = Vec::with_capacity(PREFIX_LEN + fields_len + intro_len);
    out.extend_from_slice(&prefix);
    head.encode_raw(&mut out);
    if payload_len > 0 {
        encode_key(PAYLOAD_TAG, WireType::LengthDelimited, &mut out);
        encode_varint(payload_len as u64, &mut out);
    }
    Ok(out.into())
}

/// [`payload_head`] of a fetch response; `head.records` is empty.
pub fn fetch_response_head(
    head: &v1::FetchResponse,
    records_len: usize,
) -> Result<Bytes, FrameError> {
    debug_assert!(head.records.is_empty(), "the records follow the head");
    payload_head(head, records_len)
}

/// [`payload_head`] of a produce request; `head.records` is empty.
pub fn produce_request_head(
    head: &v1::ProduceRequest,
    records_len: usize,
) -> Result<Bytes, FrameError> {
    debug_assert!(head.records.is_empty(), "the records follow the head");
    payload_head(head, records_len)
}

/// Divides a message into its head, decoded (its payload field left empty), and its payload in the
/// chunks it came in.
///
/// Fields may come in any order, as protobuf allows; of several payloads the last counts.
pub fn split_payload<M: prost::Message + Default>(
    mut message: Message,
) -> Result<(M, Vec<Bytes>), FrameError> {
    if let Some((head_len, payload_at)) = find_payload(message.chunk(), message.len()) {
        let head = M::decode(&message.chunk()[..head_len])?;
        message.advance(payload_at);
        let payload = message.take_chunks(message.len()).ok_or_else(cut_off)?;
        return Ok((head, payload));
    }
    let mut head = BytesMut::with_capacity(128);
    let mut payload = Vec::new();
    while !message.is_empty() {
        let (tag, wire_type) = decode_key(&mut message)?;
        if tag == PAYLOAD_TAG && wire_type == WireType::LengthDelimited {
            let len = take_len(&mut message)?;
            payload = message.take_chunks(len).ok_or_else(cut_off)?;
            continue;
        }
        encode_key(tag, wire_type, &mut head);
        copy_value(wire_type, &mut message, &mut head)?;
        if head.len() > HEAD_LEN_MAX {
            return Err(FrameError::Malformed(format!(
                "its fields beside the payload take more than {HEAD_LEN_MAX} bytes"
            )));
        }
    }
    Ok((M::decode(head.freeze())?, payload))
}

/// The length of the head and where the payload begins, where the payload comes last and all before it
/// lies in the message's first chunk, which is the rule; `None` also for whatever is wrong.
fn find_payload(front: &[u8], message_len: usize) -> Option<(usize, usize)> {
    let mut rest = front;
    loop {
        let head_len = front.len() - rest.len();
        if head_len > HEAD_LEN_MAX {
            return None;
        }
        let (tag, wire_type) = decode_key(&mut rest).ok()?;
        let value_len = match wire_type {
            WireType::Varint => {
                decode_varint(&mut rest).ok()?;
                0
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => {
                let len = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
                if tag == PAYLOAD_TAG {
                    let payload_at = front.len() - rest.len();
                    let is_last = payload_at.checked_add(len)? == message_len;
                    return is_last.then_some((head_len, payload_at));
                }
                len
            }
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        rest = rest.get(value_len..)?;
    }
}

fn copy_value(
    wire_type: WireType,
    message: &mut Message,
    head: &mut BytesMut,
) -> Result<(), FrameError> {
    let len = match wire_type {
        WireType::Varint => {
            encode_varint(decode_varint(message)?, head);
            return Ok(());
        }
        WireType::SixtyFourBit => 8,
        WireType::ThirtyTwoBit => 4,
        WireType::LengthDelimited => {
            let len = take_len(message)?;
            encode_varint(len as u64, head);
            len
        }
        WireType::StartGroup | WireType::EndGroup => {
            return Err(FrameError::Malformed("it has a group field".into()));
        }
    };
    if len > message.len() {
        return Err(cut_off());
    }
    if len > HEAD_LEN_MAX {
        return Err(FrameError::Malformed(format!("it has a field of {len} bytes")));
    }
    head.put(message.take(len));
    Ok(())
}

fn take_len(message: &mut Message) -> Result<usize, FrameError> {
    usize::try_from(decode_varint(message)?).map_err(|_| cut_off())
}

fn cut_off() -> FrameError {
    FrameError::Malformed("a field is longer than the message".into())
}
