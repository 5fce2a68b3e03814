//! Framing against prost's own encoding, in every division into chunks, and hostile input.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::v1::{Acks, FetchResponse, ProduceAck, ProduceRequest, ProduceResponse};

fn request(records: &[u8]) -> ProduceRequest {
    ProduceRequest {
        request_id: u64::MAX,
        topic: "logs".into(),
        topic_id: Bytes::from_static(&[7; 16]),
        partition: 3,
        leader_epoch: -1,
        acks: Acks::All as i32,
        timeout_ms: 30_000,
        max_in_flight: 64,
        records: Bytes::copy_from_slice(records),
    }
}

fn cut(bytes: &Bytes, len: usize) -> Vec<Bytes> {
    (0..bytes.len()).step_by(len).map(|at| bytes.slice(at..(at + len).min(bytes.len()))).collect()
}

fn assemble(chunks: &[Bytes]) -> Vec<Message> {
    let mut assembler = Assembler::new(MESSAGE_LEN_MAX);
    let mut messages = Vec::new();
    for chunk in chunks {
        assembler.push(chunk.clone());
        while let Some(message) = assembler.pop().unwrap() {
            messages.push(message);
        }
    }
    assembler.check_end().unwrap();
    messages
}

#[test]
fn heads_and_payload_are_what_prost_encodes() {
    for len in [0, 1, 127, 128, 100_000] {
        let whole = request(&vec![9; len]);
        let head = ProduceRequest { records: Bytes::new(), ..whole.clone() };
        let mut sent = produce_request_head(&head, len).unwrap().to_vec();
        sent.extend_from_slice(&whole.records);
        assert_eq!(sent, encode_message(&whole).unwrap(), "{len}");

        let whole = FetchResponse {
            request_id: 1,
            handle: 4,
            high_watermark: 70,
            next_offset: 69,
            records: Bytes::from(vec![1; len]),
            ..Default::default()
        };
        let head = FetchResponse { records: Bytes::new(), ..whole.clone() };
        let mut sent = fetch_response_head(&head, len).unwrap().to_vec();
        sent.extend_from_slice(&whole.records);
        assert_eq!(sent, encode_message(&whole).unwrap(), "{len}");
    }
}

#[test]
fn large_payloads_are_not_copied() {
    let payload = Bytes::from(vec![5; 100_000]);
    let whole = request(&payload);
    let head = ProduceRequest { records: Bytes::new(), ..whole };
    let chunks = [
        produce_request_head(&head, payload.len()).unwrap(),
        payload.slice(..60_000),
        payload.slice(60_000..),
    ];
    let message = assemble(&chunks).remove(0);
    let (decoded, parts): (ProduceRequest, _) = split_payload(message).unwrap();
    assert_eq!(decoded, head);
    let at: Vec<_> = parts.iter().map(|part| (part.as_ptr(), part.len())).collect();
    assert_eq!(at, [(payload.as_ptr(), 60_000), (payload[60_000..].as_ptr(), 40_000)]);
}

#[test]
fn fields_after_the_payload_and_repeated_payloads_are_read() {
    let mut bytes = BytesMut::new();
    ProduceRequest { records: "old".into(), ..Default::default() }.encode(&mut bytes).unwrap();
    request(b"new").encode(&mut bytes).unwrap();
    ProduceRequest { partition: 12, ..Default::default() }.encode(&mut bytes).unwrap();
    // Unknown fields of every wire type: skipped.
    bytes.extend_from_slice(&[0x80 | (20 << 3) as u8, 1, 9]); // 20: varint
    bytes.extend_from_slice(&[0x99, 1, 1, 2, 3, 4, 5, 6, 7, 8]); // 19: 64 bit
    bytes.extend_from_slice(&[0x9d, 1, 1, 2, 3, 4]); // 19: 32 bit
    let (head, parts): (ProduceRequest, _) =
        split_payload(cut(&bytes.freeze(), 3).into_iter().collect()).unwrap();
    assert_eq!(head, ProduceRequest { partition: 12, records: Bytes::new(), ..request(b"") });
    assert_eq!(parts.concat(), b"new");
}

#[test]
fn a_peer_of_single_bytes_costs_no_more_than_its_bytes() {
    let whole = encode_message(&request(&vec![3; 20_000])).unwrap();
    let mut assembler = Assembler::new(MESSAGE_LEN_MAX);
    for chunk in cut(&whole, 1) {
        assert!(assembler.pop().unwrap().is_none());
        assembler.push(chunk);
    }
    let mut message = assembler.pop().unwrap().unwrap();
    let pieces = message.take_chunks(message.len()).unwrap().len();
    assert!(pieces <= 2, "{pieces}");
}

