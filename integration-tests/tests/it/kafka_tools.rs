//! Apache Kafka's own command-line tools, as an operator runs them: what they print is what is so.
//! `integration-tests/run` installs them; without them these tests say that they were skipped.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use integration_tests::cluster::{Cluster, ClusterOptions};
use integration_tests::dev::Dev;
use integration_tests::kafka_tools::{KafkaTools, rows};
use integration_tests::zookeeper::RegistryKind;
use serde_json::Value;

const TOPICS: &str = "kafka-topics --bootstrap-server @";
const CONFIGS: &str = "kafka-configs --bootstrap-server @";
const PRODUCE: &str = "kafka-console-producer --bootstrap-server @";
const CONSUME: &str = "kafka-console-consumer --bootstrap-server @";
const OFFSETS: &str = "kafka-get-offsets --bootstrap-server @";
const REASSIGN: &str = "kafka-reassign-partitions --bootstrap-server @";

fn file(dir: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    #[allow(clippy::disallowed_methods, reason = "a file of a test")]
    std::fs::write(&path, text)?;
    Ok(path)
}

/// A change reaches the broker a moment after it was answered.
fn shows(tools: &mut KafkaTools, line: &str, expected: &str) -> Result<String> {
    let mut told = String::new();
    for _ in 0..20 {
        told = tools.done(line)?;
        if told.contains(expected) {
            return Ok(told);
        }
    }
    anyhow::bail!("{line} does not show {expected}:\n{told}")
}

fn topics(tools: &mut KafkaTools) -> Result<()> {
    let configs = "--config retention.ms=60000 --config cleanup.policy=compact";
    let told = tools.done(&format!("{TOPICS} --create --topic t --partitions 2 {configs}"))?;
    ensure!(told == "Created topic t.\n", "{told}");
    for (arguments, expected) in [
        ("--create --topic t", "TopicExistsException"),
        ("--create --topic u --replication-factor 3", "InvalidReplicationFactorException"),
        ("--create --topic u --config no.such=1", "Unknown topic config name: no.such"),
        ("--create --topic u/v", "InvalidTopicException"),
        ("--describe --topic none", "Topic 'none' does not exist as expected"),
        ("--alter --topic t --partitions 1", "InvalidPartitionsException"),
        ("--delete --topic none", "Topic 'none' does not exist as expected"),
    ] {
        let told = tools.refused(&format!("{TOPICS} {arguments}"))?;
        ensure!(told.contains(expected), "{arguments}: {told}");
    }
    tools.done(&format!("{TOPICS} --create --topic t --if-not-exists"))?;
    tools.done(&format!("{TOPICS} --create --topic gone --replica-assignment 1,1"))?;
    ensure!(tools.done(&format!("{TOPICS} --list"))? == "gone\nt\n");
    tools.done(&format!("{TOPICS} --delete --topic gone"))?;
    ensure!(tools.done(&format!("{TOPICS} --list"))? == "t\n");
    tools.done(&format!("{TOPICS} --alter --topic t --partitions 3"))?;
    let told = shows(tools, &format!("{TOPICS} --describe --topic t"), "PartitionCount: 3")?;
    let configs = "ReplicationFactor: 1\tConfigs: cleanup.policy=compact,retention.ms=60000";
    ensure!(told.contains(configs), "{told}");
    for partition in 0..3 {
        let line = format!("\tTopic: t\tPartition: {partition}\tLeader: 1\tReplicas: 1\tIsr: 1\t");
        ensure!(told.contains(&line), "{told}");
    }
    for trouble in ["under-replicated", "unavailable", "under-min-isr", "at-min-isr"] {
        let told = tools.done(&format!("{TOPICS} --describe --{trouble}-partitions"))?;
        let expected = if trouble == "at-min-isr" { 3 } else { 0 };
        ensure!(told.lines().count() == expected, "{trouble}: {told}");
    }
    Ok(())
}

