//! Kafka's protocol: frames on a socket, answered in the order they came.
//!
//! [`connection`] serves one peer: it takes requests off [`frames`], has [`dispatch`] begin them, and
//! sends what they answer ([`outgoing`], by [`sendfile`] where it is long and on disk). `handlers` has
//! one file an API; each turns a message of `proto::kafka` into calls of `api` and back.
//! [`ordering`] says what may be begun before what came earlier is answered. [`fetching`] reads for
//! Fetch, and has its sessions.
//!
//! Bounds: a frame by `socket.request.max.bytes`, and all frames that are being worked on by
//! `queued.max.bytes`; decoded items by the reader in `proto`, and all that are held, with the answers, by
//! `queued.max.bytes` again; unanswered requests of a connection by [`ordering`]; a peer that takes or
//! sends nothing by `socket.stalled.timeout.ms`, and one that takes or sends next to nothing by [`pace`].

mod connection;
mod context;
mod dispatch;
mod fetching;
mod frames;
mod handlers;
mod leader_hints;
mod ordering;
mod outgoing;
mod pace;
mod sendfile;
#[cfg(test)]
mod tests;

pub(super) use connection::serve;
pub(super) use fetching::FetchSessions;

use super::{Services, alarm, auto_create, bell, budget, roaming_socket};
