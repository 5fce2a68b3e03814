//! A request of every API in every version that is served, its items as often as wanted.

use bytes::Bytes;
use proto::kafka::messages::*;
use proto::kafka::{ApiKey, Request, Str, encode_request};
use proto::record::ProducerStamp;

use super::super::dispatch::{ADVERTISED, is_served};
use super::rig::{batch, topic_id};

/// A whole request.
pub(super) struct Whole {
    pub(super) key: ApiKey,
    pub(super) version: i16,
    pub(super) frame: Vec<u8>,
}

/// Every request about topic `t`, or about what is made with it, each item `count` times.
pub(super) fn all(count: usize) -> Vec<Whole> {
    let mut to = Vec::new();
    data(&mut to, count);
    groups(&mut to, count);
    topics(&mut to, count);
    settings(&mut to, count);
    to
}

fn add<R: Request>(to: &mut Vec<Whole>, request: &R) {
    let advertised = ADVERTISED.iter().find(|(key, _)| *key == R::KEY).unwrap();
    for version in advertised.1.clone().filter(|&version| is_served(R::KEY, version)) {
        let frame = encode_request(version, 1, Some("fuzz"), request).join().unwrap();
        to.push(Whole { key: R::KEY, version, frame });
    }
}

fn name() -> Str {
    "t".into()
}

fn data(to: &mut Vec<Whole>, count: usize) {
    let records = batch(2, 20, ProducerStamp::NONE);
    let data = |records: &Bytes| PartitionProduceData { index: 0, records: Some(records.clone()) };
    let partition_data = vec![data(&records); count];
    let topic_data = vec![TopicProduceData { name: name(), partition_data }];
    let produce = ProduceRequest { acks: 1, timeout_ms: 10, topic_data, ..Default::default() };
    add(to, &produce);
    let partition = FetchPartition { partition_max_bytes: 1 << 20, ..Default::default() };
    let topic =
        FetchTopic { topic: name(), topic_id: topic_id("t").0, partitions: vec![partition; count] };
    add(to, &FetchRequest { topics: vec![topic], ..Default::default() });
    let partitions = vec![ListOffsetsPartition { timestamp: 5, ..Default::default() }; count];
    let topics = vec![ListOffsetsTopic { name: name(), partitions }];
    add(to, &ListOffsetsRequest { topics, ..Default::default() });
    let topic = MetadataRequestTopic { name: Some(name()), ..Default::default() };
    add(to, &MetadataRequest { topics: Some(vec![topic; count]), ..Default::default() });
    let partitions = vec![OffsetForLeaderPartition::default(); count];
    let topics = vec![OffsetForLeaderTopic { topic: name(), partitions }];
    add(to, &OffsetForLeaderEpochRequest { topics, ..Default::default() });
    add(to, &InitProducerIdRequest::default());
    add(to, &ApiVersionsRequest::default());
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: 0 }; count];
    let topics = vec![DeleteRecordsTopic { name: name(), partitions }];
    add(to, &DeleteRecordsRequest { topics, timeout_ms: 10 });
}

