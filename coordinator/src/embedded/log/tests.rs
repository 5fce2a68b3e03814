//! Tests of the log on a disk that can be broken: torn and lost writes, full, failing.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::disk::{Disk, DiskFile, without_zeros};
use super::record::{self, HEADER};
use super::recovery::{Recovered, recover};
use super::snapshot;
use super::writer::{LogWriter, RESERVE_BYTES};
use crate::embedded::connect::create_session_body;
use crate::embedded::error::EmbeddedError;
use crate::embedded::op_code;
use crate::embedded::state::{Answer, Limits, Record, Room, State};
use crate::embedded::wire::Output;

const LIMITS: Limits = Limits { tree_bytes: 64 << 20, watches_per_session: 100, sessions: 100 };
const SESSION: i64 = 7;

#[derive(Debug, Default, Clone)]
struct Content {
    written: Vec<u8>,
    synced: Vec<u8>,
}

/// A directory in memory. What was not synced is lost or torn in a [`crash`](Self::crash).
#[derive(Debug, Default, Clone)]
pub(crate) struct Memory {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    files: HashMap<String, Content>,
    /// All files together may not get longer.
    capacity: Option<usize>,
    failing_sync: bool,
    /// Syncs wait while this is held.
    stall: Arc<Mutex<()>>,
}

impl Inner {
    fn used(&self) -> usize {
        self.files.values().map(|file| file.written.len()).sum()
    }

    fn check_room(&self, more: usize) -> io::Result<()> {
        match self.capacity {
            Some(capacity) if self.used() + more > capacity => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }
}

struct MemoryFile {
    memory: Memory,
    name: String,
}

impl Disk for Memory {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.inner.lock().files.get(name).map(|file| file.written.clone()))
    }

    fn read_without_zeros(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.read(name)?.map(|bytes| without_zeros(&bytes).to_vec()))
    }

    fn open(&self, name: &str) -> io::Result<(Box<dyn DiskFile>, u64)> {
        let mut inner = self.inner.lock();
        let len = inner.files.entry(name.to_owned()).or_default().written.len() as u64;
        Ok((Box::new(MemoryFile { memory: self.clone(), name: name.to_owned() }), len))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.check_room(bytes.len())?;
        let content = Content { written: bytes.to_vec(), synced: bytes.to_vec() };
        inner.files.insert(name.to_owned(), content);
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for MemoryFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.memory.inner.lock();
        let end = offset as usize + bytes.len();
        let len = inner.files[&self.name].written.len();
        inner.check_room(end.saturating_sub(len))?;
        let written = &mut inner.files.get_mut(&self.name).unwrap().written;
        if end > len {
            written.resize(end, 0);
        }
        written[offset as usize..end].copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        let mut inner = self.memory.inner.lock();
        inner.files.get_mut(&self.name).unwrap().written.resize(len as usize, 0);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let stall = self.memory.inner.lock().stall.clone();
        let _waited = stall.lock();
        let mut inner = self.memory.inner.lock();
        if inner.failing_sync {
            return Err(io::Error::other("the disk is broken"));
        }
        let file = inner.files.get_mut(&self.name).unwrap();
        file.synced = file.written.clone();
        Ok(())
    }
}

impl Memory {
    /// Leaves this many bytes free, or takes the bound away.
    pub(crate) fn set_free(&self, free: Option<usize>) {
        let mut inner = self.inner.lock();
        inner.capacity = free.map(|free| inner.used() + free);
    }

    /// No sync ends while the lock in here is held.
    pub(crate) fn stall(&self) -> Arc<Mutex<()>> {
        self.inner.lock().stall.clone()
    }

