//! What consumers of a classic group tell each other through their coordinator, which does not look at
//! it: which topics a member reads, and what it is given. Byte for byte as Kafka's consumers write it.
//!
//! Each begins with its version (`i16`). Later versions only add fields behind, so one that is higher
//! than ours is read as ours, and what follows is not looked at.

use bytes::Bytes;

use super::message::messages;
use super::{Malformed, Reader, Str, Wire, Writer};

messages! {
    /// A member's wish (`ConsumerProtocolSubscription`).
    ConsumerSubscription {
        topics: Vec<Str>, 0..;
        /// The assignor's own.
        user_data: Option<Bytes>, 0..;
        /// What it has, for cooperative assignors.
        owned_partitions: Vec<ConsumerPartitions>, 1..;
        /// When it was given that.
        generation_id: i32 = -1, 2..;
        rack_id: Option<Str>, 3..;
    }

    /// Partitions of one topic.
    ConsumerPartitions {
        topic: Str, 0..;
        partitions: Vec<i32>, 0..;
    }

    /// What a member is given (`ConsumerProtocolAssignment`).
    ConsumerAssignment {
        assigned_partitions: Vec<ConsumerPartitions>, 0..;
        user_data: Option<Bytes>, 0..;
    }
}

/// The highest version known.
const HIGHEST: i16 = 3;
/// A subscription without a rack.
const SUBSCRIPTION: i16 = 2;
/// What every consumer reads; later versions have the same fields.
const ASSIGNMENT: i16 = 0;

impl ConsumerSubscription {
    /// Reads one of any version.
    pub fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        decode(bytes)
    }

    /// Writes one.
    pub fn encode(&self) -> Bytes {
        encode(SUBSCRIPTION, self)
    }
}

impl ConsumerAssignment {
    /// Reads one of any version. No bytes at all are what a leader that forgot a member gives it.
    pub fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        if bytes.is_empty() { Ok(Self::default()) } else { decode(bytes) }
    }

    /// Writes one.
    pub fn encode(&self) -> Bytes {
        encode(ASSIGNMENT, self)
    }
}

fn decode<T: Wire>(mut bytes: Bytes) -> Result<T, Malformed> {
    let version = i16::read(&mut Reader::new(bytes.clone(), 0, false))?;
    let body = bytes.split_off(size_of::<i16>());
    T::read(&mut Reader::new(body, version.clamp(0, HIGHEST), false))
}

fn encode(version: i16, message: &impl Wire) -> Bytes {
    let mut to = Writer::new(version, false);
    version.write(&mut to);
    message.write(&mut to);
    to.into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partitions(topic: &str, partitions: &[i32]) -> ConsumerPartitions {
        ConsumerPartitions { topic: topic.into(), partitions: partitions.to_vec() }
    }

    #[test]
    fn a_subscription_is_laid_out_as_kafka_lays_it_out() {
        let subscription = ConsumerSubscription {
            topics: vec!["a".into()],
            user_data: None,
            owned_partitions: vec![partitions("a", &[7])],
            generation_id: 5,
            rack_id: None,
        };
        let bytes = [
            &[0, 2, 0, 0, 0, 1, 0, 1][..],
            b"a",
            &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0, 1],
            b"a",
            &[0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 5],
        ]
        .concat();
        assert_eq!(subscription.encode(), bytes);
        assert_eq!(ConsumerSubscription::decode(bytes.clone().into()), Ok(subscription.clone()));
        for cut in 0..bytes.len() {
            assert!(ConsumerSubscription::decode(Bytes::copy_from_slice(&bytes[..cut])).is_err());
        }
        // A later version has more behind.
        let mut later = [&bytes[..], &[0xff, 0xff, 1, 2, 3]].concat();
        later[1] = 9;
        assert_eq!(ConsumerSubscription::decode(later.into()), Ok(subscription));
        let first = [&[0, 0, 0, 0, 0, 1, 0, 1][..], b"a", &[0xff, 0xff, 0xff, 0xff]].concat();
        let first = ConsumerSubscription::decode(first.into()).unwrap();
        assert_eq!((first.topics.len(), first.generation_id), (1, -1));
    }

    #[test]
    fn an_assignment_is_laid_out_as_kafka_lays_it_out() {
        let assigned_partitions = vec![partitions("bc", &[0, 2])];
        let assignment = ConsumerAssignment { assigned_partitions, user_data: None };
        let bytes = [
            &[0, 0, 0, 0, 0, 1, 0, 2][..],
            b"bc",
            &[0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2, 0xff, 0xff, 0xff, 0xff],
        ]
        .concat();
        assert_eq!(assignment.encode(), bytes);
        assert_eq!(ConsumerAssignment::decode(bytes.into()), Ok(assignment));
        assert_eq!(ConsumerAssignment::decode(Bytes::new()), Ok(ConsumerAssignment::default()));
        let lies = Bytes::from_static(&[0, 0, 0x7f, 0xff, 0xff, 0xff]);
        assert!(ConsumerAssignment::decode(lies).is_err(), "counts are checked");
    }
}
