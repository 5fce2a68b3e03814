//! What a group's coordinator has on record: the records of `__consumer_offsets`, read whole in the end.
//!
//! A record of the group stands for each generation and says who was given what; a record of an offset
//! for each commit. They are in the log in the order in which they were decided, whichever brokers
//! coordinated, so they take the place of the registry's nodes.

use anyhow::{Context, Result};
use bytes::{Buf, Bytes};
use coordinator::registry::partitions;
use proto::kafka::group_records::{GroupMetadataValue, GroupRecordKey, OffsetCommitValue};
use zookeeper_client::Client;

use crate::checker::{Claim, StoredOffset};
use crate::recorder::read_records;

const TOPIC: &str = "__consumer_offsets";
/// One, so that it is known which partition the group belongs to.
pub const PARTITIONS: i32 = 1;

/// Which broker coordinates groups; none before the topic is there.
pub async fn coordinator(client: &Client) -> Result<Option<i32>> {
    let states = partitions::read_all(client, TOPIC, PARTITIONS as usize).await?;
    let state = states.into_iter().flatten().next();
    Ok(state.and_then(|state| state.value.leader).map(|leader| leader.0))
}

/// Who owned which partition of the topic in which generation, and every offset that was committed.
pub fn read(bootstrap: &str, group: &str, topic: &str) -> Result<(Vec<Claim>, Vec<StoredOffset>)> {
    let (mut claims, mut stored) = (Vec::new(), Vec::new());
    read_records(bootstrap, TOPIC, PARTITIONS, |record| {
        let (Some(key), Some(value)) = (record.key, record.value) else { return Ok(()) };
        match GroupRecordKey::decode(key)? {
            GroupRecordKey::OffsetCommit(key) if *key.group == *group && *key.topic == *topic => {
                stored.push(StoredOffset {
                    group: group.to_owned(),
                    partition: key.partition,
                    version: record.offset.0,
                    offset: OffsetCommitValue::decode(value)?.offset,
                });
            }
            GroupRecordKey::GroupMetadata(key) if *key.group == *group => {
                let value = GroupMetadataValue::decode(value)?;
                for member in value.members {
                    let assigned = assigned(member.assignment, topic);
                    let assigned = assigned.context("an assignment is not what it should be")?;
                    claims.extend(assigned.into_iter().map(|partition| Claim {
                        group: group.to_owned(),
                        partition,
                        generation: value.generation,
                        member: member.member_id.to_string(),
                    }));
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok((claims, stored))
}

/// The partitions of a topic in what a leader of Kafka's consumers assigned: a version, then topics with
/// partitions, each list behind its count.
fn assigned(mut from: Bytes, topic: &str) -> Option<Vec<i32>> {
    let mut found = Vec::new();
    if from.is_empty() {
        return Some(found);
    }
    from.try_get_i16().ok()?;
    for _ in 0..from.try_get_i32().ok()? {
        let length = usize::try_from(from.try_get_i16().ok()?).ok()?;
        let name = (length <= from.len()).then(|| from.split_to(length))?;
        for _ in 0..from.try_get_i32().ok()? {
            let partition = from.try_get_i32().ok()?;
            if name == topic.as_bytes() {
                found.push(partition);
            }
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_read() {
        let bytes = [
            &[0, 1, 0, 0, 0, 2, 0, 1][..],
            b"a",
            &[0, 0, 0, 1, 0, 0, 0, 9, 0, 2],
            b"bc",
            &[0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff],
        ]
        .concat();
        let read = |topic| assigned(Bytes::copy_from_slice(&bytes), topic);
        assert_eq!(read("a"), Some(vec![9]));
        assert_eq!(read("bc"), Some(vec![3, 1]));
        assert_eq!(read("d"), Some(vec![]));
        assert_eq!(assigned(Bytes::new(), "a"), Some(vec![]));
        assert_eq!(assigned(Bytes::copy_from_slice(&bytes[..30]), "a"), None);
    }
}
