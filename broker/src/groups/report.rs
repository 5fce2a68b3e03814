//! What the metrics page is told of groups: numbers of all, and rows of some.
//!
//! One look through the groups a report, by the thread that owns them. Rows have a bound, whatever
//! clients create: groups with members come first, then the others, each in the order of their
//! partitions and names, so that the same ones are shown each time.

use std::sync::Arc;
use std::time::Duration;

use proto::{Offset, TopicPartition};

use super::classic::State;
use super::coordinator::Coordinator;
use super::shard::{Entry, Stage};

/// Rows of a report: one for each group shown, and one for each of its offsets.
const ROWS_MAX: usize = 20_000;

/// What has happened since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Rebalances that ended in an assignment.
    pub rebalances: u64,
    /// Offsets committed.
    pub commits: u64,
    /// Offsets that expired, or whose topic was deleted.
    pub expirations: u64,
    /// Offsets deleted by request, alone or with their group.
    pub deletions: u64,
    /// Offsets partitions read.
    pub loads: u64,
    /// Time that took.
    pub load_time: Duration,
    /// The longest of them.
    pub load_time_max: Duration,
}

/// A group on the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupReport {
    /// Its name.
    pub group: Arc<str>,
    /// How many members it has.
    pub members: usize,
    /// What it has committed.
    pub offsets: Vec<(TopicPartition, Offset)>,
}

/// The groups that this broker coordinates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// How many are in each state, in the order of [`State::ALL`].
    pub states: [usize; State::ALL.len()],
    /// Offsets that they have committed.
    pub offsets: usize,
    /// Bytes that they take, about.
    pub bytes: usize,
    /// Offsets partitions that are led here and not served yet.
    pub loading: usize,
    /// What has happened.
    pub counters: Counters,
    /// Some of them, each with all its offsets.
    pub groups: Vec<GroupReport>,
    /// How many are not among these.
    pub left_out: usize,
}

impl Coordinator {
    /// Looks through the groups.
    pub(super) fn report(&self) -> Report {
        let mut report = Report { bytes: self.bytes, counters: self.counters, ..Report::default() };
        let mut rows = 0;
        for with_members in [true, false] {
            for slot in self.slots.values() {
                let Stage::Active(shard) = &slot.stage else {
                    report.loading += usize::from(with_members);
                    continue;
                };
                for (id, entry) in &shard.groups {
                    if (entry.group.size() > 0) != with_members {
                        continue;
                    }
                    report.states[entry.group.state() as usize] += 1;
                    report.offsets += entry.offsets.len();
                    if rows + 1 + entry.offsets.len() > ROWS_MAX {
                        report.left_out += 1;
                        continue;
                    }
                    rows += 1 + entry.offsets.len();
                    report.groups.push(self.of_group(id, entry));
                }
            }
        }
        report
    }

    fn of_group(&self, id: &Arc<str>, entry: &Entry) -> GroupReport {
        let offsets = entry.offsets.iter().filter(|(name, told)| self.topic.is_valid(name, told));
        GroupReport {
            group: Arc::clone(id),
            members: entry.group.size(),
            offsets: offsets.map(|(name, told)| (name.clone(), told.offset)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_numbered_as_they_are_listed() {
        for (number, state) in State::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, number);
        }
    }
}
