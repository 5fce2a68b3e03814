//! Compaction: of the records of a key only the newest stays (`cleanup.policy=compact`).
//!
//! A log is clean up to its *first dirty offset* (`cleaner_checkpoint`): below it no key has two
//! records. A cleaning (`cleaner`) reads the dirty part of the closed segments into a map from keys
//! to their newest offsets (`key_map`), then rewrites all from the log start on (`rewrite`), batch
//! by batch (`batch_reader`, `block`, `filter`, `raw_record`), leaving out what the map knows to be old; runs
//! of offsets that are gone become empty batches (`empty_run`). The copies (`output`) take the place
//! of their sources so that a crash at any moment leaves one or the other (`swap`). Which log, how
//! much of it, and when: `selection` and `pool`; how fast and in how much memory: `throttle` and
//! `cleaning`.
//!
//! Offsets never change. The active segment, what is not committed and flushed, what is younger
//! than `min.compaction.lag.ms`, and everything from a damaged segment on are left alone. Tests:
//! `storage/tests/compaction`.

mod batch_reader;
mod block;
mod cleaner;
mod cleaner_checkpoint;
mod cleaning;
mod empty_run;
mod error;
mod filter;
mod key_map;
mod output;
mod pool;
mod raw_record;
mod rewrite;
mod selection;
mod state;
mod swap;
mod throttle;
mod usage;

pub use cleaner::CompactionReport;
pub use error::{BadBatch, CompactionError};
pub use usage::CleanerUsage;

pub(super) use cleaner_checkpoint::CleanerCheckpoint;
pub(super) use cleaning::Cleaning;
pub(super) use empty_run::EmptyRun;
pub(super) use pool::{run, run_due};
pub(super) use state::CompactionState;
pub(super) use swap::recover;