fn settings(tools: &mut KafkaTools) -> Result<()> {
    let topic = format!("{CONFIGS} --entity-type topics --entity-name t");
    let broker = format!("{CONFIGS} --entity-type brokers --entity-name 1");
    let add = "--add-config retention.ms=123456,max.message.bytes=2000";
    let told = tools.done(&format!("{topic} --alter {add}"))?;
    ensure!(told == "Completed updating config for topic t.\n", "{told}");
    let changed = "  retention.ms=123456 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:retention.ms=123456, \
                   DEFAULT_CONFIG:log.retention.ms=604800000}\n";
    let told = shows(tools, &format!("{topic} --describe"), changed)?;
    ensure!(told.contains("  max.message.bytes=2000 ") && told.lines().count() == 4, "{told}");
    tools.done(&format!("{topic} --alter --delete-config retention.ms,cleanup.policy"))?;
    shows(tools, &format!("{topic} --describe --all"), "  retention.ms=604800000 ")?;
    let told = tools.done(&format!("{topic} --describe"))?;
    ensure!(rows(&told).len() == 1 && told.contains("max.message.bytes=2000"), "{told}");
    for (line, expected) in [
        (format!("{topic} --alter --add-config retention.ms=soon"), "InvalidConfiguration"),
        (format!("{topic} --alter --delete-config retention.ms"), "Invalid config(s)"),
        (format!("{broker} --alter --add-config log.retention.ms=1"), "InvalidConfiguration"),
        (format!("{broker}7 --describe"), "doesn't exist"),
    ] {
        let told = tools.refused(&line);
        let told = told.or_else(|_| tools.done(&line))?;
        ensure!(told.contains(expected), "{line}: {told}");
    }
    let throttle = "follower.replication.throttled.rate";
    tools.done(&format!("{broker} --alter --add-config {throttle}=5000000"))?;
    let expected = format!("DYNAMIC_BROKER_CONFIG:{throttle}=5000000");
    shows(tools, &format!("{broker} --describe"), &expected)?;
    tools.done(&format!("{broker} --alter --delete-config {throttle}"))?;
    shows(tools, &format!("{broker} --describe"), "Dynamic configs for broker 1 are:\n")?;
    let told = tools.done(&format!("{CONFIGS} --entity-type brokers --describe"))?;
    let headings = "Dynamic configs for broker 1 are:\n\
                    Default configs for brokers in the cluster are:\n";
    ensure!(told == headings, "{told}");
    let told = tools.done(&format!("{broker} --describe --all"))?;
    ensure!(told.contains("  group.initial.rebalance.delay.ms=0 "), "{told}");
    ensure!(told.contains("STATIC_BROKER_CONFIG:group.initial.rebalance.delay.ms=0"), "{told}");
    Ok(())
}

#[test]
fn topics_and_settings_are_administered() -> Result<()> {
    let scratch = integration_tests::scratch("kafka-tools")?;
    let broker = Dev::start(scratch.path(), &["group.initial.rebalance.delay.ms=0"])?;
    let Some(mut tools) = KafkaTools::start(&broker.kafka)? else { return Ok(()) };
    topics(&mut tools)?;
    settings(&mut tools)?;
    let told = tools.done("kafka-cluster cluster-id --bootstrap-server @")?;
    ensure!(told.starts_with("Cluster ID: ") && told.len() > 30, "{told}");
    let told = tools.done("kafka-broker-api-versions --bootstrap-server @")?;
    ensure!(told.starts_with(&format!("{} (id: 1 rack: null", broker.kafka)), "{told}");
    ensure!(told.contains("\tJoinGroup(11): 0 to ") && !told.contains("UNKNOWN"), "{told}");
    let told = tools.done("kafka-log-dirs --bootstrap-server @ --describe --topic-list t")?;
    let json: Value = serde_json::from_str(told.lines().last().context("lines")?)?;
    let dir = &json["brokers"][0]["logDirs"][0];
    ensure!(dir["partitions"].as_array().map(Vec::len) == Some(3), "{told}");
    ensure!(dir["error"].is_null() && dir["partitions"][0]["isFuture"] == false, "{told}");
    broker.stop()
}

