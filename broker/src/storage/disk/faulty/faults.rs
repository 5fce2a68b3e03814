//! What a [`FaultyDisk`](super::FaultyDisk) is told to do wrong.

use std::io;
use std::path::PathBuf;

use super::broken;
use crate::storage::disk::Space;

/// What is to go wrong; all parts may be changed at any time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    /// Bytes of file data the disk holds; writes beyond are short, then `ENOSPC`.
    pub(crate) capacity: Option<usize>,
    /// So many next syncs of files whose path contains the text fail.
    pub(crate) failing_syncs: Option<(String, u32)>,
    /// Reads of files whose path contains the text fail with `EIO`.
    pub(crate) failing_reads: Option<String>,
    /// Writes of files whose path contains the text fail with `EIO`, after half of the bytes.
    pub(crate) failing_writes: Option<String>,
    /// Writes of files whose path contains the text panic, after half of the bytes.
    pub(crate) panicking_writes: Option<String>,
    /// Everything in a path that begins with it fails with `EIO`.
    pub(crate) dead: Option<PathBuf>,
    /// Cutting files fails.
    pub(crate) failing_cuts: bool,
    /// Nothing is in memory: reads that may not wait give nothing.
    pub(crate) cold: bool,
    /// Descriptors there are; opening one more is `EMFILE`.
    pub(crate) descriptors: Option<usize>,
    /// What [`Disk::space`] answers.
    pub(crate) space: Option<Space>,
    /// After so many more changes (of names or bytes, syncs included) every further one fails, as
    /// if the process had ended there.
    pub(crate) changes_left: Option<u64>,
    /// The next write that fails for that has written half of its bytes.
    pub(crate) torn_write: bool,
}

impl Faults {
    /// One change is made; an error where it is one too many.
    pub(super) fn change(&mut self) -> io::Result<()> {
        match &mut self.changes_left {
            None => Ok(()),
            Some(0) => Err(broken()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}
