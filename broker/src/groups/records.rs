//! Groups and offsets as records of `__consumer_offsets`. Kafka's bytes are in
//! [`proto::kafka::group_records`]; here is what they mean.
//!
//! The id of the topic that an offset was committed for stands in a header of its record, which
//! Kafka's tools do not look at: values stay as every version of Kafka reads them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::kafka::Malformed;
use proto::kafka::group_records::{
    GroupMetadataKey, GroupMetadataMember, GroupMetadataValue, GroupRecordKey, OffsetCommitKey,
    OffsetCommitValue,
};
use proto::record::{Header, RecordRef};
use proto::{LeaderEpoch, Offset, TopicId, TopicPartition};

use super::classic::{GroupMetadata, MemberMetadata};
use super::offsets::CommittedOffset;

/// The header with the topic's id in its 16 bytes.
const TOPIC_ID: &str = "topic.id";

/// A record to be written.
#[derive(Debug, Clone)]
pub(super) struct Record {
    key: Vec<u8>,
    /// `None`: what the key names is gone.
    value: Option<Vec<u8>>,
    topic_id: Option<TopicId>,
}

/// What a record says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// How far a group has come in a partition; `None`: that is forgotten.
    Offset(Arc<str>, TopicPartition, Option<CommittedOffset>),
    /// A group; `None`: it is gone.
    Group(Arc<str>, Option<GroupMetadata>),
    /// Nothing that is known here.
    Nothing,
}

impl Record {
    pub(super) fn offset(group: &Arc<str>, name: &TopicPartition, told: &CommittedOffset) -> Self {
        let value = OffsetCommitValue {
            offset: told.offset.0,
            leader_epoch: told.leader_epoch.0,
            metadata: Arc::clone(&told.metadata),
            commit_timestamp: told.commit_ms,
            expire_timestamp: told.expire_ms.unwrap_or(-1),
        };
        let key = offset_key(group, name);
        Self { key, value: Some(value.encode()), topic_id: told.topic_id }
    }

    pub(super) fn no_offset(group: &Arc<str>, name: &TopicPartition) -> Self {
        Self { key: offset_key(group, name), value: None, topic_id: None }
    }

    pub(super) fn group(id: &Arc<str>, metadata: &GroupMetadata) -> Self {
        let value = GroupMetadataValue {
            protocol_type: Arc::clone(&metadata.protocol_type),
            generation: metadata.generation,
            protocol: metadata.protocol.clone(),
            leader: metadata.leader.clone(),
            current_state_timestamp: metadata.since_ms,
            members: metadata.members.iter().map(to_member).collect(),
        };
        Self { key: group_key(id), value: Some(value.encode()), topic_id: None }
    }

    pub(super) fn no_group(id: &Arc<str>) -> Self {
        Self { key: group_key(id), value: None, topic_id: None }
    }

