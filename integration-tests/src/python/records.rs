//! Records as one protocol wrote them and the other reads them.
//!
//! Both sides tell a record as `consumer --format json` prints it: topic, partition, offset, time, key,
//! value and headers, null told from empty and bytes that are no text told as base64.

use anyhow::{Context, Result, ensure};
use producer_client::{Compression, Header, Producer, ProducerConfig, Record};
use proto::record::Batch;
use serde_json::Value;

use super::Make;
use super::programs::Programs;
use crate::dev::Dev;
use crate::kafka_client::KafkaClient;

/// Records of lines of JSON, in the order of their places.
pub fn parse(text: &str) -> Result<Vec<Value>> {
    let records: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
    let mut records = records?;
    records.sort_by_key(|of| (of["partition"].as_i64(), of["offset"].as_i64()));
    Ok(records)
}

/// All records of a topic, read by our consumer over gRPC.
pub fn read(broker: &Dev, topic: &str) -> Result<String> {
    let arguments = ["--topic", topic, "--from-beginning", "--exit-at-end", "--format", "json"];
    broker.run("consumer", &arguments, "")
}

/// What a program says it wrote to a topic is what our consumer reads.
pub fn compare(broker: &Dev, programs: &Programs, topic: &str) -> Result<()> {
    let written = programs.left(topic)?;
    let seen = parse(&read(broker, topic)?)?;
    for (written, seen) in written.iter().zip(&seen) {
        ensure!(written == seen, "{topic}: written {written}\nread    {seen}");
    }
    ensure!(written.len() == seen.len(), "{topic}: {} and {}", written.len(), seen.len());
    ensure!(!written.is_empty(), "{topic}: nothing was written");
    Ok(())
}

/// What a program wrote with each codec, plainly and idempotently, is stored so and read as written.
pub fn compare_codecs(broker: &Dev, programs: &Programs) -> Result<()> {
    for codec in Compression::ALL {
        for idempotent in [false, true] {
            let kind = if idempotent { "idempotent" } else { "plain" };
            let topic = format!("{}-{kind}", codec.name());
            compare(broker, programs, &topic)?;
            for bytes in KafkaClient::connect(&broker.kafka)?.fetch_all(&topic, 0)? {
                let header = Batch::parse(&bytes)?.header().clone();
                let used = header.attributes.compression()?;
                // A batch of one record may not be worth its codec.
                let is_as_told = used == codec || header.record_count == 1;
                ensure!(is_as_told, "{topic}: a batch of {} is {used}", header.record_count);
                let has_producer = header.producer_id >= 0 && header.base_sequence >= 0;
                ensure!(has_producer == idempotent, "{topic}: {header:?}");
            }
        }
    }
    Ok(())
}

/// The keys of topic `keys`, which has seven partitions, lie where our producer sends them.
pub async fn compare_partitioner(broker: &Dev, programs: &Programs) -> Result<()> {
    let producer = Producer::start(ProducerConfig::new([&broker.bootstrap]))?;
    for record in programs.left("keys")? {
        let key = record["key"].as_str().context("a key")?;
        let ours = producer.send(Record::to("keys").key(key).value("ours")).await?;
        let theirs = record["partition"].as_i64();
        ensure!(Some(i64::from(ours.partition)) == theirs, "{key}: {ours:?}, theirs {theirs:?}");
    }
    Ok(())
}

