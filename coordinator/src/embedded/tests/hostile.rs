//! Bytes that no client sends: nothing panics, and the server goes on serving others.

use std::io::Write;

use proptest::prelude::*;

use super::Running;
use super::raw::{Raw, create, path_and_watch};
use crate::embedded::connect::{ConnectRequest, create_session_body};
use crate::embedded::log::tests::Memory;
use crate::embedded::log::{record, snapshot};
use crate::embedded::op_code;
use crate::embedded::read::Asker;
use crate::embedded::state::{Limits, Record, Room, State};
use crate::embedded::transaction::Stamp;

const LIMITS: Limits = Limits { tree_bytes: 1 << 20, watches_per_session: 50, sessions: 10 };
const SESSION: i64 = 5;

fn state() -> State {
    let mut state = State::new(LIMITS);
    apply(&mut state, op_code::CREATE_SESSION, &create_session_body(1, &[0; 16]));
    apply(&mut state, op_code::CREATE, &create("/a", b"1", 0));
    state
}

fn apply(state: &mut State, op: i32, body: &[u8]) {
    let record = Record { stamp: state.next_stamp(SESSION, 1), op, body };
    let asker = Asker { connection: 1, session: SESSION, address: "::1" };
    if state.write(record, Room::Enough).is_none() {
        state.read(asker, op, body);
    }
}

/// Mostly bodies that are nearly right.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let valid = prop_oneof![
        Just(create("/a/b", b"xyz", 0)),
        Just(create("/n-", b"", 3)),
        Just(path_and_watch("/a", true)),
        Just([0, 0, 0, 1, 0, 0, 0, 0, 0].into_iter().chain(create("/c", b"", 1)).collect()),
    ];
    let broken = (valid, any::<prop::sample::Index>(), any::<u8>(), any::<prop::sample::Index>());
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        broken.prop_map(|(mut body, at, byte, cut)| {
            let at = at.index(body.len());
            body[at] = byte;
            let cut = cut.index(body.len() * 2);
            body.truncate(cut.max(1));
            body
        }),
    ]
}

const OPS: [i32; 26] = [
    -11, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15, 17, 18, 19, 21, 22, 101, 103, 104, 105, 106,
    107, 999,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_request_panics_and_the_state_stays_whole(
        requests in prop::collection::vec((prop::sample::select(&OPS[..]), body()), 1..20),
    ) {
        let mut state = state();
        for (op, body) in &requests {
            apply(&mut state, *op, body);
        }
        let bytes = snapshot::encode(&state);
        let again = snapshot::decode(&bytes, LIMITS).expect("what was written is read");
        prop_assert_eq!(again.tree.len(), state.tree.len());
        prop_assert_eq!(again.tree.bytes(), state.tree.bytes());
        for (path, node) in state.tree.iter() {
            prop_assert_eq!(state.tree.children(&path).count(), node.children as usize);
        }
        let below = state.tree.descendants("/");
        prop_assert_eq!(below, state.tree.len() - 1);
    }

    #[test]
    fn no_file_content_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        at in 0..200usize,
    ) {
        let _ = snapshot::decode(&bytes, LIMITS).is_ok();
        let mut damaged = snapshot::encode(&state());
        let at = at % damaged.len();
        damaged[at] ^= 1;
        prop_assert!(snapshot::decode(&damaged, LIMITS).is_err());
        let _ = record::decode(&bytes);
        let _ = record::proves_synced(&bytes, 1);
        let _ = ConnectRequest::decode(&bytes);
    }

    #[test]
    fn records_are_read_back(
        body in prop::collection::vec(any::<u8>(), 0..100),
        zxid in any::<i64>(),
    ) {
        let stamp = Stamp { session: 1, zxid, time_ms: 2 };
        let written = Record { stamp, op: 3, body: &body };
        let mut log = Vec::new();
        record::encode(written, 4, &mut log);
        let record::Found::Record(found) = record::decode(&log) else { panic!("not found") };
        prop_assert_eq!((found.record, found.synced, found.len), (written, 4, log.len()));
    }
}

#[test]
fn garbage_closes_its_connection_and_no_other() {
    let server = Running::on(&Memory::default(), super::options(std::path::Path::new("/nowhere")));
    let mut good = Raw::connect(server.address);
    let mut random = fastrand::Rng::with_seed(1);
    for round in 0..200 {
        let mut bad =
            if round % 2 == 0 { Raw::dial(server.address) } else { Raw::connect(server.address) };
        let mut bytes: Vec<u8> = (0..random.usize(1..300)).map(|_| random.u8(..)).collect();
        if round % 5 == 0 {
            bytes[0] = 0x80; // a length of 2 GiB
            bytes.resize(8, 0);
        }
        let _ = bad.stream.write_all(&bytes);
        let _ = bad.stream.shutdown(std::net::Shutdown::Write);
        assert!(bad.is_closed());
        assert_eq!(good.call(op_code::EXISTS, &path_and_watch("/", false)).code, 0);
    }
}

#[test]
fn frames_at_the_limit_pass_and_beyond_it_close() {
    let server = Running::on(&Memory::default(), super::options(std::path::Path::new("/nowhere")));
    let mut client = Raw::connect(server.address);
    let overhead = create("/big", b"", 0).len() + 8;
    let body = create("/big", &vec![1; 0xf_ffff - overhead], 0);
    assert_eq!(client.call(op_code::CREATE, &body).code, 0);
    let body = create("/more", &vec![1; 0xf_ffff - overhead], 0);
    client.send(1, op_code::CREATE, &body);
    assert!(client.is_closed());
}

#[test]
fn an_unknown_operation_is_answered_and_the_connection_closed() {
    let server = Running::on(&Memory::default(), super::options(std::path::Path::new("/nowhere")));
    let mut client = Raw::connect(server.address);
    assert_eq!(client.call(999, &[]).code, -6);
    assert!(client.is_closed());
    let mut client = Raw::connect(server.address);
    assert_eq!(client.call(op_code::CREATE_CONTAINER, &create("/c", b"", 4)).code, -6);
    let sasl = [&[0, 0, 0, 0, 0, 0, 0, 4][..], b"sasl", &[0; 4]].concat();
    let digest = [&[0, 0, 0, 0, 0, 0, 0, 6][..], b"digest", &[0; 4]].concat();
    assert_eq!(client.call(op_code::AUTH, &digest).code, 0);
    assert_eq!(client.call(op_code::AUTH, &sasl).code, -115);
    assert!(client.is_closed());
}
