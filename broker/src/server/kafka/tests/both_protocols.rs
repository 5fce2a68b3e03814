//! What comes in by one protocol goes out by the other byte for byte, batch for batch: only base offset
//! and leader epoch are the broker's, and the timestamp where a topic says so.

use bytes::Bytes;
use proto::kafka::Records;
use proto::record::{
    BatchBuilder, BatchHeader, Batches, Compression, Compressor, Header, ProducerStamp,
    TimestampType,
};
use proto::v1;

use super::rig::{Client, Server, fetch, produce};
use crate::server::grpc::tests::rig as grpc;
use crate::storage::{CleanupPolicy, LogConfig};

/// The first byte of a batch that no broker changes.
const UNCHANGED_FROM: usize = 16;

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

/// Batches with all that records can have; every record has a key.
fn batches(first_sequence: i32, producer: i64) -> Vec<Bytes> {
    let mut sequence = first_sequence;
    let batches = CODECS.iter().flat_map(|&codec| [(codec, 1), (codec, 200)]);
    let batches = batches.map(|(codec, count)| {
        let stamp = ProducerStamp { id: producer, epoch: 0, base_sequence: sequence };
        sequence += count;
        batch(codec, count, stamp)
    });
    batches.collect()
}

fn batch(codec: Compression, count: i32, stamp: ProducerStamp) -> Bytes {
    let mut builder = BatchBuilder::new(1 << 20);
    let long = vec![b'v'; 300];
    for number in 0..count {
        let key = format!("key-{number}");
        let key: &[u8] = if number == 1 { b"" } else { key.as_bytes() };
        let value = match number % 4 {
            0 => Some(&long[..]),
            1 => Some(&b""[..]),
            2 => None,
            _ => Some("š€\u{0}".as_bytes()),
        };
        // The same key twice, no value, an empty key.
        let headers = [
            Header::new("h", Some(b"1")),
            Header::new("h", Some(b"2")),
            Header::new("none", None),
            Header::new("", Some(b"")),
        ];
        let headers = &headers[..(number % 5).min(4) as usize];
        // Not in order, one of the year 1970.
        let time =
            [1_700_000_000_000, 1_699_999_999_000, 5, 1_700_000_000_001][number as usize % 4];
        builder.append(time, Some(key), value, headers).unwrap();
    }
    if codec == Compression::None {
        return builder.finish(stamp);
    }
    builder.finish_compressed(&mut Compressor::new(codec, None).unwrap(), stamp)
}

/// By our own protocol; the base offset.
async fn produce_grpc(server: &Server, topic: &str, records: Bytes) -> i64 {
    let (sender, mut receiver) = server.stream("/ottla.v1.Log/ProduceStream").await;
    let request = v1::ProduceRequest { acks: -1, ..grpc::produce(topic, 1, records) };
    sender.send_message(&request).await.unwrap();
    let message = receiver.recv().await.unwrap().unwrap();
    let ack = message.decode::<v1::ProduceResponse>().unwrap().acks.remove(0);
    assert_eq!(ack.error, None);
    ack.base_offset
}

async fn produce_kafka(client: &mut Client, topic: &str, records: Bytes) -> i64 {
    let answer = client.produce(9, &produce(-1, topic, records)).await;
    assert_eq!(answer.error_code, 0, "{answer:?}");
    answer.base_offset
}

async fn fetch_grpc(server: &Server, topic: &str, offset: i64) -> Bytes {
    let (sender, mut receiver) = server.stream("/ottla.v1.Log/Fetch").await;
    let add = vec![grpc::handle(1, topic, offset)];
    sender.send_message(&v1::FetchRequest { add, ..Default::default() }).await.unwrap();
    let mut read = Vec::new();
    loop {
        let message = receiver.recv().await.unwrap().unwrap();
        let message: v1::FetchResponse = message.decode().unwrap();
        if message.end {
            return read.into();
        }
        read.extend_from_slice(&message.records);
    }
}

async fn fetch_kafka(client: &mut Client, topic: &str, offset: i64) -> Bytes {
    let read = client.fetch(12, &fetch(topic, offset)).await;
    assert_eq!(read.error_code, 0);
    match read.records {
        Records::Here(bytes) => bytes,
        Records::Elsewhere(_) => panic!("a client has its records"),
    }
}

/// The batches of an answer, each as its bytes.
fn split(bytes: &Bytes) -> Vec<Bytes> {
    let mut left = bytes.clone();
    let mut split = Vec::new();
    while !left.is_empty() {
        let header = BatchHeader::parse(&left).unwrap();
        split.push(left.split_to(12 + header.batch_length as usize));
    }
    split
}

