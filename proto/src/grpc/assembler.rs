//! Cuts a stream of chunks into gRPC messages without copying what is large.

use bytes::{Bytes, BytesMut};

use super::frame::{FrameError, PREFIX_LEN, decode_prefix};
use super::message::Message;

/// Chunks below this are gathered into one piece, so that a peer who sends single bytes costs memory
/// in proportion to the bytes and not to their number.
const SMALL_LEN: usize = 512;

/// Takes chunks as they come and gives whole messages.
///
/// Holds at most one incomplete message (bounded by the limit) and what was pushed behind it: push
/// one chunk, then pop until there is none.
#[derive(Debug)]
pub struct Assembler {
    queue: Message,
    /// Small chunks behind `queue`, not yet in it.
    tail: BytesMut,
    /// Length of the message at the front, once its prefix is read and taken off.
    expected: Option<usize>,
    message_len_max: usize,
}

impl Assembler {
    /// For messages of at most `message_len_max` bytes.
    pub fn new(message_len_max: usize) -> Self {
        Self { queue: Message::default(), tail: BytesMut::new(), expected: None, message_len_max }
    }

    /// Bytes held.
    pub fn buffered(&self) -> usize {
        self.queue.len() + self.tail.len()
    }

    /// Length of the message that is coming in, once its prefix is there; to be asked after
    /// [`Assembler::pop`] gave none.
    pub fn expected(&self) -> Option<usize> {
        self.expected
    }

    /// Takes the next chunk of the stream.
    pub fn push(&mut self, chunk: Bytes) {
        if chunk.len() < SMALL_LEN && self.buffered() > 0 {
            self.tail.extend_from_slice(&chunk);
        } else {
            self.flush_tail();
            self.queue.push(chunk);
        }
    }

    /// The next whole message, if it is there. After an error the stream is of no more use.
    pub fn pop(&mut self) -> Result<Option<Message>, FrameError> {
        let len = match self.expected {
            Some(len) => len,
            None if self.buffered() < PREFIX_LEN => return Ok(None),
            None => {
                let len = decode_prefix(self.take_prefix(), self.message_len_max)?;
                *self.expected.insert(len)
            }
        };
        if self.buffered() < len {
            return Ok(None);
        }
        if self.queue.len() < len {
            self.flush_tail();
        }
        self.expected = None;
        let chunks = self.queue.take_chunks(len).unwrap_or_default();
        Ok(Some(chunks.into_iter().collect()))
    }

    /// To be asked at the end of the stream: an error where it ended inside a message.
    pub fn check_end(&self) -> Result<(), FrameError> {
        let missing = match self.expected {
            Some(len) => len.saturating_sub(self.buffered()),
            None if self.buffered() == 0 => return Ok(()),
            None => PREFIX_LEN.saturating_sub(self.buffered()),
        };
        Err(FrameError::Truncated { missing })
    }

    /// The caller has seen that the prefix is there.
    fn take_prefix(&mut self) -> [u8; PREFIX_LEN] {
        if self.queue.len() < PREFIX_LEN {
            self.flush_tail();
        }
        let mut prefix = [0; PREFIX_LEN];
        bytes::Buf::copy_to_slice(&mut self.queue, &mut prefix);
        prefix
    }

    fn flush_tail(&mut self) {
        self.queue.push(self.tail.split().freeze());
    }
}
