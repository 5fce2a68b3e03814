//! The first record on a connection and its answer.

use super::session_table::Password;
use super::wire::{Input, Malformed, Output};

/// What a client says when it connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConnectRequest {
    pub(crate) last_zxid: i64,
    pub(crate) timeout_ms: i32,
    /// 0 asks for a new session.
    pub(crate) session: i64,
    /// What it shows to take the session up again; too long or short fits no session.
    pub(crate) password: Vec<u8>,
    /// Whether the record ended with the read-only flag, which very old clients leave out and then
    /// do not expect in the answer.
    pub(crate) has_read_only: bool,
}

impl ConnectRequest {
    pub(crate) fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut input = Input::new(body);
        input.i32()?; // protocol version, always 0
        let (last_zxid, timeout_ms, session) = (input.i64()?, input.i32()?, input.i64()?);
        let password = input.buffer()?.unwrap_or_default().to_vec();
        let has_read_only = input.remaining() > 0;
        Ok(Self { last_zxid, timeout_ms, session, password, has_read_only })
    }

    /// The answer for a session that is granted, or with `None` "your session has expired".
    pub(crate) fn answer(&self, granted: Option<(i64, i32, &Password)>) -> Vec<u8> {
        let (session, timeout_ms, password) = granted.unwrap_or((0, 0, &[0; 16]));
        let mut output = Output::frame();
        output.i32(0);
        output.i32(timeout_ms);
        output.i64(session);
        output.buffer(Some(password));
        if self.has_read_only {
            output.bool(false);
        }
        output.into_frame()
    }
}

/// The body logged for a new session, decoded again by `Write::decode`.
pub(crate) fn create_session_body(timeout_ms: i32, password: &Password) -> Vec<u8> {
    let mut output = Output::new();
    output.i32(timeout_ms);
    output.buffer(Some(password));
    output.into_bytes()
}
