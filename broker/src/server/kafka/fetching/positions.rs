//! [`Positions`]: where the partitions of a connection's last requests are read on.
//!
//! A client asks for what comes after the records it was sent. Where that is in the log was known when
//! they were sent, so the next request finds it here instead of looking up the partition and the
//! index. Nothing is held by it: a partition that is gone, or led in another epoch, is looked up anew.

use std::collections::HashMap;

use super::session::{PartitionKey, Position};
use crate::api::{Reader, Resting};

/// Partitions of one connection; more are looked up with each request.
const PARTITIONS_MAX: usize = 4096;
/// What this many requests have not read goes when there is no room.
const UNREAD_MAX: u64 = 64;

/// Of one connection.
#[derive(Default)]
pub(in crate::server::kafka) struct Positions {
    resting: HashMap<PartitionKey, (u64, Resting)>,
    /// Counts the requests.
    request: u64,
    /// The request that last looked for what may go.
    swept: u64,
}

impl Positions {
    /// Another request comes.
    pub(in crate::server::kafka) fn begin(&mut self) {
        self.request += 1;
    }

    /// A reader at a position, where one rests there.
    pub(in crate::server::kafka) fn take(
        &mut self,
        key: &PartitionKey,
        position: Position,
    ) -> Option<Reader> {
        let (_, resting) = self.resting.get(key)?;
        if resting.offset().0 != position.fetch_offset {
            return None;
        }
        let reader = resting.resume()?;
        let epoch = position.current_leader_epoch;
        (epoch == -1 || epoch == reader.leader_epoch().0).then_some(reader)
    }

    /// Remembers where a reader is.
    pub(in crate::server::kafka) fn put(&mut self, key: &PartitionKey, reader: &Reader) {
        let rested = (self.request, reader.rest());
        if let Some(known) = self.resting.get_mut(key) {
            *known = rested;
            return;
        }
        if self.resting.len() >= PARTITIONS_MAX && self.request >= self.swept + UNREAD_MAX {
            self.swept = self.request;
            self.resting.retain(|_, (read, _)| *read + UNREAD_MAX > self.request);
        }
        if self.resting.len() < PARTITIONS_MAX {
            self.resting.insert(key.clone(), rested);
        }
    }
}
