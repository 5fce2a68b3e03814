//! A client that knows nothing of Ottla but its `.proto` files: tonic's generated code on tonic's own
//! channel, as any program might use it. One `current_thread` runtime.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::stream::{self, FuturesUnordered, StreamExt, TryStreamExt};
use proto::record::Batches;
use proto::v1::log_client::LogClient;
use proto::v1::{
    Acks, FetchPartition, FetchRequest, FetchResponse, MetadataRequest, ProduceRequest,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};

use crate::load::{Load, Verifier};
use crate::meter::Meter;
use crate::raw::sink::{Requests, batches};
use crate::raw::source::check;
use crate::task::Client;

/// How much of HTTP/2 the client sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Tuning {
    /// Nothing: windows of 64 KiB to 2 MiB, frames of 16 KiB.
    Default,
    /// Large windows, frames of 1 MiB.
    Large,
}

/// Rounds of a fetch that are asked for ahead.
const ROUNDS: u64 = 3;
/// Per partition and answer: below the 4 MiB that tonic decodes where nothing is set.
const ANSWER_LEN: u32 = 1 << 20;

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

async fn connect(client: &Client, tuning: Tuning) -> Result<LogClient<Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://{}", client.bootstrap))?;
    let endpoint = match tuning {
        Tuning::Default => endpoint,
        Tuning::Large => endpoint
            .initial_stream_window_size(64 << 20)
            .initial_connection_window_size(128 << 20)
            .max_frame_size(1 << 20),
    };
    Ok(LogClient::new(endpoint.connect().await?))
}

async fn topic_id(log: &mut LogClient<Channel>, topic: &str) -> Result<Bytes> {
    let request = MetadataRequest { topics: vec![topic.to_owned()], ..Default::default() };
    let answer = log.metadata(request).await?.into_inner();
    let topic = answer.topics.into_iter().next().context("metadata without the topic")?;
    ensure!(!topic.topic_id.is_empty(), "metadata without the topic's id: {topic:?}");
    Ok(topic.topic_id)
}

/// Appends prebuilt batches to partition 0 by unary calls. All batches are equal (the load has as many
/// lines as a batch has records), so it does not matter in which order they arrive.
pub(crate) fn produce(client: &Client, load: Load, requests: Requests) -> Result<Value> {
    let (batch, count) = batches(load, requests, 1).pop().context("one batch")?;
    ensure!(
        load.records.is_multiple_of(count) && load.lines == count,
        "{count} records are one batch"
    );
    runtime()?.block_on(async {
        let mut log = connect(client, Tuning::Default).await?;
        let topic_id = topic_id(&mut log, &client.topic).await?;
        let meter = Meter::start()?;
        let mut open = FuturesUnordered::new();
        let mut sent = 0;
        while sent < load.records || !open.is_empty() {
            while sent < load.records && (open.len() as u64) < requests.in_flight {
                let request = ProduceRequest {
                    request_id: sent,
                    topic: client.topic.clone(),
                    topic_id: topic_id.clone(),
                    leader_epoch: -1,
                    acks: Acks::Leader.into(),
                    records: batch.clone(),
                    ..Default::default()
                };
                let mut log = log.clone();
                open.push(async move { log.produce(request).await });
                sent += count;
            }
            if let Some(answer) = open.next().await {
                let ack = answer?.into_inner();
                ensure!(ack.error.is_none() && ack.base_offset >= 0, "not appended: {ack:?}");
            }
        }
        Ok(meter.stop(sent))
    })
}

/// Reads everything by Fetch, a few rounds ahead; every batch and record is checked.
pub(crate) fn drain(client: &Client, load: Load, tuning: Tuning) -> Result<Value> {
    let mut verifier = Verifier::new(load);
    runtime()?.block_on(async {
        let mut log = connect(client, tuning).await?;
        let topic_id = topic_id(&mut log, &client.topic).await?;
        let add = load.range().map(|partition| FetchPartition {
            handle: partition.cast_unsigned(),
            topic: client.topic.clone(),
            topic_id: topic_id.clone(),
            partition,
            offset: 0,
            leader_epoch: -1,
            max_bytes: ANSWER_LEN,
            ..Default::default()
        });
        let meter = Meter::start()?;
        let (rounds, asked) = mpsc::unbounded_channel();
        let round =
            |request_id| FetchRequest { request_id, max_wait_ms: 500, ..Default::default() };
        rounds.send(FetchRequest { add: add.collect(), ..round(1) })?;
        for id in 2..=ROUNDS {
            rounds.send(round(id))?;
        }
        let mut next = ROUNDS;
        let asked = stream::unfold(asked, async |mut asked| Some((asked.recv().await?, asked)));
        let mut answers = log.fetch(Box::pin(asked)).await?.into_inner();
        while !verifier.is_done() {
            let answer = answers.try_next().await?.context("the broker ended the stream")?;
            if answer.end {
                next += 1;
                rounds.send(round(next))?;
            } else {
                take(&answer, &mut verifier)?;
            }
        }
        ensure!(verifier.seen == load.records, "more records came than were sent");
        Ok(meter.stop(verifier.seen))
    })
}

fn take(answer: &FetchResponse, verifier: &mut Verifier) -> Result<()> {
    ensure!(answer.error.is_none(), "{:?}", answer.error);
    for batch in Batches::new(&answer.records) {
        check(&batch?, answer.handle.cast_signed(), verifier)?;
    }
    Ok(())
}