    /// What a power cut may leave: of each 512-byte block not yet synced, the old or the new one.
    fn crash(&self, random: &mut fastrand::Rng) -> Self {
        let inner = self.inner.lock();
        let mut files = HashMap::new();
        for (name, file) in &inner.files {
            let mut left = file.synced.clone();
            left.resize(file.synced.len().max(file.written.len()), 0);
            for (old, new) in left.chunks_mut(512).zip(file.written.chunks(512)) {
                if random.bool() {
                    old[..new.len()].copy_from_slice(new);
                }
            }
            files.insert(name.clone(), Content { written: left.clone(), synced: left });
        }
        let inner = Inner { files, ..Inner::default() };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    fn with_log(bytes: Vec<u8>) -> Self {
        let memory = Self::default();
        let content = Content { written: bytes.clone(), synced: bytes };
        memory.inner.lock().files.insert("log".to_owned(), content);
        memory
    }

    fn log(&self) -> Vec<u8> {
        self.read("log").unwrap().unwrap()
    }
}

/// State and log together, without the engine.
struct Machine {
    state: State,
    log: LogWriter,
}

impl Machine {
    fn start(memory: &Memory) -> Self {
        let Recovered { state, log, .. } = recover(memory, LIMITS).unwrap();
        let log = LogWriter::start(Box::new(memory.clone()), log, state.zxid).unwrap();
        let mut machine = Self { state, log };
        if machine.state.sessions.get(SESSION).is_none() {
            let body = create_session_body(1000, &[1; 16]);
            assert!(machine.write(op_code::CREATE_SESSION, &body).logged);
        }
        machine
    }

    fn write(&mut self, op: i32, body: &[u8]) -> Answer {
        let record = Record { stamp: self.state.next_stamp(SESSION, 1), op, body };
        let room = self.log.progress().borrow().room;
        let answer = self.state.write(record, room).unwrap();
        if answer.logged {
            self.log.append(record);
        }
        answer
    }

    fn create(&mut self, path: &str, data: &[u8]) -> Answer {
        self.write(op_code::CREATE, &create_body(path, data))
    }

    fn delete(&mut self, path: &str) -> Answer {
        let mut body = Output::new();
        body.string(path);
        body.i32(-1);
        self.write(op_code::DELETE, &body.into_bytes())
    }

    fn wait(&self, what: &str, done: impl Fn(&super::writer::Progress) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !done(&self.log.progress().borrow()) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.log.progress().borrow());
            std::thread::yield_now();
        }
    }

    fn wait_durable(&self) {
        self.wait("durable", |progress| progress.durable == self.state.zxid);
    }
}

fn create_body(path: &str, data: &[u8]) -> Vec<u8> {
    let mut body = Output::new();
    body.string(path);
    body.buffer(Some(data));
    body.i32(1);
    body.i32(31);
    body.string("world");
    body.string("anyone");
    body.i32(0);
    body.into_bytes()
}

/// The persistent part, to compare.
fn content(state: &State) -> Vec<u8> {
    snapshot::encode(state)
}

#[test]
fn what_was_logged_is_there_again() {
    let memory = Memory::default();
    let mut machine = Machine::start(&memory);
    for n in 0..20 {
        assert_eq!(machine.create(&format!("/n{n}"), &[n; 100]).code, 0);
    }
    assert_eq!(machine.delete("/n3").code, 0);
    assert_ne!(machine.create("/nowhere/x", b"").code, 0);
    let before = content(&machine.state);
    machine.log.stop();
    let again = recover(&memory, LIMITS).unwrap();
    assert_eq!(content(&again.state), before);
    assert_eq!((again.replayed, again.cut_bytes), (22, 0));
}

#[test]
fn a_log_torn_at_any_byte_starts_with_the_records_before() {
    let mut log = HEADER.to_vec();
    let mut state = State::new(LIMITS);
    let mut ends = vec![log.len()];
    let session = create_session_body(1000, &[1; 16]);
    let bodies = [session, create_body("/a", b"1"), create_body("/b", b"22")];
    for (op, body) in
        [op_code::CREATE_SESSION, op_code::CREATE, op_code::CREATE].iter().zip(&bodies)
    {
        let record = Record { stamp: state.next_stamp(SESSION, 1), op: *op, body };
        assert!(state.write(record, Room::Enough).unwrap().logged);
        record::encode(record, 0, &mut log);
        ends.push(log.len());
    }
    for cut in 0..=log.len() {
        let mut torn = log[..cut].to_vec();
        for padded in [false, true] {
            if padded {
                torn.resize(4096, 0);
            }
            let memory = Memory::with_log(torn.clone());
            let recovered = recover(&memory, LIMITS).unwrap();
            let whole = ends.iter().filter(|end| **end <= cut).count().saturating_sub(1);
            assert_eq!(recovered.state.zxid, whole as i64, "cut at {cut}");
            // The tail is wiped: what comes next is not followed by old bytes.
            let clean = memory.log();
            assert!(without_zeros(&clean).len() <= recovered.log.end as usize);
        }
    }
}

