//! Random logs against the plain rule: of every key the newest record stays.

use std::collections::{BTreeMap, HashMap};

use super::*;

const SEEDS: u64 = 25;
const STEPS: usize = 60;
const DELETE_RETENTION_MS: u64 = 20_000;

#[test]
fn a_compacted_log_is_what_the_model_says() {
    let run = |seed| {
        if let Err(panic) = std::panic::catch_unwind(|| Story::new(seed).run()) {
            eprintln!("compaction failed with seed {seed} (OTTLA_COMPACTION_SEED)");
            std::panic::resume_unwind(panic);
        }
    };
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    if let Some(seed) = number("OTTLA_COMPACTION_SEED") {
        return run(seed);
    }
    (0..number("OTTLA_COMPACTION_SEEDS").unwrap_or(SEEDS)).for_each(run);
}

/// A record, and from when on it may go if it is a tombstone that was compacted.
type Known = (Seen, Option<i64>);

struct Story {
    random: fastrand::Rng,
    disk: FaultyDisk,
    world: World,
    set: Option<LogSet>,
    log: Arc<Log>,
    model: BTreeMap<i64, Known>,
    /// The last batch of each producer: bytes, sequence after it, base offset.
    producers: HashMap<i64, (Bytes, i32, i64)>,
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let (disk, world) = compacted(|config| {
            config.log.segment_bytes = random.u32(1_000..20_000);
            config.log.index_interval_bytes = random.u32(0..2000);
            config.log.delete_retention_ms = DELETE_RETENTION_MS;
            config.open_files = random.choice([1, 4, 4096]).unwrap();
            config.cleaner.dedupe_buffer_bytes =
                if random.bool() { 1 << 20 } else { 24 * random.usize(25..60) };
        });
        let (set, log) = world.open_log();
        let (model, producers) = (BTreeMap::new(), HashMap::new());
        Self { random, disk, world, set: Some(set), log, model, producers }
    }

    fn run(mut self) {
        for _ in 0..STEPS {
            match self.random.u8(0..100) {
                0..50 => self.append(),
                50..65 => settle(&self.log),
                65..80 => self.compact(),
                80..88 => {
                    let by = Duration::from_millis(self.random.u64(1..15_000));
                    self.world.clock.advance(by);
                }
                88..94 => self.look(),
                94..97 => self.retry(),
                _ => self.reopen(),
            }
        }
        settle(&self.log);
        self.compact();
        let before = self.log.segments.load().iter().map(|s| s.generation).collect::<Vec<_>>();
        self.compact();
        let after = self.log.segments.load().iter().map(|s| s.generation).collect::<Vec<_>>();
        assert_eq!(before, after, "a second time changes nothing");
        self.reopen();
        self.look();
    }

    fn append(&mut self) {
        let random = &mut self.random;
        let codec = random.choice(Compression::ALL).unwrap();
        let count = random.usize(1..20);
        let mut texts = Vec::new();
        for _ in 0..count {
            let key = (random.u8(0..12) > 0).then(|| format!("key-{}", random.u8(0..30)));
            let value = (random.u8(0..6) > 0).then(|| {
                let len = if random.u8(0..10) == 0 { 500 } else { random.usize(0..40) };
                format!("{}-{}", random.u32(..), "v".repeat(len))
            });
            texts.push((key, value));
        }
        let records: Vec<_> = texts.iter().map(|(k, v)| (k.as_deref(), v.as_deref())).collect();
        let at_ms = self.world.clock.now_ms() - random.i64(0..5000);
        let id = random.i64(1..4);
        let sequence = self.producers.get(&id).map_or(0, |known| known.1);
        let numbered = random.bool();
        let stamp = match numbered {
            true => ProducerStamp { id, epoch: 0, base_sequence: sequence },
            false => ProducerStamp::NONE,
        };
        let bytes = keyed(&records, at_ms, codec, stamp);
        let base = append(&self.log, &bytes).unwrap().base_offset.0;
        if numbered {
            self.producers.insert(id, (bytes, sequence + count as i32, base));
        }
        for (i, (key, value)) in texts.into_iter().enumerate() {
            let offset = base + i as i64;
            let seen = Seen { offset, key, value, timestamp: at_ms + i as i64 };
            self.model.insert(offset, (seen, None));
        }
    }

    fn compact(&mut self) {
        let now_ms = self.world.clock.now_ms();
        let first_dirty = self.log.first_dirty().0;
        let report = self.log.compact().unwrap();
        let end = report.clean_end.0;
        if report.passes == 0 {
            return self.look();
        }
        assert!(end >= first_dirty);
        let mut newest = HashMap::new();
        for (offset, (seen, _)) in self.model.range(..end) {
            newest.insert(seen.key.clone(), *offset);
        }
        self.model.retain(|&offset, (seen, horizon_ms)| {
            if offset >= end {
                return true;
            }
            let ripe = horizon_ms.is_some_and(|horizon| horizon <= now_ms);
            let stays = seen.key.is_some()
                && newest[&seen.key] == offset
                && !(seen.value.is_none() && ripe);
            if stays && seen.value.is_none() && horizon_ms.is_none() {
                *horizon_ms = Some(now_ms + DELETE_RETENTION_MS as i64);
            }
            stays
        });
        assert_eq!(leftovers(&self.log), [""; 0]);
        self.look();
    }

    /// All is there, and any offset leads to the next record.
    fn look(&mut self) {
        let expected: Vec<_> = self.model.values().map(|(seen, _)| seen.clone()).collect();
        let found = see(&self.log, 0);
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected);
        }
        assert_eq!(found.len(), expected.len());
        for _ in 0..5 {
            let from = self.random.i64(0..=self.log.log_end().0);
            let next = self.model.range(from..).next().map(|(&offset, _)| offset);
            assert_eq!(see(&self.log, from).first().map(|seen| seen.offset), next, "from {from}");
        }
        let at_ms = self.world.clock.now_ms() - self.random.i64(0..40_000);
        let segments = self.log.segments.load().len();
        if segments > 0
            && let Some(found) = self.log.offset_for_time(at_ms, self.log.log_end()).unwrap()
        {
            assert!(found.timestamp >= at_ms);
        }
    }

    /// The last batch of a producer, sent again.
    fn retry(&mut self) {
        let ids: Vec<_> = self.producers.keys().copied().collect();
        let Some(id) = self.random.choice(ids) else { return };
        let (bytes, _, base) = &self.producers[&id];
        let again = append(&self.log, bytes).unwrap();
        assert!(again.duplicate && again.base_offset.0 == *base, "{again:?}, was at {base}");
    }

    fn reopen(&mut self) {
        // What is not flushed may be lost by a kill of the machine, not of the process.
        if let Some(set) = self.set.take() {
            match self.random.u8(0..3) {
                0 => set.close(),
                1 => self.disk.kill(),
                _ => {
                    // Snapshots and windows gone: the log alone tells of producers.
                    self.disk.kill();
                    let folder = self.log.folder();
                    for entry in self.disk.list(&folder).unwrap() {
                        if ["window", "snapshot", "index"].iter().any(|e| entry.name.ends_with(e)) {
                            self.disk.remove_file(&folder.join(entry.name)).unwrap();
                        }
                    }
                }
            }
        }
        let (set, log) = self.world.open_log();
        assert_eq!(log.damaged().len(), 0);
        (self.set, self.log) = (Some(set), log);
    }
}
