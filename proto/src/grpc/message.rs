//! One gRPC message as the chunks it came in.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use super::FrameError;

/// A message's bytes in pieces. A [`Buf`], so prost reads it without putting it together; byte fields
/// inside one piece are slices of it.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// None of them is empty.
    chunks: VecDeque<Bytes>,
    len: usize,
}

impl Message {
    pub(super) fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.len += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    /// Bytes left.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Decodes all of it.
    pub fn decode<M: prost::Message + Default>(mut self) -> Result<M, FrameError> {
        // Nearly always; and steps in one chunk cost less than steps over a list of them.
        if self.chunks.len() == 1
            && let Some(whole) = self.chunks.pop_front()
        {
            return Ok(M::decode(whole)?);
        }
        Ok(M::decode(self)?)
    }

    /// Takes the first `len` bytes off in the pieces they lie in; `None` where there are fewer.
    pub fn take_chunks(&mut self, len: usize) -> Option<Vec<Bytes>> {
        if len > self.len {
            return None;
        }
        let mut taken = Vec::with_capacity(self.chunks.len());
        let mut left = len;
        while left > 0 {
            let chunk = self.take_front(left)?;
            left -= chunk.len();
            taken.push(chunk);
        }
        Some(taken)
    }

    /// The first chunk, or its first `max` bytes.
    pub(super) fn take_front(&mut self, max: usize) -> Option<Bytes> {
        let front = self.chunks.front_mut()?;
        let taken =
            if front.len() > max { front.split_to(max) } else { self.chunks.pop_front()? };
        self.len -= taken.len();
        Some(taken)
    }
}

impl FromIterator<Bytes> for Message {
    fn from_iter<I: IntoIterator<Item = Bytes>>(chunks: I) -> Self {
        let mut message = Self::default();
        chunks.into_iter().for_each(|chunk| message.push(chunk));
        message
    }
}

impl Buf for Message {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| chunk)
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.len, "advance beyond the message");
        self.len -= count;
        // In place: a piece taken off would be counted as another user of the chunk, for each field.
        while let Some(front) = self.chunks.front_mut() {
            if count < front.len() {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.chunks.pop_front();
            if count == 0 {
                return;
            }
        }
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        assert!(len <= self.len, "copy beyond the message");
        if self.chunks.front().is_some_and(|front| front.len() >= len) {
            return self.take_front(len).unwrap_or_default();
        }
        let mut whole = BytesMut::with_capacity(len);
        while whole.len() < len {
            match self.take_front(len - whole.len()) {
                Some(taken) => whole.extend_from_slice(&taken),
                None => break,
            }
        }
        whole.freeze()
    }
}
