//! [`Outgoing`]: an answer as it goes out: memory, records from memory or from a file, memory, …
//!
//! Every length is fixed before the first byte goes, since the frame's size goes first. A file that
//! turns out shorter is therefore the end of the connection.

use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::Bytes;
use proto::kafka::{Encoded, Gap};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::budget::Budget;
use super::{pace, sendfile};
use crate::api::FileRange;

/// Pieces given to the kernel at one time.
const PIECES_MAX: usize = 64;

/// An answer.
pub(super) struct Outgoing {
    encoded: Encoded,
    /// For the gaps without bytes, in their order.
    files: Vec<FileRange>,
}

/// Why an answer did not go out.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error("the connection broke: {0}")]
    Socket(#[from] io::Error),
    #[error("the peer takes nothing of its answer, or next to nothing")]
    Stalled,
    #[error("a segment's file is shorter than it was, in the middle of an answer")]
    FileCut,
}

enum Piece<'a> {
    Memory(&'a [u8]),
    File(&'a FileRange, usize),
}

impl Outgoing {
    pub(super) fn new(encoded: Encoded, files: Vec<FileRange>) -> Self {
        debug_assert_eq!(
            encoded.gaps.iter().filter(|gap| gap.bytes.is_none()).count(),
            files.len()
        );
        Self { encoded, files }
    }

    /// Memory that it takes; records in files take none.
    pub(super) fn held(&self) -> usize {
        let gaps = self.encoded.gaps.iter();
        let here = gaps.filter_map(|gap| gap.bytes.as_ref()).map(Bytes::len);
        self.encoded.buffer.capacity() + here.sum::<usize>()
    }

    fn pieces(&self) -> Vec<Piece<'_>> {
        let mut pieces = Vec::with_capacity(2 * self.encoded.gaps.len() + 1);
        let mut files = self.files.iter();
        let mut from = 0;
        for Gap { at, len, bytes } in &self.encoded.gaps {
            pieces.push(Piece::Memory(&self.encoded.buffer[from..*at]));
            from = *at;
            match bytes {
                Some(bytes) => pieces.push(Piece::Memory(bytes)),
                None => pieces.extend(files.next().map(|file| Piece::File(file, *len))),
            }
        }
        pieces.push(Piece::Memory(&self.encoded.buffer[from..]));
        pieces
    }

    /// Sends all of it; a peer that takes nothing for as long as `stalled`, or too little for longer,
    /// is given up.
    pub(super) async fn send(
        &self,
        to: &TcpStream,
        stalled: Duration,
        budget: &Budget,
    ) -> Result<(), SendError> {
        let patience =
            Patience { stalled, begun: Instant::now(), bytes: self.encoded.len(), budget };
        let pieces = self.pieces();
        let mut left = &pieces[..];
        while let Some(first) = left.first() {
            left = match first {
                Piece::File(file, len) => {
                    send_file(to, file, *len, &patience).await?;
                    &left[1..]
                }
                Piece::Memory(_) => {
                    let is_memory = |piece: &&Piece| matches!(piece, Piece::Memory(_));
                    let count = left.iter().take(PIECES_MAX).take_while(is_memory).count();
                    let more = left.len() > count;
                    let (now, behind) = left.split_at(count);
                    send_memory(to, now, more, &patience).await?;
                    behind
                }
            };
        }
        Ok(())
    }
}

/// How long a peer may take for its answer.
struct Patience<'a> {
    stalled: Duration,
    begun: Instant,
    bytes: usize,
    budget: &'a Budget,
}

impl Patience<'_> {
    /// Waits until the peer takes something.
    async fn writable(&self, to: &TcpStream) -> Result<(), SendError> {
        match tokio::time::timeout(self.stalled, to.writable()).await {
            Ok(ready) => ready?,
            Err(_) => return Err(SendError::Stalled),
        }
        let allowed = pace::allowed(self.stalled, self.bytes, self.budget.is_awaited());
        if self.begun.elapsed() >= allowed { Err(SendError::Stalled) } else { Ok(()) }
    }
}

async fn send_memory(
    to: &TcpStream,
    pieces: &[Piece<'_>],
    more: bool,
    patience: &Patience<'_>,
) -> Result<(), SendError> {
    let mut slices: Vec<IoSlice<'_>> = pieces
        .iter()
        .filter_map(|piece| match piece {
            Piece::Memory(bytes) if !bytes.is_empty() => Some(IoSlice::new(bytes)),
            _ => None,
        })
        .collect();
    let mut left = &mut slices[..];
    while !left.is_empty() {
        let sent = to.try_io(Interest::WRITABLE, || sendfile::send_memory(to, left, more));
        match sent {
            Ok(sent) => IoSlice::advance_slices(&mut left, sent),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                patience.writable(to).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn send_file(
    to: &TcpStream,
    file: &FileRange,
    len: usize,
    patience: &Patience<'_>,
) -> Result<(), SendError> {
    let mut done = 0;
    while done < len {
        let from = file.position() + done as u64;
        let sent =
            to.try_io(Interest::WRITABLE, || sendfile::send_file(to, file, from, len - done));
        match sent {
            Ok(0) => return Err(SendError::FileCut),
            Ok(sent) => {
                done += sent;
                // Other connections of this thread have their turn.
                tokio::task::yield_now().await;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                patience.writable(to).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
