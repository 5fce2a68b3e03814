//! Request ids: a retry of a finished request is answered, also by the next controller.
//!
//! Every change asked for by a request writes the record kept here (the value of `/admin`) in the same
//! transaction as its effect, so both are there or neither is. Only successes are recorded: a
//! refused request changed nothing, and is judged anew. A request without an id gets a random one, so
//! that a write whose answer was lost can be told from one that never happened.

use std::collections::VecDeque;

use crate::registry::fence::Change;
use crate::zk::payload::{self, FinishedRequest, Payload};
use crate::zk::{PayloadError, paths};

/// At most this many requests are remembered; the oldest go first. A retry comes within seconds.
const REQUESTS_MAX: usize = 256;
/// At most this many subjects over all requests, so that the node stays small.
const SUBJECTS_MAX: usize = 2_000;

/// The id of a request: 16 bytes in hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestId(String);

/// A request id that is not 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("request_id has {0} bytes; 16 random bytes are expected, or none")]
pub(crate) struct InvalidRequestId(usize);

impl RequestId {
    /// Reads the field of a message; an empty one makes a new random id.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidRequestId> {
        match bytes.len() {
            0 => Ok(Self(uuid::Uuid::new_v4().simple().to_string())),
            16 => Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect())),
            n => Err(InvalidRequestId(n)),
        }
    }
}

/// The requests finished lately.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FinishedRequests {
    entries: VecDeque<FinishedRequest>,
    /// Version of the node that holds the record.
    pub(crate) version: i32,
}

impl FinishedRequests {
    /// As read from the node; an empty value is an empty record.
    pub(crate) fn decode(bytes: &[u8], version: i32) -> Result<Self, PayloadError> {
        if bytes.is_empty() {
            return Ok(Self { entries: VecDeque::new(), version });
        }
        let read = payload::FinishedRequests::decode(paths::ADMIN, bytes)?;
        Ok(Self { entries: read.requests.into(), version })
    }

    /// The write that replaces the record by this one.
    pub(crate) fn write(&self) -> Result<Change, PayloadError> {
        let requests = self.entries.iter().cloned().collect();
        let bytes = payload::FinishedRequests { requests }.encode()?;
        Ok(Change::Set { path: paths::ADMIN.to_owned(), bytes, version: Some(self.version) })
    }

    /// Whether the request did this already.
    pub(crate) fn has(&self, id: &RequestId, subject: &str) -> bool {
        self.entries.iter().any(|e| e.id == id.0 && e.done.iter().any(|done| done == subject))
    }

    /// The record with these subjects added.
    pub(crate) fn with(&self, id: &RequestId, subjects: impl IntoIterator<Item = String>) -> Self {
        let mut next = self.clone();
        match next.entries.iter_mut().find(|entry| entry.id == id.0) {
            Some(entry) => entry.done.extend(subjects),
            None => next.entries.push_back(FinishedRequest {
                id: id.0.clone(),
                done: subjects.into_iter().collect(),
            }),
        }
        while next.entries.len() > REQUESTS_MAX || next.too_many_subjects() {
            next.entries.pop_front();
        }
        next
    }

    fn too_many_subjects(&self) -> bool {
        self.entries.len() > 1
            && self.entries.iter().map(|e| e.done.len()).sum::<usize>() > SUBJECTS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> RequestId {
        RequestId::from_bytes(&[n; 16]).unwrap()
    }

    #[test]
    fn only_what_a_request_did_is_remembered() {
        let record = FinishedRequests::default().with(&id(1), ["delete topic a".to_owned()]);
        assert!(record.has(&id(1), "delete topic a"));
        assert!(!record.has(&id(1), "delete topic b"));
        assert!(!record.has(&id(2), "delete topic a"));
    }

    #[test]
    fn the_record_is_bounded_and_drops_the_oldest() {
        let mut record = FinishedRequests::default();
        for n in 0..=255u8 {
            record = record.with(&id(n), ["x".to_owned()]);
        }
        assert!(record.has(&id(0), "x"));
        let other = RequestId::from_bytes(&[&[9u8; 15][..], &[1]].concat()).unwrap();
        record = record.with(&other, (0..1_800).map(|n| n.to_string()));
        assert!(!record.has(&id(0), "x"));
        assert!(record.has(&id(255), "x"));
        assert!(record.has(&other, "1799"));
    }

    #[test]
    fn an_id_has_sixteen_bytes_or_none() {
        assert_eq!(RequestId::from_bytes(&[1; 3]), Err(InvalidRequestId(3)));
        let random = || RequestId::from_bytes(&[]).unwrap();
        assert_ne!(random(), random());
    }
}
