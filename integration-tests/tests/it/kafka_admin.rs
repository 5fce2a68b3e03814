//! Administration over Kafka's protocol, as Kafka's clients ask it.

use anyhow::{Result, ensure};
use integration_tests::dev::Dev;
use integration_tests::kafka_client::KafkaClient;
use proto::ErrorCode;
use proto::kafka::Str;
use proto::kafka::messages::*;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

fn topic(name: &str, partitions: i32) -> CreatableTopic {
    CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: 1,
        ..CreatableTopic::default()
    }
}

fn with_config(mut topic: CreatableTopic, key: &str, value: &str) -> CreatableTopic {
    topic.configs.push(CreatableTopicConfig { name: key.into(), value: Some(value.into()) });
    topic
}

#[test]
fn topics_are_created_grown_and_deleted() -> Result<()> {
    let scratch = integration_tests::scratch("kafka-topics")?;
    let broker = Dev::start(scratch.path(), &[])?;
    let mut client = KafkaClient::connect(&broker.kafka)?;
    let create = |topics: Vec<CreatableTopic>, validate_only| CreateTopicsRequest {
        topics,
        validate_only,
        ..CreateTopicsRequest::default()
    };
    let checked = client.call(7, &create(vec![topic("checked", 1)], true))?;
    ensure!(checked.topics[0].error_code == 0, "{checked:?}");
    for version in 2..=7 {
        let name = format!("v{version}");
        let asked = create(vec![with_config(topic(&name, 2), "retention.ms", "5000")], false);
        let answer = client.call(version, &asked)?;
        ensure!(answer.topics[0].error_code == 0, "version {version}: {answer:?}");
        ensure!(version < 5 || answer.topics[0].num_partitions == 2, "{answer:?}");
        ensure!(version < 7 || !answer.topics[0].topic_id.is_nil(), "{answer:?}");
    }
    let twice = [topic("twice", 1), topic("twice", 1)];
    let bad = vec![
        topic("v2", 1),
        topic("none", 0),
        CreatableTopic { replication_factor: 3, ..topic("three", 1) },
        with_config(topic("key", 1), "no.such.key", "1"),
        with_config(topic("value", 1), "retention.ms", "soon"),
        topic("bad name", 1),
        topic("good", -1),
    ];
    let answer = client.call(5, &create([bad, twice.to_vec()].concat(), false))?;
    let told: Vec<_> = answer.topics.iter().map(|of| (&*of.name, of.error_code)).collect();
    let expected = [
        ("v2", 36),
        ("none", 37),
        ("three", 38),
        ("key", 40),
        ("value", 40),
        ("bad name", 17),
        ("good", 0),
        ("twice", 42),
    ];
    ensure!(told == expected, "{:?}", answer.topics);

    let grow = |count, version, client: &mut KafkaClient| -> Result<i16> {
        let topics = vec![CreatePartitionsTopic { name: "good".into(), count, assignments: None }];
        let asked = CreatePartitionsRequest { topics, ..CreatePartitionsRequest::default() };
        Ok(client.call(version, &asked)?.results[0].error_code)
    };
    for version in 0..=3 {
        let error = grow(10 + i32::from(version), version, &mut client)?;
        ensure!(error == 0, "version {version}: {error}");
    }
    ensure!(grow(3, 3, &mut client)? == ErrorCode::InvalidPartitions as i16, "fewer");
    assignments(&mut client)?;

    let id = client.call(12, &MetadataRequest::default())?.topics[0].topic_id;
    let by_id = DeleteTopicState { name: None, topic_id: id };
    let unknown = DeleteTopicState { name: None, topic_id: uuid::Uuid::from_u128(3) };
    let topics = vec![by_id, unknown];
    let asked = DeleteTopicsRequest { topics, ..DeleteTopicsRequest::default() };
    let answer = client.call(6, &asked)?;
    let told: Vec<_> = answer.responses.iter().map(|of| of.error_code).collect();
    ensure!(told == [0, ErrorCode::UnknownTopicId as i16], "{answer:?}");
    let topic_names: Vec<Str> = vec!["v2".into(), "gone".into()];
    for (version, expected) in [(1, [0, 3]), (5, [3, 3])] {
        let topic_names = topic_names.clone();
        let asked = DeleteTopicsRequest { topic_names, ..DeleteTopicsRequest::default() };
        let answer = client.call(version, &asked)?;
        let told: Vec<_> = answer.responses.iter().map(|of| of.error_code).collect();
        ensure!(told == expected, "{answer:?}");
    }
    broker.stop()
}

