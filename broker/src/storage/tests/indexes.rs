//! Properties of the small parts: indexes, epochs, producers and their files.

use proptest::prelude::*;

use super::*;
use crate::storage::disk::faulty::FaultyDisk;
use crate::storage::epoch_history::EpochHistory;
use crate::storage::offset_index::{IndexEntry, OffsetIndex};
use crate::storage::open_files::OpenFiles;
use crate::storage::pooled_file::Role;
use crate::storage::producer_state::{ProducerBudget, ProducerState};
use crate::storage::{producer_snapshot, sequence_window};

fn header(id: i64, epoch: i16, sequence: i32, offset: i64) -> proto::record::BatchHeader {
    let stamp = ProducerStamp { id, epoch, base_sequence: sequence };
    let mut header = check_chunks(&[batch_of(&[b"v", b"w"], START_MS, stamp)]).unwrap().remove(0);
    header.base_offset = Offset(offset);
    header
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn the_offset_index_finds_what_a_list_finds(
        steps in prop::collection::vec((1i64..50, 1u64..5000), 0..600),
        cut in 0usize..700,
        asked in prop::collection::vec(0u64..3_000_000, 20),
    ) {
        let files = OpenFiles::new(Arc::new(FaultyDisk::new(Path::new("/d"))), 1);
        let open = |mode| files.file(Path::new("/d/i"), mode, Role::Index).unwrap();
        let file = open(OpenMode::Create);
        let base = Offset(1000);
        let index = OffsetIndex::open(file, base).unwrap();
        let mut list = Vec::new();
        let (mut last_offset, mut position) = (base, 0);
        for (offsets, bytes) in steps {
            last_offset = last_offset.plus(offsets);
            position += bytes;
            list.push(IndexEntry { last_offset, position });
            index.push(IndexEntry { last_offset, position });
        }
        if let Some(at) = list.get(cut).copied() {
            index.truncate_to(at.position).unwrap();
            list.truncate(cut);
        }
        prop_assert!(index.is_in_order().unwrap());
        prop_assert_eq!(index.last().unwrap(), list.last().copied());
        for ask in asked {
            let by_position = list.iter().rev().find(|entry| entry.position <= ask).copied();
            prop_assert_eq!(index.floor_position(ask, Wait::Allowed).unwrap(), by_position);
            let offset = base.plus((ask % 30_000) as i64);
            let by_offset = list.iter().rev().find(|entry| entry.last_offset <= offset).copied();
            prop_assert_eq!(index.floor_offset(offset, Wait::Allowed).unwrap(), by_offset);
        }
        index.sync().unwrap();
        let again = OffsetIndex::open(open(OpenMode::Existing), base).unwrap();
        prop_assert_eq!(again.last().unwrap(), list.last().copied());
    }

    #[test]
    fn damaged_producer_files_are_refused(at in 0usize..2000, flip in 1u8..) {
        let mut state = ProducerState::new(ProducerBudget::new(1 << 20));
        for i in 0..40 {
            state.push(&header(i % 7, 3, (i / 7) as i32 * 2, i * 2), Some(8), START_MS);
        }
        state.commit();
        let mut snapshot = producer_snapshot::encode(&state);
        prop_assert_eq!(producer_snapshot::decode(&snapshot, 0).unwrap().len(), 7);
        let mut window = sequence_window::encode(&state);
        let all = sequence_window::decode(&window).unwrap();
        let expected = state.sorted();
        prop_assert_eq!(all.len(), expected.len());
        for ((id, producer), (expected_id, expected)) in all.iter().zip(expected) {
            prop_assert!(*id == expected_id && producer == expected);
        }
        let (a, b) = (at % snapshot.len(), at % window.len());
        snapshot[a] ^= flip;
        window[b] ^= flip;
        prop_assert!(producer_snapshot::decode(&snapshot, 0).is_none());
        prop_assert!(producer_snapshot::decode(&snapshot[..a], 0).is_none());
        prop_assert!(sequence_window::decode(&window).is_none());
        prop_assert!(sequence_window::decode(&window[..b]).is_none());
    }

    #[test]
    fn epochs_survive_their_file(
        steps in prop::collection::vec((1i32..5, 0i64..100), 0..20),
        cut in 0i64..1000,
    ) {
        let mut history = EpochHistory::default();
        let (mut epoch, mut start) = (-1, 0);
        for (epochs, records) in steps {
            epoch += epochs;
            prop_assert!(history.assign(LeaderEpoch(epoch), Offset(start)));
            prop_assert!(!history.assign(LeaderEpoch(epoch), Offset(start + 5)));
            start += records;
        }
        let again = EpochHistory::decode(&history.encode());
        prop_assert_eq!(again.as_ref(), Some(&history));
        history.cut_end(Offset(cut));
        history.cut_start(Offset(cut / 2));
        let again = EpochHistory::decode(&history.encode());
        prop_assert_eq!(again, Some(history.clone()));
        if let Some((known, end)) = history.end_of(LeaderEpoch(epoch), Offset(cut)) {
            prop_assert!(known <= LeaderEpoch(epoch) && end <= Offset(cut.max(cut / 2)));
        }
    }
}

