//! Frames that lie: no API and version may panic on one, or hold much more memory than it is long.

use bytes::Bytes;

use crate::kafka::api_key::for_every_request;
use crate::kafka::messages::*;
use crate::kafka::sample::{Sample, Sampler};
use crate::kafka::{ApiKey, Malformed, Request, Wire, Writer, decode};

/// Frames of each API and version; more by the environment.
fn rounds() -> u64 {
    std::env::var("OTTLA_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(150)
}

/// Memory that may be held for a frame: what the reader promises.
fn bound(frame: usize) -> usize {
    (24 * frame + (64 << 10)).min(32 << 20) + frame
}

fn mutate(frame: &mut Vec<u8>, random: &mut Sampler) {
    const LENGTHS: [u32; 8] =
        [u32::MAX, 0x7fff_ffff, 0x8000_0000, 0x00ff_ffff, 0xffff_fffe, 0x0fff_ffff, 65_535, 4_096];
    for _ in 0..=random.below(3) {
        let at = random.below(frame.len().max(1));
        match random.below(6) {
            0 => frame.truncate(at),
            1 if at < frame.len() => frame[at] ^= 1 << random.below(8),
            2 if at < frame.len() => frame[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            3 if at + 4 <= frame.len() => {
                let length = LENGTHS[random.below(LENGTHS.len())];
                frame[at..at + 4].copy_from_slice(&length.to_be_bytes());
            }
            4 => {
                let more = (0..random.below(20)).map(|_| random.next() as u8);
                let more: Vec<u8> = more.collect();
                frame.splice(at..at, more);
            }
            _ => frame.extend([0xff, 0xff, 0xff, 0xff, 0x0f]),
        }
    }
}

fn attack<R: Request + Sample>(version: i16) -> u64 {
    let flexible = R::KEY.is_flexible(version);
    let mut read = 0;
    for seed in 0..rounds() {
        let mut random = Sampler::new(seed << 8, version, flexible);
        let mut writer = Writer::new(version, false);
        Some(crate::kafka::Str::from("client")).write(&mut writer);
        writer.go_on(version, flexible);
        if flexible {
            writer.tagged(&[]);
        }
        R::sample(&mut random).write(&mut writer);
        let mut frame = writer.into_encoded().join().unwrap();
        mutate(&mut frame, &mut random);
        let len = frame.len();
        if let Ok((_, request)) = decode::<R>(version, Bytes::from(frame)) {
            read += 1;
            let held = request.held();
            assert!(held <= bound(len), "{:?} {version}: {held} bytes for {len}", R::KEY);
        }
    }
    read
}

#[test]
fn mutated_frames_of_every_api_and_version_are_read_or_refused() {
    let mut read = 0;
    macro_rules! attack_all {
        ($name:ident, $request:ident, $response:ident) => {
            for version in ApiKey::$name.versions() {
                read += attack::<$request>(version);
            }
        };
    }
    for_every_request!(attack_all);
    assert!(read > 0, "no frame survived: the mutator shows nothing");
}

#[test]
fn a_short_frame_that_promises_many_items_is_refused() {
    // No client id, then the length of the topics.
    let frame = Bytes::from_static(&[0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    let wanted = 0x7fff_ffff;
    let refused = decode::<MetadataRequest>(1, frame).unwrap_err();
    assert_eq!(refused, Malformed::CutOff { wanted, left: 0 });
}

#[test]
fn many_tiny_items_are_refused_before_they_take_memory() {
    // Topics without a name and without partitions: each three bytes long.
    let many = 4 << 20;
    let mut writer = Writer::new(9, false);
    Option::<crate::kafka::Str>::None.write(&mut writer);
    writer.go_on(9, true);
    writer.tagged(&[]);
    (None::<crate::kafka::Str>).write(&mut writer);
    1i16.write(&mut writer);
    2i32.write(&mut writer);
    writer.len(Some(many));
    writer.put(&vec![1; 3 * many]);
    let frame = Bytes::from(writer.into_encoded().join().unwrap());
    assert_eq!(decode::<ProduceRequest>(9, frame).unwrap_err(), Malformed::TooManyItems);
}

#[test]
fn one_byte_names_are_many_and_honest() {
    // The shortest topics there are in a request that a client would send.
    let topic = || MetadataRequestTopic { name: Some("a".into()), ..Default::default() };
    let request = MetadataRequest {
        topics: Some((0..20_000).map(|_| topic()).collect()),
        ..Default::default()
    };
    for version in [1, 9, 12] {
        let frame = crate::kafka::encode_request(version, 1, None, &request).join().unwrap();
        let frame = Bytes::from(frame).slice(12..);
        let (_, read): (_, MetadataRequest) = decode(version, frame).unwrap();
        assert_eq!(read.topics.map(|topics| topics.len()), Some(20_000));
    }
}
