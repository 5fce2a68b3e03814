//! `leader-epoch-checkpoint`: at which offset each leader epoch began. Kafka's text format:
//!
//! ```text
//! 0              version
//! 2              entries
//! 0 0            epoch, its first offset
//! 3 1200
//! ```
//!
//! Pure: whoever changes it writes [`EpochHistory::encode`] to the file.

use proto::{LeaderEpoch, Offset};

/// The file's name.
pub(super) const FILE_NAME: &str = "leader-epoch-checkpoint";

/// Epochs and their first offsets, both growing from entry to entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct EpochHistory {
    entries: Vec<(LeaderEpoch, Offset)>,
}

impl EpochHistory {
    /// The newest epoch.
    pub(super) fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|&(epoch, _)| epoch)
    }

    /// Every epoch and its first offset, in order.
    pub(super) fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.entries
    }

    /// Notes that `epoch` begins at `start`. False when that says nothing new: an epoch that is
    /// not newer than the latest changes nothing.
    pub(super) fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        if epoch < LeaderEpoch(0) || self.latest().is_some_and(|latest| latest >= epoch) {
            return false;
        }
        // Epochs that left no record give way.
        self.entries.retain(|&(_, begun)| begun < start);
        self.entries.push((epoch, start));
        true
    }

    /// The offset after the last one of `epoch`, and the newest epoch not after it: what a follower
    /// cuts back to (KIP-101, KIP-279). `None` when `epoch` is older than all that is known.
    pub(super) fn end_of(
        &self,
        epoch: LeaderEpoch,
        log_end: Offset,
    ) -> Option<(LeaderEpoch, Offset)> {
        let after = self.entries.partition_point(|&(known, _)| known <= epoch);
        let &(known, _) = self.entries.get(after.checked_sub(1)?)?;
        let end = self.entries.get(after).map_or(log_end, |&(_, start)| start);
        Some((known, end))
    }

    /// Forgets what begins at or after the new log end. True when that changed something.
    pub(super) fn cut_end(&mut self, log_end: Offset) -> bool {
        let keep = self.entries.partition_point(|&(_, start)| start < log_end);
        let changed = keep < self.entries.len();
        self.entries.truncate(keep);
        changed
    }

    /// Forgets all. True when that changed something.
    pub(super) fn clear(&mut self) -> bool {
        let changed = !self.entries.is_empty();
        self.entries.clear();
        changed
    }

    /// Forgets epochs that ended at or before the new log start; the one there begins with it.
    pub(super) fn cut_start(&mut self, log_start: Offset) -> bool {
        let ended = self.entries.partition_point(|&(_, start)| start <= log_start);
        let Some(current) = ended.checked_sub(1) else { return false };
        let moved = self.entries[current].1 < log_start;
        self.entries.drain(..current);
        if let Some(first) = self.entries.first_mut() {
            first.1 = first.1.max(log_start);
        }
        current > 0 || moved
    }

    /// The file's text.
    pub(super) fn encode(&self) -> String {
        let mut text = format!("0\n{}\n", self.entries.len());
        for (epoch, start) in &self.entries {
            text.push_str(&format!("{epoch} {start}\n"));
        }
        text
    }

    /// Reads the file's text; `None` when version, count or order are wrong.
    pub(super) fn decode(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != "0" {
            return None;
        }
        let count: usize = lines.next()?.parse().ok()?;
        let entries: Vec<_> = lines.map(decode_entry).collect::<Option<_>>()?;
        let in_order = entries.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1);
        let in_range = entries.first().is_none_or(|e| e.0.0 >= 0 && e.1.0 >= 0);
        (entries.len() == count && in_order && in_range).then_some(Self { entries })
    }
}

fn decode_entry(line: &str) -> Option<(LeaderEpoch, Offset)> {
    let (epoch, start) = line.split_once(' ')?;
    Some((LeaderEpoch(epoch.parse().ok()?), Offset(start.parse().ok()?)))
}
