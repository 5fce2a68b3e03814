//! E6 to E8: commits and what was committed.

use proto::kafka::messages::{OffsetFetchRequest, OffsetFetchRequestGroup};

use super::rig::*;

#[tokio::test]
async fn e6_commits_by_state() {
    let (server, mut client) = serving(&[]).await;
    let one = [("t", 0, 5)];
    let missing = client.call(9, &commit(1, "m", &one)).await;
    assert_eq!(commit_codes(&missing), [Code::GroupIdNotFound as i16]);
    let missing = client.call(8, &commit(1, "m", &one)).await;
    assert_eq!(commit_codes(&missing), [Code::IllegalGeneration as i16]);
    assert_eq!(commit_codes(&client.call(COMMIT, &commit(-1, "", &one)).await), [0]);
    assert_eq!(client.committed("g").await, [("t".to_owned(), 0, 5)], "a simple group");
    let unnamed =
        proto::kafka::messages::OffsetCommitRequest { group_id: "".into(), ..commit(-1, "", &one) };
    assert_eq!(commit_codes(&client.call(COMMIT, &unnamed).await), [0], "old clients do it");

    // Its members have joined, and wait for the assignment.
    let joined = client.enter(&join("")).await;
    let of = |generation, id: &str| commit(generation, id, &one);
    let id = &*joined.member_id;
    let refused = [
        (of(-1, ""), Code::UnknownMemberId),
        (of(1, "nobody"), Code::UnknownMemberId),
        (of(0, id), Code::IllegalGeneration),
        (of(1, id), Code::RebalanceInProgress),
    ];
    for (request, code) in refused {
        assert_eq!(
            commit_codes(&client.call(COMMIT, &request).await),
            [code as i16],
            "{request:?}"
        );
    }
    assert_eq!(client.sync(&sync(&joined)).await, 0);
    assert_eq!(commit_codes(&client.call(COMMIT, &of(1, id)).await), [0], "stable");
    let refused = commit_codes(&client.call(COMMIT, &of(-1, "")).await);
    assert_eq!(refused, [Code::UnknownMemberId as i16]);
    // Another one comes: members commit what they have read while they give it up.
    let mut other = Client::connect(&server).await;
    other.send(3, &join("")).await;
    while client.beat(&joined).await == 0 {}
    let late = commit(1, id, &[("t", 0, 9)]);
    assert_eq!(commit_codes(&client.call(COMMIT, &late).await), [0], "preparing");
    assert_eq!(client.committed("g").await, [("t".to_owned(), 0, 9)]);
}

#[tokio::test]
async fn e7_what_cannot_be_committed_keeps_the_rest_from_nothing() {
    let (_server, mut client) = serving(&["offset.metadata.max.bytes=10"]).await;
    let mut request =
        commit(-1, "", &[("t", 0, 1), ("t", 1, 2), ("t", 2, 3), ("gone", 0, 4), ("u", 0, 5)]);
    let text = |topic: usize, text: Option<&str>| (topic, text.map(Into::into));
    for (topic, text) in [text(0, Some("0123456789")), text(1, Some("0123456789+")), text(4, None)]
    {
        request.topics[topic].partitions[0].committed_metadata = text;
    }
    let (large, unknown) =
        (Code::OffsetMetadataTooLarge as i16, Code::UnknownTopicOrPartition as i16);
    let codes = commit_codes(&client.call(COMMIT, &request).await);
    assert_eq!(codes, [0, large, unknown, unknown, 0]);
    let answer = client.call(FETCH, &fetch_request("g", None)).await;
    let told = answer.topics.iter().map(|topic| topic.partitions[0].metadata.as_deref());
    assert_eq!(told.collect::<Vec<_>>(), [Some("0123456789"), Some("")], "none is empty");
}

#[tokio::test]
async fn e8_what_was_never_committed_is_minus_one_and_no_error() {
    let (_server, mut client) = serving(&[]).await;
    assert_eq!(commit_codes(&client.call(COMMIT, &commit(-1, "", &[("t", 0, 5)])).await), [0]);
    for (group, known) in [("g", 5), ("other", -1)] {
        let request = fetch_request(group, Some(&[("t", 0), ("t", 1), ("gone", 9)]));
        let answer = client.call(FETCH, &request).await;
        assert_eq!(answer.error_code, 0);
        let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let told: Vec<_> = partitions.map(|one| (one.committed_offset, one.error_code)).collect();
        // By topics: "gone" comes first.
        assert_eq!(told, [(-1, 0), (known, 0), (-1, 0)], "{group}");
    }
    // Several groups at once, each for itself.
    let of = |group: &str| OffsetFetchRequestGroup {
        group_id: group.into(),
        topics: None,
        ..OffsetFetchRequestGroup::default()
    };
    let groups = vec![of("g"), of("other")];
    let answer = client.call(9, &OffsetFetchRequest { groups, ..Default::default() }).await;
    let told: Vec<_> = answer
        .groups
        .iter()
        .map(|one| (&*one.group_id, one.error_code, one.topics.len()))
        .collect();
    assert_eq!(told, [("g", 0, 1), ("other", 0, 0)]);
}

#[tokio::test]
async fn offsets_are_kept_as_long_as_the_client_says_where_it_may() {
    let (_server, mut client) = serving(&["offsets.retention.check.interval.ms=50"]).await;
    let of = |retention_time_ms, topic| proto::kafka::messages::OffsetCommitRequest {
        retention_time_ms,
        ..commit(-1, "", &[(topic, 0, 5)])
    };
    // From version 5 on there is no place for it.
    for (version, retention, topic) in [(4, 1, "t"), (5, 1, "u")] {
        let codes = commit_codes(&client.call(version, &of(retention, topic)).await);
        assert_eq!(codes, [0]);
    }
    while client.committed("g").await.len() > 1 {}
    assert_eq!(client.committed("g").await, [("u".to_owned(), 0, 5)]);
}
