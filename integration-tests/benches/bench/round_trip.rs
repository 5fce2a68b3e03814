//! How long one record takes to be acknowledged, with nothing else under way.

use std::time::Instant;

use anyhow::Result;
use producer_client::{Producer, Record};
use serde_json::Value;

use crate::load::{Load, Values};
use crate::meter::{Meter, histogram, merge, note, percentiles};
use crate::produce::config;
use crate::task::Client;

/// Records that are sent first and not counted.
const WARM_UP: u64 = 500;

/// The records of `load` one after the other, on the producer's own thread or on the caller's runtime.
pub(crate) fn run(client: &Client, load: Load, current_runtime: bool) -> Result<Value> {
    let config = config(client)?;
    let values = Values::new(load);
    let records = load.records;
    let mut spans = histogram();
    let meter;
    if current_runtime {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        meter = runtime.block_on(async {
            let producer = Producer::builder().config(config).on_current_runtime().start()?;
            for i in 0..WARM_UP {
                producer.send(Record::to(&client.topic).value(values.of(i))).await?;
            }
            // One alone: a second one that samples beside it would be seen in the percentiles.
            let meter = Meter::start()?;
            for i in WARM_UP..WARM_UP + records {
                let start = Instant::now();
                producer.send(Record::to(&client.topic).value(values.of(i))).await?;
                note(&mut spans, start.elapsed());
            }
            anyhow::Ok(meter)
        })?;
    } else {
        let producer = Producer::start(config)?;
        for i in 0..WARM_UP {
            producer.send(Record::to(&client.topic).value(values.of(i))).wait()?;
        }
        meter = Meter::start()?;
        for i in WARM_UP..WARM_UP + records {
            let start = Instant::now();
            producer.send(Record::to(&client.topic).value(values.of(i))).wait()?;
            note(&mut spans, start.elapsed());
        }
    }
    let mut measured = meter.stop(records);
    merge(&mut measured, percentiles(&spans));
    Ok(measured)
}
