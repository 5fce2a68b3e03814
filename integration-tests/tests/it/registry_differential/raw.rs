//! A ZooKeeper connection by hand: frames in, frames out, nothing hidden by a client library.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Bytes of a record being written.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Body(pub(super) Vec<u8>);

impl Body {
    pub(super) fn int(mut self, value: i32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn long(mut self, value: i64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn flag(mut self, value: bool) -> Self {
        self.0.push(u8::from(value));
        self
    }

    pub(super) fn buffer(self, value: Option<&[u8]>) -> Self {
        match value {
            None => self.int(-1),
            Some(bytes) => {
                let mut with_len = self.int(i32::try_from(bytes.len()).expect("short"));
                with_len.0.extend_from_slice(bytes);
                with_len
            }
        }
    }

    pub(super) fn string(self, value: &str) -> Self {
        self.buffer(Some(value.as_bytes()))
    }

    pub(super) fn strings(self, values: &[String]) -> Self {
        let start = self.int(i32::try_from(values.len()).expect("few"));
        values.iter().fold(start, |body, value| body.string(value))
    }

    pub(super) fn append(mut self, other: &Self) -> Self {
        self.0.extend_from_slice(&other.0);
        self
    }
}

/// The unread rest of a record.
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len).context("record too short")?;
        self.0 = rest;
        Ok(head)
    }

    pub(super) fn flag(&mut self) -> Result<bool> {
        Ok(self.take(1)?[0] != 0)
    }

    pub(super) fn int(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into()?))
    }

    pub(super) fn long(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.take(8)?.try_into()?))
    }

    pub(super) fn buffer(&mut self) -> Result<Option<Vec<u8>>> {
        match self.int()? {
            -1 => Ok(None),
            len => Ok(Some(self.take(usize::try_from(len)?)?.to_vec())),
        }
    }

    pub(super) fn string(&mut self) -> Result<String> {
        Ok(String::from_utf8(self.buffer()?.context("a null string")?)?)
    }
}

/// One watch event.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Event {
    pub(super) kind: i32,
    pub(super) state: i32,
    pub(super) path: String,
}

/// A reply with the events that came before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) events: Vec<Event>,
    pub(super) zxid: i64,
    pub(super) code: i32,
    pub(super) body: Vec<u8>,
}

/// A connection with a session.
#[derive(Debug)]
pub(super) struct Raw {
    stream: TcpStream,
    xid: i32,
    pub(super) session: i64,
    password: Vec<u8>,
    pub(super) timeout_ms: i32,
}

impl Raw {
    /// A new session.
    pub(super) fn connect(address: SocketAddr) -> Result<Self> {
        Self::with_session(address, 0, vec![0; 16])
    }

    /// The same session on a new connection.
    pub(super) fn reconnect(&self, address: SocketAddr) -> Result<Self> {
        Self::with_session(address, self.session, self.password.clone())
    }

    fn with_session(address: SocketAddr, session: i64, password: Vec<u8>) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut raw = Self { stream, xid: 0, session, password, timeout_ms: 0 };
        let request = Body::default().int(0).long(0).int(30_000).long(session);
        raw.write_frame(&request.buffer(Some(&raw.password)).flag(false))?;
        let answer = raw.read_frame()?;
        let mut cursor = Cursor(&answer);
        cursor.int()?;
        raw.timeout_ms = cursor.int()?;
        raw.session = cursor.long()?;
        raw.password = cursor.buffer()?.context("no password")?;
        if raw.session == 0 {
            bail!("session {session:#x} is refused");
        }
        Ok(raw)
    }

    fn write_frame(&mut self, body: &Body) -> Result<()> {
        let mut frame = u32::try_from(body.0.len())?.to_be_bytes().to_vec();
        frame.extend_from_slice(&body.0);
        Ok(self.stream.write_all(&frame)?)
    }

    fn read_frame(&mut self) -> Result<Vec<u8>> {
        let mut len = [0; 4];
        self.stream.read_exact(&mut len)?;
        let mut frame = vec![0; usize::try_from(u32::from_be_bytes(len))?];
        self.stream.read_exact(&mut frame)?;
        Ok(frame)
    }

    /// Sends a request.
    pub(super) fn send(&mut self, op: i32, body: &Body) -> Result<()> {
        self.xid += 1;
        self.write_frame(&Body::default().int(self.xid).int(op).append(body))
    }

    /// Reads up to the reply to the request sent last.
    pub(super) fn receive(&mut self) -> Result<Reply> {
        let mut events = Vec::new();
        loop {
            let frame = self.read_frame()?;
            let mut cursor = Cursor(&frame);
            let (xid, zxid, code) = (cursor.int()?, cursor.long()?, cursor.int()?);
            if xid == -1 {
                assert_eq!((zxid, code), (-1, 0), "an event's header");
                let (kind, state) = (cursor.int()?, cursor.int()?);
                events.push(Event { kind, state, path: cursor.string()? });
                continue;
            }
            if xid != self.xid {
                bail!("reply to {xid}, expected one to {}", self.xid);
            }
            return Ok(Reply { events, zxid, code, body: cursor.0.to_vec() });
        }
    }

    /// Waits until the server has closed the connection.
    pub(super) fn wait_closed(&mut self) -> Result<()> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) if rest.is_empty() => Ok(()),
            Ok(_) => bail!("{} bytes before the end", rest.len()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
