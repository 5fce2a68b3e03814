//! What a command or event leads to: writes, the change of the picture, what brokers are told.

use proto::{ErrorCode, v1};

use super::outbox::Delta;
use super::state::Step;
use crate::registry::fence::{Change, PART_BYTES};

/// The server does a transaction in one go: so many operations at most.
const WRITES_MAX: usize = 1_000;

/// The outcome of a pure decision. Nothing of it holds before its writes are taken.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Decision {
    /// In order; cut into transactions where they do not fit into one.
    pub(crate) writes: Vec<Change>,
    /// The picture afterwards.
    pub(crate) steps: Vec<Step>,
    /// What brokers are told afterwards.
    pub(crate) delta: Delta,
    /// What to record as done under the request's id.
    pub(crate) done: Vec<String>,
}

impl Decision {
    /// Whether `other` can be carried out in one transaction with this.
    pub(crate) fn takes(&self, other: &Self) -> bool {
        let bytes: usize = self.writes.iter().chain(&other.writes).map(Change::size).sum();
        self.writes.len() + other.writes.len() <= WRITES_MAX && bytes <= PART_BYTES
    }

    /// Appends another decision, made on the picture that this one leaves.
    pub(crate) fn push(&mut self, other: Self) {
        self.writes.extend(other.writes);
        self.steps.extend(other.steps);
        self.delta.merge(&other.delta);
        self.done.extend(other.done);
    }
}

/// A command refused, for a program and for a person.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refusal(pub v1::Error);

impl Refusal {
    /// A refusal with its cause and what to do.
    pub(crate) fn new(
        code: ErrorCode,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self(code.to_message(message, remedy))
    }
}

impl From<crate::zk::PayloadError> for Refusal {
    fn from(error: crate::zk::PayloadError) -> Self {
        Self::new(ErrorCode::PolicyViolation, error.to_string(), "ask for less")
    }
}
