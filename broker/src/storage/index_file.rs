//! A file of fixed-size entries, appended in order: what the offset and the time index share.
//!
//! The last entries wait in memory until [`TAIL`] of them make a write worth its call; readers see
//! both parts as one. An index is a cache of the log: an entry that cannot be written (full disk)
//! is dropped, which costs a longer scan and nothing else. Nothing here knows what an entry means.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use super::disk::{DiskFile, write_fully};
use super::pooled_file::PooledFile;
use super::wait::Wait;

/// Entries collected in memory before they are written.
const TAIL: usize = 64;

/// Entries read at a time once a binary search has come close.
const BLOCK: u64 = 256;
/// Who reads on asks for an entry soon behind the one asked for last: this many before that are looked
/// at too.
const BEFORE_LAST: u64 = 32;

/// Entries of `N` bytes. One writer, any number of readers.
///
/// Entries `0..written` are in the file, the next ones in `tail`; `written` grows only under the
/// tail's lock, so a reader that takes `written` under that lock sees each entry once.
#[derive(Debug)]
pub(super) struct IndexFile<const N: usize> {
    file: Arc<PooledFile>,
    written: AtomicU64,
    tail: RwLock<Vec<[u8; N]>>,
    /// What the last search in the file found; a place to look first.
    last_found: AtomicU64,
}

impl<const N: usize> IndexFile<N> {
    /// Over a file whose length is taken as it is; a torn last entry is cut off.
    pub(super) fn open(file: Arc<PooledFile>) -> io::Result<Self> {
        let len = file.size()?;
        let entries = len / N as u64;
        if len != entries * N as u64 {
            file.set_len(entries * N as u64)?;
        }
        let (written, tail) = (AtomicU64::new(entries), RwLock::default());
        Ok(Self { file, written, tail, last_found: AtomicU64::new(0) })
    }

    /// The file.
    pub(super) fn file(&self) -> &PooledFile {
        &self.file
    }

    /// The file is not opened any more: its name may become another's.
    pub(super) fn retire(&self) {
        self.file.retire();
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> u64 {
        let tail = self.tail.read();
        self.written.load(Ordering::Acquire) + tail.len() as u64
    }

    /// Adds an entry. Errors of the disk are swallowed; see the module's first lines.
    pub(super) fn push(&self, entry: [u8; N]) {
        let mut tail = self.tail.write();
        if tail.len() >= TAIL && self.write_tail(&mut tail).is_err() && tail.len() >= 2 * TAIL {
            return;
        }
        tail.push(entry);
    }

    /// Writes what waits in memory.
    pub(super) fn write_out(&self) -> io::Result<()> {
        self.write_tail(&mut self.tail.write())
    }

    /// Writes what waits in memory and makes the file durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.write_out()?;
        self.file.sync()
    }

    fn write_tail(&self, tail: &mut Vec<[u8; N]>) -> io::Result<()> {
        if tail.is_empty() {
            return Ok(());
        }
        let written = self.written.load(Ordering::Acquire);
        write_fully(&*self.file, tail.as_flattened(), written * N as u64)?;
        self.written.store(written + tail.len() as u64, Ordering::Release);
        tail.clear();
        Ok(())
    }

    /// The entry of that number, `None` past the end.
    pub(super) fn get(&self, number: u64, wait: Wait) -> io::Result<Option<[u8; N]>> {
        {
            let tail = self.tail.read();
            let written = self.written.load(Ordering::Acquire);
            if number >= written {
                return Ok(tail.get((number - written) as usize).copied());
            }
        }
        let mut entry = [0; N];
        let read = wait.read(&*self.file, &mut entry, number * N as u64)?;
        Ok((read == N).then_some(entry))
    }

    /// The last entry.
    pub(super) fn last(&self) -> io::Result<Option<[u8; N]>> {
        match self.len() {
            0 => Ok(None),
            n => self.get(n - 1, Wait::Allowed),
        }
    }

    /// How many entries `before` holds for; it must hold for a prefix.
    pub(super) fn partition_point(
        &self,
        wait: Wait,
        before: impl Fn(&[u8; N]) -> bool,
    ) -> io::Result<u64> {
        let written = {
            let tail = self.tail.read();
            let written = self.written.load(Ordering::Acquire);
            if tail.first().is_some_and(&before) {
                return Ok(written + tail.partition_point(before) as u64);
            }
            written
        };
        let near = self.last_found.load(Ordering::Relaxed).saturating_sub(BEFORE_LAST);
        let near = near.min(written)..(near + BLOCK).min(written);
        let found = match self.point_within(near, written, wait, &before)? {
            Some(found) => found,
            None => self.point_anywhere(written, wait, before)?,
        };
        self.last_found.store(found, Ordering::Relaxed);
        Ok(found)
    }

    /// The same by one read of the entries `near`; `None` where it is not among them.
    fn point_within(
        &self,
        near: Range<u64>,
        written: u64,
        wait: Wait,
        before: impl Fn(&[u8; N]) -> bool,
    ) -> io::Result<Option<u64>> {
        let mut block = vec![0; (near.end - near.start) as usize * N];
        if wait.read(&*self.file, &mut block, near.start * N as u64)? < block.len() {
            return Ok(None);
        }
        let (entries, _) = block.as_chunks();
        let begins = near.start == 0 || entries.first().is_some_and(&before);
        let ends = near.end == written || entries.last().is_some_and(|last| !before(last));
        let point = || near.start + entries.partition_point(before) as u64;
        Ok((begins && ends).then(point))
    }

    /// The same by a binary search in the file.
    fn point_anywhere(
        &self,
        written: u64,
        wait: Wait,
        before: impl Fn(&[u8; N]) -> bool,
    ) -> io::Result<u64> {
        let (mut low, mut high) = (0, written);
        while high - low > BLOCK {
            let middle = low + (high - low) / 2;
            match self.get(middle, wait)? {
                Some(entry) if before(&entry) => low = middle + 1,
                _ => high = middle,
            }
        }
        let mut block = vec![0; (high - low) as usize * N];
        let read = wait.read(&*self.file, &mut block, low * N as u64)?;
        let (entries, _) = block[..read].as_chunks();
        Ok(low + entries.partition_point(before) as u64)
    }

    /// Whether each entry is `before` the next one. Reads the whole file.
    pub(super) fn is_sorted(
        &self,
        before: impl Fn(&[u8; N], &[u8; N]) -> bool,
    ) -> io::Result<bool> {
        let entries = self.len();
        let mut last: Option<[u8; N]> = None;
        let mut at = 0;
        while at < entries {
            let mut block = vec![0; (entries - at).min(16 * BLOCK) as usize * N];
            let read = Wait::Allowed.read(&*self.file, &mut block, at * N as u64)?;
            let (block, _) = block[..read].as_chunks();
            if block.is_empty() {
                return Ok(true);
            }
            let joined = last.zip(block.first()).is_none_or(|(last, first)| before(&last, first));
            if !joined || !block.is_sorted_by(&before) {
                return Ok(false);
            }
            at += block.len() as u64;
            last = block.last().copied();
        }
        Ok(true)
    }

    /// Keeps the first `entries`.
    pub(super) fn truncate(&self, entries: u64) -> io::Result<()> {
        let mut tail = self.tail.write();
        let written = self.written.load(Ordering::Acquire);
        if entries >= written {
            tail.truncate((entries - written) as usize);
            return Ok(());
        }
        tail.clear();
        // Readers may still look at entries past the cut; they find a short file and stop there.
        self.written.store(entries, Ordering::Release);
        self.file.set_len(entries * N as u64)
    }
}