/// New partitions where the client says, in a topic `good` of 13.
fn assignments(client: &mut KafkaClient) -> Result<()> {
    let on = |count, brokers: &[&[i32]]| CreatePartitionsTopic {
        name: "good".into(),
        count,
        assignments: Some(
            brokers
                .iter()
                .map(|ids| CreatePartitionsAssignment { broker_ids: ids.to_vec() })
                .collect(),
        ),
    };
    let other = CreatePartitionsTopic { name: "none".into(), count: 2, assignments: None };
    let mut ask = |topics: Vec<CreatePartitionsTopic>, validate_only| -> Result<Vec<i16>> {
        let asked = CreatePartitionsRequest { topics, validate_only, ..Default::default() };
        let answer = client.call(3, &asked)?;
        Ok(answer.results.iter().map(|of| of.error_code).collect())
    };
    let placed = ErrorCode::InvalidReplicaAssignment as i16;
    ensure!(ask(vec![on(15, &[&[1]])], false)? == [placed], "one is missing");
    ensure!(ask(vec![on(14, &[&[7]])], true)? == [placed], "no such broker");
    ensure!(ask(vec![on(14, &[&[1]]), other.clone()], true)? == [0, 3], "checked");
    ensure!(ask(vec![other.clone(), on(14, &[&[1]]), other], false)? == [0, 42], "twice");
    ensure!(ask(vec![on(14, &[&[1]])], false)? == [37], "that was done, and not by the check");
    Ok(())
}

/// A setting of topic `t` and where it comes from.
fn describe(client: &mut KafkaClient, key: &str) -> Result<(String, i8)> {
    let resource = DescribeConfigsResource {
        resource_type: TOPIC,
        resource_name: "t".into(),
        configuration_keys: Some(vec![key.into()]),
    };
    let asked = DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        include_documentation: true,
    };
    let answer = client.call(4, &asked)?;
    let entry = &answer.results[0].configs[0];
    ensure!(entry.documentation.is_some() && !entry.synonyms.is_empty(), "{entry:?}");
    Ok((entry.value.as_deref().unwrap_or_default().to_owned(), entry.config_source))
}

