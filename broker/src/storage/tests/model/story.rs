//! What a step does to the log and to the model, and what is compared after it.

use std::collections::VecDeque;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use proto::record::{BatchBuilder, BatchDecoder, Batches, Compressor, ProducerStamp, check_chunks};
use proto::{LeaderEpoch, Offset};

use super::truth::{Acked, Record, Records, Truth};
use crate::storage::disk::Disk;
use crate::storage::disk::faulty::FaultyDisk;
use crate::storage::tests::{World, append_windowed, partition, topic_id};
use crate::storage::*;

const PRODUCERS: usize = 3;
const KEYS: u8 = 12;
const WINDOW: u16 = 8;

/// One step: what to do, and the seed of all that is random in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) number: usize,
    kind: u8,
    seed: u64,
}

impl Step {
    /// The steps of a story.
    pub(super) fn plan(seed: u64, steps: usize) -> Vec<Self> {
        let mut random = fastrand::Rng::with_seed(seed ^ 0x5eed);
        let step = |number| Self { number, kind: random.u8(0..100), seed: random.u64(..) };
        (0..steps).map(step).collect()
    }
}

/// A batch that was sent and not acknowledged: after a crash it may be there.
pub(super) struct Pending {
    pub(super) producer: Option<(i64, i32)>,
    pub(super) records: Vec<Record>,
    pub(super) bytes: Bytes,
}

pub(super) struct Story<'t> {
    pub(super) random: fastrand::Rng,
    pub(super) disk: FaultyDisk,
    pub(super) world: World,
    pub(super) set: Option<LogSet>,
    pub(super) log: Arc<Log>,
    pub(super) truth: Truth,
    trace: &'t Mutex<String>,
    written: u64,
    /// Slices some slow reader still holds.
    pub(super) slices: Vec<ReadSlice>,
    pub(super) full: bool,
    /// The log ended earlier once, or batches were compacted: windows may be shorter.
    pub(super) went_back: bool,
    pub(super) truncated: bool,
    /// The process dies somewhere in this step: calls may fail.
    pub(super) dying: bool,
    /// The producers' present ids.
    ids: [i64; PRODUCERS],
    pub(super) pending: VecDeque<Pending>,
}

impl<'t> Story<'t> {
    pub(super) fn new(seed: u64, trace: &'t Mutex<String>) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let dir = Path::new("/data");
        let disk = FaultyDisk::new(dir);
        let mut world = World::new(Arc::new(disk.clone()), dir);
        let compact = random.bool();
        world.config.log = LogConfig {
            segment_bytes: random.u32(1_500..20_000),
            index_interval_bytes: random.u32(0..3000),
            retention_ms: Some(60_000),
            retention_bytes: random.bool().then_some(60_000),
            flush: random
                .choice([FlushPolicy::Os, FlushPolicy::Interval, FlushPolicy::BeforeAck])
                .unwrap_or_default(),
            flush_messages: random.u64(1..100),
            segment_ms: random.u64(1..40_000),
            cleanup_policy: CleanupPolicy { delete: !compact || random.bool(), compact },
            delete_retention_ms: random.u64(0..20_000),
            min_compaction_lag_ms: if random.bool() { 0 } else { random.u64(0..20_000) },
            ..LogConfig::default()
        };
        // Some stories with hardly a file open between two calls.
        world.config.open_files = [1, 4, 4096][(seed % 3) as usize];
        let (set, log) = world.open_log();
        let tombstones_stay_ms = world.config.log.delete_retention_ms as i64;
        let truth = Truth { tombstones_stay_ms, ..Truth::default() };
        Self {
            random,
            disk,
            world,
            set: Some(set),
            log,
            truth,
            trace,
            written: 0,
            slices: Vec::new(),
            full: false,
            went_back: false,
            truncated: false,
            dying: false,
            ids: std::array::from_fn(|slot| slot as i64),
            pending: VecDeque::new(),
        }
    }

