//! How the bytes of a connection are read: in blocks where HTTP/2 frames are small, and straight to
//! where they stay where frames are large.
//!
//! The HTTP/2 library reads into a buffer of 8 KiB and, when it sees that a frame is longer, makes
//! room for it and copies what it has. So a request of some KiB costs two reads and is copied once.
//! Here a block is read, many small frames at once, and given out up to the last frame that fits;
//! of a frame that does not fit the head is given alone, and the rest when there is room for it.
//! What is wrong about a frame is for the library to find: where frames begin decides only how
//! bytes are divided, never which ones come.
//!
//! | where the next byte is | what is read | where to |
//! |---|---|---|
//! | far inside a frame | what the library has room for | its buffer |
//! | at a frame's head or near its end, the last frame was large | a little | the block |
//! | the same, the last frame was small | a whole block | the block |
//!
//! After [`BURST`] bytes it is others' turn on this thread, above all the streams', which write what
//! came while it is still in the processor's caches.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of a block.
const BLOCK: usize = 64 << 10;
/// Bytes of a read that is to find the head of a large frame and little behind it.
const LITTLE: usize = 512;
/// A frame with as many bytes left is read into the library's buffer.
const FAR: usize = 4 << 10;
/// A frame from here on is large.
const LARGE: usize = 32 << 10;
/// Bytes read before others get their turn.
const BURST: usize = 512 << 10;

/// What a client sends before its first frame.
const PREFACE_LEN: usize = 24;
/// A frame's head: three bytes of length first.
const HEAD_LEN: usize = 9;

thread_local! {
    /// The block of whoever reads next on this thread; a connection keeps one only while there are bytes
    /// in it for the library to take.
    static SPARE: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Where in the stream of frames the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    /// Bytes of the frame that are still to come; 0 at or inside a head.
    left: usize,
    /// The part of a head that has passed.
    head: [u8; HEAD_LEN],
    head_len: usize,
    /// The last frame was large.
    large: bool,
}

impl Place {
    const START: Self = Self { left: PREFACE_LEN, head: [0; HEAD_LEN], head_len: 0, large: false };

    /// Steps over bytes.
    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let inside = self.left.min(bytes.len());
                self.left -= inside;
                bytes = &bytes[inside..];
                continue;
            }
            let of_head = (HEAD_LEN - self.head_len).min(bytes.len());
            self.head[self.head_len..self.head_len + of_head].copy_from_slice(&bytes[..of_head]);
            self.head_len += of_head;
            bytes = &bytes[of_head..];
            if self.head_len == HEAD_LEN {
                let [a, b, c, ..] = self.head;
                self.left = u32::from_be_bytes([0, a, b, c]) as usize;
                self.large = self.left >= LARGE;
                self.head_len = 0;
            }
        }
    }

    /// How many of `bytes`, which come next, are to be given where there is room for `room`: none
    /// where a head is not whole.
    fn divide(mut self, bytes: &[u8], room: usize) -> usize {
        let all = bytes.len().min(room);
        let mut given = 0;
        while given < all {
            let rest = &bytes[given..all];
            if self.left > 0 {
                let inside = self.left.min(rest.len());
                self.pass(&rest[..inside]);
                given += inside;
                continue;
            }
            let of_head = HEAD_LEN - self.head_len;
            let Some(head) = rest.get(..of_head) else {
                // The library makes room when it has the length, which comes first.
                return if given == 0 && room < of_head { all } else { given };
            };
            self.pass(head);
            if of_head + self.left > room - given {
                // Room is made for it once its head is there.
                return if given == 0 { of_head } else { given };
            }
            given += of_head;
        }
        given
    }
}

/// Reads a connection in blocks. Writes go through.
pub(super) struct BlockReader<S> {
    socket: S,
    block: Option<Box<[u8]>>,
    /// Bytes of the block that were read and not given: `start..end`.
    start: usize,
    end: usize,
    /// The part of a head whose rest is not there yet: a peer that waits inside one costs no block.
    part: [u8; HEAD_LEN],
    part_len: usize,
    place: Place,
    /// Bytes given since others had their turn.
    given: usize,
}

impl<S: AsyncRead + Unpin> BlockReader<S> {
    pub(super) fn new(socket: S) -> Self {
        let (part, place) = ([0; HEAD_LEN], Place::START);
        Self { socket, block: None, start: 0, end: 0, part, part_len: 0, place, given: 0 }
    }

    fn held(&self) -> &[u8] {
        self.block.as_deref().map_or(&[], |block| &block[self.start..self.end])
    }

