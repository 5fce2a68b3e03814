//! TCP sockets with the options that were measured to matter.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};

use super::busy_poll::BusyPoll;
use super::error::ClientError;

/// Which congestion control a socket runs (`socket.congestion.control`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CongestionControl {
    /// reno where the peer is this machine, the system's elsewhere: BBR paces even loopback and costs
    /// two to four times the throughput there.
    #[default]
    Auto,
    /// The system's.
    Os,
    /// This one, or the connection fails.
    Named(String),
}

impl std::str::FromStr for CongestionControl {
    type Err = std::convert::Infallible;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Ok(match name {
            "auto" => Self::Auto,
            "os" => Self::Os,
            name => Self::Named(name.into()),
        })
    }
}

impl CongestionControl {
    /// Sets it on a socket whose peer is or will be `peer`. With [`CongestionControl::Auto`] a kernel
    /// that refuses is no error.
    pub fn apply<'s>(&self, socket: impl Into<SockRef<'s>>, peer: SocketAddr) -> io::Result<()> {
        match self {
            Self::Auto if peer.ip().to_canonical().is_loopback() => {
                if let Err(error) = set_congestion(&socket.into(), "reno") {
                    tracing::debug!(%error, "cannot set reno on a loopback socket");
                }
                Ok(())
            }
            Self::Auto | Self::Os => Ok(()),
            Self::Named(name) => set_congestion(&socket.into(), name),
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn set_congestion(socket: &SockRef<'_>, name: &str) -> io::Result<()> {
    socket.set_tcp_congestion(name.as_bytes())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set_congestion(_: &SockRef<'_>, _: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// How a client opens its sockets.
#[derive(Debug, Clone)]
pub struct SocketOptions {
    /// `socket.congestion.control`; default `auto`.
    pub congestion_control: CongestionControl,
    /// `socket.connection.setup.timeout.ms`: the longest wait for one connection, name resolution
    /// included; default 5 s.
    pub connect_timeout: Duration,
    /// A connection on which nothing came for so long is asked for a sign of life; default 10 s.
    pub keep_alive_interval: Duration,
    /// A connection that gives none for so long is closed; default 10 s.
    pub keep_alive_timeout: Duration,
    /// `busy.poll.us`: told of the socket's traffic; default off.
    pub busy_poll: BusyPoll,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            congestion_control: CongestionControl::default(),
            connect_timeout: Duration::from_secs(5),
            keep_alive_interval: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(10),
            busy_poll: BusyPoll::default(),
        }
    }
}

impl SocketOptions {
    /// A connected socket to `address` (`HOST:PORT`), trying each address the name has.
    pub(super) async fn connect(&self, address: &str) -> Result<TcpStream, ClientError> {
        match tokio::time::timeout(self.connect_timeout, self.connect_any(address)).await {
            Ok(connected) => connected,
            Err(_) => Err(ClientError::TimedOut {
                address: address.into(),
                what: "a connection attempt",
                after: self.connect_timeout,
            }),
        }
    }

    async fn connect_any(&self, address: &str) -> Result<TcpStream, ClientError> {
        let peers = tokio::net::lookup_host(address)
            .await
            .map_err(|error| ClientError::connect(address, &error))?;
        let mut last = ClientError::connect(address, &io::Error::other("the name has no address"));
        for peer in peers {
            match self.connect_one(address, peer).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect_one(&self, address: &str, peer: SocketAddr) -> Result<TcpStream, ClientError> {
        let failed = |error: io::Error| ClientError::connect(address, &error);
        let socket = if peer.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let socket = socket.map_err(failed)?;
        socket.set_nodelay(true).map_err(failed)?;
        self.congestion_control.apply(&socket, peer).map_err(|error| {
            let CongestionControl::Named(name) = &self.congestion_control else {
                return failed(error);
            };
            ClientError::CongestionControl { name: name.clone(), cause: error.to_string() }
        })?;
        socket.connect(peer).await.map_err(failed)
    }
}

/// A socket that tells of its traffic.
pub(super) struct Socket {
    stream: TcpStream,
    busy_poll: BusyPoll,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, busy_poll: BusyPoll) -> Self {
        Self { stream, busy_poll }
    }

    fn note(&self, moved: &Poll<io::Result<usize>>) {
        if matches!(moved, Poll::Ready(Ok(bytes)) if *bytes > 0) {
            self.busy_poll.traffic();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.busy_poll.traffic();
        }
        polled
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.note(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