/// Keys, headers and values that the console producer takes, and how the console consumer prints them.
fn console(tools: &mut KafkaTools, broker: &Dev) -> Result<()> {
    let parse = "--property parse.key=true --property key.separator=:";
    let headers = format!("{parse} --property parse.headers=true");
    tools.fed(&format!("{PRODUCE} --topic c {headers}"), "h1:v1,h2:v2\tk1:one\n")?;
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let line = format!("{PRODUCE} --topic c --compression-codec {codec} --producer-property");
        tools.fed(
            &format!("{line} linger.ms=100 {parse}"),
            &format!("a:{codec} 1\nb:{codec} 2\n"),
        )?;
    }
    for acks in ["all", "1", "0"] {
        let line = format!("{PRODUCE} --topic c --producer-property acks={acks}");
        tools.fed(&line, &format!("acks {acks}\n"))?;
    }
    let print: String = ["key", "headers", "offset", "partition", "timestamp"]
        .map(|what| format!(" --property print.{what}=true"))
        .concat();
    let line = format!("{CONSUME} --topic c --from-beginning --max-messages 14{print}");
    let told = tools.done(&line)?;
    let mut expected = vec![("h1:v1,h2:v2", "k1", "one".to_owned())];
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        expected.push(("NO_HEADERS", "a", format!("{codec} 1")));
        expected.push(("NO_HEADERS", "b", format!("{codec} 2")));
    }
    expected.extend(["all", "1", "0"].map(|acks| ("NO_HEADERS", "null", format!("acks {acks}"))));
    ensure!(told.lines().count() == expected.len(), "{told}");
    for (offset, (line, (headers, key, value))) in told.lines().zip(&expected).enumerate() {
        let end = format!("\tPartition:0\tOffset:{offset}\t{headers}\t{key}\t{value}");
        ensure!(line.starts_with("CreateTime:1") && line.ends_with(&end), "{line} for {end}");
    }
    let line = format!("{CONSUME} --topic c --partition 0 --offset 3 --max-messages 2");
    ensure!(tools.done(&line)? == "gzip 1\ngzip 2\n");

    // The same by our consumer, and what our producer wrote by Kafka's.
    let arguments = ["--topic", "c", "--group", "ours", "--from-beginning", "--max-messages", "14"];
    let arguments = [&arguments[..], &["--output-format", "%o\t%k\t%s\\n"]].concat();
    let seen = broker.run("consumer", &arguments, "")?;
    for (offset, (line, (_, key, value))) in seen.lines().zip(&expected).enumerate() {
        let key = if *key == "null" { "" } else { key };
        ensure!(line == format!("{offset}\t{key}\t{value}"), "{line}");
    }
    ensure!(seen.lines().count() == expected.len(), "{seen}");
    let lines: String = (0..500).map(|number| format!("key {number}\tvalue {number}\n")).collect();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("ours-{codec}");
        broker.run("coordinator", &["topics", "--create", "--topic", &topic], "")?;
        let set = format!("compression.type={codec}");
        let arguments = ["--topic", &topic, "--key-separator", "\t", "--set", &set];
        let arguments = [&arguments[..], &["--partition", "0"]].concat();
        broker.run("producer", &arguments, &lines)?;
        let print = "--property print.key=true --max-messages 500";
        let told = tools.done(&format!("{CONSUME} --topic {topic} --from-beginning {print}"))?;
        ensure!(told == lines, "{codec}: they differ");
    }
    Ok(())
}

fn offsets(tools: &mut KafkaTools, dir: &Path) -> Result<()> {
    for (arguments, expected) in [
        ("--topic c", "c:0:14\n"),
        ("--topic-partitions c:0 --time -1", "c:0:14\n"),
        ("--topic c --time earliest", "c:0:0\n"),
        ("--topic c --time 0", "c:0:0\n"),
        ("--topic c --time max-timestamp", "c:0:13\n"),
        ("--topic c --time 99999999999999", ""),
    ] {
        let told = tools.done(&format!("{OFFSETS} {arguments}"))?;
        ensure!(told == expected, "{arguments}: {told}");
    }
    for (offset, expected) in [
        (5, "partition: c-0\tlow_watermark: 5\n"),
        (99, "partition: c-0\terror: org.apache.kafka.common.errors.OffsetOutOfRangeException"),
        (-1, "partition: c-0\tlow_watermark: 14\n"),
    ] {
        let plan = format!(
            r#"{{"version":1,"partitions":[{{"topic":"c","partition":0,"offset":{offset}}}]}}"#
        );
        let plan = file(dir, "delete.json", &plan)?;
        let line = "kafka-delete-records --bootstrap-server @ --offset-json-file";
        let told = tools.done(&format!("{line} {}", plan.display()))?;
        ensure!(told.contains(expected), "{told}");
    }
    ensure!(tools.done(&format!("{OFFSETS} --topic c --time -2"))? == "c:0:14\n");
    Ok(())
}

