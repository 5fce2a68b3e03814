//! What is logged of changes carried out together: one line, whether one partition's ISR changed or
//! thousands did because a broker died. Single partitions are told at debug level.

use coordinator::zk::payload::PartitionState;
use proto::TopicPartition;

/// Partitions named in the line.
const NAMED_MAX: usize = 5;

/// What came of one change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Written.
    Changed { shrinks: bool, grows: bool },
    /// Nothing was to be written.
    AsItWas,
    /// Another leads.
    NotOurs,
}

impl Kind {
    /// Of a write of `new` over `old`.
    pub(super) fn between(old: &PartitionState, new: &PartitionState) -> Self {
        Self::Changed {
            shrinks: old.isr.iter().any(|id| !new.isr.contains(id)),
            grows: new.isr.iter().any(|id| !old.isr.contains(id)),
        }
    }
}

/// Changes that were carried out together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    changed: usize,
    shrunk: usize,
    grown: usize,
    not_ours: usize,
    /// The first of them.
    names: Vec<String>,
}

impl Batch {
    pub(super) fn note(&mut self, name: &TopicPartition, kind: &Kind) {
        match *kind {
            Kind::Changed { shrinks, grows } => {
                self.changed += 1;
                self.shrunk += usize::from(shrinks);
                self.grown += usize::from(grows);
            }
            Kind::NotOurs => self.not_ours += 1,
            Kind::AsItWas => return,
        }
        if self.names.len() < NAMED_MAX {
            self.names.push(name.to_string());
        }
    }

    /// Logs it, if there is anything to tell.
    pub(super) fn tell(&self) {
        let Self { changed, shrunk, grown, not_ours, names } = self;
        if !names.is_empty() {
            let first = names.join(", ");
            tracing::info!(changed, shrunk, grown, not_ours, first, "ISRs changed");
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::{BrokerId, LeaderEpoch};

    use super::*;

    fn state(isr: &[i32]) -> PartitionState {
        PartitionState {
            leader: Some(BrokerId(1)),
            leader_epoch: LeaderEpoch(0),
            isr: isr.iter().copied().map(BrokerId).collect(),
            electable: Vec::new(),
            controller_epoch: 1,
        }
    }

    #[test]
    fn thousands_of_changes_are_one_line_with_counts_and_a_few_names() {
        let mut batch = Batch::default();
        let (shrinks, grows) = (state(&[1, 2]), state(&[1, 2, 3, 4]));
        for partition in 0..2_000 {
            let new = if partition < 1_500 { &shrinks } else { &grows };
            let kind = Kind::between(&state(&[1, 2, 3]), new);
            batch.note(&TopicPartition::new("t", partition), &kind);
        }
        batch.note(&TopicPartition::new("t", 0), &Kind::AsItWas);
        batch.note(&TopicPartition::new("t", 0), &Kind::NotOurs);
        assert_eq!(batch.names, ["t-0", "t-1", "t-2", "t-3", "t-4"]);
        let Batch { changed, shrunk, grown, not_ours, .. } = batch;
        assert_eq!((changed, shrunk, grown, not_ours), (2_000, 1_500, 500, 1));
    }

    #[test]
    fn a_change_may_do_both_or_concern_the_electable_alone() {
        let both = Kind::between(&state(&[1, 2]), &state(&[1, 3]));
        assert_eq!(both, Kind::Changed { shrinks: true, grows: true });
        let neither = Kind::between(&state(&[1, 2]), &state(&[1, 2]));
        assert_eq!(neither, Kind::Changed { shrinks: false, grows: false });
    }
}
