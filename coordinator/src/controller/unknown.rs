//! Refusals for names that are not there.

use proto::ErrorCode;

use super::decision::Refusal;
use super::state::Cluster;

/// There is no such topic.
pub(crate) fn unknown_topic(cluster: &Cluster, name: &str) -> Refusal {
    let known = cluster.topics.keys().filter(|other| *other != name);
    let nearest = known.map(|other| (strsim::damerau_levenshtein(other, name), other)).min();
    let remedy = match nearest {
        Some((distance, other)) if distance <= 2 => {
            format!("did you mean `{other}`? Listing topics shows what is there")
        }
        _ => "listing topics shows what is there".to_owned(),
    };
    let message = match cluster.deletions.contains_key(name) {
        true => format!("topic `{name}` is being deleted"),
        false => format!("there is no topic `{name}`"),
    };
    Refusal::new(ErrorCode::UnknownTopicOrPartition, message, remedy)
}

/// There is no such group.
pub(crate) fn unknown_group(name: &str) -> Refusal {
    let message = format!("there is no group `{name}`");
    let remedy = "listing groups shows what is there";
    Refusal::new(ErrorCode::GroupIdNotFound, message, remedy)
}
