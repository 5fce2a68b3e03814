//! What stands before each message: sizes, headers, and whole frames in either direction.
//!
//! ```text
//! request   size i32 · key i16 · version i16 · correlation id i32 · client id · [tags] · body
//! response  size i32 · correlation id i32 · [tags] · body
//! ```
//!
//! The client id is a plain nullable text in every version. Tags are there where the API's version is
//! flexible, but never in a response to ApiVersions: who asks does not know yet what we speak.

use bytes::{Buf, Bytes};

use super::api_key::ApiKey;
use super::reader::{Malformed, Reader};
use super::wire::{Request, Str, Wire};
use super::writer::{Encoded, Writer};

/// The beginning of a request, which has the same form in every version of every API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHead {
    /// The API's number, known or not.
    pub key: i16,
    /// The version of it.
    pub version: i16,
    /// Goes into the answer.
    pub correlation_id: i32,
}

impl RequestHead {
    /// Bytes of it.
    pub const LEN: usize = 8;

    /// Takes it off the front of a frame; the size was taken before.
    pub fn take(frame: &mut Bytes) -> Result<Self, Malformed> {
        let left = frame.len();
        if left < Self::LEN {
            return Err(Malformed::CutOff { wanted: Self::LEN, left });
        }
        let (key, version) = (frame.get_i16(), frame.get_i16());
        Ok(Self { key, version, correlation_id: frame.get_i32() })
    }
}

/// A request as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded<R> {
    /// What the client calls itself.
    pub client_id: Option<Str>,
    /// What it asks for.
    pub request: R,
    /// Memory that the request's items take, beside the frame.
    pub held: usize,
}

/// Reads what comes after the head: the client's id and the request.
pub fn decode<R: Request>(version: i16, frame: Bytes) -> Result<Decoded<R>, Malformed> {
    let flexible = R::KEY.is_flexible(version);
    let mut reader = Reader::new(frame, version, false);
    let client_id = Option::read(&mut reader)?;
    let left = reader.left();
    let mut reader = Reader::new(reader.slice(left)?, version, flexible);
    if flexible {
        reader.tagged(|_, _| Ok(()))?;
    }
    let request = R::read(&mut reader)?;
    Ok(Decoded { client_id, request, held: reader.held() })
}

/// The frame that answers a request.
pub fn encode<R: Request>(version: i16, correlation_id: i32, response: &R::Response) -> Encoded {
    let flexible = R::KEY.is_flexible(version);
    let mut writer = Writer::new(version, flexible);
    writer.put(&[0; 4]);
    correlation_id.write(&mut writer);
    if flexible && R::KEY != ApiKey::ApiVersions {
        writer.tagged(&[]);
    }
    response.write(&mut writer);
    writer.into_frame()
}

/// A request's frame, as a client sends it.
pub fn encode_request<R: Request>(
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    request: &R,
) -> Encoded {
    let flexible = R::KEY.is_flexible(version);
    let mut writer = Writer::new(version, false);
    writer.put(&[0; 4]);
    R::KEY.code().write(&mut writer);
    version.write(&mut writer);
    correlation_id.write(&mut writer);
    client_id.map(Str::from).write(&mut writer);
    writer.go_on(version, flexible);
    if flexible {
        writer.tagged(&[]);
    }
    request.write(&mut writer);
    writer.into_frame()
}

/// Reads an answer, as a client does; the size was taken before.
pub fn decode_response<R: Request>(
    version: i16,
    frame: Bytes,
) -> Result<(i32, R::Response), Malformed> {
    let flexible = R::KEY.is_flexible(version);
    let mut reader = Reader::new(frame, version, flexible);
    let correlation_id = i32::read(&mut reader)?;
    if flexible && R::KEY != ApiKey::ApiVersions {
        reader.tagged(|_, _| Ok(()))?;
    }
    let response = R::Response::read(&mut reader)?;
    reader.finish()?;
    Ok((correlation_id, response))
}
