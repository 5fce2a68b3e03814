//! Who coordinates: found, not there yet, reading, and another broker from now on.

use std::time::Duration;

use proto::kafka::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, JoinGroupRequest,
    ListGroupsRequest, OffsetDeleteRequest,
};
use proto::{BrokerId, LeaderEpoch};

use super::rig::*;
use crate::cluster::metadata::ClusterDelta;
use crate::groups::OFFSETS_TOPIC;
use crate::replication::tests::rig::led;

/// What each API answers about group `g`, in the order of [`APIS`].
const APIS: [&str; 11] = [
    "join",
    "sync",
    "heartbeat",
    "leave",
    "commit",
    "fetch",
    "fetch 1",
    "describe",
    "list",
    "delete",
    "offset delete",
];

async fn asked(client: &mut Client) -> [i16; APIS.len()] {
    let joined = proto::kafka::messages::JoinGroupResponse {
        member_id: "m".into(),
        generation_id: 1,
        ..Default::default()
    };
    let describe = DescribeGroupsRequest { groups: vec!["g".into()], ..Default::default() };
    let delete = DeleteGroupsRequest { groups_names: vec!["g".into()] };
    let forget = OffsetDeleteRequest { group_id: "g".into(), ..Default::default() };
    let fetch = fetch_request("g", Some(&[("t", 0)]));
    [
        client.call(JOIN, &join("")).await.error_code,
        client.sync(&sync(&joined)).await,
        client.beat(&joined).await,
        client.call(LEAVE, &leave(&[("m", None)])).await.error_code,
        commit_codes(&client.call(COMMIT, &commit(-1, "", &[("t", 0, 1)])).await)[0],
        client.call(FETCH, &fetch).await.error_code,
        client.call(1, &fetch).await.topics[0].partitions[0].error_code,
        client.call(5, &describe).await.groups[0].error_code,
        client.call(4, &ListGroupsRequest::default()).await.error_code,
        client.call(2, &delete).await.results[0].error_code,
        client.call(0, &forget).await.error_code,
    ]
}

#[tokio::test]
async fn coordinators_are_found_by_group_and_nothing_else() {
    let (server, mut client) = serving(&["offsets.topic.replication.factor=2"]).await;
    let keys = vec!["g".into(), "".into(), "h".into()];
    let request = |key_type| FindCoordinatorRequest {
        key: "g".into(),
        key_type,
        coordinator_keys: keys.clone(),
    };
    let found = client.call(4, &request(0)).await;
    let told: Vec<_> = found
        .coordinators
        .iter()
        .map(|one| (&*one.key, one.error_code, one.node_id, &*one.host, one.port))
        .collect();
    let port = i32::from(server.kafka.port());
    let at = |key| (key, 0, 1, "127.0.0.1", port);
    assert_eq!(told, [at("g"), at(""), at("h")]);
    for (version, kind) in [(3, 1), (4, 1), (4, 2), (4, -1)] {
        let found = client.call(version, &request(kind)).await;
        let codes: Vec<i16> = match version {
            3 => vec![found.error_code],
            _ => found.coordinators.iter().map(|one| one.error_code).collect(),
        };
        assert!(codes.iter().all(|code| *code == Code::InvalidRequest as i16), "{kind}: {codes:?}");
    }
    // The topic is not there, and is not made with fewer replicas than it is to have.
    server.metadata.update(|image| {
        image.topics.remove(OFFSETS_TOPIC);
    });
    let found = client.call(3, &request(0)).await;
    assert_eq!((found.error_code, found.node_id), (Code::CoordinatorNotAvailable as i16, -1));
    let message = found.error_message.unwrap();
    assert!(message.contains("offsets.topic.replication.factor"), "{message}");
    let other = Code::NotCoordinator as i16;
    let told = asked(&mut client).await;
    let expected = [other, other, other, other, other, other, other, other, 0, other, other];
    assert_eq!(told, expected, "{APIS:?}");
}

#[tokio::test]
async fn while_groups_are_read_clients_are_told_what_they_expect() {
    let (server, mut client) = serving(&["offsets.commit.timeout.ms=100"]).await;
    let partition = offsets_partition(&server);
    // Something is in the log that no follower has, also in the next leadership.
    let me = BrokerId(1);
    partition.lead(me, &led(1, 0, &[1, 2], &[1, 2])).unwrap();
    server.metadata.update(|_| ());
    until_served(&mut client).await;
    let late = client.call(COMMIT, &commit(-1, "", &[("t", 0, 1)])).await;
    assert_eq!(commit_codes(&late), [Code::CoordinatorNotAvailable as i16], "not known in time");
    partition.lead(me, &led(2, 0, &[1, 2], &[1, 2])).unwrap();
    let (reading, rebalance) =
        (Code::CoordinatorLoadInProgress as i16, Code::RebalanceInProgress as i16);
    let mut expected = [reading; APIS.len()];
    // Fatal to Java's consumers: 14 is none of the errors they know here.
    expected[1] = rebalance;
    expected[2] = 0;
    assert_eq!(asked(&mut client).await, expected, "{APIS:?}");
}

#[tokio::test]
async fn who_waits_is_told_at_once_that_another_broker_coordinates() {
    let (server, mut client) = serving(&[]).await;
    let [(mut first, leader), (mut second, _)] = two(&server).await;
    let rejoining = first.send(JOIN, &join(&leader.member_id)).await;
    let entering = second.send(3, &join("")).await;
    let mut syncing = Client::connect(&server).await;
    let request = JoinGroupRequest { group_id: "h".into(), ..join("") };
    assert_eq!(syncing.enter(&request).await.error_code, 0);
    // The picture of the cluster tells first; the partition still takes itself for the leader's.
    server.metadata.update(|image| {
        let mut topic = (**image.topics.get(OFFSETS_TOPIC).unwrap()).clone();
        topic.partitions[0].leader = Some(BrokerId(2));
        topic.partitions[0].leader_epoch = LeaderEpoch(1);
        image.apply(ClusterDelta { topics: vec![topic], ..ClusterDelta::default() });
    });
    let both = async {
        let first = first.receive::<JoinGroupRequest>(JOIN, rejoining).await;
        let second = second.receive::<JoinGroupRequest>(3, entering).await;
        (first.error_code, second.error_code)
    };
    let told = tokio::time::timeout(Duration::from_secs(2), both).await.expect("nobody is told");
    let other = Code::NotCoordinator as i16;
    assert_eq!(told, (other, other));
    let mut expected = [other; APIS.len()];
    expected[8] = 0;
    assert_eq!(asked(&mut client).await, expected, "{APIS:?}");
    let found = FindCoordinatorRequest { key: "g".into(), ..Default::default() };
    let found = client.call(2, &found).await;
    assert_eq!(found.error_code, Code::CoordinatorNotAvailable as i16, "it is not registered");
}
