//! The rounds of one fetch stream, without the stream: which handles the leader holds, what the next
//! request says, what an answer belongs to. Pure.
//!
//! - A handle is one position of one partition for the life of the stream. Answers of a handle that
//!   was forgotten are passed over until the request that forgot it has ended; any other handle
//!   that is not known breaks the protocol, as does a round out of turn.
//! - At most [`ROUNDS_MAX`] rounds are under way. The second is sent when the first brings data, so
//!   it never waits behind a long poll, or when there is something to tell (a partition, progress):
//!   the leader ends a long poll that another request waits behind.

use std::collections::{HashMap, HashSet, VecDeque};

use proto::v1;

/// Rounds under way on a stream.
const ROUNDS_MAX: usize = 2;
/// Partitions added by one request; the next one has the rest.
pub(super) const ADDS_MAX: usize = 1_000;

/// A partition of the fetcher, by the number that [`super::Fetchers`] gave it.
pub(super) type ReplicaNumber = u64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    handles: HashMap<u32, ReplicaNumber>,
    /// Told to the leader with the next request.
    to_forget: Vec<u32>,
    /// Told, and not yet certain that no answer of them is on its way.
    forgotten: HashSet<u32>,
    under_way: VecDeque<Round>,
    last_handle: u32,
    last_request: u64,
}

#[derive(Debug)]
struct Round {
    id: u64,
    has_data: bool,
    bytes: u64,
    bytes_max: u64,
    added: Vec<u32>,
    forgotten: Vec<u32>,
}

/// What a request asks for, beside partitions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_wait_ms: u32,
    pub(super) round_bytes: u64,
}

/// What a message of the leader means.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    /// Of this replica; its records are beside it.
    Answer { replica: ReplicaNumber, response: v1::FetchResponse },
    /// A round ended; these replicas were new in it, and the leader had nothing more for them.
    Ended { quiet: Vec<ReplicaNumber> },
    /// Of a handle that was forgotten.
    Passed,
    /// The leader broke the protocol.
    Violation(String),
}

impl Rounds {
    /// Whether another request may be sent now; `tells`: there is something to tell.
    pub(super) fn may_send(&self, tells: bool) -> bool {
        match self.under_way.len() {
            0 => true,
            n => n < ROUNDS_MAX && (tells || self.under_way.back().is_some_and(|r| r.has_data)),
        }
    }

    /// Whether a round is under way.
    pub(super) fn is_waiting(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Whether one round is under way, and no other.
    pub(super) fn is_first(&self) -> bool {
        self.under_way.len() == 1
    }

    /// Whether the leader holds anything.
    pub(super) fn holds_any(&self) -> bool {
        !self.handles.is_empty()
    }

    /// Whether handles are to be forgotten.
    pub(super) fn has_forgotten(&self) -> bool {
        !self.to_forget.is_empty()
    }

    /// A handle for a replica that the next request adds.
    pub(super) fn handle(&mut self, replica: ReplicaNumber) -> u32 {
        self.last_handle += 1;
        self.handles.insert(self.last_handle, replica);
        self.last_handle
    }

    /// The leader is to forget a handle.
    pub(super) fn forget(&mut self, handle: u32) {
        if self.handles.remove(&handle).is_some() {
            self.to_forget.push(handle);
            self.forgotten.insert(handle);
        }
    }

    /// The next request. The caller asked [`Rounds::may_send`].
    pub(super) fn request(
        &mut self,
        add: Vec<v1::FetchPartition>,
        progress: Vec<v1::ReplicaProgress>,
        limits: Limits,
    ) -> v1::FetchRequest {
        self.last_request += 1;
        let forget = std::mem::take(&mut self.to_forget);
        self.under_way.push_back(Round {
            id: self.last_request,
            has_data: false,
            bytes: 0,
            bytes_max: limits.round_bytes,
            added: add.iter().map(|added| added.handle).collect(),
            forgotten: forget.clone(),
        });
        v1::FetchRequest {
            request_id: self.last_request,
            max_wait_ms: limits.max_wait_ms,
            min_bytes: 1,
            max_bytes: limits.round_bytes,
            add,
            forget,
            replica: None,
            progress,
        }
    }

    /// Takes a message of the leader that carries `bytes` of records.
    pub(super) fn message(&mut self, response: v1::FetchResponse, bytes: usize) -> Outcome {
        let Some(round) = self.under_way.front_mut() else {
            return Outcome::Violation("an answer without a request".to_owned());
        };
        if round.id != response.request_id {
            let (id, expected) = (response.request_id, round.id);
            return Outcome::Violation(format!("an answer of round {id} during round {expected}"));
        }
        if response.end {
            return self.end();
        }
        round.has_data = true;
        round.bytes += bytes as u64;
        let handle = response.handle;
        let Some(&replica) = self.handles.get(&handle) else {
            if self.forgotten.contains(&handle) {
                return Outcome::Passed;
            }
            return Outcome::Violation(format!("an answer for the unknown handle {handle}"));
        };
        round.added.retain(|&added| added != handle);
        if response.error.is_some() || response.diverging.is_some() {
            // The leader has forgotten it.
            self.handles.remove(&handle);
        }
        Outcome::Answer { replica, response }
    }

    fn end(&mut self) -> Outcome {
        let Some(round) = self.under_way.pop_front() else { return Outcome::Passed };
        for handle in &round.forgotten {
            self.forgotten.remove(handle);
        }
        // A full round did not come to everybody.
        let told = round.bytes < round.bytes_max;
        let quiet = round.added.iter().filter_map(|handle| self.handles.get(handle).copied());
        Outcome::Ended { quiet: if told { quiet.collect() } else { Vec::new() } }
    }
}
