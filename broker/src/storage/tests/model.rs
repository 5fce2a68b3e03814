//! A log under random operations and crashes against a simple model in memory.
//!
//! Each seed is one life story: appends (with and without producer ids, retries included), reads,
//! flushes, rolls, truncations, retention, a full disk, failing syncs, clean restarts, kills, power
//! cuts. A seed that fails is printed; put it into `REGRESSIONS`.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::storage::disk::faulty::FaultyDisk;

const SEEDS: u64 = 250;
const STEPS: usize = 60;
/// Seeds that once found a fault.
const REGRESSIONS: &[u64] = &[372, 641, 1623];
const PRODUCER: i64 = 42;
const WINDOW: u16 = 8;

#[test]
fn the_log_is_what_the_model_says() {
    let run = |seed| {
        if let Err(panic) = std::panic::catch_unwind(|| Story::new(seed).run()) {
            eprintln!("the model test failed with seed {seed}");
            std::panic::resume_unwind(panic);
        }
    };
    if let Some(seed) = std::env::var("OTTLA_MODEL_SEED").ok().and_then(|text| text.parse().ok()) {
        return run(seed);
    }
    let seeds = std::env::var("OTTLA_MODEL_SEEDS").ok().and_then(|text| text.parse().ok());
    REGRESSIONS.iter().copied().chain(0..seeds.unwrap_or(SEEDS)).for_each(run);
}

/// A batch the idempotent producer got acknowledged.
#[derive(Debug, Clone)]
struct Acked {
    sequence: i32,
    base_offset: i64,
    end: i64,
    bytes: Bytes,
}

/// What the log should hold.
///
/// `start <= flushed <= end`; `history` also has records that retention deleted, since a power cut
/// may bring them back.
#[derive(Default)]
struct Model {
    history: BTreeMap<i64, Vec<u8>>,
    start: i64,
    end: i64,
    flushed: i64,
    acked: Vec<Acked>,
}

impl Model {
    fn expected(&self, from: i64) -> Vec<(i64, Vec<u8>)> {
        self.history.range(from..self.end).map(|(&offset, v)| (offset, v.clone())).collect()
    }

    fn cut(&mut self, end: i64) {
        self.history.split_off(&end);
        self.end = end;
        self.flushed = self.flushed.min(end);
        self.acked.retain(|acked| acked.end <= end);
    }
}

