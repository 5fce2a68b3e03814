//! Following: the partitions that other brokers lead are fetched from them, batch for batch, into
//! logs with the same bytes.
//!
//! ```text
//! Fetchers  follow / stop / close                    whoever settles placement, any thread
//!   └ Fetcher, one a (leader, shard, lane)           a thread with a runtime of its own
//!       ├ LocalReplica, one a partition              fetch_state: what is done about each event
//!       └ session: one Fetch stream of the leader    rounds: handles, what is under way
//! ```
//!
//! - [`Fetchers`] owns everything and is all that the rest of the broker knows of it.
//! - `fetcher` connects, and connects again; `session` runs the stream, `answers` does what its
//!   messages mean, `log_starts` asks beside it; `rounds` and `fetch_state` are both without the
//!   stream: pure. `records` says what may be appended, `followed` appends it.
//! - `lane`: who catches up has a thread, a connection and a throttle (`throttle`) apart from those
//!   who keep up. `refill` tells how far they are, `board` what all fetchers are at.
//!
//! Appends are done on the fetcher's thread, never on a data runtime. What a follower has it tells
//! with the next round, or with one of its own when there is none (acks=all waits for it). Nothing
//! here knows ZooKeeper or decides who leads.

mod answers;
mod board;
pub(in crate::replication) mod fetch_state;
mod fetcher;
mod fetchers;
pub(in crate::replication) mod followed;
mod lane;
mod local_replica;
mod log_starts;
mod records;
mod refill;

mod rounds;
mod session;
mod throttle;

#[cfg(test)]
mod tests;

pub use fetchers::{Fetchers, LeaderAddress};
