//! What a log no longer has: records deleted by request and by retention, over a broker's death, as
//! consumers meet it; and stamps a topic does not take.

use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use consumer_client::{Consumer, ConsumerConfig, Event, StartAt};
use integration_tests::cluster::{Cluster, ClusterOptions};
use integration_tests::eventually;
use integration_tests::workload::bounds;
use producer_client::{Producer, ProducerConfig, Record};
use proto::{ErrorCode, Offset, TopicPartition};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);

fn now_ms() -> Result<i64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64)
}

fn producer(cluster: &Cluster) -> Result<Producer> {
    let mut config = ProducerConfig::new(cluster.bootstrap().split(','));
    config.set("acks", "all")?;
    Ok(Producer::start(config)?)
}

/// Sends records of one partition in few batches; their values are their numbers.
fn fill(cluster: &Cluster, topic: &str, partition: i32, count: usize) -> Result<()> {
    let producer = producer(cluster)?;
    let sent: Vec<_> = (0..count)
        .map(|number| {
            let value = number.to_string();
            producer.send(Record::to(topic).partition(partition).value(&value))
        })
        .collect();
    for send in sent {
        send.wait()?;
    }
    producer.close(Duration::from_secs(5)).wait()?;
    Ok(())
}

fn ends(cluster: &Cluster, topic: &str, partitions: i32) -> Result<Vec<(i64, i64)>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(bounds(&cluster.bootstrap(), topic, partitions))
}

/// The first offset a consumer gets that begins there, and the out-of-range offset it was told of.
fn first_delivered(cluster: &Cluster, topic: &str, from: StartAt) -> Result<(i64, Option<Offset>)> {
    let mut config = ConsumerConfig::new(cluster.bootstrap().split(','));
    config.set("auto.offset.reset", "smallest")?;
    let mut consumer = Consumer::new(config)?;
    consumer.assign([(TopicPartition::new(topic, 0), from)])?;
    let mut told = None;
    for _ in 0..60 {
        let polled = consumer.poll(Duration::from_millis(500))?;
        for event in &polled.events {
            if let Event::OutOfRange { wanted, .. } = event {
                told = Some(*wanted);
            }
        }
        if let Some(record) = polled.items.first() {
            let offset = record.offset.0;
            ensure!(record.payload() == offset.to_string().as_bytes(), "a wrong record");
            consumer.close()?;
            return Ok((offset, told));
        }
    }
    bail!("nothing was delivered")
}

fn json(cluster: &Cluster, arguments: &[&str]) -> Result<(Value, i32)> {
    let output = cluster.command("coordinator")?.args(arguments).output()?;
    let text = String::from_utf8(output.stdout)?;
    let value = serde_json::from_str(&text)
        .with_context(|| format!("{text}{}", String::from_utf8_lossy(&output.stderr)))?;
    Ok((value, output.status.code().context("an exit code")?))
}

#[test]
fn deleted_records_stay_deleted_over_kill_9() -> Result<()> {
    let mut cluster = Cluster::start(ClusterOptions::one("delete-records"))?;
    cluster.create_topic("lines", 2, &[])?;
    cluster.create_topic("keyed", 1, &["cleanup.policy=compact"])?;
    fill(&cluster, "lines", 0, 1_000)?;
    fill(&cluster, "lines", 1, 50)?;
    let delete = ["topics", "--delete-records", "--topic", "lines"];

    // In the middle of a batch, and killed at once.
    let text = cluster
        .run("coordinator", &[&delete[..], &["--partition", "0", "--offset", "333"]].concat())?;
    ensure!(text == "partition: lines-0\tlow_watermark: 333\n", "{text}");
    cluster.kill_broker(1)?;
    cluster.start_broker(1)?;
    ensure!(ends(&cluster, "lines", 2)? == [(333, 1_000), (0, 50)]);
    ensure!(first_delivered(&cluster, "lines", StartAt::Beginning)? == (333, None));
    let told = first_delivered(&cluster, "lines", StartAt::Offset(Offset(10)))?;
    ensure!(told == (333, Some(Offset(10))), "{told:?}");

    // Never back, not above the high watermark, not for a topic that is only compacted.
    let refused = [&delete[..], &["--offset", "700", "--format", "json"]].concat();
    let (answer, code) = json(&cluster, &refused)?;
    ensure!(code == 1 && answer[0]["low_watermark"] == 700, "{answer}");
    ensure!(answer[1]["error"].as_str().is_some_and(|text| text.contains("high watermark")));
    let back = cluster.run(
        "coordinator",
        &["topics", "trim-prefix", "lines", "--partition", "0", "--offset", "5"],
    )?;
    ensure!(back.contains("low_watermark: 700"), "{back}");
    let keyed = ["topics", "--delete-records", "--topic", "keyed", "--offset", "latest"];
    let output = cluster.command("coordinator")?.args(keyed).output()?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1) && error.contains("cleanup.policy"), "{error}");

    // From Kafka's file, everything; then the log goes on.
    let file = cluster.dir().join("offsets.json");
    let partitions = r#"{"partitions":[{"topic":"lines","partition":0,"offset":-1},
        {"topic":"lines","partition":1,"offset":-1}],"version":1}"#;
    std::fs::File::create(&file)?.write_all(partitions.as_bytes())?;
    let path = file.to_string_lossy().into_owned();
    let named = ["topics", "--delete-records", "--offset-json-file", &path];
    let dry = cluster.run("coordinator", &[&named[..], &["--dry-run"]].concat())?;
    ensure!(dry.lines().count() == 2 && ends(&cluster, "lines", 1)? == [(700, 1_000)], "{dry}");
    cluster.run("coordinator", &named)?;
    cluster.kill_broker(1)?;
    cluster.start_broker(1)?;
    ensure!(ends(&cluster, "lines", 2)? == [(1_000, 1_000), (50, 50)]);
    fill(&cluster, "lines", 1, 10)?;
    ensure!(ends(&cluster, "lines", 2)? == [(1_000, 1_000), (50, 60)]);
    Ok(())
}

