//! Every path of the registry, below the chroot. Nobody else writes a path.
//!
//! Names have been checked by [`super::names`] before they get here.

use proto::{BrokerId, Partition};

/// The cluster's id.
pub const CLUSTER_ID: &str = "/cluster/id";
/// Live brokers, one ephemeral each.
pub const BROKER_IDS: &str = "/brokers/ids";
/// Topics, one persistent node each.
pub const TOPICS: &str = "/brokers/topics";
/// The active controller's ephemeral node.
pub const CONTROLLER: &str = "/controller";
/// Counts the controllers; every controller write checks its version.
pub const CONTROLLER_EPOCH: &str = "/controller_epoch";
/// Consumer groups.
pub const CONSUMERS: &str = "/consumers";
/// The next free block of producer ids.
pub const PRODUCER_IDS: &str = "/producer_ids";
/// Parent of unfinished work; its value records the requests finished lately.
pub const ADMIN: &str = "/admin";
/// Accepted, unfinished deletions.
pub const ADMIN_DELETE: &str = "/admin/delete";
/// Accepted, unfinished reassignments.
pub const ADMIN_REASSIGN: &str = "/admin/reassign";
/// Accepted, unfinished elections.
pub const ADMIN_ELECT: &str = "/admin/elect";

/// The persistent nodes that must be there before anything else; [`super::Session`] makes them.
pub const ROOTS: [&str; 10] = [
    "/cluster",
    BROKER_IDS,
    TOPICS,
    "/config/topics",
    "/config/brokers",
    "/config/clients",
    CONSUMERS,
    ADMIN_DELETE,
    ADMIN_REASSIGN,
    ADMIN_ELECT,
];

/// `/brokers/ids/<id>`
pub fn broker(id: BrokerId) -> String {
    format!("{BROKER_IDS}/{id}")
}

/// `/brokers/topics/<t>`
pub fn topic(topic: &str) -> String {
    format!("{TOPICS}/{topic}")
}

/// `/brokers/topics/<t>/stored`
pub fn stored_parent(topic: &str) -> String {
    format!("{TOPICS}/{topic}/stored")
}

/// `/brokers/topics/<t>/stored/<id>`
pub fn stored(topic: &str, id: BrokerId) -> String {
    format!("{TOPICS}/{topic}/stored/{id}")
}

/// `/brokers/topics/<t>/partitions`
pub fn partitions(topic: &str) -> String {
    format!("{TOPICS}/{topic}/partitions")
}

/// `/brokers/topics/<t>/partitions/<p>`
pub fn partition(topic: &str, partition: Partition) -> String {
    format!("{TOPICS}/{topic}/partitions/{partition}")
}

/// `/brokers/topics/<t>/partitions/<p>/state`
pub fn partition_state(topic: &str, partition: Partition) -> String {
    format!("{TOPICS}/{topic}/partitions/{partition}/state")
}

/// `/config/{topics,brokers,clients}`; `kind` is the node's name.
pub fn config_parent(kind: &str) -> String {
    format!("/config/{kind}")
}

/// `/config/{topics,brokers,clients}/<name>`
pub fn config(kind: &str, name: &str) -> String {
    format!("/config/{kind}/{name}")
}

/// `/consumers/<g>`
pub fn group(group: &str) -> String {
    format!("{CONSUMERS}/{group}")
}

/// `/consumers/<g>/ids`
pub fn members(group: &str) -> String {
    format!("{CONSUMERS}/{group}/ids")
}

/// `/consumers/<g>/ids/<c>`
pub fn member(group: &str, consumer: &str) -> String {
    format!("{CONSUMERS}/{group}/ids/{consumer}")
}

/// `/consumers/<g>/plan`
pub fn plan(group: &str) -> String {
    format!("{CONSUMERS}/{group}/plan")
}

/// `/consumers/<g>/owners`
pub fn owners(group: &str) -> String {
    format!("{CONSUMERS}/{group}/owners")
}

/// `/consumers/<g>/owners/<t>`
pub fn topic_owners(group: &str, topic: &str) -> String {
    format!("{CONSUMERS}/{group}/owners/{topic}")
}

/// `/consumers/<g>/owners/<t>/<p>`
pub fn owner(group: &str, topic: &str, partition: Partition) -> String {
    format!("{CONSUMERS}/{group}/owners/{topic}/{partition}")
}

/// `/consumers/<g>/offsets`
pub fn offsets(group: &str) -> String {
    format!("{CONSUMERS}/{group}/offsets")
}

/// `/consumers/<g>/offsets/<t>`
pub fn topic_offsets(group: &str, topic: &str) -> String {
    format!("{CONSUMERS}/{group}/offsets/{topic}")
}

/// `/consumers/<g>/offsets/<t>/<p>`
pub fn offset(group: &str, topic: &str, partition: Partition) -> String {
    format!("{CONSUMERS}/{group}/offsets/{topic}/{partition}")
}

/// `/admin/delete/<t>`
pub fn admin_delete(topic: &str) -> String {
    format!("{ADMIN_DELETE}/{topic}")
}

/// `/admin/reassign/<t>`
pub fn admin_reassign(topic: &str) -> String {
    format!("{ADMIN_REASSIGN}/{topic}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_design() {
        assert_eq!(broker(BrokerId(3)), "/brokers/ids/3");
        assert_eq!(partition_state("logs", 7), "/brokers/topics/logs/partitions/7/state");
        assert_eq!(stored("logs", BrokerId(1)), "/brokers/topics/logs/stored/1");
        assert_eq!(config("topics", "logs"), "/config/topics/logs");
        assert_eq!(member("g", "c1"), "/consumers/g/ids/c1");
        assert_eq!(plan("g"), "/consumers/g/plan");
        assert_eq!(owner("g", "logs", 0), "/consumers/g/owners/logs/0");
        assert_eq!(offset("g", "logs", 0), "/consumers/g/offsets/logs/0");
        assert_eq!(admin_delete("logs"), "/admin/delete/logs");
    }
}