#[tokio::test]
async fn what_comes_by_either_goes_out_by_both_as_it_was() {
    let server = Server::start(&[]).await;
    let compacted = LogConfig {
        cleanup_policy: CleanupPolicy { delete: false, compact: true },
        ..LogConfig::default()
    };
    for (topic, config) in [("deleted", LogConfig::default()), ("compacted", compacted)] {
        server.topic(topic, 1, &config);
        let mut client = Client::connect(&server).await;
        let (ours, theirs) = (batches(0, 7), batches(0, 8));
        let mut sent = Vec::new();
        let mut offset = 0;
        // In turn, so that both stand in one segment.
        for (own, their) in ours.into_iter().zip(theirs) {
            for (is_own, records) in [(true, own), (false, their)] {
                let base = match is_own {
                    true => produce_grpc(&server, topic, records.clone()).await,
                    false => produce_kafka(&mut client, topic, records.clone()).await,
                };
                assert_eq!(base, offset, "{topic}");
                let count = BatchHeader::parse(&records).unwrap().record_count;
                sent.push((offset, records));
                offset += i64::from(count);
            }
        }
        let by_grpc = fetch_grpc(&server, topic, 0).await;
        let by_kafka = fetch_kafka(&mut client, topic, 0).await;
        assert_eq!(by_grpc, by_kafka, "{topic}");
        let read = split(&by_kafka);
        assert_eq!(read.len(), sent.len(), "no two batches become one");
        for (read, (base, sent)) in read.iter().zip(&sent) {
            assert_eq!(read[UNCHANGED_FROM..], sent[UNCHANGED_FROM..], "{topic} at {base}");
            let (read, sent) =
                (BatchHeader::parse(read).unwrap(), BatchHeader::parse(sent).unwrap());
            assert_eq!((read.base_offset.0, read.leader_epoch.0), (*base, 0));
            let stamp = |of: &BatchHeader| (of.producer_id, of.producer_epoch, of.base_sequence);
            assert_eq!(stamp(&read), stamp(&sent));
        }
        // From the middle of a batch on both give the whole of it.
        for (base, records) in sent {
            let last = base + i64::from(BatchHeader::parse(&records).unwrap().last_offset_delta);
            for inside in [base, (base + last) / 2, last] {
                let own = fetch_grpc(&server, topic, inside).await;
                assert_eq!(own, fetch_kafka(&mut client, topic, inside).await, "{topic} {inside}");
                assert_eq!(BatchHeader::parse(&own).unwrap().base_offset.0, base);
            }
        }
    }
}

#[tokio::test]
async fn a_retry_by_the_other_protocol_is_a_retry() {
    let server = Server::start(&[]).await;
    server.topic("t", 1, &LogConfig::default());
    let mut client = Client::connect(&server).await;
    let stamp = |base_sequence| ProducerStamp { id: 3, epoch: 0, base_sequence };
    for (sequence, expected) in [(0, 0), (2, 2)] {
        let records = batch(Compression::Lz4, 2, stamp(sequence));
        assert_eq!(produce_grpc(&server, "t", records.clone()).await, expected);
        assert_eq!(produce_kafka(&mut client, "t", records.clone()).await, expected, "as before");
        assert_eq!(produce_grpc(&server, "t", records).await, expected);
    }
    let records = batch(Compression::Zstd, 3, stamp(4));
    assert_eq!(produce_kafka(&mut client, "t", records.clone()).await, 4);
    assert_eq!(produce_grpc(&server, "t", records).await, 4);
}

#[tokio::test]
async fn where_the_broker_stamps_the_time_nothing_else_changes() {
    let server = Server::start(&[]).await;
    let config =
        LogConfig { message_timestamp_type: TimestampType::LogAppendTime, ..LogConfig::default() };
    server.topic("t", 1, &config);
    let mut client = Client::connect(&server).await;
    let mut sent = Vec::new();
    for codec in CODECS {
        let records = batch(codec, 50, ProducerStamp::NONE);
        produce_grpc(&server, "t", records.clone()).await;
        produce_kafka(&mut client, "t", records.clone()).await;
        sent.extend([records.clone(), records]);
    }
    let read = fetch_kafka(&mut client, "t", 0).await;
    assert_eq!(read, fetch_grpc(&server, "t", 0).await);
    for (read, sent) in split(&read).iter().zip(&sent) {
        let (now, before) = (BatchHeader::parse(read).unwrap(), BatchHeader::parse(sent).unwrap());
        assert_eq!(now.attributes.timestamp_type(), TimestampType::LogAppendTime);
        assert!(now.max_timestamp > 1_700_000_000_000 && now.crc != before.crc);
        // Everything but the epoch, the checksum, the attributes and the greatest time.
        assert_eq!(now.base_timestamp, before.base_timestamp);
        assert_eq!(read[43..], sent[43..]);
    }
    // A reader that checks finds it whole.
    assert_eq!(Batches::new(&read).filter(Result::is_ok).count(), sent.len());
}