/// Writes topic `ours` by our producer in every codec, with what is easily changed on its way, and
/// leaves what our consumer reads of it for programs.
pub async fn write_ours(broker: &Dev, programs: &Programs) -> Result<()> {
    broker.run("coordinator", &["topics", "--create", "--topic", "ours"], "")?;
    let large = b"0123456789".repeat(20_000);
    let twice =
        [Header::new("h", Some(b"1")), Header::new("i", Some(b"2")), Header::new("h", Some(b"3"))];
    let odd =
        [Header::new("null", None), Header::new("", Some(b"")), Header::new("b", Some(&[255]))];
    let mut count = 0;
    for codec in Compression::ALL {
        let mut config = ProducerConfig::new([&broker.bootstrap]);
        config.set("compression.type", codec.name())?;
        config.set("linger.ms", "20")?;
        let producer = Producer::start(config)?;
        let to = |number: i64| Record::to("ours").timestamp(1_700_000_000_000 + number);
        let mut sent = vec![
            producer.send(to(0).key("key").value("value")),
            producer.send(to(1).value("no key")),
            producer.send(to(2).key("no value")),
            producer.send(to(3)),
            producer.send(to(4).key("").value("")),
            producer.send(to(5).key(&[255, 0]).value(&[128, 129])),
            producer.send(to(6).key("headers").value("x").headers(&twice)),
            producer.send(to(7).key("odd headers").value("x").headers(&odd)),
            producer.send(to(-1_000_000).key("an earlier time").value("x")),
            producer.send(to(8).key("large").value(&large)),
        ];
        let numbered = (0..300).map(|n| {
            let value = format!("{codec} {n} {n} {n} {n} {n}");
            producer.send(to(9 + n).key(&n.to_string()).value(&value))
        });
        sent.extend(numbered);
        count += sent.len();
        for sent in sent {
            sent.await?;
        }
    }
    let seen = read(broker, "ours")?;
    ensure!(seen.lines().count() == count, "{} of {count} read", seen.lines().count());
    programs.leave("ours", &seen)
}

/// Runs the checks of a make's producer, and reads what they wrote.
pub async fn judge_produce(make: Make) -> Result<()> {
    let scratch = crate::scratch("python-produce")?;
    let broker = Dev::start(scratch.path(), &[])?;
    let Some(programs) = Programs::find(make, &broker.kafka, scratch.path())? else {
        return Ok(());
    };
    let checks = [
        "every_codec",
        "odd",
        "keys_choose_partitions",
        "acks",
        "too_large",
        "time_of_the_log",
        "topics_made_by_producing",
    ];
    programs.check("produce", &checks)?;
    compare_codecs(&broker, &programs)?;
    for topic in ["odd", "keys", "stamped"] {
        compare(&broker, &programs, topic)?;
    }
    compare_partitioner(&broker, &programs).await?;
    broker.stop()
}

/// Runs the checks of a make's consumer, also on what our producer wrote.
pub async fn judge_consume(make: Make) -> Result<()> {
    let scratch = crate::scratch("python-consume")?;
    let broker = Dev::start(scratch.path(), &["offsets.topic.num.partitions=5"])?;
    let Some(programs) = Programs::find(make, &broker.kafka, scratch.path())? else {
        return Ok(());
    };
    write_ours(&broker, &programs).await?;
    programs.check("consume", &[])?;
    broker.stop()
}

/// With auto.create.topics.enable off nothing makes a topic.
pub fn judge_no_topics_made(make: Make) -> Result<()> {
    let scratch = crate::scratch("python-no-topics")?;
    let broker = Dev::start(scratch.path(), &["auto.create.topics.enable=false"])?;
    if let Some(programs) = Programs::find(make, &broker.kafka, scratch.path())? {
        programs.check("produce", &["no_topics_are_made"])?;
    }
    broker.stop()
}

/// Runs the checks of a make's admin client.
pub fn judge_admin(make: Make) -> Result<()> {
    let scratch = crate::scratch("python-admin")?;
    let settings = ["offsets.topic.num.partitions=5", "group.initial.rebalance.delay.ms=100"];
    let broker = Dev::start(scratch.path(), &settings)?;
    if let Some(programs) = Programs::find(make, &broker.kafka, scratch.path())? {
        let checks = ["topics", "configs", "groups", "offsets_of_groups", "records", "the_cluster"];
        programs.check("admin", &checks)?;
    }
    broker.stop()
}
