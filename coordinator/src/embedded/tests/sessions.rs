//! Sessions at the edges: taken over, refused, expired, kept through crashes.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use super::raw::{Raw, create, delete, path_and_watch};
use super::{Running, options};
use crate::embedded::op_code;

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_second_connection_replaces_the_first() {
    let directory = temporary();
    let server = Running::start(directory.path());
    let mut first = Raw::connect(server.address);
    assert_eq!(first.call(op_code::CREATE, &create("/e", b"", 1)).code, 0);
    let mut second =
        Raw { stream: Raw::dial(server.address).stream, ..Raw::connect(server.address) };
    (second.session, second.password) = (first.session, first.password.clone());
    assert_eq!(second.introduce(0, 10_000), Some(10_000));
    assert!(first.is_closed());
    assert_eq!(second.call(op_code::EXISTS, &path_and_watch("/e", false)).code, 0);
}

#[test]
fn a_wrong_password_is_refused_and_hurts_nobody() {
    let directory = temporary();
    let server = Running::start(directory.path());
    let mut owner = Raw::connect(server.address);
    let mut thief = Raw::dial(server.address);
    for password in [vec![1; 16], vec![], owner.password[..15].to_vec()] {
        thief.session = owner.session;
        thief.password = password;
        assert_eq!(thief.introduce(0, 10_000), Some(0), "told that the session has expired");
        assert_eq!((thief.session, thief.is_closed()), (0, true));
        thief = Raw::dial(server.address);
    }
    assert_eq!(owner.call(op_code::EXISTS, &path_and_watch("/", false)).code, 0);
}

#[test]
fn timeouts_are_clamped_and_zxids_of_the_future_refused() {
    let directory = temporary();
    let server = Running::start(directory.path());
    for (asked, granted) in [(-5, 400), (1, 400), (1_000, 1_000), (i32::MAX, 60_000)] {
        assert_eq!(Raw::dial(server.address).introduce(0, asked), Some(granted));
    }
    assert_eq!(Raw::dial(server.address).introduce(1 << 40, 1_000), None);
}

#[test]
fn pings_keep_a_session_and_silence_ends_it() {
    let directory = temporary();
    let server = Running::start(directory.path());
    let mut watcher = Raw::connect(server.address);
    let mut pinging = Raw::dial(server.address);
    pinging.introduce(0, 400).unwrap();
    assert_eq!(pinging.call(op_code::CREATE, &create("/p", b"", 1)).code, 0);
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(1_200) {
        let pong = pinging.call(op_code::PING, &[]);
        assert_eq!((pong.xid, pong.code), (1, 0));
        assert!(pinging.is_silent());
    }
    assert_eq!(watcher.call(op_code::EXISTS, &path_and_watch("/p", true)).code, 0);
    let silent = Instant::now();
    let event = watcher.receive().unwrap();
    assert_eq!((event.xid, &event.body[..4]), (-1, &[0, 0, 0, 2][..]));
    assert!(silent.elapsed() < Duration::from_secs(3), "{:?}", silent.elapsed());
    assert!(pinging.is_closed());
    let mut late = Raw::dial(server.address);
    (late.session, late.password) = (pinging.session, pinging.password.clone());
    assert_eq!(late.introduce(0, 400), Some(0));
}

/// What `kill -9` leaves: the files as they are while the server still runs.
fn kill_image(from: &std::path::Path) -> tempfile::TempDir {
    let copy = temporary();
    for name in ["log", "snapshot"] {
        if from.join(name).exists() {
            std::fs::copy(from.join(name), copy.path().join(name)).unwrap();
        }
    }
    copy
}

#[test]
fn a_kill_keeps_what_was_answered() {
    let directory = temporary();
    let mut small = options(directory.path());
    small.snapshot_log_bytes = 2_000; // many snapshots on the way
    let server = Running::with(small);
    let mut owner = Raw::connect(server.address);
    assert_eq!(owner.call(op_code::CREATE, &create("/q", b"", 0)).code, 0);
    for n in 0..120 {
        let reply = owner.call(op_code::CREATE, &create("/q/n-", &[n; 60], 3));
        assert_eq!(reply.code, 0);
        let name = format!("/q/n-{n:010}");
        assert_eq!(reply.body[4..], *name.as_bytes());
        if n % 3 != 0 {
            assert_eq!(owner.call(op_code::DELETE, &delete(&name)).code, 0);
        }
        if n % 10 != 0 {
            continue;
        }
        let image = kill_image(directory.path());
        let again = Running::start(image.path());
        let mut heir = Raw::dial(again.address);
        (heir.session, heir.password) = (owner.session, owner.password.clone());
        assert_eq!(heir.introduce(reply.zxid, 10_000), Some(10_000), "after {n}");
        let next = heir.call(op_code::CREATE, &create("/q/n-", b"", 3));
        assert_eq!(next.body[4..], *format!("/q/n-{:010}", n + 1).as_bytes());
        let mut other = Raw::connect(again.address);
        assert_eq!(heir.call(op_code::CLOSE_SESSION, &[]).code, 0);
        let children = other.call(op_code::GET_CHILDREN, &path_and_watch("/q", false));
        assert_eq!(children.body, [0; 4], "ephemerals go with the session that made them");
    }
}

#[test]
fn only_one_server_opens_a_directory() {
    let directory = temporary();
    let server = Running::start(directory.path());
    let error = crate::embedded::Server::bind(options(directory.path())).unwrap_err();
    assert!(error.to_string().contains("in use by another process"), "{error}");
    server.stop().unwrap();
    Running::start(directory.path()).stop().unwrap();
}

#[test]
fn four_letter_words_are_answered() {
    let directory = temporary();
    let server = Running::start(directory.path());
    let _client = Raw::connect(server.address);
    for (word, part) in [
        ("ruok", "imok"),
        ("isro", "rw"),
        ("srvr", "Mode: standalone"),
        ("stat", "sid=0x"),
        ("mntr", "zk_znode_count\t4"),
        ("cons", "127.0.0.1"),
        ("envi", "zookeeper.version"),
    ] {
        let mut raw = Raw::dial(server.address);
        raw.stream.write_all(word.as_bytes()).unwrap();
        let mut answer = String::new();
        raw.stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(part), "{word}: {answer}");
    }
}