#[test]
fn damage_before_the_end_is_no_torn_tail() {
    let mut log = HEADER.to_vec();
    let mut state = State::new(LIMITS);
    let mut ends = Vec::new();
    let session = create_session_body(1000, &[1; 16]);
    let bodies = [session, create_body("/a", b"1"), create_body("/b", b"22")];
    for (op, body) in
        [op_code::CREATE_SESSION, op_code::CREATE, op_code::CREATE].iter().zip(&bodies)
    {
        let record = Record { stamp: state.next_stamp(SESSION, 1), op: *op, body };
        let synced = state.zxid;
        assert!(state.write(record, Room::Enough).unwrap().logged);
        record::encode(record, synced, &mut log);
        ends.push(log.len());
    }
    for position in HEADER.len()..ends[1] {
        let mut damaged = log.clone();
        damaged[position] ^= 0x10;
        let error = recover(&Memory::with_log(damaged), LIMITS).err().unwrap();
        assert!(matches!(error, EmbeddedError::DamagedLog { .. }), "at {position}: {error}");
    }
    let mut last = log.clone();
    last[ends[1] + 20] ^= 1;
    assert_eq!(recover(&Memory::with_log(last), LIMITS).unwrap().state.zxid, 2);
    let memory = Memory::with_log(log);
    memory.replace("snapshot", b"nonsense").unwrap();
    assert!(matches!(recover(&memory, LIMITS), Err(EmbeddedError::DamagedSnapshot)));
}

#[test]
fn a_snapshot_starts_the_log_over() {
    let memory = Memory::default();
    let mut machine = Machine::start(&memory);
    assert_eq!(machine.create("/a", &[5; 3000]).code, 0);
    machine.log.snapshot(snapshot::encode(&machine.state));
    assert_eq!(machine.create("/b", b"").code, 0);
    machine.wait("snapshot", |progress| progress.snapshots_ended == 1);
    machine.wait_durable();
    assert!(machine.log.progress().borrow().log_bytes < 300);
    let before = content(&machine.state);
    machine.log.stop();
    let again = recover(&memory, LIMITS).unwrap();
    assert_eq!(content(&again.state), before);
    assert_eq!(again.replayed, 1);
    // A crash between the two: the log still has what the snapshot has.
    let mut both = memory.log();
    both.truncate(HEADER.len());
    let mut state = State::new(LIMITS);
    let body = create_session_body(1000, &[1; 16]);
    let record =
        Record { stamp: state.next_stamp(SESSION, 1), op: op_code::CREATE_SESSION, body: &body };
    assert!(state.write(record, Room::Enough).unwrap().logged);
    record::encode(record, 0, &mut both);
    let memory = Memory::with_log(both);
    memory.replace("snapshot", &before).unwrap();
    let again = recover(&memory, LIMITS).unwrap();
    assert_eq!((content(&again.state), again.replayed), (before, 0));
}

#[test]
fn after_any_crash_all_that_was_durable_is_there() {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut memory = Memory::default();
        // What the state was at each zxid.
        let mut history = HashMap::from([(0, content(&State::new(LIMITS)))]);
        for round in 0..4 {
            let mut machine = Machine::start(&memory);
            history.insert(machine.state.zxid, content(&machine.state));
            for step in 0..random.usize(..30) {
                let path = format!("/n{}", random.u8(..8));
                let data = vec![round; random.usize(..2000)];
                match random.u8(..10) {
                    0..=5 => drop(machine.create(&path, &data)),
                    6 | 7 => drop(machine.delete(&path)),
                    8 => machine.wait_durable(),
                    _ => machine.log.snapshot(snapshot::encode(&machine.state)),
                }
                history.insert(machine.state.zxid, content(&machine.state));
                if step % 7 == 0 {
                    std::thread::yield_now();
                }
            }
            // The order matters: what is durable now is durable in what the crash leaves.
            let durable = machine.log.progress().borrow().durable;
            let left = memory.crash(&mut random);
            machine.log.stop();
            let recovered = recover(&left, LIMITS).unwrap().state;
            assert!(recovered.zxid >= durable, "seed {seed}: {} < {durable}", recovered.zxid);
            let known = history.get(&recovered.zxid);
            assert_eq!(Some(&content(&recovered)), known, "seed {seed} at {}", recovered.zxid);
            history.retain(|zxid, _| *zxid <= recovered.zxid);
            memory = left;
        }
    }
}

