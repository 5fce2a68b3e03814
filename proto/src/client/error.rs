//! What can go wrong between a client and its brokers, with cause and remedy.

use std::io;
use std::time::Duration;

use crate::BrokerId;
use crate::grpc::FrameError;

/// Why a request did not come through. What a broker answers *inside* a response is not here: see
/// [`crate::ErrorCode`].
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// An address that cannot be one.
    #[error("`{0}` is not an address: give HOST:PORT, for example localhost:9094")]
    InvalidAddress(String),
    /// No connection could be made.
    #[error(
        "cannot connect to {address}: {cause}; is the broker running, and is the address the one \
         of its gRPC port (9094 by default)?"
    )]
    Connect {
        /// Where to.
        address: String,
        /// What the system said.
        cause: String,
    },
    /// The socket options were refused.
    #[error(
        "cannot set the congestion control `{name}` on a socket: {cause}; the kernel lists those \
         allowed in /proc/sys/net/ipv4/tcp_allowed_congestion_control"
    )]
    CongestionControl {
        /// As configured.
        name: String,
        /// What the system said.
        cause: String,
    },
    /// The connection broke, or never spoke HTTP/2.
    #[error(
        "the connection to {address} was lost: {cause}; the broker may have stopped (the request \
         can be tried again), or the port does not speak gRPC"
    )]
    ConnectionLost {
        /// Whose.
        address: String,
        /// What was seen.
        cause: String,
    },
    /// No answer in time.
    #[error(
        "{address} did not answer {what} within {} ms; it may be overloaded or stopped",
        after.as_millis()
    )]
    TimedOut {
        /// Who was asked.
        address: String,
        /// For what.
        what: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// The whole call was refused.
    #[error("{address} refused the call: {} ({:?})", status.message(), status.code())]
    Refused {
        /// By whom.
        address: String,
        /// Code, cause and remedy.
        status: tonic::Status,
    },
    /// The peer's bytes make no sense.
    #[error("{address} sent what cannot be read: {source}")]
    Frame {
        /// Who sent it.
        address: String,
        /// What is wrong with it.
        source: FrameError,
    },
    /// None of the addresses known answered.
    #[error("no broker of the cluster can be reached; tried: {}", tried.join("; "))]
    NoBroker {
        /// An error for each.
        tried: Vec<String>,
    },
    /// The broker is not among the live ones.
    #[error(
        "broker {0} is not registered now: it may be restarting; the request can be tried again"
    )]
    UnknownBroker(BrokerId),
}

impl ClientError {
    /// Whether the same request may succeed later.
    pub fn is_retriable(&self) -> bool {
        use tonic::Code::{Aborted, Cancelled, DeadlineExceeded, ResourceExhausted, Unavailable};
        match self {
            Self::Connect { .. }
            | Self::ConnectionLost { .. }
            | Self::TimedOut { .. }
            | Self::NoBroker { .. }
            | Self::UnknownBroker(_) => true,
            Self::Refused { status, .. } => matches!(
                status.code(),
                Unavailable | DeadlineExceeded | ResourceExhausted | Aborted | Cancelled
            ),
            Self::InvalidAddress(_) | Self::CongestionControl { .. } | Self::Frame { .. } => false,
        }
    }

    pub(super) fn connect(address: &str, error: &io::Error) -> Self {
        Self::Connect { address: address.into(), cause: error.to_string() }
    }
}

/// An error with all its sources, as one text: hyper keeps the reason in them.
pub(super) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    text
}