#[test]
fn settings_are_told_with_their_sources_and_changed() -> Result<()> {
    let scratch = integration_tests::scratch("kafka-configs")?;
    let broker = Dev::start(scratch.path(), &["log.retention.ms=77000"])?;
    let mut client = KafkaClient::connect(&broker.kafka)?;
    let asked = CreateTopicsRequest {
        topics: vec![with_config(topic("t", 1), "cleanup.policy", "compact")],
        ..CreateTopicsRequest::default()
    };
    ensure!(client.call(7, &asked)?.topics[0].error_code == 0, "created");
    ensure!(describe(&mut client, "cleanup.policy")? == ("compact".to_owned(), 1), "the topic's");
    ensure!(describe(&mut client, "retention.ms")? == ("77000".to_owned(), 4), "the file's");
    ensure!(describe(&mut client, "segment.bytes")? == ("1073741824".to_owned(), 5), "nobody's");
    for version in 1..=4 {
        let [none, other] = [(TOPIC, "none"), (BROKER, "9")];
        let resources = [(TOPIC, "t"), (BROKER, "1"), none, other, (7, "x"), (BROKER, "")];
        let resources = resources.map(|(resource_type, name)| DescribeConfigsResource {
            resource_type,
            resource_name: name.into(),
            configuration_keys: None,
        });
        let asked = DescribeConfigsRequest { resources: resources.to_vec(), ..Default::default() };
        let answer = client.call(version, &asked)?;
        let told: Vec<_> = answer.results.iter().map(|of| of.error_code).collect();
        ensure!(told == [0, 0, 3, 42, 42, 0], "version {version}: {told:?}");
        ensure!(answer.results[0].configs.len() > 15, "all of a topic's");
        ensure!(answer.results[1].configs.len() > 50, "all of a broker's");
        ensure!(answer.results[5].configs.is_empty(), "no defaults of all brokers");
    }

    let change = |client: &mut KafkaClient, operation, key: &str, value: Option<&str>| {
        let config = IncrementalAlterableConfig {
            name: key.into(),
            config_operation: operation,
            value: value.map(Into::into),
        };
        let resource = IncrementalAlterConfigsResource {
            resource_type: TOPIC,
            resource_name: "t".into(),
            configs: vec![config],
        };
        let resources = vec![resource];
        let asked = IncrementalAlterConfigsRequest { resources, validate_only: false };
        anyhow::Ok(client.call(1, &asked)?.responses[0].error_code)
    };
    ensure!(change(&mut client, 0, "retention.ms", Some("88000"))? == 0, "set");
    ensure!(change(&mut client, 2, "cleanup.policy", Some("delete"))? == 0, "append");
    ensure!(change(&mut client, 0, "retention.ms", Some("x"))? == 40, "a bad value");
    for operation in [2, 3] {
        ensure!(change(&mut client, operation, "retention.ms", Some("1"))? == 40, "no list");
    }
    ensure!(change(&mut client, 0, "retention.ms", None)? == 42, "nothing to set");
    ensure!(change(&mut client, 9, "retention.ms", Some("1"))? == 42, "no operation");
    eventually(|| Ok(describe(&mut client, "retention.ms")? == ("88000".to_owned(), 1)))?;
    eventually(
        || Ok(describe(&mut client, "cleanup.policy")? == ("compact,delete".to_owned(), 1)),
    )?;
    ensure!(change(&mut client, 3, "cleanup.policy", Some("compact"))? == 0, "subtract");
    eventually(|| Ok(describe(&mut client, "cleanup.policy")? == ("delete".to_owned(), 1)))?;
    ensure!(change(&mut client, 1, "retention.ms", None)? == 0, "delete");
    eventually(|| Ok(describe(&mut client, "retention.ms")? == ("77000".to_owned(), 4)))?;
    broker.stop()
}

#[test]
fn settings_are_replaced_all_at_once_or_only_checked() -> Result<()> {
    let scratch = integration_tests::scratch("kafka-alter-configs")?;
    let broker = Dev::start(scratch.path(), &[])?;
    let mut client = KafkaClient::connect(&broker.kafka)?;
    let asked = CreateTopicsRequest {
        topics: vec![with_config(topic("t", 1), "retention.ms", "88000")],
        ..CreateTopicsRequest::default()
    };
    ensure!(client.call(7, &asked)?.topics[0].error_code == 0, "created");
    // What is not named goes.
    let resource = AlterConfigsResource {
        resource_type: TOPIC,
        resource_name: "t".into(),
        configs: vec![AlterableConfig { name: "segment.ms".into(), value: Some("9000".into()) }],
    };
    let alter = |kind, name: &str, key: &str, value: Option<&str>| AlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: kind,
            resource_name: name.into(),
            configs: vec![AlterableConfig { name: key.into(), value: value.map(Into::into) }],
        }],
        validate_only: true,
    };
    for (kind, name, key, value, expected) in [
        (TOPIC, "t", "segment.ms", Some("9000"), 0),
        (TOPIC, "t", "segment.ms", Some("x"), 40),
        (TOPIC, "t", "segment.ms", None, 42),
        (TOPIC, "none", "segment.ms", Some("9000"), 3),
        (BROKER, "1", "follower.replication.throttled.rate", Some("5000"), 0),
        (BROKER, "1", "follower.replication.throttled.rate", Some("x"), 40),
        (BROKER, "1", "num.network.threads", Some("2"), 40),
    ] {
        let told = client.call(2, &alter(kind, name, key, value))?.responses[0].error_code;
        ensure!(told == expected, "{name} {key}={value:?}: {told}");
    }
    ensure!(describe(&mut client, "segment.ms")?.1 != 1, "to validate is not to alter");
    let asked = AlterConfigsRequest { resources: vec![resource], validate_only: false };
    ensure!(client.call(2, &asked)?.responses[0].error_code == 0, "altered");
    eventually(|| Ok(describe(&mut client, "segment.ms")? == ("9000".to_owned(), 1)))?;
    eventually(|| Ok(describe(&mut client, "retention.ms")?.1 == 5))?;
    broker.stop()
}

