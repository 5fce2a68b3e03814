//! What the machine allows, by the simplest blocking programs: the figures of the product are ratios
//! to these. Two processes each, as with the product; the same congestion control, the same batches.

use std::fs::File;
use std::hint::black_box;
use std::io::{self, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use proto::client::CongestionControl;
use proto::record::{Batch, BatchBuilder, BatchError, ProducerStamp};
use serde_json::{Value, json};

use crate::load::{LINES, Load, VALUE_LEN, Values, Verifier};
use crate::meter::{Meter, histogram, merge, note, percentiles};

const BATCH_LEN: usize = 64 << 10;
const ACK_LEN: usize = 8;

fn tune(stream: &TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    Ok(CongestionControl::Auto.apply(stream, stream.peer_addr()?)?)
}

fn connect(address: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    tune(&stream)?;
    Ok(stream)
}

/// Serves one connection after the other until killed.
fn serve(mut each: impl FnMut(TcpStream) -> Result<()>) -> Result<Value> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", json!({ "ready": true, "address": listener.local_addr()?.to_string() }));
    loop {
        let (stream, _) = listener.accept()?;
        tune(&stream)?;
        each(stream)?;
    }
}

/// Appends each length-prefixed request to `file` with one write, then acknowledges it.
pub(crate) fn sink(file: &str) -> Result<Value> {
    serve(|mut stream| {
        let mut file = File::create(file)?;
        let mut request = vec![0; 2 << 20];
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

/// Batches as a producer makes them, with `run` records each, or as many as 64 KiB hold.
fn batches(run: u64, count: usize) -> Vec<(Bytes, u64)> {
    let values = Values::new();
    let run = if run == 0 { u64::MAX } else { run };
    let mut next = 0;
    let mut one = || {
        let mut builder = BatchBuilder::new(BATCH_LEN);
        while builder.record_count() as u64 != run
            && builder.append(1_790_000_000_000, None, Some(values.of(next)), &[]).is_ok()
        {
            next += 1;
        }
        let records = builder.record_count() as u64;
        (builder.finish(ProducerStamp { id: 1, epoch: 0, base_sequence: 0 }), records)
    };
    (0..count).map(|_| one()).collect()
}

/// Sends prebuilt batches with a length before each, `in_flight` unacknowledged.
pub(crate) fn produce(address: &str, load: Load, in_flight: u64) -> Result<Value> {
    let mut stream = connect(address)?;
    let mut acks = BufReader::new(stream.try_clone()?);
    let mut ack = [0; ACK_LEN];
    let requests: Vec<(Vec<u8>, u64)> = batches(load.run, 64)
        .into_iter()
        .map(|(batch, records)| {
            ([&(batch.len() as u32).to_be_bytes()[..], &batch].concat(), records)
        })
        .collect();
    let meter = Meter::start()?;
    let (mut sent, mut open, mut records, mut bytes) = (0, 0, 0, 0);
    while records < load.records {
        if open == in_flight {
            acks.read_exact(&mut ack)?;
            open -= 1;
        }
        let (request, count) = &requests[sent % requests.len()];
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
pub(crate) fn round_trip(address: &str, records: u64) -> Result<Value> {
    let mut stream = connect(address)?;
    let requests = batches(1, 64);
    let mut spans = histogram();
    let mut ack = [0; ACK_LEN];
    let meter = Meter::start()?;
    for i in 0..records {
        let (batch, _) = &requests[i as usize % requests.len()];
        let request = [&(batch.len() as u32).to_be_bytes()[..], batch].concat();
        let start = Instant::now();
        stream.write_all(&request)?;
        stream.read_exact(&mut ack)?;
        note(&mut spans, start.elapsed());
    }
    let mut measured = meter.stop(records);
    merge(&mut measured, percentiles(&spans));
    Ok(measured)
}

/// Sends `files`, named `<topic>-<partition>/…`, each with its partition and length before it. The
/// standard library copies a file to a socket by `sendfile`.
pub(crate) fn source(files: &[String]) -> Result<Value> {
    serve(|mut stream| {
        for path in files {
            let file = File::open(path)?;
            let length = file.metadata()?.len();
            let mut head = Vec::from(partition_of(path)?.to_be_bytes());
            head.extend_from_slice(&length.to_be_bytes());
            stream.write_all(&head)?;
            io::copy(&mut file.take(length), &mut stream)?;
        }
        Ok(())
    })
}

fn partition_of(path: &str) -> Result<i32> {
    let directory = Path::new(path).parent().and_then(Path::file_name).unwrap_or_default();
    let name = directory.to_string_lossy();
    let (_, partition) = name.rsplit_once('-').with_context(|| format!("{path}: partition?"))?;
    Ok(partition.parse()?)
}

/// Reads what [`source`] sends, walks the batches, checks CRC and every record.
pub(crate) fn drain(address: &str, load: Load) -> Result<Value> {
    let mut verifier = Verifier::new(load);
    let mut stream = connect(address)?;
    let mut buffer = vec![0; 2 << 20];
    let meter = Meter::start()?;
    while !verifier.is_done() {
        let (mut partition, mut length) = ([0; 4], [0; 8]);
        stream.read_exact(&mut partition)?;
        stream.read_exact(&mut length)?;
        let partition = i32::from_be_bytes(partition);
        let mut left = u64::from_be_bytes(length) as usize;
        let mut held = 0;
        while left > 0 {
            let room = (held + left).min(buffer.len());
            let got = stream.read(&mut buffer[held..room])?;
            if got == 0 {
                bail!("the source ended early");
            }
            left -= got;
            held += got;
            let used = walk(&buffer[..held], partition, &mut verifier)?;
            buffer.copy_within(used..held, 0);
            held -= used;
        }
    }
    Ok(meter.stop(verifier.seen))
}

/// Checks the whole batches at the front and returns how many bytes they take.
fn walk(bytes: &[u8], partition: i32, verifier: &mut Verifier) -> Result<usize> {
    let mut used = 0;
    loop {
        let batch = match Batch::parse(&bytes[used..]) {
            Ok(batch) => batch,
            Err(BatchError::Truncated { .. }) => return Ok(used),
            Err(error) => return Err(error.into()),
        };
        for record in batch.records() {
            let record = record?;
            verifier.check(partition, record.offset.0, record.value)?;
        }
        used += batch.bytes().len();
    }
}

/// Copies the values, and nothing else, into buffers of the size of a batch.
pub(crate) fn memcpy() -> Value {
    let values = Values::new();
    let start = Instant::now();
    let mut records = 0;
    while start.elapsed() < Duration::from_millis(500) {
        let mut buffer = Vec::with_capacity(BATCH_LEN);
        while buffer.len() + VALUE_LEN <= BATCH_LEN {
            buffer.extend_from_slice(values.of(records % LINES));
            records += 1;
        }
        black_box(&buffer);
    }
    json!({ "records": records, "seconds": start.elapsed().as_secs_f64() })
}
