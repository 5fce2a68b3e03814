//! The classic group: its members elect a leader among them, which assigns the partitions.
//!
//! [`Group`] is a pure state machine. Time and fresh member ids are passed in, who waits for an
//! answer is a [`Token`], what is to be done comes out as [`Effects`]. It knows no sockets, no log
//! and no clock.
//!
//! | state | join | sync | heartbeat | commit | leaves it when |
//! |---|---|---|---|---|---|
//! | Empty | begins a rebalance | unknown member | unknown member | generation -1 only | somebody joins: Preparing |
//! | PreparingRebalance | waits | rebalance in progress | rebalance in progress, alive | yes | all have joined, or time is up: Completing (nobody left: Empty) |
//! | CompletingRebalance | as before: the generation; else Preparing | waits for the leader's | yes | rebalance in progress | the assignment is stored: Stable; somebody goes or does not sync: Preparing |
//! | Stable | as before: the generation; leader or changed: Preparing | the assignment | yes | yes | somebody joins, goes, or changes: Preparing |
//! | Dead | not here | not here | not here | not here | never |
//!
//! Invariants, each checked by the simulation in `tests/`:
//!
//! 1. A generation has one protocol, one leader and one assignment.
//! 2. A member told of a generation is a member of it.
//! 3. Every token is answered exactly once; a member's second request answers its first.
//! 4. Whoever waits is answered by a deadline: [`Group::wake_at`] is never later than the next one.
//! 5. No sync is answered with an assignment before that is stored.
//!
//! Where this differs from Kafka: a static member that comes back rebalances the group also when
//! its topics have changed (Kafka looks at the protocol's name only), a vote that ends level goes to
//! the leader's preference (Kafka leaves it to a hash map), and ids that were handed out and not yet
//! used are counted against the group's size.

mod consumer_protocol;
mod effect;
mod group;
mod heartbeat;
mod join;
mod leave;
mod member;
mod protocol;
mod rebalance;
mod request;
mod state;
mod static_member;
mod stored;
mod sync;
mod timers;

#[cfg(test)]
mod tests;

pub use consumer_protocol::subscribed_topics;
pub use effect::{Effect, Effects, JoinRefusal, Joined, JoinedMember, Synced, Ticket, Token};
pub use group::Group;
pub use member::Member;
pub use protocol::Protocol;
pub use request::{Caller, Join, Leaving, Limits, Moment, Sync};
pub use state::State;
pub use stored::{GroupMetadata, MemberMetadata};
