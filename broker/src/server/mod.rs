//! The listeners. Everything a client may ask goes through `api`; nothing here decides about
//! partitions.
//!
//! [`listener`] accepts for both protocols and hands connections to the data threads, [`seat`] says which
//! of them serves a connection from then on; [`grpc`] and [`kafka`] each serve one. What they share is in
//! [`services`], [`budget`] (bytes of requests taken), [`complaints`] (lines of the log about peers),
//! [`bell`] (what partitions ring), [`alarm`] (how long a request waits for that), [`roaming_socket`],
//! [`auto_create`] and [`kafka_endpoints`] (who is told which address).

mod alarm;
mod auto_create;
mod bell;
mod budget;
mod complaints;
mod grpc;
mod kafka;
mod kafka_endpoints;
mod listener;
mod roaming_socket;
mod seat;
mod services;

pub(crate) use kafka_endpoints::{Endpoint, KafkaEndpoints};
pub(crate) use listener::{DataThreads, Protocol};
pub(crate) use services::Services;
