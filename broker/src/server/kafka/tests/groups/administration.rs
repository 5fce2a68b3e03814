//! E10, E11: leaving, describing, listing and deleting.

use proto::kafka::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, LeaveGroupRequest, ListGroupsRequest,
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};

use super::rig::*;

#[tokio::test]
async fn e10_each_member_that_leaves_is_answered_for_itself() {
    let (server, mut client) = serving(&[]).await;
    let unknown = Code::UnknownMemberId as i16;
    let answer = client.call(LEAVE, &leave(&[("nobody", None)])).await;
    assert_eq!((answer.error_code, answer.members[0].error_code), (0, unknown), "no group");
    let old = LeaveGroupRequest { member_id: "nobody".into(), ..leave(&[]) };
    assert_eq!(client.call(2, &old).await.error_code, unknown, "has no place for each");
    let unnamed = LeaveGroupRequest { group_id: "".into(), ..leave(&[("nobody", None)]) };
    let answer = client.call(LEAVE, &unnamed).await;
    assert_eq!((answer.error_code, answer.members.len()), (Code::InvalidGroupId as i16, 0));
    let [(_, one), (_, two)] = two(&server).await;
    assert_eq!(
        commit_codes(
            &client.call(COMMIT, &commit(one.generation_id, &one.member_id, &[("u", 0, 5)])).await
        ),
        [0]
    );
    let leaving = [
        (&*one.member_id, None),
        ("nobody", None),
        (&*two.member_id, Some("i")),
        ("", Some("i")),
        (&*two.member_id, None),
    ];
    let answer = client.call(LEAVE, &leave(&leaving)).await;
    let codes: Vec<i16> = answer.members.iter().map(|one| one.error_code).collect();
    assert_eq!((answer.error_code, codes), (0, vec![0, unknown, unknown, unknown, 0]));
    assert_eq!(state(&mut client, "g").await, "Empty");
    assert_eq!(client.committed("g").await, [("u".to_owned(), 0, 5)], "offsets stay");
    let joined = client.enter(&join("")).await;
    assert_eq!(joined.generation_id, one.generation_id + 2, "being empty was one, too");
}

async fn state(client: &mut Client, group: &str) -> String {
    let request = DescribeGroupsRequest { groups: vec![group.into()], ..Default::default() };
    let described = client.call(5, &request).await.groups.remove(0);
    assert_eq!(described.error_code, 0);
    described.group_state.to_string()
}

#[tokio::test]
async fn e11_groups_are_described_and_listed_by_state() {
    let (server, mut client) = serving(&[]).await;
    assert_eq!(state(&mut client, "missing").await, "Dead", "and no error");
    assert_eq!(commit_codes(&client.call(COMMIT, &commit(-1, "", &[("t", 0, 5)])).await), [0]);
    assert_eq!(state(&mut client, "g").await, "Empty");
    let stable = proto::kafka::messages::JoinGroupRequest { group_id: "h".into(), ..join("") };
    let joined = client.enter(&stable).await;
    assert_eq!(state(&mut client, "h").await, "CompletingRebalance");
    let request =
        proto::kafka::messages::SyncGroupRequest { group_id: "h".into(), ..sync(&joined) };
    assert_eq!(client.sync(&request).await, 0);
    // One that has its assignment is awaited, since another one has come.
    let preparing = proto::kafka::messages::JoinGroupRequest { group_id: "p".into(), ..join("") };
    let joined = client.enter(&preparing).await;
    let request =
        proto::kafka::messages::SyncGroupRequest { group_id: "p".into(), ..sync(&joined) };
    assert_eq!(client.sync(&request).await, 0);
    let mut other = Client::connect(&server).await;
    other.send(3, &preparing).await;
    while state(&mut client, "p").await != "PreparingRebalance" {}
    for (filter, expected) in [
        (
            vec![],
            vec![
                ("g", "", "Empty"),
                ("h", "consumer", "Stable"),
                ("p", "consumer", "PreparingRebalance"),
            ],
        ),
        (vec!["stable"], vec![("h", "consumer", "Stable")]),
        (vec!["Empty", "Dead"], vec![("g", "", "Empty")]),
        (vec!["nonsense"], vec![]),
    ] {
        let states_filter = filter.iter().map(|state| (*state).into()).collect();
        let request = ListGroupsRequest { states_filter, ..Default::default() };
        let listed = client.call(4, &request).await;
        let listed: Vec<_> = listed
            .groups
            .iter()
            .map(|one| (&*one.group_id, &*one.protocol_type, &*one.group_state))
            .collect();
        assert_eq!(listed, expected, "{filter:?}");
    }
}

