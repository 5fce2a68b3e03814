//! Looks at the files of partitions from outside: prints them, verifies them, and copies what is
//! good of them. For `broker dump-log`; no running broker is needed and none is disturbed.
//!
//! Nothing here writes to what it reads: files are opened read-only, and [`repair`] makes new files
//! in a folder of its own. Any bytes may be in any file: memory is bounded by one batch.
//!
//! [`Dumper`] goes through folders and files and says what it finds to a [`DumpSink`], as items of
//! named fields in Kafka's words. Read on: `segment_walk` (what counts as damage), `dumper` (which
//! files), `index_check`, `repair`.

mod dumper;
mod file_kind;
mod index_check;
mod item;
mod log_file;
mod repair;
mod repair_report;
mod segment_walk;
mod small_files;

pub use dumper::{DumpError, DumpOptions, DumpReport, Dumper};
pub use item::{DumpSink, Field, Kind, Value};
pub use repair::repair;
pub use repair_report::{RepairError, RepairReport};
