//! How the record of finished requests names what a request did.

/// A topic was created.
pub(crate) fn create(topic: &str) -> String {
    format!("create topic {topic}")
}

/// A topic's deletion was accepted.
pub(crate) fn delete(topic: &str) -> String {
    format!("delete topic {topic}")
}

/// A topic was grown.
pub(crate) fn grow(topic: &str) -> String {
    format!("grow topic {topic}")
}

/// Partitions of a topic were given other replicas.
pub(crate) fn reassign(topic: &str) -> String {
    format!("reassign topic {topic}")
}

/// Overrides of a resource were altered.
pub(crate) fn alter(kind: &str, name: &str) -> String {
    format!("alter {kind} {name}")
}

/// A group was deleted.
pub(crate) fn delete_group(group: &str) -> String {
    format!("delete group {group}")
}

/// Offsets of a group were reset.
pub(crate) fn reset(group: &str) -> String {
    format!("reset group {group}")
}
