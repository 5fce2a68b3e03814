//! The settings of the embedded registry and its bounds.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The longest frame taken, as ZooKeeper's `jute.maxbuffer`: 1 MiB less one.
pub(crate) const FRAME_BYTES_MAX: usize = 0xf_ffff;
/// The longest frame before there is a session: a connect record is 45 bytes.
pub(crate) const CONNECT_BYTES_MAX: usize = 1024;

/// How to run the embedded registry.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// Where log and snapshot are kept; made if missing, locked while the server lives.
    pub data: PathBuf,
    /// The address to listen on; port 0 picks a free one.
    pub listen: SocketAddr,
    /// The shortest session timeout granted. Default 400 ms.
    pub session_timeout_min: Duration,
    /// The longest session timeout granted. Default 60 s.
    pub session_timeout_max: Duration,
    /// Connections at a time; above it new ones are closed at once. Default 2,000.
    pub connections_max: usize,
    /// How long a connection may stay without a session. Default 10 s.
    pub connect_timeout: Duration,
    /// Bytes queued for one connection; a reader so slow is closed. Default 8 MiB.
    pub output_bytes_max: usize,
    /// Bytes queued for all connections together. Default 64 MiB.
    pub output_total_bytes_max: usize,
    /// Requests of one connection that are not yet answered; above it no more are read. Default
    /// 1,000.
    pub requests_max: usize,
    /// Bytes of all requests that are not yet answered; above it no more are read. Default 32 MiB.
    pub request_bytes_max: usize,
    /// Watched paths of one connection. Default 65,536.
    pub watches_max: usize,
    /// Nodes with their data; creates and sets beyond it are refused. Default 128 MiB.
    pub tree_bytes_max: usize,
    /// Sessions at a time. Default 10,000.
    pub sessions_max: usize,
    /// A snapshot is taken when the log is longer than this and than twice the last snapshot.
    /// Default 4 MiB.
    pub snapshot_log_bytes: u64,
}

impl EmbeddedOptions {
    /// The defaults, for this directory and address.
    pub fn new(data: impl Into<PathBuf>, listen: SocketAddr) -> Self {
        Self {
            data: data.into(),
            listen,
            session_timeout_min: Duration::from_millis(400),
            session_timeout_max: Duration::from_secs(60),
            connections_max: 2_000,
            connect_timeout: Duration::from_secs(10),
            output_bytes_max: 8 << 20,
            output_total_bytes_max: 64 << 20,
            requests_max: 1_000,
            request_bytes_max: 32 << 20,
            watches_max: 65_536,
            tree_bytes_max: 128 << 20,
            sessions_max: 10_000,
            snapshot_log_bytes: 4 << 20,
        }
    }
}
