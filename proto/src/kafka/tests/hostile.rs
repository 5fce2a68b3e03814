//! Frames that lie: no API and version may panic on one, or take much more memory than it is long.
//!
//! Memory is counted by the allocator, not guessed: [`bound`] is what the reader promises.

use std::collections::HashSet;

use allocation_counter::measure;
use bytes::Bytes;

use super::mutator::{Mutator, Target};
use crate::kafka::messages::*;
use crate::kafka::sample::{Sampler, Shape};
use crate::kafka::{Malformed, Reader, Str, Wire, Writer, decode};

/// Mutated frames; more by the environment.
fn rounds() -> u64 {
    std::env::var("OTTLA_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000)
}

/// Most memory that reading a frame may take at any moment: 24 bytes for each of its own and 64 KiB,
/// at most 16 MiB; and the counts of the frame itself, which is shared from then on.
fn bound(frame: usize) -> usize {
    let items = Reader::items_max(frame);
    assert_eq!(items, (24 * frame + (64 << 10)).min(16 << 20));
    items + 64
}

#[test]
fn mutated_frames_of_every_api_and_version_are_read_or_refused() {
    let mut mutator = Mutator::new(rounds());
    let (mut read, mut refused) = (HashSet::new(), HashSet::new());
    for _ in 0..rounds() {
        let (Target { key, version, read: reading, .. }, frame) = mutator.next();
        let len = frame.len();
        let frame = Bytes::from(frame);
        let mut outcome = Ok(0);
        let taken = measure(|| outcome = reading(version, frame));
        let most = usize::try_from(taken.bytes_max).unwrap();
        assert!(most <= bound(len), "{key:?} {version}: {most} bytes for {len}");
        match outcome {
            Ok(held) => {
                assert!(held <= Reader::items_max(len), "{key:?} {version}");
                read.insert((key, version));
            }
            Err(error) => drop(refused.insert(std::mem::discriminant(&error))),
        }
    }
    // Otherwise the mutator shows nothing.
    assert_eq!(read.len(), mutator.targets.len(), "each is read now and then");
    assert!(refused.len() >= 5, "{refused:?}");
}

/// Frames as lean as their messages allow: the most memory for a byte that an API can be made to take.
#[test]
fn many_tiny_items_of_any_api_take_a_small_multiple_of_the_frame() {
    let mut worst = (0.0, None, 0);
    for target in Target::all() {
        for (depth, text) in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (0, 9)] {
            let shape = Shape::Lean { text, depth, items: 8_000 };
            let flexible = target.is_flexible();
            let frame = target.make(&mut Sampler::lean(target.version, flexible, shape)).bytes;
            let len = frame.len();
            let frame = Bytes::from(frame);
            let mut outcome = Ok(0);
            let taken = measure(|| outcome = (target.read)(target.version, frame.clone()));
            let most = usize::try_from(taken.bytes_max).unwrap();
            assert!(most <= bound(len), "{:?} {}: {most} for {len}", target.key, target.version);
            // Names of one byte are honest, and are read in any number. Empty ones are not.
            if text > 0 || len < 1_000 {
                assert!(outcome.is_ok(), "{:?} {} {shape:?}", target.key, target.version);
            }
            let ratio = most as f64 / len as f64;
            if ratio > worst.0 && len > 10_000 {
                worst = (ratio, Some(target.key), target.version);
            }
        }
    }
    assert!(worst.0 > 10.0, "the frames are not lean: {worst:?}");
    println!("most memory for a byte: {worst:?}");
}

#[test]
fn a_short_frame_that_promises_many_items_is_refused() {
    // No client id, then the length of the topics.
    let frame = Bytes::from_static(&[0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    let wanted = 0x7fff_ffff;
    let refused = decode::<MetadataRequest>(1, frame).unwrap_err();
    assert_eq!(refused, Malformed::CutOff { wanted, left: 0 });
}

/// Every length of every message says that there is no end of what follows it.
#[test]
fn a_length_that_lies_takes_no_memory() {
    for target in Target::all() {
        let (version, flexible) = (target.version, target.is_flexible());
        let shape = Shape::Lean { text: 1, depth: 0, items: 1 };
        let honest = target.make(&mut Sampler::lean(version, flexible, shape));
        for &at in &honest.lengths {
            let promises: [&[u8]; 2] = [&[0xff, 0xff, 0xff, 0xff, 0x0f], &[0x7f, 0xff, 0xff, 0xff]];
            for promise in promises {
                let frame = Bytes::from([&honest.bytes[..at], promise].concat());
                let taken = measure(|| {
                    let _ = (target.read)(version, frame);
                });
                assert!(taken.bytes_max < 4096, "{:?} {version} at {at}: {taken:?}", target.key);
            }
        }
    }
}

#[test]
fn many_tiny_items_are_refused_before_they_take_memory() {
    // Topics without a name and without partitions: each three bytes long.
    let many = 4 << 20;
    let mut writer = Writer::new(9, false);
    Option::<Str>::None.write(&mut writer);
    writer.go_on(9, true);
    writer.tagged(&[]);
    (None::<Str>).write(&mut writer);
    1i16.write(&mut writer);
    2i32.write(&mut writer);
    writer.len(Some(many));
    writer.put(&vec![1; 3 * many]);
    let frame = Bytes::from(writer.into_encoded().join().unwrap());
    let taken = measure(|| {
        assert_eq!(decode::<ProduceRequest>(9, frame).unwrap_err(), Malformed::TooManyItems);
    });
    assert!(taken.bytes_max < 4096, "{taken:?}");
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
        let read = decode::<MetadataRequest>(version, frame).unwrap();
        assert_eq!(read.request.topics.map(|topics| topics.len()), Some(20_000));
        assert!(read.held > 20_000 * 32, "{}", read.held);
    }
}
