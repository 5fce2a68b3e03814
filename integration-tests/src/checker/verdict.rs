//! The promises that can be broken, and what is said of those that were.

use std::collections::BTreeMap;
use std::fmt;

use super::history::Position;

/// How many of each kind are told in full.
const TOLD_MAX: usize = 10;

/// A kind of broken promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Acknowledged, but not in the log.
    Lost,
    /// Acknowledged at one place, found at another.
    Moved,
    /// In the log more than once, though its producer was idempotent.
    Duplicated,
    /// In the log, but never sent, or not to this partition.
    Invented,
    /// In one partition, an earlier send of a producer stands behind a later one.
    OutOfOrder,
    /// One offset was seen with two values.
    TwoValues,
    /// Delivered to a reader, and not in the log in the end.
    Vanished,
    /// Committed as handled by a group, and delivered to none of its members.
    Skipped,
    /// A partition had two owners in one generation.
    TwoOwners,
    /// A committed offset went back.
    CommitBack,
    /// A member took partitions that no generation on record gives it.
    NotGiven,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Lost,
        Self::Moved,
        Self::Duplicated,
        Self::Invented,
        Self::OutOfOrder,
        Self::TwoValues,
        Self::Vanished,
        Self::Skipped,
        Self::TwoOwners,
        Self::CommitBack,
        Self::NotGiven,
    ];
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which promise.
    pub kind: Kind,
    /// Where.
    pub place: Position,
    /// What is known about it, for whoever looks into it.
    pub context: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {}: {}", self.kind, self.place, self.context)
    }
}

/// What came out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// How many of each kind; only kinds that occurred.
    pub counts: BTreeMap<Kind, u64>,
    /// The first few of each kind.
    pub told: Vec<Violation>,
}

impl Verdict {
    /// Whether no promise was broken.
    pub fn is_clean(&self) -> bool {
        self.counts.is_empty()
    }

    /// How many of a kind.
    pub fn count(&self, kind: Kind) -> u64 {
        self.counts.get(&kind).copied().unwrap_or(0)
    }

    pub(super) fn add(&mut self, kind: Kind, place: Position, context: impl FnOnce() -> String) {
        let count = self.counts.entry(kind).or_insert(0);
        *count += 1;
        if *count <= TOLD_MAX as u64 {
            self.told.push(Violation { kind, place, context: context() });
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_clean() {
            return f.write_str("no promise is broken");
        }
        writeln!(f, "broken promises: {:?}", self.counts)?;
        for violation in &self.told {
            writeln!(f, "  {violation}")?;
        }
        Ok(())
    }
}