    /// Its parts, as a batch takes them.
    pub(super) fn with_parts<T>(
        &self,
        take: impl FnOnce(&[u8], Option<&[u8]>, &[Header<'_>]) -> T,
    ) -> T {
        let id = self.topic_id.map(TopicId::to_bytes);
        let header = id.as_ref().map(|id| Header::new(TOPIC_ID, Some(id)));
        take(&self.key, self.value.as_deref(), header.as_slice())
    }

    /// Bytes it takes in a batch, at most.
    pub(super) fn size(&self) -> usize {
        const AROUND: usize = 64;
        self.key.len() + self.value.as_ref().map_or(0, Vec::len) + AROUND
    }
}

/// Reads a record. One without a key cannot be ours.
pub(super) fn read(record: &RecordRef<'_>) -> Result<Told, Malformed> {
    let Some(key) = record.key else { return Ok(Told::Nothing) };
    let value = record.value.map(Bytes::copy_from_slice);
    match GroupRecordKey::decode(Bytes::copy_from_slice(key))? {
        GroupRecordKey::OffsetCommit(OffsetCommitKey { group, topic, partition }) => {
            let value = value.map(OffsetCommitValue::decode).transpose()?;
            let committed = value.map(|value| from_value(record, value));
            Ok(Told::Offset(group, TopicPartition::new(topic, partition), committed))
        }
        GroupRecordKey::GroupMetadata(GroupMetadataKey { group }) => {
            let value = value.map(GroupMetadataValue::decode).transpose()?;
            Ok(Told::Group(group, value.map(from_group)))
        }
        GroupRecordKey::Unknown(_) => Ok(Told::Nothing),
    }
}

fn from_value(record: &RecordRef<'_>, value: OffsetCommitValue) -> CommittedOffset {
    let mut headers = record.headers.clone();
    let id = headers.find(|header| header.key_bytes() == TOPIC_ID.as_bytes());
    CommittedOffset {
        offset: Offset(value.offset),
        leader_epoch: LeaderEpoch(value.leader_epoch),
        metadata: value.metadata,
        commit_ms: value.commit_timestamp,
        expire_ms: (value.expire_timestamp >= 0).then_some(value.expire_timestamp),
        topic_id: id.and_then(|header| TopicId::from_slice(header.value()?)),
        stands_at: record.offset,
    }
}

fn from_group(value: GroupMetadataValue) -> GroupMetadata {
    GroupMetadata {
        protocol_type: value.protocol_type,
        generation: value.generation,
        protocol: value.protocol,
        leader: value.leader,
        since_ms: value.current_state_timestamp,
        members: value.members.into_iter().map(from_member).collect(),
    }
}

fn to_member(member: &MemberMetadata) -> GroupMetadataMember {
    GroupMetadataMember {
        member_id: Arc::clone(&member.id),
        group_instance_id: member.instance.clone(),
        client_id: Arc::clone(&member.client_id),
        client_host: Arc::clone(&member.client_host),
        rebalance_timeout: to_ms(member.rebalance_timeout),
        session_timeout: to_ms(member.session_timeout),
        subscription: member.subscription.clone(),
        assignment: member.assignment.clone(),
    }
}

/// What Kafka wrote before there was a rebalance timeout has none: the session's is meant.
fn from_member(member: GroupMetadataMember) -> MemberMetadata {
    let session_timeout = from_ms(member.session_timeout);
    let rebalance_timeout = match member.rebalance_timeout {
        0 => session_timeout,
        ms => from_ms(ms),
    };
    MemberMetadata {
        id: member.member_id,
        instance: member.group_instance_id,
        client_id: member.client_id,
        client_host: member.client_host,
        rebalance_timeout,
        session_timeout,
        subscription: member.subscription,
        assignment: member.assignment,
    }
}

fn to_ms(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

fn from_ms(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or_default())
}

fn offset_key(group: &Arc<str>, name: &TopicPartition) -> Vec<u8> {
    GroupRecordKey::OffsetCommit(OffsetCommitKey {
        group: Arc::clone(group),
        topic: Arc::clone(&name.topic),
        partition: name.partition,
    })
    .encode()
}

fn group_key(id: &Arc<str>) -> Vec<u8> {
    GroupRecordKey::GroupMetadata(GroupMetadataKey { group: Arc::clone(id) }).encode()
}

#[cfg(test)]
mod tests {
    use proto::record::{Batch, BatchBuilder, ProducerStamp};

    use super::*;

    fn through_a_batch(record: &Record) -> Told {
        let mut builder = BatchBuilder::new(1 << 16);
        record.with_parts(|key, value, headers| {
            builder.append(5, Some(key), value, headers).unwrap();
        });
        let bytes = builder.finish(ProducerStamp::NONE);
        let batch = Batch::parse(&bytes).unwrap();
        let told = read(&batch.records().next().unwrap().unwrap());
        told.unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let (group, name): (Arc<str>, _) = ("g".into(), TopicPartition::new("t", 3));
        let committed = CommittedOffset {
            offset: Offset(12),
            leader_epoch: LeaderEpoch(4),
            metadata: "noted".into(),
            commit_ms: 99,
            expire_ms: None,
            topic_id: Some(TopicId::random()),
            stands_at: Offset(0),
        };
        for committed in
            [committed.clone(), CommittedOffset { topic_id: None, ..committed.clone() }]
        {
            let record = Record::offset(&group, &name, &committed);
            let told = Told::Offset(Arc::clone(&group), name.clone(), Some(committed));
            assert_eq!(through_a_batch(&record), told);
        }
        // A version that says when it expires does not say the leader's epoch.
        let expires = CommittedOffset { expire_ms: Some(200), ..committed.clone() };
        let unknown = CommittedOffset { leader_epoch: LeaderEpoch::UNKNOWN, ..expires.clone() };
        let told = Told::Offset(Arc::clone(&group), name.clone(), Some(unknown));
        assert_eq!(through_a_batch(&Record::offset(&group, &name, &expires)), told);
        let told = Told::Offset(Arc::clone(&group), name.clone(), None);
        assert_eq!(through_a_batch(&Record::no_offset(&group, &name)), told);
        assert_eq!(through_a_batch(&Record::no_group(&group)), Told::Group(group, None));
    }

    #[test]
    fn a_group_is_read_back_with_its_members() {
        let id: Arc<str> = "g".into();
        let metadata = GroupMetadata {
            protocol_type: "consumer".into(),
            generation: 8,
            protocol: Some("range".into()),
            leader: Some("m".into()),
            since_ms: 77,
            members: vec![MemberMetadata {
                id: "m".into(),
                instance: Some("i".into()),
                client_id: "c".into(),
                client_host: "/127.0.0.1".into(),
                rebalance_timeout: Duration::from_secs(60),
                session_timeout: Duration::from_secs(10),
                subscription: Bytes::from_static(b"s"),
                assignment: Bytes::from_static(b"a"),
            }],
        };
        let told = through_a_batch(&Record::group(&id, &metadata));
        assert_eq!(told, Told::Group(id, Some(metadata)));
    }
}
