//! Every API and version against the crate `kafka-protocol`: what we write it reads, field by field,
//! what it writes of that is the same bytes, and we read them back.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable};

use super::debug_tree::{Tree, differences, parse};
use crate::kafka::api_key::for_every_request;
use crate::kafka::messages::*;
use crate::kafka::sample::{Sample, Sampler};
use crate::kafka::{ApiKey, Reader, Wire, Writer};

/// Values of each message and version; more by the environment.
fn rounds() -> u64 {
    std::env::var("OTTLA_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

fn compare<Ours, Theirs>(key: ApiKey, version: i16)
where
    Ours: Wire + Sample + std::fmt::Debug + PartialEq,
    Theirs: Decodable + Encodable + std::fmt::Debug,
{
    let name = std::any::type_name::<Ours>().rsplit("::").next().unwrap_or_default();
    let flexible = key.is_flexible(version);
    for seed in 0..rounds() {
        let at = format!("{name} version {version} seed {seed}");
        let ours = Ours::sample(&mut Sampler::new(seed, version, flexible));
        let mut writer = Writer::new(version, flexible);
        ours.write(&mut writer);
        let bytes = Bytes::from(writer.into_encoded().join().unwrap());

        let mut left = bytes.clone();
        let read = Theirs::decode(&mut left, version)
            .unwrap_or_else(|error| panic!("{at}: {error}: {ours:?}"));
        assert!(left.is_empty(), "{at}: {} bytes are left", left.len());
        let differing = differences(&tree(&ours), &tree(&read));
        assert!(differing.is_empty(), "{at}: {differing:?}");

        let mut written = BytesMut::new();
        read.encode(&mut written, version).unwrap_or_else(|error| panic!("{at}: {error}"));
        assert_eq!(Bytes::from(written), bytes, "{at}");
        let mut reader = Reader::new(bytes, version, flexible);
        assert_eq!(Ours::read(&mut reader).as_ref(), Ok(&ours), "{at}");
        assert_eq!(reader.finish(), Ok(()), "{at}");
    }
}

fn tree(value: &impl std::fmt::Debug) -> Tree {
    parse(&format!("{value:?}"))
}

#[test]
fn every_request_and_answer_is_as_the_crate_has_it() {
    macro_rules! both {
        ($name:ident, $request:ident, $response:ident) => {
            for version in ApiKey::$name.versions() {
                compare::<$request, theirs::$request>(ApiKey::$name, version);
                compare::<$response, theirs::$response>(ApiKey::$name, version);
            }
        };
    }
    for_every_request!(both);
}

#[test]
fn numbers_and_headers_are_as_the_crate_has_them() {
    for &key in ApiKey::ALL {
        let their = theirs::ApiKey::try_from(key.code()).unwrap();
        assert_eq!(format!("{their:?}"), format!("{key:?}"));
        for version in key.versions() {
            let flexible = key.is_flexible(version);
            assert_eq!(their.request_header_version(version) == 2, flexible, "{key:?} {version}");
            let tagged = flexible && key != ApiKey::ApiVersions;
            assert_eq!(their.response_header_version(version) == 1, tagged, "{key:?} {version}");
        }
    }
}
