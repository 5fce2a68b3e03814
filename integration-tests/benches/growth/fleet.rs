//! Many clients on one runtime.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use consumer_client::{Consumer, ConsumerConfig, StartAt};
use futures_util::future::try_join_all;
use producer_client::{Producer, ProducerConfig, Record};
use proto::TopicPartition;
use tokio::runtime::Runtime;

/// Bytes of a record, unless sizes are what is measured.
pub(crate) const RECORD_LEN: usize = 200;
/// Nothing for so long is an error.
const STALL_LIMIT: Duration = Duration::from_secs(30);

/// The runtime of all clients.
pub(crate) fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}

pub(crate) fn producer_config(bootstrap: &str) -> Result<ProducerConfig> {
    let mut config = ProducerConfig::new([bootstrap]);
    config.set("linger.ms", "5")?;
    config.set("max.block.ms", "60000")?;
    Ok(config)
}

pub(crate) fn consumer_config(bootstrap: &str) -> Result<ConsumerConfig> {
    let mut config = ConsumerConfig::new([bootstrap]);
    config.set("max.poll.records", "10000")?;
    Ok(config)
}

/// Starts `count` producers, each connected: it has a record acknowledged, to partition `i` of
/// `partitions`.
pub(crate) async fn producers(
    bootstrap: &str,
    topic: &str,
    count: u32,
    partitions: u32,
) -> Result<Vec<Producer>> {
    let config = producer_config(bootstrap)?;
    let start = async |i: u32| {
        let builder = Producer::builder().config(config.clone()).on_current_runtime();
        let producer = builder.start()?;
        let record = Record::to(topic).value(&[0; RECORD_LEN]).partition((i % partitions) as i32);
        producer.send(record).await?;
        anyhow::Ok(producer)
    };
    try_join_all((0..count).map(start)).await
}

/// Every producer sends its share of `records`, all acknowledged at the end.
pub(crate) async fn produce(
    producers: &[Producer],
    topic: &str,
    partitions: u32,
    records: u64,
) -> Result<()> {
    let each = records / producers.len() as u64;
    let tasks = producers.iter().enumerate().map(|(i, producer)| {
        let (producer, topic) = (producer.clone(), topic.to_owned());
        let partition = (i as u32 % partitions) as i32;
        tokio::spawn(async move {
            let value = [b'x'; RECORD_LEN];
            for _ in 0..each {
                let record = Record::to(&topic).value(&value).partition(partition);
                // The flush learns of all.
                drop(producer.enqueue(record).await?);
            }
            producer.flush().await?;
            anyhow::Ok(())
        })
    });
    for ended in try_join_all(tasks).await? {
        ended?;
    }
    Ok(())
}

/// Starts `count` consumers, each connected: it was given records of partition `i` of `partitions`.
pub(crate) async fn consumers(
    bootstrap: &str,
    topic: &str,
    count: u32,
    partitions: u32,
) -> Result<Vec<Consumer>> {
    let config = consumer_config(bootstrap)?;
    let start = async |i: u32| {
        let mut consumer = Consumer::on_current_runtime(config.clone())?;
        consumer.assign([(read_by(topic, i, partitions), StartAt::Beginning)])?;
        let polled = tokio::time::timeout(STALL_LIMIT, consumer.poll_async()).await;
        ensure!(!polled.context("nothing came")??.items.is_empty(), "polled nothing");
        Ok(consumer)
    };
    try_join_all((0..count).map(start)).await
}

/// Every consumer reads its partition from the beginning until it has `each` records: all there are.
pub(crate) async fn consume(
    consumers: Vec<Consumer>,
    topic: &str,
    partitions: u32,
    each: u64,
) -> Result<Vec<Consumer>> {
    let tasks = (0..).zip(consumers).map(|(i, mut consumer)| {
        let topic = topic.to_owned();
        tokio::spawn(async move {
            consumer.assign([(read_by(&topic, i, partitions), StartAt::Beginning)])?;
            let mut seen = 0;
            while seen < each {
                let polled = tokio::time::timeout(STALL_LIMIT, consumer.poll_async()).await;
                seen += polled.context("nothing came")??.items.len() as u64;
            }
            ensure!(seen == each, "{seen} records where {each} were sent");
            anyhow::Ok(consumer)
        })
    });
    try_join_all(tasks).await?.into_iter().collect()
}

/// What consumer `i` reads.
fn read_by(topic: &str, i: u32, partitions: u32) -> TopicPartition {
    TopicPartition::new(topic, (i % partitions) as i32)
}