#[tokio::test]
async fn e11_only_empty_groups_are_deleted() {
    let (server, mut client) = serving(&[]).await;
    let both = two(&server).await;
    let names = |names: &[&str]| DeleteGroupsRequest {
        groups_names: names.iter().map(|name| (*name).into()).collect(),
    };
    let codes = |answer: proto::kafka::messages::DeleteGroupsResponse| -> Vec<i16> {
        answer.results.iter().map(|one| one.error_code).collect()
    };
    let (busy, missing) = (Code::NonEmptyGroup as i16, Code::GroupIdNotFound as i16);
    let answer = client.call(2, &names(&["g", "missing", ""])).await;
    assert_eq!(codes(answer), [busy, missing, missing]);
    let leaving = both.each_ref().map(|(_, joined)| (&*joined.member_id, None));
    client.call(LEAVE, &leave(&leaving)).await;
    assert_eq!(codes(client.call(2, &names(&["g", "g"])).await), [0, missing]);
    assert_eq!(state(&mut client, "g").await, "Dead");
}

#[tokio::test]
async fn e11_offsets_are_deleted_where_nobody_reads_the_topic() {
    let (server, mut client) = serving(&[]).await;
    let request = |group: &str, names: &[(&str, i32)]| OffsetDeleteRequest {
        group_id: group.into(),
        topics: names
            .iter()
            .map(|&(name, partition_index)| OffsetDeleteRequestTopic {
                name: name.into(),
                partitions: vec![OffsetDeleteRequestPartition { partition_index }],
            })
            .collect(),
    };
    for (group, code) in [("", Code::InvalidGroupId), ("missing", Code::GroupIdNotFound)] {
        let answer = client.call(0, &request(group, &[("t", 0)])).await;
        assert_eq!((answer.error_code, answer.topics.len()), (code as i16, 0), "{group}");
    }
    let [(_, one), (_, two)] = two(&server).await;
    let commits = [("t", 0, 1), ("u", 0, 2)];
    let codes = commit_codes(
        &client.call(COMMIT, &commit(one.generation_id, &one.member_id, &commits)).await,
    );
    assert_eq!(codes, [0, 0]);
    let names = [("t", 0), ("u", 0), ("u", 7), ("gone", 0)];
    let (read, unknown) =
        (Code::GroupSubscribedToTopic as i16, Code::UnknownTopicOrPartition as i16);
    for (expected, left) in
        [([read, 0, 0, unknown], vec![("t".to_owned(), 0, 1)]), ([0, 0, 0, unknown], vec![])]
    {
        let answer = client.call(0, &request("g", &names)).await;
        let codes: Vec<i16> =
            answer.topics.iter().map(|topic| topic.partitions[0].error_code).collect();
        assert_eq!((answer.error_code, codes), (0, expected.to_vec()));
        assert_eq!(client.committed("g").await, left);
        client.call(LEAVE, &leave(&[(&one.member_id, None), (&two.member_id, None)])).await;
    }
    // A group of another kind says nothing of topics: its offsets stay while it has members.
    let connect = proto::kafka::messages::JoinGroupRequest {
        group_id: "c".into(),
        protocol_type: "connect".into(),
        ..join("")
    };
    assert_eq!(client.enter(&connect).await.error_code, 0);
    let answer = client.call(0, &request("c", &[("t", 0)])).await;
    assert_eq!(answer.error_code, Code::NonEmptyGroup as i16);
}
