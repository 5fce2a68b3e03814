//! Giving partitions other replicas (KIP-455): more of them, fewer, or elsewhere.
//!
//! A request (`request`) only records what each partition is to have, in `/admin/reassign/<t>`. What
//! then happens is decided again after every event, from that record and the picture, by a pure
//! function of one partition (`partition`), put together to writes for a topic (`topic`). So a
//! reassignment goes on over a fail-over, waits for who is dead, and takes a new target at any time.
//! `calls` carries it out for the term, `progress` tells how far it is.
//!
//! | what happened | written, in one transaction where it fits | told |
//! |---|---|---|
//! | asked for | record, the topic's value with the widened replicas, the states as they are | the topic |
//! | replaced, taken back, another throttle | record; then as the table of `partition` has it | the topic |
//! | enough replicas in sync | states, the topic's value, record without the partition (none left: gone) | the topic |
//! | topic deleted | the record goes with the topic | – |
//! | elected | record of a topic that is not there: deleted | – |
//!
//! Should a very large topic's writes not fit into one transaction, the order above keeps what is
//! there after a crash consistent: replicas are never widened without a record, and nobody is in the
//! ISR of a partition of which it is no replica.
//!
//! A throttle is part of the record and told with the topic: brokers that come in go by it as long as
//! they come in. What an operator has set for a broker stays as it is, and holds again afterwards.
//!
//! States are written even where only the replicas change: of two versions of a partition brokers
//! take the one with the higher (leader epoch, version of the state).

mod calls;
mod partition;
mod progress;
mod request;
mod topic;

#[cfg(test)]
mod tests;

pub(crate) use calls::Looks;
pub(crate) use progress::{list, with_progress};