#[test]
fn bad_prefixes_are_refused_before_anything_is_waited_for() {
    let refuse = |prefix: [u8; 5]| {
        let mut assembler = Assembler::new(1000);
        assembler.push(Bytes::copy_from_slice(&prefix));
        assembler.pop().unwrap_err()
    };
    assert_eq!(refuse([1, 0, 0, 0, 1]), FrameError::Compressed);
    assert_eq!(refuse(*b"GET /"), FrameError::NotGrpc(b'G'));
    assert_eq!(refuse([0, 0x80, 0, 0, 0]), FrameError::TooLarge { len: 1 << 31, max: 1000 });
    assert_eq!(refuse([0, 0, 0, 3, 0xe9]), FrameError::TooLarge { len: 1001, max: 1000 });
    assert!(encode_prefix(MESSAGE_LEN_MAX + 1).is_err());
    assert!(payload_head(&request(b""), usize::MAX).is_err());
}

#[test]
fn an_end_inside_a_message_is_told() {
    let whole = encode_message(&request(b"x")).unwrap();
    for len in 0..whole.len() {
        let mut assembler = Assembler::new(1000);
        assembler.push(whole.slice(..len));
        assert!(assembler.pop().unwrap().is_none());
        assert_eq!(assembler.check_end().is_ok(), len == 0, "{len}");
    }
}

#[test]
fn every_changed_byte_of_a_message_is_survived() {
    let good = request(b"some records").encode_to_vec();
    for at in 0..good.len() {
        for value in 0..=255 {
            let mut bad = good.clone();
            bad[at] = value;
            let message: Message = cut(&Bytes::from(bad), 7).into_iter().collect();
            let _ = split_payload::<ProduceRequest>(message);
        }
    }
    for len in 0..good.len() {
        let message: Message = [Bytes::copy_from_slice(&good[..len])].into_iter().collect();
        let _ = split_payload::<ProduceRequest>(message);
    }
}

#[test]
fn an_endless_head_is_refused() {
    let fields = ProduceRequest { topic: "x".repeat(HEAD_LEN_MAX), ..Default::default() };
    let message: Message = [Bytes::from(fields.encode_to_vec())].into_iter().collect();
    assert!(matches!(split_payload::<ProduceRequest>(message), Err(FrameError::Malformed(_))));
}

proptest! {
    #[test]
    fn any_division_into_chunks_gives_the_same_messages(
        records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 1..8),
        lens in proptest::collection::vec(prop_oneof![1..8usize, 1..2000usize], 1..8),
    ) {
        let mut stream = BytesMut::new();
        for records in &records {
            encode_message_into(&request(records), &mut stream).unwrap();
        }
        let mut rest = stream.freeze();
        let mut chunks = Vec::new();
        for len in lens.iter().cycle() {
            if rest.is_empty() { break; }
            chunks.push(rest.split_to((*len).min(rest.len())));
        }
        let messages = assemble(&chunks);
        prop_assert_eq!(messages.len(), records.len());
        for (message, records) in messages.into_iter().zip(&records) {
            prop_assert_eq!(&message.clone().decode::<ProduceRequest>().unwrap(), &request(records));
            let (head, parts): (ProduceRequest, _) = split_payload(message).unwrap();
            prop_assert_eq!(head, request(b""));
            prop_assert_eq!(&parts.concat(), records);
        }
    }

    #[test]
    fn random_streams_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut assembler = Assembler::new(100);
        for chunk in cut(&Bytes::from(bytes), 9) {
            assembler.push(chunk);
            while let Ok(Some(message)) = assembler.pop() {
                let _ = split_payload::<FetchResponse>(message.clone());
                let _ = message.decode::<ProduceResponse>();
            }
        }
    }
}

#[test]
fn several_messages_in_one_chunk_are_told_apart() {
    let mut stream = BytesMut::new();
    for request_id in 0..3 {
        let ack = ProduceAck { request_id, base_offset: 7, ..Default::default() };
        encode_message_into(&ProduceResponse { acks: vec![ack] }, &mut stream).unwrap();
    }
    let ids: Vec<u64> = assemble(&[stream.freeze()])
        .into_iter()
        .map(|message| message.decode::<ProduceResponse>().unwrap().acks[0].request_id)
        .collect();
    assert_eq!(ids, [0, 1, 2]);
}
