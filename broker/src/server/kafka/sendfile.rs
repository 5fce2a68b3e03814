//! The two syscalls that answers go out by. Nothing here is unsafe: `nix` takes borrowed descriptors.

use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;

use nix::sys::sendfile::sendfile;
use nix::sys::socket::{MsgFlags, sendmsg};
use tokio::net::TcpStream;

use crate::api::FileRange;

/// Most bytes sent from a file at one time: more would keep other connections waiting.
const FILE_MAX: usize = 1 << 20;

/// Sends from memory; `more` has the kernel wait for what comes next instead of sending a short
/// packet.
pub(super) fn send_memory(to: &TcpStream, pieces: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
    let mut flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    if more {
        flags |= MsgFlags::from_bits_retain(libc::MSG_MORE);
    }
    let sent = sendmsg::<()>(to.as_raw_fd(), pieces, &[], flags, None)?;
    Ok(sent)
}

/// Sends from a file without copying; 0 where it ends before `from`.
pub(super) fn send_file(
    to: &TcpStream,
    file: &FileRange,
    from: u64,
    len: usize,
) -> io::Result<usize> {
    let fd = file.fd().ok_or(io::ErrorKind::Unsupported)?;
    let mut offset = libc::off_t::try_from(from).map_err(io::Error::other)?;
    Ok(sendfile(to, fd, Some(&mut offset), len.min(FILE_MAX))?)
}
