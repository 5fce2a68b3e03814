//! A connection by hand, for what no client library would send.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::embedded::wire::{Input, Output};

pub(super) struct Raw {
    pub(super) stream: TcpStream,
    pub(super) session: i64,
    pub(super) password: Vec<u8>,
}

/// A frame that is no reply to a request: an event has xid -1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) xid: i32,
    pub(super) zxid: i64,
    pub(super) code: i32,
    pub(super) body: Vec<u8>,
}

impl Raw {
    pub(super) fn dial(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, session: 0, password: vec![0; 16] }
    }

    pub(super) fn connect(address: SocketAddr) -> Self {
        let mut raw = Self::dial(address);
        raw.introduce(0, 10_000).unwrap();
        raw
    }

    /// Sends the connect record and reads the answer; the timeout granted, 0 for an expired
    /// session, `None` if the server closed.
    pub(super) fn introduce(&mut self, last_zxid: i64, timeout_ms: i32) -> Option<i32> {
        let mut request = Output::frame();
        request.i32(0);
        request.i64(last_zxid);
        request.i32(timeout_ms);
        request.i64(self.session);
        request.buffer(Some(&self.password));
        request.bool(false);
        self.stream.write_all(&request.into_frame()).ok()?;
        let answer = self.frame()?;
        let mut input = Input::new(&answer);
        input.i32().unwrap();
        let granted = input.i32().unwrap();
        self.session = input.i64().unwrap();
        self.password = input.buffer().unwrap().unwrap().to_vec();
        Some(granted)
    }

    /// The server may close before it has read all: whoever receives next learns of it.
    pub(super) fn send(&mut self, xid: i32, op: i32, body: &[u8]) {
        let mut request = Output::frame();
        request.i32(xid);
        request.i32(op);
        request.raw(body);
        let _ = self.stream.write_all(&request.into_frame());
    }

    fn frame(&mut self) -> Option<Vec<u8>> {
        let mut len = [0; 4];
        self.stream.read_exact(&mut len).ok()?;
        let mut frame = vec![0; u32::from_be_bytes(len) as usize];
        self.stream.read_exact(&mut frame).ok()?;
        Some(frame)
    }

    /// `None` when the server has closed.
    pub(super) fn receive(&mut self) -> Option<Reply> {
        let frame = self.frame()?;
        let mut input = Input::new(&frame);
        let (xid, zxid) = (input.i32().unwrap(), input.i64().unwrap());
        Some(Reply { xid, zxid, code: input.i32().unwrap(), body: frame[16..].to_vec() })
    }

    pub(super) fn call(&mut self, op: i32, body: &[u8]) -> Reply {
        self.send(1, op, body);
        self.receive().unwrap()
    }

    /// Reads to the end; false if the server keeps the connection open.
    pub(super) fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    /// Nothing comes for a while.
    pub(super) fn is_silent(&mut self) -> bool {
        self.stream.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
        let read = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }
}

pub(super) fn create(path: &str, data: &[u8], flags: i32) -> Vec<u8> {
    let mut body = Output::new();
    body.string(path);
    body.buffer(Some(data));
    body.i32(1);
    body.i32(31);
    body.string("world");
    body.string("anyone");
    body.i32(flags);
    body.into_bytes()
}

pub(super) fn path_and_watch(path: &str, watch: bool) -> Vec<u8> {
    let mut body = Output::new();
    body.string(path);
    body.bool(watch);
    body.into_bytes()
}

pub(super) fn delete(path: &str) -> Vec<u8> {
    let mut body = Output::new();
    body.string(path);
    body.i32(-1);
    body.into_bytes()
}