    pub(super) fn run(mut self, steps: &[Step]) {
        for step in steps {
            self.random = fastrand::Rng::with_seed(step.seed);
            let (name, run): (_, fn(&mut Self)) = match step.kind {
                0..34 => ("append", Self::append),
                34..46 => ("read", Self::read),
                46..52 => ("flush", Self::flush),
                52..58 => ("background", Self::background),
                58..62 => ("roll", |story| story.log.roll().unwrap()),
                62..65 => ("truncate", Self::truncate),
                65..68 => ("retain", Self::retain),
                68..73 => ("compact", Self::compact),
                73..75 => ("delete records", Self::delete_records),
                75..77 => ("fill the disk", Self::fill_disk),
                77..79 => ("fail a sync", Self::fail_a_sync),
                79..83 => ("look up a time", Self::look_up_time),
                83..86 => ("restart", Self::restart),
                86..89 => ("kill", Self::kill),
                89..92 => ("power cut", Self::power_cut),
                _ => ("die in the middle", Self::die_in_the_middle),
            };
            let (start, end) = (self.truth.start, self.truth.end);
            self.note(&format!("step {} at {start}..{end}: {name}", step.number));
            run(&mut self);
            self.check();
        }
        self.note("the end: restart");
        self.restart();
    }

    /// Adds a line to the trace.
    pub(super) fn note(&self, text: &str) {
        let _ = writeln!(self.trace.lock(), "  {text}");
    }

    pub(super) fn append(&mut self) {
        let count = self.random.usize(1..6);
        let mut next = self.ids.map(|id| self.next_sequence(id));
        let mut sent = Vec::new();
        for _ in 0..count {
            let records = self.next_records();
            let slot = self.random.bool().then(|| self.random.usize(0..PRODUCERS));
            let producer = slot.map(|slot| (self.ids[slot], next[slot]));
            if let Some(slot) = slot {
                next[slot] += records.len() as i32;
            }
            let bytes = self.encode(&records, producer);
            sent.push(Pending { producer, records, bytes });
        }
        let chunks: Vec<_> = sent.iter().map(|sent| self.split(&sent.bytes)).collect();
        let headers: Vec<_> = chunks.iter().map(|chunks| check_chunks(chunks).unwrap()).collect();
        let requests: Vec<_> = (chunks.iter().zip(&headers))
            .map(|(chunks, headers)| AppendRequest {
                chunks,
                headers,
                leader_epoch: LeaderEpoch(0),
                window: WINDOW,
            })
            .collect();
        let results = self.log.append(&requests);
        for (sent, result) in sent.into_iter().zip(results) {
            match result {
                Ok(appended) => {
                    assert!(!appended.duplicate);
                    assert_eq!(appended.base_offset.0, self.truth.end);
                    self.accept(sent);
                }
                Err(AppendError::DiskFull { .. }) => assert!(self.full || self.dying),
                Err(AppendError::Sequence(
                    SequenceError::OutOfOrder { .. } | SequenceError::UnknownProducer { .. },
                )) => {
                    let (id, _) = sent.producer.expect("only producers have sequences");
                    let fine = self.full || (self.truncated && self.forget_producer(id));
                    assert!(fine || self.dying, "only a failure before makes a gap");
                }
                Err(_) if self.dying => self.pending.push_back(sent),
                Err(error) => panic!("{error}"),
            }
        }
        if !self.dying {
            self.retry_one();
        }
    }

    /// Takes a batch that is in the log into the model.
    pub(super) fn accept(&mut self, sent: Pending) {
        let base_offset = self.truth.append(&sent.records);
        if let Some((id, sequence)) = sent.producer {
            let (end, bytes) = (self.truth.end, sent.bytes);
            let acked = Acked { sequence, base_offset, end, bytes };
            self.truth.acked.entry(id).or_default().push(acked);
        }
    }

    /// A retry of a batch that is still in the window is answered with its first offset.
    pub(super) fn retry_one(&mut self) {
        let id = self.ids[self.random.usize(0..PRODUCERS)];
        let back = self.random.usize(0..5);
        let of_producer = self.truth.acked.get(&id).map_or(&[][..], Vec::as_slice);
        let Some(acked) = of_producer.iter().rev().nth(back).cloned() else { return };
        if self.truncated && self.forget_producer(id) {
            // Sequence 0 would be taken as a new producer's.
            return;
        }
        let appended = match append_windowed(&self.log, &acked.bytes, WINDOW) {
            // Known to be a duplicate, though not of what.
            Err(AppendError::Sequence(SequenceError::Duplicate { .. })) if back > 0 => {
                return assert!(self.went_back, "a window is forgotten without a reason");
            }
            result => result.unwrap(),
        };
        assert!(appended.duplicate, "{acked:?}");
        assert_eq!(appended.base_offset.0, acked.base_offset);
        assert_eq!(appended.last_offset.0, acked.end - 1);
    }

