//! [`RoamingSocket`]: a socket whose connection may go from one data thread to another.
//!
//! A runtime tells of a socket only while it is registered there; a socket is registered anew by the
//! first who uses it on another thread. Until then the old thread wakes the connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::seat;

/// A socket and where it is registered.
#[derive(Debug)]
pub(in crate::server) struct RoamingSocket {
    /// Gone where it could not be registered.
    socket: Option<TcpStream>,
    thread: usize,
}

impl RoamingSocket {
    /// A socket that is registered on this thread.
    pub(in crate::server) fn new(socket: TcpStream) -> Self {
        Self { socket: Some(socket), thread: seat::here() }
    }

    /// The socket, registered on this thread.
    pub(in crate::server) fn here(&mut self) -> io::Result<&mut TcpStream> {
        if self.thread != seat::here()
            && let Some(socket) = self.socket.take()
        {
            self.socket = Some(TcpStream::from_std(socket.into_std()?)?);
            self.thread = seat::here();
        }
        self.socket.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AsyncRead for RoamingSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(self.here()?).poll_read(cx, buffer)
    }
}

impl AsyncWrite for RoamingSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.here()?).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.here()?).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.here()?).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.here()?).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn a_socket_goes_on_where_another_thread_uses_it() {
        let first = runtime();
        let (mut ours, mut theirs) = first.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            (RoamingSocket::new(ours), listener.accept().await.unwrap().0)
        });
        first.block_on(async { theirs.write_all(b"before").await.unwrap() });
        let second = std::thread::spawn(move || {
            seat::number_this_thread(1);
            // What came before, what comes later, and what goes out: nobody drives the first runtime.
            runtime().block_on(async {
                let mut buffer = [0; 6];
                ours.read_exact(&mut buffer).await.unwrap();
                assert_eq!(&buffer, b"before");
                ours.write_all(b"answer").await.unwrap();
                ours.read_exact(&mut buffer).await.unwrap();
                assert_eq!(&buffer, b"behind");
            });
        });
        first.block_on(async {
            let mut buffer = [0; 6];
            theirs.read_exact(&mut buffer).await.unwrap();
            assert_eq!(&buffer, b"answer");
            theirs.write_all(b"behind").await.unwrap();
        });
        second.join().unwrap();
    }
}
