//! How a leader of a broker's group gives out partitions, in the words of Kafka's consumers. Pure.
//!
//! | assignor | | a rebalance |
//! |---|---|---|
//! | `range` | as the paper's and Kafka's: consecutive partitions of each topic | eager: everybody comes with nothing |
//! | `cooperative-sticky` | even, and as little moves as that allows | what moves is given to nobody first; who had it lets it go and joins again, then it is given to the next |
//!
//! Both by [`coordinator::rebalance`], as for groups in ZooKeeper. A member's number of streams weighs
//! in, for what it reads in how many; it stands in the assignor's own bytes, behind the generation that
//! older cooperative consumers of Kafka have there, which count as one stream a topic.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use coordinator::rebalance::{Members, Plan, Strategy, Topics};
use coordinator::zk::payload::Subscription;
use proto::kafka::Str;
use proto::kafka::consumer_protocol::{
    ConsumerAssignment, ConsumerPartitions, ConsumerSubscription,
};
use proto::{Partition, TopicPartition};

use crate::config::AssignmentStrategy;

/// Kafka's kind of group for consumers.
pub(super) const CONSUMER: &str = "consumer";
/// Before the streams in the assignor's bytes.
const MAGIC: [u8; 4] = *b"ottl";
/// Streams of one topic that are counted.
const STREAMS_MAX: u32 = 10_000;

/// Kafka's name of an assignor.
pub(super) fn name(strategy: AssignmentStrategy) -> &'static str {
    match strategy {
        AssignmentStrategy::Range => "range",
        AssignmentStrategy::Sticky => "cooperative-sticky",
    }
}

/// What a member says when it joins.
pub(super) fn subscription(
    strategy: AssignmentStrategy,
    topics: &BTreeMap<String, u32>,
    owned: &BTreeSet<TopicPartition>,
    generation: i32,
) -> Bytes {
    let cooperative = strategy == AssignmentStrategy::Sticky;
    let generation_id = if cooperative { generation } else { -1 };
    let weighs = topics.values().any(|streams| *streams != 1);
    ConsumerSubscription {
        topics: topics.keys().map(|topic| topic.as_str().into()).collect(),
        user_data: weighs.then(|| own_words(topics, generation_id)),
        owned_partitions: by_topic(owned),
        generation_id,
        rack_id: None,
    }
    .encode()
}

fn own_words(topics: &BTreeMap<String, u32>, generation: i32) -> Bytes {
    let mut words = generation.to_be_bytes().to_vec();
    words.extend(MAGIC);
    // In the order of the topics.
    words.extend(topics.values().flat_map(|streams| streams.to_be_bytes()));
    words.into()
}

/// Streams by topic, in the order the topics are told; one each where it is not said.
fn streams(subscription: &ConsumerSubscription) -> BTreeMap<String, u32> {
    let told = subscription.user_data.as_deref().and_then(|words| {
        let words = words.get(size_of::<i32>()..)?.strip_prefix(&MAGIC)?;
        let (numbers, rest) = words.as_chunks::<4>();
        let whole = numbers.len() == subscription.topics.len() && rest.is_empty();
        whole.then(|| numbers.iter().map(|number| u32::from_be_bytes(*number)))
    });
    let names = subscription.topics.iter().map(|topic| topic.to_string());
    match told {
        Some(told) => names.zip(told.map(|streams| streams.clamp(1, STREAMS_MAX))).collect(),
        None => names.map(|topic| (topic, 1)).collect(),
    }
}

fn by_topic(partitions: &BTreeSet<TopicPartition>) -> Vec<ConsumerPartitions> {
    let mut topics: BTreeMap<Str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(partition.topic.clone()).or_default().push(partition.partition);
    }
    topics.into_iter().map(|(topic, partitions)| ConsumerPartitions { topic, partitions }).collect()
}

/// What a member was given; bytes that are none are nothing.
pub(super) fn assigned(assignment: Bytes) -> BTreeSet<TopicPartition> {
    let assignment = ConsumerAssignment::decode(assignment).unwrap_or_default();
    let topics = assignment.assigned_partitions.into_iter();
    let of = |one: ConsumerPartitions| {
        let topic = one.topic;
        one.partitions.into_iter().map(move |number| TopicPartition::new(topic.clone(), number))
    };
    topics.flat_map(of).collect()
}

/// A member as its leader sees it.
#[derive(Debug, Clone)]
pub(super) struct GroupMember {
    pub(super) id: String,
    /// Empty: it is not static.
    pub(super) instance: String,
    pub(super) subscription: ConsumerSubscription,
}

/// The topics that any member reads.
pub(super) fn topics_of(members: &[GroupMember]) -> BTreeSet<String> {
    let topics = members.iter().flat_map(|member| &member.subscription.topics);
    topics.map(|topic| topic.to_string()).collect()
}

/// What each member is given of these topics.
pub(super) fn assign(
    assignor: &str,
    members: &[GroupMember],
    topics: &Topics,
) -> Vec<(String, Bytes)> {
    // As Kafka sorts them: those that keep their names first.
    let key = |member: &GroupMember| match member.instance.is_empty() {
        false => format!("0{}", member.instance),
        true => format!("1{}", member.id),
    };
    let wishes: Members = members
        .iter()
        .map(|member| (key(member), Subscription::Topics(streams(&member.subscription))))
        .collect();
    let cooperative = assignor == name(AssignmentStrategy::Sticky);
    let claims = if cooperative { claims(members) } else { Claims::new() };
    let plan = match cooperative {
        true => Plan::keeping(&wishes, topics, &held(&claims, members, key)),
        false => Plan::compute(Strategy::Range, &wishes, topics, None),
    };
    let given = members.iter().map(|member| {
        let owned = plan.of_member(&key(member)).into_iter().flat_map(|(topic, owned)| {
            let topic: Str = topic.into();
            owned.into_iter().map(move |one| TopicPartition::new(topic.clone(), one.partition))
        });
        // Who has it lets it go first.
        let free = |partition: &TopicPartition| {
            let claimed = claims.get(&(partition.topic.to_string(), partition.partition));
            claimed.is_none_or(|by| by.iter().all(|(_, at)| members[*at].id == member.id))
        };
        let assigned_partitions = by_topic(&owned.filter(free).collect());
        let assignment = ConsumerAssignment { assigned_partitions, user_data: None };
        (member.id.clone(), assignment.encode())
    });
    given.collect()
}

/// Who says to have a partition: the generation, and the member's place.
type Claims = BTreeMap<(String, Partition), BTreeSet<(i32, usize)>>;

fn claims(members: &[GroupMember]) -> Claims {
    let mut claims = Claims::new();
    for (at, member) in members.iter().enumerate() {
        let claim = (member.subscription.generation_id, at);
        for owned in &member.subscription.owned_partitions {
            for partition in &owned.partitions {
                claims.entry((owned.topic.to_string(), *partition)).or_default().insert(claim);
            }
        }
    }
    claims
}

/// Who has what, as far as it can be believed: the newest generation, if one alone says so.
fn held(
    claims: &Claims,
    members: &[GroupMember],
    key: impl Fn(&GroupMember) -> String,
) -> BTreeMap<String, BTreeMap<Partition, String>> {
    let mut held: BTreeMap<String, BTreeMap<Partition, String>> = BTreeMap::new();
    for ((topic, partition), by) in claims {
        let Some((newest, at)) = by.last() else { continue };
        if by.iter().filter(|(generation, _)| generation == newest).count() == 1 {
            let of_topic = held.entry(topic.clone()).or_default();
            of_topic.insert(*partition, key(&members[*at]));
        }
    }
    held
}
