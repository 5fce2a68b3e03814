//! What a start says about what its logs lost.

use super::*;
use crate::storage::disk::faulty::FaultyDisk;

const DIR: &str = "/logs";
const RECORDS: usize = 20;

/// Something done to the bytes of a segment.
type Corruption = fn(&mut Vec<u8>);

struct Stopped {
    disk: FaultyDisk,
    world: World,
}

/// How the process ended.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Clean,
    Killed,
    PowerCut,
}

/// A log of one segment, half of it below the recovery point, whose broker has stopped.
fn stopped(flush: FlushPolicy, end: End) -> Stopped {
    let disk = FaultyDisk::new(Path::new(DIR));
    let mut world = World::new(Arc::new(disk.clone()), Path::new(DIR));
    world.config.log.flush = flush;
    world.config.log.index_interval_bytes = 100;
    let (set, log) = world.open_log();
    assert_eq!(log.opening().loss(flush), Some(Loss::NoLog), "it is new");
    for i in 0..RECORDS {
        append(&log, &batch(&[&format!("value {i}")])).unwrap();
        if i == RECORDS / 2 || flush == FlushPolicy::BeforeAck {
            log.flush().unwrap();
        }
        if i == RECORDS / 2 {
            set.checkpoint();
        }
    }
    match end {
        End::Clean => set.close(),
        End::Killed => disk.kill(),
        End::PowerCut => disk.power_cut(&mut fastrand::Rng::with_seed(5)),
    }
    Stopped { disk, world }
}

impl Stopped {
    fn change(self, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        self.disk.damage(&Path::new(DIR).join("logs-0/00000000000000000000.log"), change);
        self
    }

    fn open(&self) -> Opening {
        let (set, _) = self.world.open();
        set.get(&partition()).unwrap().opening()
    }

    fn loss(&self) -> Option<Loss> {
        self.cut_and_loss().1
    }

    /// Of one start: the next one finds a log that was put right.
    fn cut_and_loss(&self) -> (Cut, Option<Loss>) {
        let opening = self.open();
        (opening.cut, opening.loss(self.world.config.log.flush))
    }
}

/// Where a batch begins in the bytes of the segment.
fn at(bytes: &[u8], number: usize) -> usize {
    Batches::new(bytes).take(number).map(|b| b.unwrap().header().size_in_bytes()).sum()
}

#[test]
fn a_clean_stop_and_a_mere_kill_lose_nothing_whatever_the_policy() {
    for flush in [FlushPolicy::Os, FlushPolicy::Interval, FlushPolicy::BeforeAck] {
        assert_eq!(stopped(flush, End::Clean).loss(), None);
        assert_eq!(stopped(flush, End::Killed).loss(), None);
        // The machine started anew in between: all was flushed by then.
        let clean = stopped(flush, End::Clean);
        clean.disk.power_cut(&mut fastrand::Rng::with_seed(1));
        assert_eq!(clean.loss(), None);
    }
}

#[test]
fn a_power_cut_loses_what_is_not_flushed_before_it_is_acknowledged() {
    assert_eq!(stopped(FlushPolicy::Os, End::PowerCut).loss(), Some(Loss::Unsynced));
    assert_eq!(stopped(FlushPolicy::Interval, End::PowerCut).loss(), Some(Loss::Unsynced));
    assert_eq!(stopped(FlushPolicy::BeforeAck, End::PowerCut).loss(), None);
    // The front of an append that was not acknowledged, with pages of zeros in it.
    let torn = stopped(FlushPolicy::BeforeAck, End::PowerCut).change(|bytes| {
        let next = batch(&[&"n".repeat(3_000)]);
        bytes.extend_from_slice(&next[..200]);
        bytes.extend_from_slice(&[0; 1_500]);
    });
    assert_eq!(torn.cut_and_loss(), (Cut::Unfinished, None));
}

#[test]
fn an_append_that_a_kill_interrupted_is_no_loss() {
    for len in [1, 60, 61, 100, 3_000] {
        let torn = stopped(FlushPolicy::Os, End::Killed).change(|bytes| {
            let next = batch(&[&"n".repeat(3_000)]);
            let mut header = proto::record::BatchHeader::parse(&next).unwrap();
            header.base_offset = Offset(RECORDS as i64);
            bytes.extend_from_slice(&[&header.encode()[..], &next[61..]].concat()[..len]);
        });
        assert_eq!(torn.cut_and_loss(), (Cut::Unfinished, None), "{len}");
    }
}

