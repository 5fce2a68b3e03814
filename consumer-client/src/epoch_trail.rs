//! Which leader epoch the records of a partition had, as they were fetched: what is told to a new
//! leader, so that it can say whether its log goes on from there (KIP-320), and what is committed.
//!
//! Epochs ascend with the offsets. Kafka's consumer remembers the last one only; with the last few, the
//! offset from which the logs differ can be told exactly: it is the lower of both logs' ends of the
//! newest epoch that both have (KIP-279).

use std::collections::VecDeque;

use proto::{LeaderEpoch, Offset};

/// Epochs remembered; each is a leader change.
const EPOCHS_MAX: usize = 64;

/// Each epoch with the first offset that was seen of it; both ascend.
#[derive(Debug, Default)]
pub(crate) struct EpochTrail {
    epochs: VecDeque<(LeaderEpoch, Offset)>,
}

impl EpochTrail {
    /// Begins anew before `offset`, where only the epoch of the record before it may be known.
    pub(crate) fn begin(&mut self, offset: Offset, epoch: Option<LeaderEpoch>) {
        self.epochs.clear();
        let before = offset.0.checked_sub(1).filter(|before| *before >= 0);
        let known = epoch.filter(|epoch| epoch.0 >= 0);
        self.epochs.extend(known.zip(before).map(|(epoch, before)| (epoch, Offset(before))));
    }

    /// A batch of this epoch begins at `offset`, behind all that was noted. One whose epoch is lower
    /// than what is before it tells nothing that could be relied on: what is known is forgotten.
    pub(crate) fn note(&mut self, epoch: LeaderEpoch, offset: Offset) {
        match self.epochs.back() {
            Some((last, _)) if *last == epoch => {}
            Some((last, _)) if *last > epoch => self.epochs.clear(),
            _ if epoch.0 < 0 => self.epochs.clear(),
            _ => {
                if self.epochs.len() == EPOCHS_MAX {
                    self.epochs.pop_front();
                }
                self.epochs.push_back((epoch, offset));
            }
        }
    }

    /// What lies at `offset` and behind it is forgotten.
    pub(crate) fn cut(&mut self, offset: Offset) {
        while self.epochs.back().is_some_and(|(_, start)| *start >= offset) {
            self.epochs.pop_back();
        }
    }

    /// The epoch of the record before `offset`, if it is known.
    pub(crate) fn before(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.epochs.iter().rev().find(|(_, start)| *start < offset).map(|(epoch, _)| *epoch)
    }

    /// Where what was read here of epochs up to `epoch` ends; `position` is the end of all that was.
    pub(crate) fn end_of(&self, epoch: LeaderEpoch, position: Offset) -> Offset {
        let later = self.epochs.iter().find(|(other, _)| *other > epoch);
        later.map_or(position, |(_, start)| (*start).min(position))
    }
}

/// Of batches in their order, with their epochs, those that an [`EpochTrail`] learns from: the first two
/// of each run of equal epochs. (The first may contradict what is known and be forgotten with it; then
/// the second counts.)
pub(crate) fn worth_noting(
    batches: impl Iterator<Item = (LeaderEpoch, Offset)>,
) -> Vec<(LeaderEpoch, Offset)> {
    let mut worth = Vec::new();
    let (mut last, mut again) = (None, false);
    for batch in batches {
        let same = last == Some(batch.0);
        if !same || !again {
            worth.push(batch);
            (last, again) = (Some(batch.0), same);
        }
    }
    worth
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_worth_noting_leaves_the_trail_that_all_would(
            before in prop::collection::vec(-1i32..4, 0..4),
            epochs in prop::collection::vec(-1i32..4, 0..30),
        ) {
            let first = before.len() as i64;
            let before: Vec<_> = before.iter().zip(0..).map(|(e, at)| (*e, at)).collect();
            let (mut all, mut few) = (trail(&before), trail(&before));
            let batches = epochs.iter().zip(first..).map(|(e, at)| (LeaderEpoch(*e), Offset(at)));
            batches.clone().for_each(|(epoch, offset)| all.note(epoch, offset));
            worth_noting(batches).into_iter().for_each(|(epoch, offset)| few.note(epoch, offset));
            prop_assert_eq!(all.epochs, few.epochs);
        }
    }

    fn trail(epochs: &[(i32, i64)]) -> EpochTrail {
        let mut trail = EpochTrail::default();
        epochs.iter().for_each(|&(epoch, offset)| trail.note(LeaderEpoch(epoch), Offset(offset)));
        trail
    }

    #[test]
    fn epochs_are_found_by_offset_and_ends_by_epoch() {
        let trail = trail(&[(1, 0), (1, 5), (3, 10), (4, 20)]);
        let before = |offset| trail.before(Offset(offset)).map(|epoch| epoch.0);
        assert_eq!(
            [0, 1, 10, 11, 20, 21].map(before),
            [None, Some(1), Some(1), Some(3), Some(3), Some(4)]
        );
        let end = |epoch| trail.end_of(LeaderEpoch(epoch), Offset(25)).0;
        assert_eq!([0, 1, 2, 3, 4, 9].map(end), [0, 10, 10, 20, 25, 25]);
    }

    #[test]
    fn what_is_cut_or_contradicts_itself_is_not_known_any_more() {
        let mut trail = trail(&[(1, 0), (3, 10)]);
        trail.cut(Offset(10));
        assert_eq!(trail.before(Offset(10)), Some(LeaderEpoch(1)));
        trail.note(LeaderEpoch(0), Offset(10));
        assert_eq!(trail.before(Offset(11)), None);
        trail.note(LeaderEpoch(-1), Offset(11));
        assert_eq!(trail.before(Offset(12)), None);
        trail.begin(Offset(7), Some(LeaderEpoch(5)));
        assert_eq!(trail.before(Offset(7)), Some(LeaderEpoch(5)));
        trail.begin(Offset(7), Some(LeaderEpoch::UNKNOWN));
        assert_eq!(trail.before(Offset(7)), None);
        trail.begin(Offset(0), Some(LeaderEpoch(5)));
        assert_eq!(trail.before(Offset(0)), None);
    }

    #[test]
    fn so_many_epochs_are_remembered() {
        let mut trail = EpochTrail::default();
        (0..1000).for_each(|n| trail.note(LeaderEpoch(n), Offset(n.into())));
        assert_eq!(trail.epochs.len(), EPOCHS_MAX);
        assert_eq!(trail.before(Offset(1000)), Some(LeaderEpoch(999)));
        assert_eq!(trail.before(Offset(5)), None);
    }
}
