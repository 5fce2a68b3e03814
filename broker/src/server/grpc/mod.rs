//! The gRPC listener: HTTP/2 by hyper, one acceptor, a current-thread runtime for each core, a
//! connection stays on its thread.
//!
//! [`listener`] accepts, [`connection`] serves one peer, [`dispatch`] goes by path: `Produce`,
//! `ProduceStream` and `Fetch` frame gRPC themselves and never copy a payload ([`produce`],
//! [`produce_stream`], [`fetch`] with its rounds in [`fetch_session`]), `Admin` is forwarded as it
//! lies ([`admin_proxy`]), the rest is small ([`log_service`], [`broker_control`],
//! [`describe_logs`]). On the wire all of it is plain gRPC.
//!
//! Bounds: [`budget`] on produce bytes, [`watch`] on peers that stall; message sizes, streams and
//! connections by the settings.

mod admin_proxy;
mod broker_control;
mod budget;
mod connection;
mod describe_logs;
mod dispatch;
mod fetch;
mod fetch_bell;
mod fetch_follower;
mod fetch_round;
mod fetch_session;
mod listener;
mod log_service;
mod metadata;
mod outbox;
mod produce;
mod produce_stream;
mod requests;
mod services;
#[cfg(test)]
mod tests;
mod watch;
mod wire;

pub(crate) use listener::DataThreads;
pub(crate) use services::Services;

/// The body of every response.
pub(crate) type ResponseBody =
    http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, tonic::Status>;
