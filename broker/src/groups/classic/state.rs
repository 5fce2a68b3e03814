//! The states of a classic group, by Kafka's names.

/// Where a group stands. What each state answers is the table of this folder's `mod.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// No members. From the start, or from `PreparingRebalance` when nobody joined again.
    Empty,
    /// Waits until its members have joined (again). From every state but `Dead`.
    PreparingRebalance,
    /// All are told the generation; waits for the leader's assignment. From `PreparingRebalance`.
    CompletingRebalance,
    /// Has an assignment. From `CompletingRebalance`, or from what was stored.
    Stable,
    /// Deleted, or another broker's now. From every state; final.
    Dead,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 5] = [
        Self::Empty,
        Self::PreparingRebalance,
        Self::CompletingRebalance,
        Self::Stable,
        Self::Dead,
    ];

    /// As Kafka spells it on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }

    /// Whether a group may go from `self` to `next`.
    pub(super) fn may_become(self, next: Self) -> bool {
        match next {
            Self::Empty => self == Self::PreparingRebalance,
            Self::PreparingRebalance => {
                matches!(self, Self::Empty | Self::CompletingRebalance | Self::Stable)
            }
            Self::CompletingRebalance => self == Self::PreparingRebalance,
            Self::Stable => self == Self::CompletingRebalance,
            Self::Dead => true,
        }
    }
}
