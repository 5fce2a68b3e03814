//! What we ask of ZooKeeper: one supervised session, every path, every payload.
//!
//! Start with [`Session`]: it owns the connection, builds a new one when the old has expired, and
//! says so on a watch channel. [`paths`] and [`payload`] are the only places that know where a
//! value lives and how it is written. Knows nothing of brokers, topics or groups beyond their
//! names; those are in [`crate::registry`].

pub mod connect_string;
pub mod election;
pub mod fault;
pub mod lease;
pub mod names;
pub mod paths;
pub mod payload;
mod session;
mod supervisor;

pub use connect_string::{ConnectString, InvalidConnectString};
pub use fault::{Fault, MAX_REQUEST_BYTES};
pub use lease::Lease;
pub use payload::{Payload, PayloadError};
pub use session::{
    Closed, DEFAULT_SESSION_TIMEOUT, FirstConnect, Live, Session, SessionOptions, SessionState,
    StartError,
};

/// The ZooKeeper client of one session; see [`Live::client`].
pub use zookeeper_client::Client;
