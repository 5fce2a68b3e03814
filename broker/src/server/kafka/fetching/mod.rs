//! What is behind the Fetch handler.
//!
//! [`session`] is what a client goes on fetching, and which request may go on (pure); [`session_cache`]
//! keeps the sessions of the broker. [`round`] reads the partitions of one request and waits until
//! there is enough; [`positions`] remembers for a connection where each partition is read on, so that
//! it need not be looked up. [`answer`] says it in Kafka's words.

pub(in crate::server::kafka) mod answer;
pub(in crate::server::kafka) mod positions;
pub(in crate::server::kafka) mod round;
pub(in crate::server::kafka) mod session;
mod session_cache;

pub(in crate::server) use session_cache::FetchSessions;
pub(in crate::server::kafka) use session_cache::{Begun, Lease};

use super::context::Context;
use super::{bell, handlers, leader_hints};