    /// Truncated to before its snapshots, with its batches deleted by retention before, a producer
    /// is unknown, or known from long ago, and goes on under a new id.
    fn forget_producer(&mut self, id: i64) -> bool {
        let acked = self.truth.acked.get(&id).map_or(&[][..], Vec::as_slice);
        let gone = acked.iter().all(|acked| acked.end <= self.truth.start);
        let new = self.ids.iter().max().map_or(0, |id| id + 1);
        if let Some(slot) = self.ids.iter_mut().find(|slot| **slot == id && gone) {
            *slot = new;
        }
        gone
    }

    fn next_sequence(&self, id: i64) -> i32 {
        let last = self.truth.acked.get(&id).and_then(|acked| acked.last());
        last.map_or(0, |a| a.sequence + (a.end - a.base_offset) as i32)
    }

    fn next_records(&mut self) -> Vec<Record> {
        let keyed = self.world.config.log.cleanup_policy.compact;
        let count = self.random.usize(1..8);
        let record = |_| {
            self.written += 1;
            let random = &mut self.random;
            let key = (keyed || random.bool()).then(|| format!("key-{}", random.u8(0..KEYS)));
            let len = if random.u8(0..20) == 0 { 6000 } else { random.usize(0..200) };
            let value = format!("{}-{}", self.written, "z".repeat(len));
            let tombstone = key.is_some() && random.u8(0..8) == 0;
            let value = (!tombstone).then(|| value.into_bytes());
            Record { key: key.map(String::into_bytes), value }
        };
        (0..count).map(record).collect()
    }

    fn encode(&mut self, records: &[Record], producer: Option<(i64, i32)>) -> Bytes {
        let mut builder = BatchBuilder::new(1 << 16);
        for record in records {
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            builder.append(self.world.clock.now_ms(), key, value, &[]).unwrap();
        }
        let stamp = producer.map_or(ProducerStamp::NONE, |(id, base_sequence)| ProducerStamp {
            id,
            epoch: 0,
            base_sequence,
        });
        // The cheap ones mostly: a test of the log, not of codecs.
        let codec = match self.random.u8(0..16) {
            0 | 1 => Compression::Snappy,
            2 => Compression::Lz4,
            3 => Compression::Gzip,
            _ => return builder.finish(stamp),
        };
        builder.finish_compressed(&mut Compressor::new(codec, None).unwrap(), stamp)
    }

    /// The bytes in chunks, as a network brings them.
    fn split(&mut self, bytes: &Bytes) -> Vec<Bytes> {
        let mut rest = bytes.clone();
        let mut chunks = Vec::new();
        while !rest.is_empty() {
            let len = self.random.usize(1..=rest.len());
            chunks.push(rest.split_to(len));
        }
        chunks
    }

    fn read(&mut self) {
        let offset = self.random.i64(self.truth.start..=self.truth.end);
        let limits = ReadLimits {
            max_bytes: self.random.usize(0..30_000),
            upto: Offset(self.random.i64(offset..=self.truth.end)),
            first_batch_whole: self.random.bool(),
        };
        self.disk.set_faults(|faults| faults.cold = true);
        let cold = self.log.read(Cursor::at(Offset(offset)), limits, Wait::Never);
        self.disk.set_faults(|faults| faults.cold = false);
        assert!(matches!(cold, Err(ReadError::WouldBlock)) || cold.unwrap().is_empty());
        let wait = if self.random.bool() { Wait::Never } else { Wait::Allowed };
        let slice = match self.log.read(Cursor::at(Offset(offset)), limits, wait) {
            // A file that is closed is not opened without waiting.
            Err(ReadError::WouldBlock) if self.world.config.open_files < 10 => {
                self.log.read(Cursor::at(Offset(offset)), limits, Wait::Allowed)
            }
            read => read,
        };
        let slice = slice.unwrap();
        let mut next = None;
        for batch in Batches::new(slice.bytes()) {
            let batch = batch.unwrap();
            if let Some(next) = next {
                assert_eq!(batch.header().base_offset, next);
            } else {
                assert!(batch.header().base_offset.0 <= offset);
                assert!(slice.len() <= limits.max_bytes || slice.len() == batch.bytes().len());
            }
            next = Some(batch.header().next_offset());
            assert!(batch.header().next_offset() <= limits.upto);
        }
        let next = next.unwrap_or(Offset(offset));
        assert_eq!(slice.next_offset(), next);
        let records = records_of(slice.bytes(), offset);
        assert!(records.into_iter().eq(self.truth.between(offset, next.0)), "{offset}..{next}");
        if self.random.bool() {
            self.slices.push(slice);
        }
    }