#[test]
fn a_full_disk_refuses_growth_takes_deletes_and_recovers_by_itself() {
    let memory = Memory::default();
    let mut machine = Machine::start(&memory);
    let data = vec![1; 200_000];
    for n in 0..10 {
        assert_eq!(machine.create(&format!("/n{n}"), &data).code, 0);
        machine.wait_durable();
    }
    let used = memory.inner.lock().used();
    memory.inner.lock().capacity = Some(used);
    let quota = crate::embedded::error_code::ErrorCode::QuotaExceeded.number();
    let mut created = 10;
    while machine.create(&format!("/n{created}"), &data).code != quota {
        created += 1;
        machine.wait_durable();
        assert!(created < 40, "the disk never became full");
    }
    machine.wait("full", |progress| progress.room == Room::OnlyReserve);
    for n in 0..created {
        assert_eq!(machine.delete(&format!("/n{n}")).code, 0, "of {created}");
    }
    machine.wait_durable();
    // Full, too, after a restart: the reserve is not given away.
    machine.log.stop();
    let mut machine = Machine::start(&memory);
    assert_eq!(machine.create("/x", &data).code, quota);
    assert_eq!(machine.create("/y", b"").code, quota);
    memory.inner.lock().capacity = None;
    machine.wait("space", |progress| progress.room == Room::Enough);
    assert_eq!(machine.create("/x", &data).code, 0);
    machine.wait_durable();
}

#[test]
fn deletes_end_only_with_the_reserve_and_a_snapshot_gives_it_back() {
    let memory = Memory::default();
    let mut machine = Machine::start(&memory);
    assert_eq!(machine.create("/n", b"").code, 0);
    machine.wait_durable();
    let used = memory.inner.lock().used();
    memory.inner.lock().capacity = Some(used + 2_000_000);
    let body = create_session_body(1000, &[1; 16]);
    let mut sessions: u64 = 0;
    // New sessions count as no growth: here they stand for any number of deletes.
    let answer = loop {
        let stamp = machine.state.next_stamp(1000 + sessions as i64 % 50, 1);
        let record = Record { stamp, op: op_code::CREATE_SESSION, body: &body };
        let room = machine.log.progress().borrow().room;
        let answer = machine.state.write(record, room).unwrap();
        if !answer.logged {
            break answer;
        }
        machine.log.append(record);
        sessions += 1;
        if sessions.is_multiple_of(500) {
            machine.wait_durable();
        }
        assert!(sessions * 80 < 16 << 20, "more than reserve and disk can hold");
    };
    assert!(sessions * 80 > RESERVE_BYTES, "only {sessions}");
    assert_ne!(answer.code, 0);
    machine.wait("nothing", |progress| progress.room == Room::Nothing);
    assert_eq!(machine.delete("/n").code, answer.code);
    machine.log.snapshot(snapshot::encode(&machine.state));
    machine.wait("space", |progress| progress.room == Room::Enough);
    assert_eq!(machine.delete("/n").code, 0);
    machine.wait_durable();
}

#[test]
fn a_failed_sync_is_final() {
    let memory = Memory::default();
    let mut machine = Machine::start(&memory);
    machine.wait_durable();
    let durable = machine.state.zxid;
    memory.inner.lock().failing_sync = true;
    assert_eq!(machine.create("/a", b"").code, 0);
    machine.wait("failure", |progress| progress.failed.is_some());
    memory.inner.lock().failing_sync = false;
    assert_eq!(machine.create("/b", b"").code, 0);
    machine.log.stop();
    assert!(recover(&memory, LIMITS).unwrap().state.zxid <= durable + 1);
}
