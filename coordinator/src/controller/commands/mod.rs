//! What Admin calls decide: pure functions of the picture and the request.
//!
//! None of them touches ZooKeeper, a clock or randomness; ids and seeds are passed in. Every row ends
//! in a [`Decision`](super::decision::Decision) or a refusal, and [`super::run`] carries it out.
//!
//! | event | picture | writes, in order | brokers are told |
//! |---|---|---|---|
//! | create topic | name free, brokers live | topic, `partitions`, `stored`, each state, overrides: one transaction; above its limit the topic node is made empty first and filled last | the topic, its overrides |
//! | create topic | name being deleted | refused: exists | – |
//! | create topic | request done before | nothing | – |
//! | create partitions | topic has fewer | new states, then the topic's value | the topic |
//! | delete topic | topic there | `/admin/delete/<t>` | that it is deleted |
//! | delete topic | being deleted | record of the request only | – |
//! | broker dropped it, or left | others still have to | – | – |
//! | broker dropped it, or left | it was the last | states, topic, overrides, mark ([`super::deletion`]) | overrides gone |
//! | alter configs | resource there | the overrides, whole | the overrides |
//! | brokers changed | any | – | live brokers; a new incarnation: sequence 1, read all |
//! | elected | topic node empty | the rest of an unfinished creation is deleted | – |
//! | elected | state nodes beyond the topic's value | deleted: an unfinished growth | – |
//! | elected | marks in `/admin/delete` | deletion goes on; of a topic not there: the mark is deleted | that it is deleted |
//!
//! The states of existing partitions are written by [`super::elections`].

mod configs;
mod create_partitions;
mod create_topic;

pub(crate) use configs::{alter_configs, check_topic_configs};
pub(crate) use create_partitions::create_partitions;
pub(crate) use create_topic::{NewTopic, create_topic, topic_value};

#[cfg(test)]
mod tests;

/// The values a topic gets where its creator names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    /// `num.partitions`.
    pub partitions: i32,
    /// `default.replication.factor`.
    pub replication_factor: i32,
    /// `min.insync.replicas` of topics that do not override it; at most what the brokers have.
    pub min_insync_replicas: usize,
    /// `unclean.leader.election.enable` of topics that do not override it.
    pub unclean_leader_election: bool,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            partitions: 1,
            replication_factor: 1,
            min_insync_replicas: 1,
            unclean_leader_election: false,
        }
    }
}

/// The most partitions one topic may have.
pub(crate) const PARTITIONS_MAX: i32 = 10_000;