#[test]
fn bytes_that_were_a_batch_are_a_loss() {
    let corruptions: [(&str, Corruption); 7] = [
        ("a value of the last batch", |bytes| *bytes.last_mut().unwrap() ^= 1),
        ("the last batch's length", |bytes| {
            let from = at(bytes, RECORDS - 1);
            bytes[from + 10] ^= 0x40;
        }),
        ("the length of the one before", |bytes| {
            let from = at(bytes, RECORDS - 2);
            bytes[from + 9] ^= 1;
        }),
        ("the last batch's offset", |bytes| {
            let from = at(bytes, RECORDS - 1);
            bytes[from + 7] ^= 1;
        }),
        ("a batch in the middle of what was not flushed", |bytes| {
            let from = at(bytes, RECORDS - 5);
            bytes[from + 40..from + 64].fill(0);
        }),
        ("the front of a batch that does not follow", |bytes| {
            let mut header = proto::record::BatchHeader::parse(&bytes[at(bytes, 1)..]).unwrap();
            header.base_offset = Offset(RECORDS as i64 + 1);
            bytes.extend_from_slice(&header.encode());
        }),
        ("something that never was one", |bytes| bytes.extend_from_slice(&[7; 300])),
    ];
    for (what, corrupt) in corruptions {
        let damaged = stopped(FlushPolicy::Os, End::Killed).change(corrupt);
        assert_eq!(damaged.cut_and_loss(), (Cut::Records, Some(Loss::Cut)), "{what}");
    }
}

#[test]
fn what_was_flushed_and_is_not_there_is_damage_that_can_be_cut_and_filled_anew() {
    let damaged = stopped(FlushPolicy::Os, End::Killed).change(|bytes| {
        let from = at(bytes, 3);
        bytes[from + 65] ^= 1;
    });
    let (set, _) = damaged.world.open();
    let log = set.get(&partition()).unwrap();
    assert_eq!(log.opening().loss(FlushPolicy::Os), Some(Loss::Damaged(Offset(3))));
    assert_eq!(log.cut_damage().unwrap(), Some(Offset(3)));
    assert_eq!((log.log_end(), log.cut_damage().unwrap()), (Offset(3), None));
    append(&log, &batch(&["fetched anew"])).unwrap();
    assert_eq!(read_all(&log, Offset(0)).unwrap().len(), 4);
}

#[test]
fn a_missing_tail_or_segment_is_a_loss_of_what_was_in_it() {
    let short = stopped(FlushPolicy::Os, End::Killed).change(|bytes| {
        let from = at(bytes, 5);
        bytes.truncate(from);
    });
    assert_eq!(short.loss(), Some(Loss::Damaged(Offset(5))));
    let gone = stopped(FlushPolicy::Os, End::Killed);
    gone.disk.remove_file(&Path::new(DIR).join("logs-0/00000000000000000000.log")).unwrap();
    assert_eq!(gone.loss(), Some(Loss::NoLog));
}

#[test]
fn a_loss_is_known_until_it_was_told() {
    let stopped = stopped(FlushPolicy::Os, End::PowerCut);
    let loss = |set: &LogSet| {
        let opening = set.get(&partition()).unwrap().opening();
        opening.loss(stopped.world.config.log.flush)
    };
    let (set, _) = stopped.world.open();
    assert_eq!(loss(&set), Some(Loss::Unsynced));
    stopped.disk.kill();
    drop(set);
    let (set, _) = stopped.world.open();
    assert_eq!(loss(&set), Some(Loss::Untold), "the machine was not started anew since");
    set.close();
    drop(set);
    let (set, _) = stopped.world.open();
    assert_eq!(loss(&set), Some(Loss::Untold), "a clean stop tells nobody");
    set.losses_told();
    stopped.disk.kill();
    drop(set);
    let (set, _) = stopped.world.open();
    assert_eq!(loss(&set), None);
}

#[test]
fn of_several_damaged_places_the_first_is_where_the_log_is_cut() {
    let damaged = stopped(FlushPolicy::Os, End::Killed).change(|bytes| {
        for number in [7, 3] {
            let from = at(bytes, number);
            bytes[from + 65] ^= 1;
        }
    });
    let (set, _) = damaged.world.open();
    let log = set.get(&partition()).unwrap();
    assert_eq!(log.damaged().len(), 2);
    assert_eq!(log.cut_damage().unwrap(), Some(Offset(3)));
}

#[test]
fn a_clean_stop_whose_checkpoint_is_gone_is_read_as_after_a_crash() {
    let stopped = stopped(FlushPolicy::Os, End::Clean);
    stopped.disk.remove_file(&Path::new(DIR).join("positions-checkpoint")).unwrap();
    let (set, report) = stopped.world.open();
    assert!(!report.clean && report.scanned_bytes > 0);
    assert_eq!(read_all(&set.get(&partition()).unwrap(), Offset(0)).unwrap().len(), RECORDS);
}