#[test]
fn a_snapshot_has_kafkas_bytes() {
    let mut state = ProducerState::new(ProducerBudget::new(1 << 20));
    state.push(&header(0x1122, 3, 10, 100), Some(5), START_MS);
    state.commit();
    let bytes = producer_snapshot::encode(&state);
    // Laid out by hand from Kafka's ProducerStateManager: id, epoch, last sequence, last offset,
    // offset delta, timestamp, coordinator epoch, first offset of the open transaction.
    let entry = [
        &[0, 0, 0, 0, 0, 0, 0x11, 0x22, 0, 3, 0, 0, 0, 11][..],
        &[0, 0, 0, 0, 0, 0, 0, 101, 0, 0, 0, 1],
        &START_MS.to_be_bytes(),
        &[0xff; 12],
    ]
    .concat();
    assert_eq!(bytes[..2], [0, 1]);
    assert_eq!(bytes[6..10], [0, 0, 0, 1]);
    assert_eq!(bytes[10..], entry);
    assert_eq!(bytes[2..6], proto::record::crc32c(&bytes[6..]).to_be_bytes());
}

#[test]
fn over_the_budget_the_oldest_producers_expire_first_and_the_writers_window_shrinks_last() {
    let budget = ProducerBudget::new(4000);
    let mut state = ProducerState::new(budget.clone());
    for id in 0..10 {
        state.push(&header(id, 0, 0, id * 2), Some(1024), START_MS + id);
        state.commit();
    }
    assert_eq!(state.len(), 10);
    for i in 0..2000 {
        state.push(&header(99, 0, i * 2, 100 + i64::from(i) * 2), Some(1024), START_MS + 100);
        state.commit();
        assert!(budget.used() <= 4000);
    }
    assert!(!state.knows(0) && state.knows(99));
    drop(state);
    assert_eq!(budget.used(), 0);
}

/// As a follower does with what it fetched.
#[test]
fn hundreds_of_batches_are_remembered_in_one_step() {
    let budget = ProducerBudget::new(1 << 20);
    let mut state = ProducerState::new(budget.clone());
    for epoch in 0..2 {
        for i in 0..300 {
            let offset = i64::from(epoch) * 1_000 + i64::from(i) * 2;
            state.push(&header(1, epoch, i * 2, offset), Some(7), START_MS);
        }
        state.commit();
        let used = budget.used();
        // What is counted is what is held: a producer with its seven batches.
        let alone = ProducerBudget::new(1 << 20);
        let mut one = ProducerState::new(alone.clone());
        (0..7).for_each(|i| one.push(&header(1, 0, i * 2, i64::from(i) * 2), Some(7), START_MS));
        one.commit();
        assert_eq!(used, alone.used(), "epoch {epoch}");
    }
    drop(state);
    assert_eq!(budget.used(), 0);
}

#[test]
fn sequences_wrap_and_epochs_begin_at_zero() {
    use crate::storage::producer_state::Verdict;
    let mut state = ProducerState::new(ProducerBudget::new(1 << 20));
    assert!(state.check(&header(1, 0, 7, 0)).is_err(), "unknown producers begin at 0");
    state.push(&header(1, 0, i32::MAX - 3, 0), Some(5), 0);
    state.push(&header(1, 0, i32::MAX - 1, 2), Some(5), 0);
    assert_eq!(state.check(&header(1, 0, 0, 4)), Ok(Verdict::Fresh));
    state.push(&header(1, 0, i32::MAX, 4), Some(5), 0);
    state.rollback();
    assert!(!state.knows(1), "nothing was committed");
    state.push(&header(1, 0, i32::MAX, 4), Some(5), 0);
    state.commit();
    assert_eq!(state.check(&header(1, 0, 1, 6)), Ok(Verdict::Fresh));
    assert!(matches!(state.check(&header(1, 0, i32::MAX, 6)), Ok(Verdict::Duplicate(_))));
    assert!(state.check(&header(1, 1, 1, 6)).is_err(), "a new epoch begins at 0");
    assert_eq!(state.check(&header(1, 1, 0, 6)), Ok(Verdict::Fresh));
}