struct Story {
    random: fastrand::Rng,
    disk: FaultyDisk,
    world: World,
    set: Option<LogSet>,
    log: Arc<Log>,
    model: Model,
    written: u64,
    /// Slices some slow reader still holds.
    slices: Vec<ReadSlice>,
    full: bool,
    /// The log ended earlier once: window files of that place may be gone.
    went_back: bool,
    truncated: bool,
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let dir = Path::new("/data");
        let disk = FaultyDisk::new(dir);
        let mut world = World::new(Arc::new(disk.clone()), dir);
        world.config.log = LogConfig {
            segment_bytes: random.u32(2_000..40_000),
            index_interval_bytes: random.u32(0..3000),
            retention_ms: Some(60_000),
            retention_bytes: random.bool().then_some(60_000),
            flush: random
                .choice([FlushPolicy::Os, FlushPolicy::Interval, FlushPolicy::BeforeAck])
                .unwrap(),
            flush_messages: random.u64(1..100),
            segment_ms: random.u64(1..40_000),
            ..LogConfig::default()
        };
        // Some stories with hardly a file open between two calls.
        world.config.open_files = [1, 4, 4096][(seed % 3) as usize];
        let (set, log) = world.open_log();
        let model = Model::default();
        let slices = Vec::new();
        Self {
            random,
            disk,
            world,
            set: Some(set),
            log,
            model,
            written: 0,
            slices,
            full: false,
            went_back: false,
            truncated: false,
        }
    }

    fn run(mut self) {
        for _ in 0..STEPS {
            let step = self.random.u8(0..100);
            if std::env::var_os("OTTLA_MODEL_TRACE").is_some() {
                eprintln!(
                    "{step} {:?} {:?}",
                    self.log,
                    self.disk.list(&self.log.folder()).map(|l| l
                        .into_iter()
                        .filter(|e| !e.name.contains("index"))
                        .map(|e| (e.name, e.len))
                        .collect::<Vec<_>>())
                );
            }
            match step {
                0..40 => self.append(),
                40..55 => self.read(),
                55..62 => self.flush(),
                62..67 => self.background(),
                67..71 => self.log.roll().map_or((), |()| {}),
                71..75 => self.truncate(),
                75..79 => self.retain(),
                79..82 => self.fill_disk(),
                82..84 => self.fail_a_sync(),
                84..89 => self.look_up_time(),
                89..92 => self.restart(),
                92..95 => self.kill(),
                _ => self.power_cut(),
            }
            self.check();
        }
        self.restart();
        self.check_all();
    }

    fn append(&mut self) {
        let count = self.random.usize(1..6);
        let batches: Vec<_> = (0..count).map(|_| self.next_batch()).collect();
        let mut sequence = self.next_sequence();
        let mut sent = Vec::new();
        for values in &batches {
            let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
            let idempotent = self.random.bool();
            let stamp = match idempotent {
                true => ProducerStamp { id: PRODUCER, epoch: 0, base_sequence: sequence },
                false => ProducerStamp::NONE,
            };
            let bytes = batch_of(&values, self.world.clock.now_ms(), stamp);
            sent.push((idempotent.then_some(sequence), bytes, values.len()));
            if idempotent {
                sequence += values.len() as i32;
            }
        }
        let chunks: Vec<_> = sent.iter().map(|sent| self.split(&sent.1)).collect();
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
        for (((sequence, bytes, _), values), result) in sent.iter().zip(&batches).zip(results) {
            match result {
                Ok(appended) => {
                    assert!(!appended.duplicate);
                    assert_eq!(appended.base_offset.0, self.model.end);
                    self.accept(*sequence, bytes, values);
                }
                Err(AppendError::DiskFull { .. }) => assert!(self.full),
                Err(AppendError::Sequence(
                    SequenceError::OutOfOrder { .. } | SequenceError::UnknownProducer { .. },
                )) => {
                    let fine = self.full || (self.truncated && self.forget_producer());
                    assert!(fine, "only a failure before makes a gap");
                }
                Err(error) => panic!("{error}"),
            }
        }
        self.retry_one();
    }

    /// A retry of a batch that is still in the window is answered with its first offset.
    fn retry_one(&mut self) {
        let recent = self.model.acked.iter().rev().take(5).collect::<Vec<_>>();
        let back = self.random.usize(0..5);
        let Some(acked) = recent.get(back) else { return };
        let appended = match append_windowed(&self.log, &acked.bytes, WINDOW) {
            // Known to be a duplicate, though not of what.
            Err(AppendError::Sequence(SequenceError::Duplicate { .. })) if back > 0 => {
                return assert!(self.went_back, "a window is forgotten without a reason");
            }
            Err(AppendError::Sequence(SequenceError::UnknownProducer { .. })) if self.truncated => {
                assert!(self.forget_producer());
                return;
            }
            result => result.unwrap(),
        };
        assert!(appended.duplicate, "{acked:?}");
        assert_eq!(appended.base_offset.0, acked.base_offset);
        assert_eq!(appended.last_offset.0, acked.end - 1);
    }

    /// Truncated to before its snapshots, with its batches deleted by retention before, a producer
    /// is unknown and begins anew.
    fn forget_producer(&mut self) -> bool {
        let gone = self.model.acked.iter().all(|acked| acked.end <= self.model.start);
        if gone {
            self.model.acked.clear();
        }
        gone
    }

    fn next_sequence(&self) -> i32 {
        self.model.acked.last().map_or(0, |a| a.sequence + (a.end - a.base_offset) as i32)
    }

    fn next_batch(&mut self) -> Vec<Vec<u8>> {
        let records = self.random.usize(1..8);
        (0..records)
            .map(|_| {
                self.written += 1;
                let len = if self.random.u8(0..20) == 0 { 6000 } else { self.random.usize(0..200) };
                format!("{}-{}", self.written, "z".repeat(len)).into_bytes()
            })
            .collect()
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

    fn accept(&mut self, sequence: Option<i32>, bytes: &Bytes, values: &[Vec<u8>]) {
        let base_offset = self.model.end;
        for value in values {
            self.model.history.insert(self.model.end, value.clone());
            self.model.end += 1;
        }
        if let Some(sequence) = sequence {
            let (end, bytes) = (self.model.end, bytes.clone());
            self.model.acked.push(Acked { sequence, base_offset, end, bytes });
        }
    }

    fn read(&mut self) {
        let offset = self.random.i64(self.model.start..=self.model.end);
        let limits = ReadLimits {
            max_bytes: self.random.usize(0..30_000),
            upto: Offset(self.random.i64(offset..=self.model.end)),
            first_batch_whole: self.random.bool(),
        };
        self.disk.set_faults(|faults| faults.cold = true);
        let cold = self.log.read(Cursor::at(Offset(offset)), limits, Wait::Never);
        self.disk.set_faults(|faults| faults.cold = false);
        assert!(matches!(cold, Err(ReadError::WouldBlock)) || cold.unwrap().is_empty());
        let read = |wait| self.log.read(Cursor::at(Offset(offset)), limits, wait);
        let closed = self.world.config.open_files < 10;
        let slice = match read(Wait::Never) {
            Err(ReadError::WouldBlock) if closed => read(Wait::Allowed),
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
            for record in batch.records() {
                let record = record.unwrap();
                assert_eq!(self.model.history[&record.offset.0], record.value.unwrap());
            }
        }
        assert_eq!(slice.next_offset(), next.unwrap_or(Offset(offset)));
        if self.random.bool() {
            self.slices.push(slice);
        }
    }

    fn flush(&mut self) {
        if self.random.bool() {
            assert_eq!(self.log.flush().unwrap().0, self.model.end);
        } else {
            let (sender, receiver) = std::sync::mpsc::channel();
            let done = Box::new(move |result| sender.send(result).unwrap());
            self.log.flush_to(self.log.log_end(), done);
            self.set.as_ref().unwrap().run_due();
            receiver.try_recv().expect("called by now").unwrap();
            self.follow_start();
        }
        self.model.flushed = self.model.end;
    }

    /// Lets time pass and the background work happen.
    fn background(&mut self) {
        self.world.clock.advance(Duration::from_millis(self.random.u64(1..10_000)));
        let upto = self.random.i64(self.model.start..=self.model.end);
        self.log.set_high_watermark(Offset(upto));
        self.set.as_ref().unwrap().run_due();
        self.follow_start();
    }

    /// Retention moves the start to a batch boundary, at most to the high watermark.
    fn follow_start(&mut self) {
        let start = self.log.log_start().0;
        assert!(self.model.start <= start && start <= self.log.high_watermark().0);
        self.model.start = start;
        self.model.flushed = self.model.flushed.max(start);
    }

    fn retain(&mut self) {
        self.log.set_high_watermark(self.log.log_end());
        self.world.clock.advance(Duration::from_millis(self.random.u64(0..80_000)));
        if self.log.apply_retention().is_err() {
            assert!(self.full);
        }
        self.follow_start();
        let keep = self.world.config.log.retention_bytes;
        if let Some(keep) = keep {
            let slack = u64::from(self.world.config.log.segment_bytes) + 50_000;
            assert!(self.log.size() <= keep + slack);
        }
    }

    fn truncate(&mut self) {
        self.empty_disk();
        if self.random.bool() {
            self.slices.clear();
        }
        let to = self.random.i64(self.model.start..=self.model.end);
        let end = self.log.truncate_to(Offset(to)).unwrap().0;
        assert!(end <= to || to == self.model.end);
        self.went_back |= end < self.model.end;
        self.truncated |= end < self.model.end;
        self.went_back |= end < self.model.end;
        self.model.cut(end);
        self.model.start = self.model.start.min(end);
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

    fn empty_disk(&mut self) {
        self.disk.set_faults(|faults| faults.capacity = None);
        self.full = false;
    }

    /// A failed sync takes the log offline; opened anew, it has what is really there.
    fn fail_a_sync(&mut self) {
        if self.log.flushed() == self.log.log_end() {
            return;
        }
        self.slices.clear();
        self.disk.set_faults(|faults| faults.failing_syncs = Some((".log".into(), 1)));
        let error = self.log.flush().unwrap_err();
        assert!(self.log.offline().is_some(), "{error}");
        assert!(append(&self.log, &batch(&["x"])).is_err());
        self.disk.set_faults(|faults| faults.failing_syncs = None);
        let flushed = self.log.flushed().0;
        self.log = self.set.as_ref().unwrap().reopen(&partition()).unwrap();
        self.settle(flushed);
    }

    fn look_up_time(&mut self) {
        let back = self.random.i64(0..60_000);
        let time = self.world.clock.now_ms() - back;
        let found = self.log.offset_for_time(time, self.log.log_end()).unwrap();
        let records = read_times(&self.log);
        let expected = records.iter().find(|(_, timestamp)| *timestamp >= time);
        assert_eq!(found.map(|f| (f.offset.0, f.timestamp)), expected.copied());
    }

    fn restart(&mut self) {
        self.empty_disk();
        self.slices.clear();
        self.set.take().unwrap().close();
        let report = self.open();
        assert!(report.clean && report.scanned_bytes == 0, "{report:?}");
        self.model.flushed = self.model.end;
        self.check_all();
    }

    fn kill(&mut self) {
        self.maybe_checkpoint();
        self.disk.kill();
        self.slices.clear();
        let report = self.open();
        assert!(!report.unsynced_lost && report.damaged.is_empty() && report.cut_bytes == 0);
        self.model.flushed = self.model.end;
        self.check_all();
    }

    fn power_cut(&mut self) {
        self.maybe_checkpoint();
        let flushed = self.log.flushed().0;
        assert!(flushed >= self.model.flushed);
        self.disk.power_cut(&mut self.random);
        self.slices.clear();
        let report = self.open();
        assert!(report.unsynced_lost && report.damaged.is_empty(), "{report:?}");
        self.settle(flushed);
    }

    fn maybe_checkpoint(&mut self) {
        if self.random.bool() {
            self.set.as_ref().unwrap().checkpoint();
        }
        self.full = false;
        self.disk.set_faults(|faults| faults.capacity = None);
    }

    /// After a loss: all that was flushed is there, what is there is what was written.
    fn settle(&mut self, flushed: i64) {
        let (start, end) = (self.log.log_start().0, self.log.log_end().0);
        assert!(
            flushed <= end && end <= self.model.end,
            "{flushed} <= {end} <= {}",
            self.model.end
        );
        assert!(start <= self.model.start.max(flushed));
        self.model.start = start;
        self.went_back |= end < self.model.end;
        self.model.cut(end);
        self.model.flushed = end;
        self.check_all();
    }

    fn open(&mut self) -> StartReport {
        self.set = None;
        let (set, report) = self.world.open();
        self.log = set.create(&partition(), topic_id(), self.world.config.log.clone()).unwrap();
        self.set = Some(set);
        assert!(report.failed.is_empty(), "{report:?}");
        report
    }

    fn check(&self) {
        let log = &self.log;
        assert_eq!((log.log_start().0, log.log_end().0), (self.model.start, self.model.end));
        assert!(log.log_start() <= log.high_watermark() && log.high_watermark() <= log.log_end());
        assert!(self.model.flushed <= log.flushed().0 && log.flushed() <= log.log_end());
        assert!(log.damaged().is_empty());
    }

    fn check_all(&mut self) {
        self.check();
        let read = read_all(&self.log, Offset(self.model.start)).unwrap();
        assert_eq!(read, self.model.expected(self.model.start));
        self.retry_one();
    }
}

fn read_times(log: &Log) -> Vec<(i64, i64)> {
    let mut cursor = Cursor::at(log.log_start());
    let mut times = Vec::new();
    loop {
        let limits = ReadLimits { max_bytes: 1, upto: log.log_end(), first_batch_whole: true };
        let slice = log.read(cursor, limits, Wait::Allowed).unwrap();
        if slice.is_empty() {
            return times;
        }
        for batch in Batches::new(slice.bytes()) {
            times.extend(
                batch.unwrap().records().map(|r| r.unwrap()).map(|r| (r.offset.0, r.timestamp)),
            );
        }
        cursor = slice.next();
    }
}
