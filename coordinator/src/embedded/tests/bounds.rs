//! Every bound is reached once: what happens there is an error or a closed connection, never a
//! dead server.

use std::time::{Duration, Instant};

use super::raw::{Raw, create, delete, path_and_watch};
use super::{Running, options};
use crate::embedded::error_code::ErrorCode;
use crate::embedded::log::tests::Memory;
use crate::embedded::op_code;

const QUOTA: i32 = -125;

fn in_memory(disk: &Memory, change: impl FnOnce(&mut super::EmbeddedOptions)) -> Running {
    let mut options = options(std::path::Path::new("/nowhere"));
    change(&mut options);
    Running::on(disk, options)
}

#[test]
fn a_reader_that_does_not_read_is_closed() {
    let server = in_memory(&Memory::default(), |options| options.output_bytes_max = 1 << 20);
    let mut client = Raw::connect(server.address);
    assert_eq!(client.call(op_code::CREATE, &create("/big", &[7; 500_000], 0)).code, 0);
    let mut lazy = Raw::connect(server.address);
    for xid in 0..200 {
        lazy.send(xid, op_code::GET_DATA, &path_and_watch("/big", false));
    }
    assert!(lazy.is_closed());
    assert_eq!(client.call(op_code::GET_DATA, &path_and_watch("/big", false)).code, 0);
}

#[test]
fn thousands_of_requests_in_flight_are_answered_in_order() {
    let server = in_memory(&Memory::default(), |options| options.requests_max = 10);
    let mut client = Raw::connect(server.address);
    let mut sender =
        Raw { stream: client.stream.try_clone().unwrap(), session: 0, password: vec![] };
    let sending = std::thread::spawn(move || {
        for xid in 0..5_000 {
            sender.send(xid, op_code::CREATE, &create("/n-", b"", 2));
        }
    });
    for xid in 0..5_000 {
        let reply = client.receive().unwrap();
        assert_eq!((reply.xid, reply.code), (xid, 0));
        assert_eq!(reply.body[4..], *format!("/n-{xid:010}").as_bytes());
    }
    sending.join().unwrap();
}

#[test]
fn sessions_watches_and_tree_are_bounded() {
    let server = in_memory(&Memory::default(), |options| {
        options.sessions_max = 2;
        options.watches_max = 3;
        options.tree_bytes_max = 5_000;
    });
    let mut one = Raw::connect(server.address);
    let mut two = Raw::connect(server.address);
    assert_eq!(Raw::dial(server.address).introduce(0, 1_000), None);
    for (path, code) in [("/a", -101), ("/b", -101), ("/c", -101), ("/d", QUOTA), ("/a", -101)] {
        assert_eq!(one.call(op_code::EXISTS, &path_and_watch(path, true)).code, code, "{path}");
    }
    assert_eq!(two.call(op_code::CREATE, &create("/x", &[0; 2_000], 0)).code, 0);
    assert_eq!(two.call(op_code::CREATE, &create("/y", &[0; 2_500], 0)).code, QUOTA);
    assert_eq!(two.call(op_code::DELETE, &delete("/x")).code, 0);
    assert_eq!(two.call(op_code::CREATE, &create("/y", &[0; 2_500], 0)).code, 0);
    assert_eq!(two.call(op_code::CLOSE_SESSION, &[]).code, 0);
    assert_eq!(Raw::dial(server.address).introduce(0, 1_000), Some(1_000));
}

#[test]
fn connections_are_bounded_and_silent_ones_give_way() {
    let server = in_memory(&Memory::default(), |options| {
        options.connections_max = 8;
        options.connect_timeout = Duration::from_millis(300);
    });
    let mut kept = Raw::connect(server.address);
    let mut strangers: Vec<_> = (0..6).map(|_| Raw::dial(server.address)).collect();
    assert!(strangers[0].is_closed(), "the oldest stranger goes");
    let mut late = Raw::connect(server.address);
    assert_eq!(late.call(op_code::EXISTS, &path_and_watch("/", false)).code, 0);
    assert!(strangers[5].is_closed(), "who never says anything is closed in time");
    let mut more: Vec<_> = (0..6).map(|_| Raw::connect(server.address)).collect();
    assert!(Raw::dial(server.address).is_closed(), "the ninth");
    assert_eq!(more[5].call(op_code::EXISTS, &path_and_watch("/", false)).code, 0);
    assert_eq!(kept.call(op_code::EXISTS, &path_and_watch("/", false)).code, 0);
}

#[test]
fn nothing_is_seen_before_it_is_on_disk_and_pings_do_not_wait() {
    let disk = Memory::default();
    let server = in_memory(&disk, |_| {});
    let mut writer = Raw::connect(server.address);
    let mut reader = Raw::connect(server.address);
    assert_eq!(reader.call(op_code::EXISTS, &path_and_watch("/a", true)).code, -101);
    let stall = disk.stall();
    let stalled = stall.lock();
    writer.send(1, op_code::CREATE, &create("/a", b"", 0));
    // Until the write has been applied, at most for a moment, reads are still answered.
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        reader.send(2, op_code::GET_DATA, &path_and_watch("/a", false));
        if reader.is_silent() {
            break;
        }
        assert_eq!(reader.receive().unwrap().code, -101, "seen before it is on disk");
        assert!(Instant::now() < deadline);
    }
    assert!(writer.is_silent());
    let before = writer.call(op_code::PING, &[]);
    assert_eq!((before.xid, before.code), (1, 0));
    drop(stalled);
    assert_eq!(writer.receive().unwrap().zxid, before.zxid + 1);
    assert_eq!(reader.receive().unwrap().xid, -1);
    let seen = reader.receive().unwrap();
    assert_eq!((seen.xid, seen.code), (2, 0));
}

#[test]
fn a_full_disk_gives_clear_errors_and_the_server_lives() {
    let disk = Memory::default();
    let server = in_memory(&disk, |_| {});
    let mut client = Raw::connect(server.address);
    assert_eq!(client.call(op_code::CREATE, &create("/e", b"", 1)).code, 0);
    disk.set_free(Some(0));
    let mut made = 0;
    while client.call(op_code::CREATE, &create(&format!("/n{made}"), &[1; 300_000], 0)).code == 0 {
        made += 1;
        assert!(made < 50);
    }
    assert_eq!(client.call(op_code::CREATE, &create("/x", b"", 0)).code, QUOTA);
    assert_eq!(client.call(op_code::GET_DATA, &path_and_watch("/n0", false)).code, 0);
    let mut other = Raw::connect(server.address);
    assert_eq!(client.call(op_code::CLOSE_SESSION, &[]).code, 0);
    assert_eq!(other.call(op_code::EXISTS, &path_and_watch("/e", false)).code, -101);
    for n in 0..made {
        assert_eq!(other.call(op_code::DELETE, &delete(&format!("/n{n}"))).code, 0);
    }
    disk.set_free(None);
    let deadline = Instant::now() + Duration::from_secs(5);
    while other.call(op_code::CREATE, &create("/x", b"", 0)).code
        == ErrorCode::QuotaExceeded.number()
    {
        assert!(Instant::now() < deadline, "no space seen although there is");
    }
    assert_eq!(other.call(op_code::EXISTS, &path_and_watch("/x", false)).code, 0);
}