/// Waits until retention has deleted all of the topic.
fn gone(cluster: &Cluster) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let bootstrap = cluster.bootstrap();
    runtime.block_on(eventually("all is too old", LIMIT, async || {
        let ends = bounds(&bootstrap, "short", 1).await?;
        Ok((ends == [(500, 500)]).then_some(()))
    }))
}

#[test]
fn retention_deletes_and_a_new_consumer_begins_at_the_new_start() -> Result<()> {
    let options = ClusterOptions::one("retention").set("log.retention.check.interval.ms", "200");
    let mut cluster = Cluster::start(options)?;
    cluster.create_topic("short", 1, &["retention.ms=3000", "segment.bytes=2048"])?;
    fill(&cluster, "short", 0, 500)?;
    gone(&cluster)?;
    cluster.kill_broker(1)?;
    cluster.start_broker(1)?;
    // The kill may have come before the files went: then they go now.
    gone(&cluster)?;
    cluster.run(
        "coordinator",
        &["configs", "--alter", "--topic", "short", "--add-config", "retention.ms=-1"],
    )?;
    let producer = producer(&cluster)?;
    producer.send(Record::to("short").partition(0).value("500")).wait()?;
    ensure!(first_delivered(&cluster, "short", StartAt::Beginning)? == (500, None));
    let told = first_delivered(&cluster, "short", StartAt::Offset(Offset(499)))?;
    ensure!(told == (500, Some(Offset(499))), "{told:?}");
    Ok(())
}

#[test]
fn stamps_out_of_bounds_fail_their_own_records_only() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions::one("timestamps"))?;
    cluster.create_topic("stamped", 1, &["message.timestamp.before.max.ms=60000"])?;
    cluster.create_topic("append-time", 1, &["message.timestamp.type=LogAppendTime"])?;
    let producer = producer(&cluster)?;
    let now = now_ms()?;
    let send = |topic: &str, stamp: i64| {
        let record = Record::to(topic).partition(0).value("v").timestamp(stamp);
        producer.send(record).wait()
    };
    for (stamp, bound) in [(now + 2 * 3_600_000, "after.max.ms"), (now - 120_000, "before.max.ms")]
    {
        send("stamped", now)?;
        let Err(error) = send("stamped", stamp) else { bail!("{bound} did not hold") };
        ensure!(error.code() == Some(ErrorCode::InvalidTimestamp), "{error}");
        ensure!(error.to_string().contains(bound), "{error}");
        send("stamped", now)?;
    }
    ensure!(ends(&cluster, "stamped", 1)? == [(0, 4)]);
    send("append-time", 5)?;
    send("append-time", now + 1_000 * 3_600_000)?;
    // Says once more that two records failed.
    ensure!(producer.close(Duration::from_secs(5)).wait().is_err());

    let mut consumer = Consumer::new(ConsumerConfig::new(cluster.bootstrap().split(',')))?;
    consumer.assign([(TopicPartition::new("append-time", 0), StartAt::Beginning)])?;
    let mut stamps = Vec::new();
    for _ in 0..60 {
        let polled = consumer.poll(Duration::from_millis(500))?;
        stamps.extend(polled.items.iter().map(|record| record.timestamp_ms));
        if stamps.len() >= 2 {
            break;
        }
    }
    consumer.close()?;
    ensure!(
        stamps.len() == 2 && stamps.iter().all(|&ms| (now..now + 120_000).contains(&ms)),
        "{stamps:?}"
    );
    Ok(())
}