    fn flush(&mut self) {
        if self.random.bool() {
            assert_eq!(self.log.flush().unwrap().0, self.truth.end);
        } else {
            let (sender, receiver) = std::sync::mpsc::channel();
            let done = Box::new(move |result| sender.send(result).unwrap());
            self.log.flush_to(self.log.log_end(), done);
            self.run_due();
            receiver.try_recv().expect("called by now").unwrap();
        }
        self.truth.flushed = self.truth.end;
    }

    /// What the background threads would do. Compaction may be among it.
    pub(super) fn run_due(&mut self) {
        self.set.as_ref().unwrap().run_due();
        if self.dying {
            return;
        }
        self.follow_start();
        self.follow_compaction(self.log.flushed().min(self.log.high_watermark()).0);
    }

    /// Lets time pass and the background work happen.
    fn background(&mut self) {
        self.world.clock.advance(Duration::from_millis(self.random.u64(1..10_000)));
        let upto = self.random.i64(self.truth.start..=self.truth.end);
        self.log.set_high_watermark(Offset(upto));
        self.run_due();
    }

    /// Retention moves the start to a batch boundary, at most to the high watermark.
    fn follow_start(&mut self) {
        let start = self.log.log_start().0;
        assert!(self.truth.start <= start && start <= self.log.high_watermark().0);
        self.truth.start = start;
        self.truth.flushed = self.truth.flushed.max(start);
    }

    fn follow_compaction(&mut self, clean_end: i64) {
        if self.world.config.log.cleanup_policy.compact {
            let read = read_records(&self.log, Offset(self.truth.start));
            let before = self.truth.gone.len();
            self.truth.settle_compaction(&read, clean_end, self.world.clock.now_ms());
            self.went_back |= self.truth.gone.len() > before;
        }
    }

    fn retain(&mut self) {
        self.log.set_high_watermark(self.log.log_end());
        self.world.clock.advance(Duration::from_millis(self.random.u64(0..80_000)));
        if self.log.apply_retention().is_err() {
            assert!(self.full);
        }
        self.follow_start();
        let config = &self.world.config.log;
        if let Some(keep) = config.retention_bytes.filter(|_| config.cleanup_policy.delete) {
            let slack = u64::from(self.world.config.log.segment_bytes) + 50_000;
            assert!(self.log.size() <= keep + slack);
        }
    }

    fn compact(&mut self) {
        if !self.world.config.log.cleanup_policy.compact {
            assert!(self.log.compact().is_err());
            return;
        }
        let upto = self.random.i64(self.truth.start..=self.truth.end);
        self.log.set_high_watermark(Offset(upto));
        let report = self.log.compact().unwrap();
        self.truth.flushed = self.truth.flushed.max(report.clean_end.0.min(self.truth.end));
        self.follow_compaction(report.clean_end.0);
        self.truth.check_clean(report.clean_end.0);
    }

    fn delete_records(&mut self) {
        let upto = self.random.i64(self.truth.start..=self.truth.end);
        self.log.set_high_watermark(self.log.log_end());
        let result = self.log.delete_records(DeleteUpTo::Offset(Offset(upto)));
        if !self.world.config.log.cleanup_policy.delete {
            return assert!(result.is_err());
        }
        assert_eq!(result.unwrap().0, upto);
        self.truth.deleted = upto;
        self.follow_start();
        assert_eq!(self.truth.start, upto);
    }

    fn truncate(&mut self) {
        self.empty_disk();
        if self.random.bool() {
            self.slices.clear();
        }
        let to = self.truncation_point();
        self.note(&format!("  to {to}, {} slices are held", self.slices.len()));
        let end = self.log.truncate_to(Offset(to)).unwrap().0;
        assert!(end <= to && self.truth.may_end(end, self.truth.cut_of(to)), "{to} {end}");
        self.went_back |= end < self.truth.end;
        self.truncated |= end < self.truth.end;
        self.truth.cut(end);
    }

