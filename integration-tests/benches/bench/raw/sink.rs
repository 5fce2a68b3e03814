//! Length-prefixed requests over TCP, each appended with one `write` and acknowledged: the limit of
//! producing, and of a round trip.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::time::Instant;

use anyhow::{Context, Result};
use bytes::Bytes;
use proto::record::{BatchBuilder, ProducerStamp};
use serde_json::{Value, json};

use super::socket::{connect, serve};
use crate::load::{Load, Values};
use crate::meter::{Meter, histogram, merge, note, percentiles};

/// The size of a batch where nothing else is said.
pub(crate) const BATCH_LEN: usize = 64 << 10;
const REQUEST_LEN_MAX: usize = 2 << 20;
const ACK_LEN: usize = 8;
/// Different batches that a raw producer sends in turn.
const BATCHES: usize = 64;

/// Appends each request to `file`, then acknowledges it.
pub(crate) fn serve_appends(file: &str) -> Result<Value> {
    serve(|mut stream| {
        let mut file = File::create(file)?;
        let mut request = vec![0; REQUEST_LEN_MAX];
        let mut length = [0; 4];
        loop {
            match stream.read_exact(&mut length) {
                Err(end) if end.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                outcome => outcome?,
            }
            let request = request.get_mut(..u32::from_be_bytes(length) as usize);
            let request = request.context("a request of more than 2 MiB")?;
            stream.read_exact(request)?;
            file.write_all(request)?;
            stream.write_all(&[0; ACK_LEN])?;
        }
    })
}

/// How a raw producer cuts its records into requests, and how many of them are under way.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub(crate) struct Requests {
    /// Records each; 0: as many as `batch_len` holds.
    pub(crate) records: u64,
    pub(crate) batch_len: usize,
    pub(crate) in_flight: u64,
}

/// Batches as a producer makes them, and how many records each has.
pub(crate) fn batches(load: Load, requests: Requests, count: usize) -> Vec<(Bytes, u64)> {
    let values = Values::new(load);
    let limit = if requests.records == 0 { u64::MAX } else { requests.records };
    let mut next = 0;
    let mut one = || {
        let mut builder = BatchBuilder::new(requests.batch_len);
        while builder.record_count() as u64 != limit
            && builder.append(1_790_000_000_000, None, Some(values.of(next)), &[]).is_ok()
        {
            next += 1;
        }
        let records = builder.record_count() as u64;
        (builder.finish(ProducerStamp::NONE), records)
    };
    (0..count).map(|_| one()).collect()
}

/// Sends prebuilt batches with a length before each.
pub(crate) fn produce(address: &str, load: Load, requests: Requests) -> Result<Value> {
    let mut stream = connect(address)?;
    let mut acks = BufReader::new(stream.try_clone()?);
    let mut ack = [0; ACK_LEN];
    let prebuilt: Vec<(Vec<u8>, u64)> = batches(load, requests, BATCHES)
        .into_iter()
        .map(|(batch, records)| {
            ([&(batch.len() as u32).to_be_bytes()[..], &batch].concat(), records)
        })
        .collect();
    let meter = Meter::start()?;
    let (mut sent, mut open, mut records, mut bytes) = (0, 0, 0, 0);
    while records < load.records {
        if open == requests.in_flight {
            acks.read_exact(&mut ack)?;
            open -= 1;
        }
        let (request, count) = &prebuilt[sent % prebuilt.len()];
        stream.write_all(request)?;
        bytes += request.len();
        records += count;
        sent += 1;
        open += 1;
    }
    for _ in 0..open {
        acks.read_exact(&mut ack)?;
    }
    let mut measured = meter.stop(records);
    merge(&mut measured, json!({ "requests": sent, "wire_bytes": bytes }));
    Ok(measured)
}

/// One record a request, one request at a time.
pub(crate) fn round_trip(address: &str, load: Load) -> Result<Value> {
    let mut stream = connect(address)?;
    let one = Requests { records: 1, batch_len: BATCH_LEN, in_flight: 1 };
    let requests = batches(load, one, BATCHES);
    let mut spans = histogram();
    let mut ack = [0; ACK_LEN];
    let meter = Meter::start()?;
    for i in 0..load.records {
        let (batch, _) = &requests[i as usize % requests.len()];
        let request = [&(batch.len() as u32).to_be_bytes()[..], batch].concat();
        let start = Instant::now();
        stream.write_all(&request)?;
        stream.read_exact(&mut ack)?;
        note(&mut spans, start.elapsed());
    }
    let mut measured = meter.stop(load.records);
    merge(&mut measured, percentiles(&spans));
    Ok(measured)
}
