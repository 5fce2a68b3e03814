//! Records of `__consumer_offsets`, byte for byte as Kafka writes them.
//!
//! | key version | key | value |
//! |---|---|---|
//! | 0, 1 | [`OffsetCommitKey`] | [`OffsetCommitValue`]; null: the offset is forgotten |
//! | 2 | [`GroupMetadataKey`] | [`GroupMetadataValue`]; null: the group is gone |
//! | 3 and above | of other kinds of group | not read here |
//!
//! Key and value begin with their version (`i16`). Values are written in version 3, the highest that
//! every Kafka since 2.3 reads; an offset that expires by itself in version 1, the only one that says
//! so. Version 4, which reads everything ahead that Kafka may add (KIP-915), is read.

use bytes::Bytes;

use super::message::messages;
use super::{Malformed, Reader, Str, Wire, Writer};

messages! {
    /// Whose offset.
    OffsetCommitKey {
        group: Str, 0..;
        topic: Str, 0..;
        partition: i32, 0..;
    }

    /// How far a group has come in a partition.
    OffsetCommitValue {
        offset: i64, 0..;
        leader_epoch: i32 = -1, 3..;
        metadata: Str, 0..;
        commit_timestamp: i64, 0..;
        expire_timestamp: i64 = -1, 1..=1;
    }

    /// Which group.
    GroupMetadataKey {
        group: Str, 0..;
    }

    /// A group with its members and what each is given.
    GroupMetadataValue {
        protocol_type: Str, 0..;
        generation: i32, 0..;
        protocol: Option<Str>, 0..;
        leader: Option<Str>, 0..;
        current_state_timestamp: i64 = -1, 2..;
        members: Vec<GroupMetadataMember>, 0..;
    }

    /// A member.
    GroupMetadataMember {
        member_id: Str, 0..;
        group_instance_id: Option<Str>, 3..;
        client_id: Str, 0..;
        client_host: Str, 0..;
        rebalance_timeout: i32, 1..;
        session_timeout: i32, 0..;
        subscription: Bytes, 0..;
        assignment: Bytes, 0..;
    }
}

/// The key of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupRecordKey {
    /// Of an offset.
    OffsetCommit(OffsetCommitKey),
    /// Of a group.
    GroupMetadata(GroupMetadataKey),
    /// Of something that a later version writes.
    Unknown(i16),
}

const OFFSET_COMMIT_KEY: i16 = 1;
const GROUP_METADATA_KEY: i16 = 2;
const VALUE: i16 = 3;
const VALUE_THAT_EXPIRES: i16 = 1;
/// Compact lengths and tagged fields from here on; later versions only add tagged fields.
const FLEXIBLE: i16 = 4;

impl GroupRecordKey {
    /// Reads a key.
    pub fn decode(key: Bytes) -> Result<Self, Malformed> {
        let mut from = Reader::new(key, 0, false);
        let version = i16::read(&mut from)?;
        let key = match version {
            0 | OFFSET_COMMIT_KEY => Self::OffsetCommit(Wire::read(&mut from)?),
            GROUP_METADATA_KEY => Self::GroupMetadata(Wire::read(&mut from)?),
            _ => return Ok(Self::Unknown(version)),
        };
        from.finish()?;
        Ok(key)
    }

    /// Writes a key; one that is unknown has no bytes but its version.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::OffsetCommit(key) => versioned(OFFSET_COMMIT_KEY, key),
            Self::GroupMetadata(key) => versioned(GROUP_METADATA_KEY, key),
            Self::Unknown(version) => version.to_be_bytes().to_vec(),
        }
    }
}

impl OffsetCommitValue {
    /// Reads a value of any version.
    pub fn decode(value: Bytes) -> Result<Self, Malformed> {
        decode(value)
    }

    /// Writes a value.
    pub fn encode(&self) -> Vec<u8> {
        match self.expire_timestamp {
            -1 => versioned(VALUE, self),
            _ => versioned(VALUE_THAT_EXPIRES, self),
        }
    }
}

impl GroupMetadataValue {
    /// Reads a value of any version.
    pub fn decode(value: Bytes) -> Result<Self, Malformed> {
        decode(value)
    }

    /// Writes a value.
    pub fn encode(&self) -> Vec<u8> {
        versioned(VALUE, self)
    }
}

fn versioned(version: i16, message: &impl Wire) -> Vec<u8> {
    let mut to = Writer::new(version, version >= FLEXIBLE);
    version.write(&mut to);
    message.write(&mut to);
    to.into_bytes()
}

