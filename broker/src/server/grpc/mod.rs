//! gRPC: HTTP/2 by hyper.
//!
//! [`connection`] serves one peer, [`dispatch`] goes by path: `Produce`,
//! `ProduceStream` and `Fetch` frame gRPC themselves and never copy a payload ([`produce`],
//! [`produce_stream`], [`fetch`] with its rounds in [`fetch_session`]), `Admin` is forwarded as it
//! lies ([`admin_proxy`]), groups are asked of their coordinator ([`membership`], [`group_offsets`],
//! [`coordinated`]), the rest is small ([`log_service`], [`broker_control`], [`describe_logs`]). On the
//! wire all of it is plain gRPC.
//!
//! Bounds: the budget on produce bytes, [`watch`] on peers that stall; message sizes, streams and
//! connections by the settings.

mod admin_proxy;
mod block_reader;
mod broker_control;
mod connection;
mod coordinated;
mod describe_logs;
mod dispatch;
mod fetch;
mod fetch_follower;
mod fetch_round;
mod fetch_session;
mod group_offsets;
mod log_service;
mod membership;
mod metadata;
mod outbox;
mod produce;
mod produce_stream;
mod requests;
mod streams;
#[cfg(test)]
pub(super) mod tests;
mod waiting;
mod watch;
mod wire;

pub(super) use connection::serve;

use super::{Services, alarm, auto_create, bell, budget, roaming_socket};

/// The body of every response.
pub(crate) type ResponseBody =
    http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, tonic::Status>;
