//! Frames of an answer on their way out: small messages share a frame, large payloads go as they
//! lie, uncopied, in one of their own.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use proto::grpc::{self, FrameError};
use proto::v1;

use crate::api::COPIED_BELOW;

/// Below this a payload is copied beside its head: a frame of its own would cost a write more. Records as
/// short as this are no mapped ones.
const SMALL_LEN: usize = COPIED_BELOW as usize;
/// Small messages are gathered up to this, or one message beyond it.
const GATHERED_LEN: usize = 16 << 10;

/// An ordered list of frames.
#[derive(Default)]
pub(crate) struct Outbox {
    frames: VecDeque<Bytes>,
    gathered: BytesMut,
}

impl Outbox {
    /// Adds a fetch response with its records.
    pub(crate) fn records(
        &mut self,
        head: &v1::FetchResponse,
        records: Bytes,
    ) -> Result<(), FrameError> {
        self.small(&grpc::fetch_response_head(head, records.len())?);
        if records.len() < SMALL_LEN {
            self.small(&records);
        } else {
            self.flush();
            self.frames.push_back(records);
        }
        Ok(())
    }

    /// Adds a message without a payload.
    pub(crate) fn message(&mut self, message: &impl prost::Message) -> Result<(), FrameError> {
        grpc::encode_message_into(message, &mut self.gathered)?;
        self.bound();
        Ok(())
    }

    fn small(&mut self, bytes: &[u8]) {
        self.gathered.extend_from_slice(bytes);
        self.bound();
    }

    fn bound(&mut self) {
        if self.gathered.len() >= GATHERED_LEN {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.gathered.is_empty() {
            self.frames.push_back(self.gathered.split().freeze());
        }
    }

    /// The next frame.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        if self.frames.is_empty() {
            self.flush();
        }
        self.pop_full()
    }

    /// The next frame to which nothing can be added.
    pub(crate) fn pop_full(&mut self) -> Option<Bytes> {
        self.frames.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(handle: u32) -> v1::FetchResponse {
        v1::FetchResponse { handle, ..Default::default() }
    }

    #[test]
    fn small_messages_share_a_frame_and_large_payloads_are_not_copied() {
        let mut outbox = Outbox::default();
        let large = Bytes::from(vec![7; SMALL_LEN]);
        outbox.records(&head(1), Bytes::from_static(b"abc")).unwrap();
        outbox.records(&head(2), large.clone()).unwrap();
        outbox.message(&head(3)).unwrap();
        let frames: Vec<Bytes> = std::iter::from_fn(|| outbox.pop()).collect();
        assert_eq!(frames.len(), 3);
        assert_eq!(frames[1].as_ptr(), large.as_ptr());

        let mut assembler = grpc::Assembler::new(1 << 20);
        let mut handles = Vec::new();
        for frame in frames {
            assembler.push(frame);
            while let Some(message) = assembler.pop().unwrap() {
                let message: v1::FetchResponse = message.decode().unwrap();
                handles.push((message.handle, message.records.len()));
            }
        }
        assert_eq!(handles, [(1, 3), (2, SMALL_LEN), (3, 0)]);
    }

    #[test]
    fn what_others_may_join_is_no_full_frame() {
        let mut outbox = Outbox::default();
        outbox.message(&head(1)).unwrap();
        assert!(outbox.pop_full().is_none());
        outbox.records(&head(2), Bytes::from(vec![7; SMALL_LEN])).unwrap();
        outbox.message(&head(3)).unwrap();
        let mut assembler = grpc::Assembler::new(1 << 20);
        std::iter::from_fn(|| outbox.pop_full()).for_each(|frame| assembler.push(frame));
        let mut next =
            || assembler.pop().unwrap().map(|m| m.decode::<v1::FetchResponse>().unwrap());
        let handles = [next(), next(), next()].map(|message| message.map(|m| m.handle));
        assert_eq!(handles, [Some(1), Some(2), None]);
        assert!(outbox.pop().is_some() && outbox.pop().is_none());
    }
}
