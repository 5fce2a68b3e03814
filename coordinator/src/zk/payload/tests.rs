//! Payloads survive a round trip; newer versions and garbage are refused.

use super::*;

fn topic_id() -> TopicId {
    TopicId(Uuid::from_u128(7))
}

#[test]
fn values_are_written_as_readable_json_with_a_version() {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let state = PartitionState {
        leader: Some(BrokerId(2)),
        leader_epoch: LeaderEpoch(5),
        isr: vec![BrokerId(2), BrokerId(3)],
        electable: vec![],
        controller_epoch: 4,
    };
    assert_eq!(
        text(state.encode().unwrap()),
        r#"{"version":1,"leader":2,"leader_epoch":5,"isr":[2,3],"controller_epoch":4}"#
    );
    let topic =
        Topic { topic_id: topic_id(), partitions: vec![vec![BrokerId(1)], vec![BrokerId(2)]] };
    assert_eq!(
        text(topic.encode().unwrap()),
        r#"{"version":1,"topic_id":"AAAAAAAAAAAAAAAAAAAABw","partitions":[[1],[2]]}"#
    );
    let member = Member {
        subscription: Subscription::Pattern { regex: "web.*".into(), streams: 2 },
        host: "h".into(),
        start_time_ms: 1,
    };
    assert_eq!(
        text(member.encode().unwrap()),
        r#"{"version":1,"subscription":{"pattern":{"regex":"web.*","streams":2}},"host":"h","start_time_ms":1}"#
    );
    let offset = CommittedOffset {
        offset: Some(Offset(9)),
        topic_id: topic_id(),
        leader_epoch: LeaderEpoch::UNKNOWN,
        metadata: String::new(),
        by: "c1".into(),
    };
    assert_eq!(
        text(offset.encode().unwrap()),
        r#"{"version":1,"offset":9,"topic_id":"AAAAAAAAAAAAAAAAAAAABw","leader_epoch":-1,"by":"c1"}"#
    );
}

#[test]
fn what_was_written_is_read() {
    let broker = Broker {
        host: "example".into(),
        grpc_port: 9094,
        kafka: Vec::new(),
        http_port: Some(9095),
        rack: "a".into(),
        incarnation: Uuid::from_u128(1),
        start_time_ms: 3,
        clean: true,
    };
    assert_eq!(Broker::decode("/x", &broker.encode().unwrap()).unwrap(), broker);
    let plan = PlanNode {
        strategy: "sticky".into(),
        members: vec![PlannedMember {
            id: "c".into(),
            subscription: Subscription::Topics([("t".to_owned(), 2)].into()),
        }],
        slots: vec![(0, 0), (0, 1)],
        topics: [(
            "t".to_owned(),
            PlannedTopic { topic_id: topic_id(), owners: vec![0, -1, 1], partitions: 3 },
        )]
        .into(),
    };
    assert_eq!(PlanNode::decode("/x", &plan.encode().unwrap()).unwrap(), plan);
}

#[test]
fn newer_and_foreign_values_are_refused_with_a_remedy() {
    let newer = br#"{"version":2,"epoch":"something else"}"#;
    let error = ControllerEpoch::decode("/controller_epoch", newer).unwrap_err();
    assert!(matches!(error, PayloadError::Newer { found: 2, known: 1, .. }));
    assert!(error.to_string().contains("upgrade this process"), "{error}");
    for foreign in
        [&b""[..], b"7", b"{}", b"\xff", br#"{"version":1}"#, br#"{"version":-1,"epoch":1}"#]
    {
        let error = ControllerEpoch::decode("/controller_epoch", foreign).unwrap_err();
        assert!(matches!(error, PayloadError::Malformed { .. }), "{foreign:?}: {error}");
        assert!(error.to_string().contains("/controller_epoch"), "{error}");
    }
    let later = br#"{"version":1,"epoch":3,"added_later":true}"#;
    assert_eq!(ControllerEpoch::decode("/x", later).unwrap().epoch, 3);
}

#[test]
fn a_value_above_the_limit_is_refused_before_it_is_sent() {
    let topic = Topic { topic_id: topic_id(), partitions: vec![vec![BrokerId(1000); 3]; 80_000] };
    assert!(matches!(topic.encode().unwrap_err(), PayloadError::TooLarge { .. }));
}