/// The numbers of the events `name` that a verifiable tool prints.
fn events(told: &str, name: &str) -> Result<Vec<Value>> {
    let events = told.lines().map(serde_json::from_str::<Value>);
    let events = events.collect::<Result<Vec<_>, _>>().context("lines of JSON")?;
    Ok(events.into_iter().filter(|event| event["name"] == name).collect())
}

fn measured(tools: &mut KafkaTools) -> Result<()> {
    tools.done(&format!("{TOPICS} --create --topic verified --partitions 3"))?;
    let line = "kafka-verifiable-producer --bootstrap-server @ --topic verified";
    let told = tools.done(&format!("{line} --max-messages 400 --repeating-keys 10"))?;
    let acked = events(&told, "producer_send_success")?;
    ensure!(acked.len() == 400 && events(&told, "producer_send_error")?.is_empty(), "{told}");
    ensure!(events(&told, "tool_data")?[0]["acked"] == 400, "{told}");
    let line = "kafka-verifiable-consumer --bootstrap-server @ --topic verified --group-id v";
    let told = tools.done(&format!("{line} --max-messages 400 --verbose"))?;
    let consumed = events(&told, "record_data")?;
    // In order within a partition, nothing twice, nothing else.
    for partition in 0..3 {
        let of = |events: &[Value]| -> Vec<(Value, Value)> {
            let of = events.iter().filter(|event| event["partition"] == partition);
            of.map(|event| (event["offset"].clone(), event["value"].clone())).collect()
        };
        let mut sent = of(&acked);
        sent.sort_by_key(|(offset, _)| offset.as_i64());
        ensure!(!sent.is_empty() && sent == of(&consumed), "partition {partition}: {told}");
    }
    let committed = events(&told, "offsets_committed")?;
    ensure!(committed.iter().all(|event| event["success"] == true), "{told}");
    ensure!(consumed.len() == 400 && !committed.is_empty(), "{told}");

    let load = "--num-records 20000 --throughput -1 --record-size 100 --producer-props";
    let line = format!("kafka-producer-perf-test --topic perf {load} bootstrap.servers=@");
    let told = tools.done(&line)?;
    let last = told.lines().last().context("lines")?;
    ensure!(last.starts_with("20000 records sent, ") && last.contains("ms 99.9th."), "{told}");
    let line = "kafka-consumer-perf-test --bootstrap-server @ --topic perf --messages 20000";
    let told = tools.done(line)?;
    let figures: Vec<&str> = told.lines().last().context("lines")?.split(", ").collect();
    ensure!(figures.get(2..5) == Some(&["1.9073", figures[3], "20000"]), "{told}");
    let told = tools.done("kafka-e2e-latency @ latency 50 all 100")?;
    ensure!(told.contains("\nPercentiles: 50th = "), "{told}");
    Ok(())
}

/// Kafka's tool reads our segments, indexes and snapshots and finds nothing wrong with them.
fn files(tools: &mut KafkaTools, data: &Path) -> Result<()> {
    for topic in ["perf", "verified", "ours-zstd"] {
        let dir = data.join("broker").join(format!("{topic}-0"));
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&dir)? {
            let path = entry?.path().display().to_string();
            let known = ["log", "index", "timeindex", "snapshot"];
            found.extend(
                known.iter().any(|kind| path.ends_with(&format!(".{kind}"))).then_some(path),
            );
        }
        ensure!(found.iter().any(|path| path.ends_with(".log")), "{found:?}");
        let line = format!("kafka-dump-log --deep-iteration --files {}", found.join(","));
        let told = tools.run(&line, "")?;
        let text = (told.out + &told.err).to_lowercase();
        for wrong in ["mismatch", "non-consecutive", "exception", "isvalid: false"] {
            ensure!(told.exit == 0 && !text.contains(wrong), "{topic}: {text}");
        }
        ensure!(text.contains("\n| offset: 1 "), "{text}");
    }
    Ok(())
}

#[test]
fn records_are_written_read_deleted_and_measured() -> Result<()> {
    let scratch = integration_tests::scratch("kafka-records")?;
    let broker = Dev::start(scratch.path(), &["group.initial.rebalance.delay.ms=0"])?;
    let Some(mut tools) = KafkaTools::start(&broker.kafka)? else { return Ok(()) };
    console(&mut tools, &broker)?;
    offsets(&mut tools, scratch.path())?;
    measured(&mut tools)?;
    broker.stop()?;
    files(&mut tools, &scratch.path().join("data"))
}

