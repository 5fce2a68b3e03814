//! Whether a read may wait for the disk.

use std::io;

use super::disk::{DiskFile, read_fully};

/// Threads that serve sockets never wait for a disk; disk threads may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Bytes that are not in memory are the error `WouldBlock`.
    Never,
    /// Read from the disk if need be.
    Allowed,
}

impl Wait {
    /// Fills `buffer` from `position` as far as the file goes.
    pub(super) fn read(
        self,
        file: &dyn DiskFile,
        buffer: &mut [u8],
        position: u64,
    ) -> io::Result<usize> {
        if self == Self::Allowed {
            return read_fully(file, buffer, position);
        }
        let mut done = 0;
        while done < buffer.len() {
            match file.read_resident(&mut buffer[done..], position + done as u64)? {
                Some(0) => break,
                Some(n) => done += n,
                None => return Err(io::ErrorKind::WouldBlock.into()),
            }
        }
        Ok(done)
    }
}