/// A change reaches the broker a moment after it was answered.
fn eventually(mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = std::time::Instant::now();
    while !holds()? {
        ensure!(begun.elapsed().as_secs() < 10, "it does not come to pass");
    }
    Ok(())
}

#[test]
fn the_rest_of_administration() -> Result<()> {
    let scratch = integration_tests::scratch("kafka-admin")?;
    let broker = Dev::start(scratch.path(), &[])?;
    let mut client = KafkaClient::connect(&broker.kafka)?;
    let asked = CreateTopicsRequest { topics: vec![topic("t", 2)], ..Default::default() };
    ensure!(client.call(7, &asked)?.topics[0].error_code == 0, "created");
    broker.run("producer", &["--topic", "t", "--partition", "0"], "a\nb\nc\n")?;

    let delete = |offset| DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: "t".into(),
            partitions: vec![DeleteRecordsPartition { partition_index: 0, offset }],
        }],
        ..DeleteRecordsRequest::default()
    };
    for (version, offset, expected) in [(0, 1, (0, 1)), (1, -1, (0, 3)), (2, 9, (1, -1))] {
        let answer = client.call(version, &delete(offset))?;
        let of = &answer.topics[0].partitions[0];
        ensure!((of.error_code, of.low_watermark) == expected, "{offset}: {of:?}");
    }

    for version in 0..=1 {
        let cluster = client.call(version, &DescribeClusterRequest::default())?;
        ensure!(cluster.error_code == 0 && cluster.brokers.len() == 1, "{cluster:?}");
        let of = &cluster.brokers[0];
        ensure!(format!("{}:{}", of.host, of.port) == broker.kafka, "{of:?}");
        ensure!(cluster.controller_id == of.broker_id && !cluster.cluster_id.is_empty(), "{of:?}");
    }
    for version in 1..=4 {
        let dirs = client.call(version, &DescribeLogDirsRequest::default())?;
        let partitions: usize = dirs.results[0].topics.iter().map(|of| of.partitions.len()).sum();
        ensure!(partitions == 2 && dirs.results[0].error_code == 0, "{dirs:?}");
        ensure!(version < 4 || dirs.results[0].total_bytes > 0, "{dirs:?}");
    }
    let elect = |partitions| ElectLeadersRequest {
        topic_partitions: Some(vec![ElectLeadersTopicPartitions { topic: "t".into(), partitions }]),
        ..ElectLeadersRequest::default()
    };
    for version in 0..=2 {
        let answer = client.call(version, &elect(vec![0, 7]))?;
        let of = &answer.replica_election_results[0];
        let told: Vec<_> = of.partition_result.iter().map(|of| of.error_code).collect();
        let expected = [ErrorCode::ElectionNotNeeded, ErrorCode::UnknownTopicOrPartition];
        ensure!(told == expected.map(|code| code as i16), "{answer:?}");
    }
    let none = client.call(0, &ListPartitionReassignmentsRequest::default())?;
    ensure!(none.error_code == 0 && none.topics.is_empty(), "{none:?}");
    let move_to = |replicas| AlterPartitionReassignmentsRequest {
        topics: vec![ReassignableTopic {
            name: "t".into(),
            partitions: vec![ReassignablePartition { partition_index: 0, replicas }],
        }],
        ..AlterPartitionReassignmentsRequest::default()
    };
    for (replicas, expected) in [(None, 85), (Some(vec![1]), 0), (Some(vec![9]), 39)] {
        let answer = client.call(0, &move_to(replicas.clone()))?;
        let told = answer.responses[0].partitions[0].error_code;
        ensure!(told == expected, "{replicas:?}: {answer:?}");
    }
    broker.stop()
}