fn decode<T: Wire>(value: Bytes) -> Result<T, Malformed> {
    let mut value = value;
    let version = i16::read(&mut Reader::new(value.clone(), 0, false))?;
    let body = value.split_off(size_of::<i16>());
    let mut from = Reader::new(body, version, version >= FLEXIBLE);
    let message = T::read(&mut from)?;
    // What a later version has behind is not ours to judge.
    if version <= FLEXIBLE {
        from.finish()?;
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Bytes {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pair = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(pair).collect::<Vec<u8>>().into()
    }

    #[test]
    fn an_offset_is_laid_out_as_kafka_lays_it_out() {
        let key = GroupRecordKey::OffsetCommit(OffsetCommitKey {
            group: "g1".into(),
            topic: "t".into(),
            partition: 7,
        });
        let bytes = hex("0001 0002 6731 0001 74 00000007");
        assert_eq!(key.encode(), bytes);
        assert_eq!(GroupRecordKey::decode(bytes), Ok(key));
        let value = OffsetCommitValue {
            offset: 258,
            leader_epoch: 3,
            metadata: "m".into(),
            commit_timestamp: 0x0102_0304,
            expire_timestamp: -1,
        };
        let bytes = hex("0003 0000000000000102 00000003 0001 6d 0000000001020304");
        assert_eq!(value.encode(), bytes);
        assert_eq!(OffsetCommitValue::decode(bytes), Ok(value.clone()));
        let flexible = hex("0004 0000000000000102 00000003 02 6d 0000000001020304 00");
        assert_eq!(OffsetCommitValue::decode(flexible), Ok(value.clone()));
        let expires = OffsetCommitValue { expire_timestamp: 5, leader_epoch: -1, ..value };
        let bytes = hex("0001 0000000000000102 0001 6d 0000000001020304 0000000000000005");
        assert_eq!(expires.encode(), bytes);
        assert_eq!(OffsetCommitValue::decode(bytes), Ok(expires));
        let oldest = OffsetCommitValue::decode(hex("0000 0000000000000009 0000 0000000000000001"));
        assert_eq!(oldest.unwrap().offset, 9);
    }

    #[test]
    fn a_group_is_laid_out_as_kafka_lays_it_out() {
        let key = GroupRecordKey::GroupMetadata(GroupMetadataKey { group: "g".into() });
        assert_eq!(key.encode(), hex("0002 0001 67"));
        let value = GroupMetadataValue {
            protocol_type: "c".into(),
            generation: 4,
            protocol: Some("r".into()),
            leader: Some("a".into()),
            current_state_timestamp: 9,
            members: vec![GroupMetadataMember {
                member_id: "a".into(),
                group_instance_id: None,
                client_id: "x".into(),
                client_host: "/h".into(),
                rebalance_timeout: 60,
                session_timeout: 10,
                subscription: Bytes::from_static(&[1]),
                assignment: Bytes::from_static(&[2, 3]),
            }],
        };
        let bytes = hex("0003 0001 63 00000004 0001 72 0001 61 0000000000000009 00000001 \
             0001 61 ffff 0001 78 0002 2f68 0000003c 0000000a 00000001 01 00000002 0203");
        assert_eq!(value.encode(), bytes);
        assert_eq!(GroupMetadataValue::decode(bytes), Ok(value));
        let empty = GroupMetadataValue::decode(hex(
            "0003 0000 00000000 ffff ffff ffffffffffffffff 00000000",
        ));
        assert_eq!(
            empty,
            Ok(GroupMetadataValue { current_state_timestamp: -1, ..Default::default() })
        );
    }

    #[test]
    fn what_is_cut_off_or_unknown_is_told_apart() {
        assert_eq!(GroupRecordKey::decode(hex("0005 0001")), Ok(GroupRecordKey::Unknown(5)));
        assert_eq!(GroupRecordKey::decode(hex("0001 0002 6731 0001 74 00000007 00")).ok(), None);
        let whole = hex("0003 0001 63 00000004 0001 72 0001 61 0000000000000009 00000000");
        for cut in 0..whole.len() {
            assert!(GroupMetadataValue::decode(whole.slice(..cut)).is_err(), "{cut}");
            assert!(GroupRecordKey::decode(hex("0001 0002 6731").slice(..cut.min(6))).is_err());
        }
        let many = hex("0003 0000 00000000 ffff ffff 0000000000000000 7fffffff");
        assert!(GroupMetadataValue::decode(many).is_err(), "nothing is reserved for it");
    }
}
