//! Memory of connections that stand idle or wait for records, of Kafka's clients; those of our own
//! clients are in `clients`.

use anyhow::Result;
use integration_tests::kafka_client::KafkaClient;
use proto::kafka::messages::{ApiVersionsRequest, FetchPartition, FetchRequest, FetchTopic};

use crate::Options;
use crate::point::Report;
use crate::subject::Subject;

const SERIES: &str = "connections";
/// Fewer are lost in what the allocator rounds up.
const COUNTS: [u32; 2] = [100, 1000];
const TOPIC: &str = "awaited";
/// Versions that every client of today speaks.
const API_VERSIONS: i16 = 3;
const FETCH: i16 = 12;
/// Longer than the measurement.
const WAIT_MS: i32 = 30_000;

pub(crate) fn run(options: &Options, report: &mut Report) -> Result<()> {
    for count in COUNTS {
        point(options, count, report)?;
    }
    Ok(())
}

fn point(options: &Options, count: u32, report: &mut Report) -> Result<()> {
    let (at, units) = (u64::from(count), f64::from(count));
    let subject = Subject::start(options)?;
    subject.create_topic(TOPIC, 1)?;
    let empty = subject.settled_kib()?;
    let mut all = Vec::new();
    for _ in 0..count {
        let mut client = KafkaClient::connect(&subject.dev.kafka)?;
        client.call(API_VERSIONS, &ApiVersionsRequest::default())?;
        all.push(client);
    }
    let idle = subject.settled_kib()?;
    report.cost(SERIES, at, "Kafka, idle: KiB each", (idle - empty) / units);
    for client in &mut all {
        client.send(FETCH, &waiting_fetch())?;
    }
    let waiting = subject.settled_kib()?;
    report.cost(SERIES, at, "Kafka, fetch waits: KiB each", (waiting - empty) / units);
    drop(all);
    let closed = subject.settled_kib()?;
    report.figure(SERIES, at, "Kafka, all closed: KiB that stay", closed - empty);
    Ok(())
}

fn waiting_fetch() -> FetchRequest {
    let partition = FetchPartition { partition_max_bytes: 1 << 20, ..FetchPartition::default() };
    let partitions = vec![partition];
    FetchRequest {
        max_wait_ms: WAIT_MS,
        min_bytes: 1,
        max_bytes: 1 << 20,
        topics: vec![FetchTopic { topic: TOPIC.into(), partitions, ..FetchTopic::default() }],
        ..FetchRequest::default()
    }
}
