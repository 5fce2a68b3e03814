//! The producer's side of a figure: records as fast as they are taken.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use producer_client::{Producer, ProducerConfig, Record};
use serde_json::Value;

use crate::load::{Load, Values};
use crate::meter::Meter;
use crate::task::Client;

/// The settings of `client`.
pub(crate) fn config(client: &Client) -> Result<ProducerConfig> {
    let mut config = ProducerConfig::new([client.bootstrap.as_str()]);
    for setting in &client.settings {
        let (key, value) = setting.split_once('=').context("KEY=VALUE")?;
        config.set(key, value)?;
    }
    Ok(config)
}

/// Sends every record of `load`, waits until all are acknowledged.
pub(crate) fn run(client: &Client, load: Load) -> Result<Value> {
    let values = Values::new(load);
    let producer = Producer::start(config(client)?)?;
    let meter = Meter::start()?;
    if load.partitions == 1 {
        for i in 0..load.records {
            producer.send_detached(Record::to(&client.topic).value(values.of(i)))?;
        }
    } else {
        for i in 0..load.records {
            let record = Record::to(&client.topic).value(values.of(i));
            producer.send_detached(record.partition(load.partition(i)))?;
        }
    }
    producer.flush().wait()?;
    let measured = meter.stop(load.records);
    let stats = producer.stats();
    ensure!(stats.acknowledged == load.records, "not all were acknowledged: {stats:?}");
    producer.close(Duration::from_secs(10)).wait()?;
    Ok(measured)
}