    /// What was compacted was committed, and nobody truncates what is committed.
    pub(super) fn truncation_point(&mut self) -> i64 {
        let least = self.truth.start.max(self.truth.clean);
        self.random.i64(least..=self.truth.end)
    }

    fn fill_disk(&mut self) {
        self.full = true;
        let room = self.random.usize(0..20_000);
        let used = self.log.size() as usize;
        self.disk.set_faults(|faults| faults.capacity = Some(used + room));
        for _ in 0..3 {
            self.append();
        }
        // There is space again: producing goes on without a restart.
        self.empty_disk();
        self.append();
    }

    pub(super) fn empty_disk(&mut self) {
        self.disk.set_faults(|faults| faults.capacity = None);
        self.full = false;
    }

    fn look_up_time(&mut self) {
        let back = self.random.i64(0..60_000);
        let time = self.world.clock.now_ms() - back;
        let found = self.log.offset_for_time(time, self.log.log_end()).unwrap();
        let mut times = Vec::new();
        read_slices(&self.log, self.log.log_start(), |bytes, from| {
            each_record(bytes, from, |offset, timestamp, _| times.push((offset, timestamp)));
        });
        let expected = times.iter().find(|(_, timestamp)| *timestamp >= time);
        assert_eq!(found.map(|f| (f.offset.0, f.timestamp)), expected.copied());
    }

    fn check(&self) {
        let log = &self.log;
        assert_eq!((log.log_start().0, log.log_end().0), (self.truth.start, self.truth.end));
        assert!(log.log_start() <= log.high_watermark() && log.high_watermark() <= log.log_end());
        assert!(self.truth.flushed <= log.flushed().0 && log.flushed() <= log.log_end());
        assert!(log.damaged().is_empty());
    }

    /// Everything, record by record.
    pub(super) fn check_all(&mut self) {
        self.check();
        let read = read_records(&self.log, Offset(self.truth.start));
        assert_eq!(read, self.truth.expected(self.truth.start));
        for _ in 0..PRODUCERS {
            self.retry_one();
        }
    }

    /// Opens the log set anew, whatever state the disk is in.
    pub(super) fn open(&mut self) -> StartReport {
        self.set = None;
        let (set, report) = self.world.open();
        self.log = set.create(&partition(), topic_id(), self.world.config.log.clone()).unwrap();
        self.set = Some(set);
        assert!(report.failed.is_empty() && report.damaged.is_empty(), "{report:?}");
        let files = self.disk.list(&self.log.folder()).unwrap();
        let odd =
            files.iter().find(|file| file.name.ends_with(".swap") || file.name.ends_with(".tmp"));
        assert!(odd.is_none(), "left behind: {odd:?}");
        report
    }
}

/// All records from an offset to the log end.
pub(super) fn read_records(log: &Log, from: Offset) -> Records {
    let mut records = Vec::new();
    read_slices(log, from, |bytes, from| records.extend(records_of(bytes, from)));
    records
}

fn read_slices(log: &Log, from: Offset, mut each: impl FnMut(&[u8], i64)) {
    let mut cursor = Cursor::at(from);
    loop {
        let limits = ReadLimits { max_bytes: 5000, upto: log.log_end(), first_batch_whole: true };
        let slice = log.read(cursor, limits, Wait::Allowed).unwrap();
        if slice.is_empty() {
            return assert_eq!(cursor.offset(), log.log_end(), "the read ends early");
        }
        each(slice.bytes(), cursor.offset().0);
        assert!(slice.next_offset() > cursor.offset());
        cursor = slice.next();
    }
}

fn records_of(bytes: &[u8], from: i64) -> Records {
    let mut records = Vec::new();
    each_record(bytes, from, |offset, _, record| records.push((offset, record)));
    records
}

fn each_record(bytes: &[u8], from: i64, mut each: impl FnMut(i64, i64, Record)) {
    let mut decoder = BatchDecoder::new(1 << 20);
    for batch in Batches::new(bytes) {
        for record in decoder.records(&batch.unwrap()).unwrap() {
            let record = record.unwrap();
            if record.offset.0 >= from {
                let (key, value) =
                    (record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec));
                each(record.offset.0, record.timestamp, Record { key, value });
            }
        }
    }
}