fn groups(to: &mut Vec<Whole>, count: usize) {
    let coordinator_keys = vec![name(); count];
    add(to, &FindCoordinatorRequest { key: name(), coordinator_keys, ..Default::default() });
    let protocol = JoinGroupRequestProtocol { name: "range".into(), ..Default::default() };
    let join = JoinGroupRequest {
        group_id: name(),
        session_timeout_ms: 6_000,
        protocol_type: "consumer".into(),
        protocols: vec![protocol; count],
        ..Default::default()
    };
    add(to, &join);
    add(to, &HeartbeatRequest { group_id: name(), ..Default::default() });
    let members = vec![MemberIdentity { member_id: name(), ..Default::default() }; count];
    add(to, &LeaveGroupRequest { group_id: name(), members, ..Default::default() });
    let assignment = SyncGroupRequestAssignment { member_id: name(), ..Default::default() };
    let assignments = vec![assignment; count];
    add(to, &SyncGroupRequest { group_id: name(), assignments, ..Default::default() });
    add(to, &DescribeGroupsRequest { groups: vec![name(); count], ..Default::default() });
    add(
        to,
        &ListGroupsRequest { states_filter: vec!["Stable".into(); count], ..Default::default() },
    );
    add(to, &DeleteGroupsRequest { groups_names: vec![name(); count] });
    let partitions = vec![OffsetDeleteRequestPartition { partition_index: 0 }; count];
    let topics = vec![OffsetDeleteRequestTopic { name: name(), partitions }];
    add(to, &OffsetDeleteRequest { group_id: name(), topics });
    let partitions = vec![OffsetCommitRequestPartition::default(); count];
    let topics = vec![OffsetCommitRequestTopic { name: name(), partitions }];
    add(to, &OffsetCommitRequest { group_id: name(), topics, ..Default::default() });
    let topics = vec![OffsetFetchRequestTopic { name: name(), partition_indexes: vec![0; count] }];
    let group = OffsetFetchRequestGroup { group_id: name(), ..Default::default() };
    let fetch = OffsetFetchRequest {
        group_id: name(),
        topics: Some(topics),
        groups: vec![group; count],
        ..Default::default()
    };
    add(to, &fetch);
}

fn topics(to: &mut Vec<Whole>, count: usize) {
    let topic = CreatableTopic {
        name: name(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let topics = vec![topic; count];
    add(to, &CreateTopicsRequest { topics, validate_only: true, ..Default::default() });
    let state = DeleteTopicState { name: Some("none".into()), ..Default::default() };
    let delete = DeleteTopicsRequest {
        topics: vec![state; count],
        topic_names: vec!["none".into(); count],
        ..Default::default()
    };
    add(to, &delete);
    let topic = CreatePartitionsTopic { name: name(), count: 1, assignments: None };
    let topics = vec![topic; count];
    add(to, &CreatePartitionsRequest { topics, validate_only: true, ..Default::default() });
    let topic = || ElectLeadersTopicPartitions { topic: name(), partitions: vec![0; count] };
    add(to, &ElectLeadersRequest { topic_partitions: Some(vec![topic()]), ..Default::default() });
    let partitions = vec![ReassignablePartition { partition_index: 0, replicas: None }; count];
    let topics = vec![ReassignableTopic { name: name(), partitions }];
    add(to, &AlterPartitionReassignmentsRequest { topics, ..Default::default() });
    let topic =
        ListPartitionReassignmentsTopics { name: name(), partition_indexes: vec![0; count] };
    let list =
        ListPartitionReassignmentsRequest { topics: Some(vec![topic]), ..Default::default() };
    add(to, &list);
    let topic = DescribableLogDirTopic { topic: name(), partitions: vec![0; count] };
    add(to, &DescribeLogDirsRequest { topics: Some(vec![topic]) });
    add(to, &DescribeClusterRequest::default());
}

fn settings(to: &mut Vec<Whole>, count: usize) {
    let resource = DescribeConfigsResource {
        resource_type: 2,
        resource_name: name(),
        configuration_keys: None,
    };
    let describe = DescribeConfigsRequest {
        resources: vec![resource; count],
        include_synonyms: true,
        include_documentation: true,
    };
    add(to, &describe);
    let resource = AlterConfigsResource {
        resource_type: 2,
        resource_name: "none".into(),
        ..Default::default()
    };
    add(to, &AlterConfigsRequest { resources: vec![resource; count], validate_only: true });
    let resource = IncrementalAlterConfigsResource {
        resource_type: 2,
        resource_name: "none".into(),
        ..Default::default()
    };
    let resources = vec![resource; count];
    add(to, &IncrementalAlterConfigsRequest { resources, validate_only: true });
}

#[test]
fn there_is_one_of_each() {
    let all = all(1);
    for (key, versions) in ADVERTISED {
        for version in versions.clone().filter(|&version| is_served(*key, version)) {
            let is_it = |whole: &Whole| (whole.key, whole.version) == (*key, version);
            assert!(all.iter().any(is_it), "{key:?} {version}");
        }
    }
}