    /// Gives of the block what is to be given; all where `whole` heads do not matter.
    fn give(&mut self, buffer: &mut ReadBuf<'_>, whole: bool) -> usize {
        let held = self.block.as_deref().map_or(&[][..], |block| &block[self.start..self.end]);
        let count = match whole {
            true => self.place.divide(held, buffer.remaining()),
            false => held.len().min(buffer.remaining()),
        };
        buffer.put_slice(&held[..count]);
        self.place.pass(&held[..count]);
        self.start += count;
        if self.start == self.end {
            self.put_back();
        }
        count
    }

    /// Lets the next connection have the block.
    fn put_back(&mut self) {
        (self.start, self.end) = (0, 0);
        if let Some(block) = self.block.take() {
            SPARE.with(|spare| spare.set(Some(block)));
        }
    }

    /// Reads on into the block. The part of a head may be there. Ready with false at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut block = self.block.take().unwrap_or_else(|| {
            SPARE.with(Cell::take).unwrap_or_else(|| vec![0; BLOCK].into_boxed_slice())
        });
        block.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.part_len > 0 {
            self.end = std::mem::take(&mut self.part_len);
            block[..self.end].copy_from_slice(&self.part[..self.end]);
        }
        let most = if self.place.large { LITTLE } else { BLOCK };
        let mut room = ReadBuf::new(&mut block[self.end..most]);
        let polled = Pin::new(&mut self.socket).poll_read(cx, &mut room);
        let read = room.filled().len();
        self.end += read;
        if polled.is_pending() && self.end < HEAD_LEN {
            self.part_len = std::mem::take(&mut self.end);
            self.part[..self.part_len].copy_from_slice(&block[..self.part_len]);
        }
        self.block = Some(block);
        if self.end == 0 {
            self.put_back();
        }
        ready!(polled)?;
        Poll::Ready(Ok(read > 0))
    }

    fn poll_some(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let given = self.give(buffer, true);
            if given > 0 {
                return Poll::Ready(Ok(given));
            }
            if self.held().is_empty() && self.place.left >= FAR {
                let before = buffer.filled().len();
                ready!(Pin::new(&mut self.socket).poll_read(cx, buffer))?;
                let read = &buffer.filled()[before..];
                self.place.pass(read);
                return Poll::Ready(Ok(read.len()));
            }
            if !ready!(self.poll_fill(cx))? {
                // The end, maybe inside a head.
                return Poll::Ready(Ok(self.give(buffer, false)));
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for BlockReader<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if this.given >= BURST {
            this.given = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let polled = this.poll_some(cx, buffer);
        match &polled {
            Poll::Ready(Ok(given)) => this.given += given,
            _ => this.given = 0,
        }
        polled.map_ok(|_| ())
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for BlockReader<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use super::*;

    /// Gives what each read finds, nothing for now where that is empty, then the end.
    struct Script(VecDeque<Vec<u8>>);

    impl AsyncRead for Script {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if let Some(mut next) = self.0.pop_front() {
                if next.is_empty() {
                    return Poll::Pending;
                }
                let later = next.split_off(next.len().min(buffer.remaining()));
                buffer.put_slice(&next);
                if !later.is_empty() {
                    self.0.push_front(later);
                }
            }
            Poll::Ready(Ok(()))
        }
    }

    fn frame(len: usize, fill: u8) -> Vec<u8> {
        let mut frame = (len as u32).to_be_bytes()[1..].to_vec();
        frame.extend_from_slice(&[0, 0, 0, 0, 0, 5]);
        frame.resize(HEAD_LEN + len, fill);
        frame
    }

    fn stream(lens: &[usize]) -> Vec<u8> {
        let mut bytes = vec![b'P'; PREFACE_LEN];
        lens.iter().enumerate().for_each(|(i, &len)| bytes.extend(frame(len, i as u8)));
        bytes
    }

    /// Reads all as the library does: room for a frame once its head is there, else for 8 KiB.
    /// Returns the bytes and the length of each piece.
    fn read_all(arrivals: Vec<Vec<u8>>) -> (Vec<u8>, Vec<usize>) {
        let mut reader = BlockReader::new(Script(arrivals.into()));
        let (mut all, mut pieces, mut place) = (Vec::new(), Vec::new(), Place::START);
        loop {
            let mut space = vec![0; if place.left > 0 { place.left } else { 8192 }];
            let mut buffer = ReadBuf::new(&mut space);
            let mut cx = Context::from_waker(Waker::noop());
            match Pin::new(&mut reader).poll_read(&mut cx, &mut buffer) {
                Poll::Ready(polled) => polled.unwrap(),
                Poll::Pending => continue,
            }
            if buffer.filled().is_empty() {
                assert!(reader.block.is_none());
                return (all, pieces);
            }
            place.pass(buffer.filled());
            pieces.push(buffer.filled().len());
            all.extend_from_slice(buffer.filled());
        }
    }

    #[test]
    fn small_frames_come_together_and_none_is_cut() {
        let bytes = stream(&[60, 280, 0, 280, 8000, 280]);
        let (all, pieces) = read_all(vec![bytes.clone()]);
        assert_eq!(all, bytes);
        assert_eq!(pieces[..3], [PREFACE_LEN, 4 * HEAD_LEN + 620, HEAD_LEN + 8000]);
    }

    #[test]
    fn a_frame_that_does_not_fit_is_announced_by_its_head() {
        let bytes = stream(&[60, 100_000, 60, 100_000]);
        let (all, pieces) = read_all(vec![bytes.clone()]);
        assert_eq!(all, bytes);
        let heads = pieces.iter().filter(|&&len| len == HEAD_LEN).count();
        assert_eq!(heads, 2, "{pieces:?}");
        assert_eq!(pieces.iter().filter(|&&len| len > 90_000).count(), 1, "{pieces:?}");
    }

    #[test]
    fn every_byte_comes_once_and_in_order_however_they_arrive() {
        let bytes = stream(&[0, 5, 8183, 8184, 70_000, 1, 65_536, 16_384, 300, 300, 2]);
        for step in [1, 7, 9, 100, 4096, 65_536, 1 << 20] {
            for cut in [0, 1, 8, 100] {
                let bytes = &bytes[..bytes.len() - cut];
                let (all, _) = read_all(bytes.chunks(step).map(<[u8]>::to_vec).collect());
                assert!(all == bytes, "in steps of {step}, cut by {cut}");
            }
        }
        // Whatever it is, the library is to see it.
        let nonsense: Vec<u8> = (0..100_000_u32).map(|i| (i * 31 % 251) as u8).collect();
        let (all, _) = read_all(nonsense.chunks(1000).map(<[u8]>::to_vec).collect());
        assert!(all == nonsense);
    }

    #[test]
    fn room_for_a_part_of_a_head_is_used() {
        let bytes = stream(&[10, 10]);
        let mut reader = BlockReader::new(Script(vec![bytes.clone()].into()));
        let mut cx = Context::from_waker(Waker::noop());
        let mut all = Vec::new();
        for room in [PREFACE_LEN, 3, 1, 5, 10, 8, 100] {
            let mut space = vec![0; room];
            let mut buffer = ReadBuf::new(&mut space);
            assert!(Pin::new(&mut reader).poll_read(&mut cx, &mut buffer).is_ready());
            assert!(!buffer.filled().is_empty());
            all.extend_from_slice(buffer.filled());
        }
        assert_eq!(all, bytes);
    }

    #[test]
    fn who_waits_inside_a_head_keeps_no_block() {
        let bytes = stream(&[10, 10, 10]);
        for cut in PREFACE_LEN + 1..bytes.len() {
            let [now, later] = [&bytes[..cut], &bytes[cut..]].map(<[u8]>::to_vec);
            let mut reader = BlockReader::new(Script([now, Vec::new(), later].into()));
            let (mut all, mut waited) = (Vec::new(), false);
            while all.len() < bytes.len() {
                let mut space = [0; 8192];
                let mut buffer = ReadBuf::new(&mut space);
                let mut cx = Context::from_waker(Waker::noop());
                if Pin::new(&mut reader).poll_read(&mut cx, &mut buffer).is_pending() {
                    assert!(reader.block.is_none(), "cut at {cut}");
                    waited = true;
                }
                all.extend_from_slice(buffer.filled());
            }
            assert!(all == bytes && waited, "cut at {cut}");
        }
    }

    #[test]
    fn others_get_their_turn() {
        let bytes = stream(&[1 << 20, 1 << 20]);
        let mut reader = BlockReader::new(Script(vec![bytes].into()));
        let mut cx = Context::from_waker(Waker::noop());
        let (mut read, mut pauses) = (0, 0);
        while read < 2 << 20 {
            let mut space = vec![0; 100_000];
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut reader).poll_read(&mut cx, &mut buffer) {
                Poll::Ready(polled) => polled.unwrap(),
                Poll::Pending => pauses += 1,
            }
            read += buffer.filled().len();
        }
        assert!((3..=4).contains(&pauses), "{pauses}");
    }
}