/// Replicas move to where a plan says, and leaders back to who should lead.
#[test]
fn replicas_move_and_leaders_are_elected() -> Result<()> {
    let options = ClusterOptions { kafka: true, ..ClusterOptions::three("kafka-moves") };
    let mut cluster =
        Cluster::start(ClusterOptions { registry: RegistryKind::Embedded, ..options })?;
    let Some(mut tools) = KafkaTools::start(&cluster.kafka_bootstrap())? else { return Ok(()) };
    let tools = &mut tools;
    tools.done(&format!("{TOPICS} --create --topic t --replica-assignment 1:2,2:3"))?;
    tools.fed(&format!("{PRODUCE} --topic t"), "one\ntwo\nthree\n")?;
    let described = tools.done(&format!("{TOPICS} --describe --topic t"))?;
    ensure!(described.contains("Partition: 1\tLeader: 2\tReplicas: 2,3\tIsr: 2,3"), "{described}");

    let topics = r#"{"version":1,"topics":[{"topic":"t"}]}"#;
    let topics = file(cluster.dir(), "topics.json", topics)?;
    let line = format!("{REASSIGN} --generate --broker-list 1,2,3 --topics-to-move-json-file");
    let told = tools.done(&format!("{line} {}", topics.display()))?;
    ensure!(told.contains("Proposed partition reassignment configuration"), "{told}");
    let plan = r#"{"version":1,"partitions":[{"topic":"t","partition":0,"replicas":[3,1]}]}"#;
    let plan = file(cluster.dir(), "plan.json", plan)?;
    let plan = format!("--reassignment-json-file {}", plan.display());
    let told = tools.done(&format!("{REASSIGN} --execute {plan}"))?;
    ensure!(told.contains("Successfully started partition reassignment for t-0"), "{told}");
    ensure!(told.contains(r#""replicas":[1,2]"#), "what to go back to: {told}");
    let verify = format!("{REASSIGN} --verify --preserve-throttles {plan}");
    shows(tools, &verify, "Reassignment of partition t-0 is completed.")?;
    ensure!(tools.done(&format!("{REASSIGN} --list"))? == "No partition reassignments found.\n");
    let described = tools.done(&format!("{TOPICS} --describe --topic t"))?;
    ensure!(described.contains("Partition: 0\tLeader: 1\tReplicas: 3,1\tIsr: "), "{described}");

    let elect = "kafka-leader-election --bootstrap-server @ --election-type preferred";
    let told = tools.done(&format!("{elect} --topic t --partition 0"))?;
    ensure!(told.contains("Successfully completed leader election (PREFERRED)"), "{told}");
    let expected = "Partition: 0\tLeader: 3\tReplicas: 3,1\tIsr: ";
    shows(tools, &format!("{TOPICS} --describe --topic t"), expected)?;
    let told = tools.done(&format!("{elect} --topic t --partition 0"))?;
    ensure!(told.contains("Valid replica already elected for partitions t-0"), "{told}");
    let told = tools.done(&format!("{elect} --all-topic-partitions"))?;
    ensure!(!told.contains("t-0"), "{told}");
    let told = tools.refused(&format!("{elect} --topic none --partition 0"))?;
    ensure!(told.contains("UnknownTopicOrPartition"), "{told}");

    // The topic of groups is made with three replicas, so while there are three brokers.
    let all = format!("{CONSUME} --topic t --from-beginning --max-messages 3");
    ensure!(tools.done(&all)?.lines().count() == 3, "all that was produced");
    cluster.stop_broker(3)?;
    let troubled = format!("{TOPICS} --describe --under-replicated-partitions");
    let told = shows(tools, &troubled, "Partition: 0\tLeader: 1\tReplicas: 3,1\tIsr: 1\t")?;
    ensure!(told.contains("Partition: 1\tLeader: 2\tReplicas: 2,3\tIsr: 2\t"), "{told}");
    let mut told: Vec<_> = tools.done(&all)?.lines().map(str::to_owned).collect();
    told.sort();
    ensure!(told == ["one", "three", "two"], "{told:?}");
    cluster.check_alive()
}
