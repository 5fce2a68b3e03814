//! What makes the state machine survive: one log of its records and one snapshot.
//!
//! Every change is a record (`record`) in the file `log`, written and synced in groups by a
//! thread of its own (`writer`) before anybody is answered. When the log has grown, the whole
//! state goes to the file `snapshot` (`snapshot`), replaced whole, and the log starts over. A
//! start (`recovery`) reads the snapshot and applies the records after it. The log is always
//! allocated some way ahead of its end: that is the reserve from which deletions are logged
//! when the disk is full.
//!
//! `disk` is the only place that touches files; tests put another disk in its place.

pub(crate) mod disk;
pub(crate) mod record;
pub(crate) mod recovery;
pub(crate) mod snapshot;
pub(crate) mod writer;

#[cfg(test)]
pub(crate) mod tests;
