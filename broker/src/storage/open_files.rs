//! The budget of open files over all logs: segments' files are opened when they are used and closed
//! again, the least recently used first, so that descriptors do not grow with the data.
//!
//! The budget is also a [`Disk`]: it passes every call on, and where the process has run out of
//! descriptors it closes some of its files and tries once more. What may be closed is decided by
//! [`PooledFile`]; nothing here knows what a segment is.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::disk::{self, Disk, DiskFile, Entry, OpenMode, Space};
use super::pooled_file::{PooledFile, Role};

/// Files looked at for one that may be closed, each time one is opened: bounds what an open costs
/// when all of them hold unsynced bytes. The budget is exceeded then.
const LOOKED_AT: usize = 64;
/// Files closed at once when the process has run out of descriptors.
const CLOSED_AT_ONCE: usize = 32;

/// Open files of segments, of the whole process.
///
/// `open` counts descriptors that exist, those in use by a reader at this moment included. Lock
/// order: a file's own lock, then `queue`; a file's lock is only tried for while `queue` is held.
pub(super) struct OpenFiles {
    disk: Arc<dyn Disk>,
    limit: usize,
    open: AtomicUsize,
    closed: AtomicU64,
    /// Log files made durable.
    synced: AtomicU64,
    /// Open files, about in the order of their last use (second chance).
    queue: Mutex<VecDeque<Weak<PooledFile>>>,
}

/// A descriptor that counts.
pub(super) struct Handle {
    pub(super) file: Arc<dyn DiskFile>,
    files: Arc<OpenFiles>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.files.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for OpenFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenFiles").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl OpenFiles {
    /// Keeps at most `limit` files open, as far as what they hold is synced.
    pub(super) fn new(disk: Arc<dyn Disk>, limit: usize) -> Arc<Self> {
        Arc::new(Self {
            disk,
            limit: limit.max(1),
            open: AtomicUsize::new(0),
            closed: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            queue: Mutex::default(),
        })
    }

    /// Opens a file that is closed when it is not used.
    pub(super) fn file(
        self: &Arc<Self>,
        path: &Path,
        mode: OpenMode,
        role: Role,
    ) -> io::Result<Arc<PooledFile>> {
        PooledFile::open(self.clone(), path, mode, role)
    }

    /// Descriptors of segments that are open.
    pub(super) fn open_now(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// The budget.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Files closed to stay within it.
    pub(super) fn closed(&self) -> u64 {
        self.closed.load(Ordering::Relaxed)
    }

    /// Times that a log file was made durable.
    pub(super) fn synced(&self) -> u64 {
        self.synced.load(Ordering::Relaxed)
    }

    /// A log file was made durable.
    pub(super) fn count_sync(&self) {
        self.synced.fetch_add(1, Ordering::Relaxed);
    }

    /// Opens a descriptor, closing others for it.
    pub(super) fn handle(self: &Arc<Self>, path: &Path, mode: OpenMode) -> io::Result<Arc<Handle>> {
        self.make_room(1);
        let file = self.open(path, mode)?;
        self.open.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(Handle { file, files: self.clone() }))
    }

    /// Closes what is too much when `more` come: files that held unsynced bytes, as a rule.
    pub(super) fn make_room(&self, more: usize) {
        let excess = (self.open_now() + more).saturating_sub(self.limit);
        if excess > 0 {
            self.close_some(excess);
        }
    }

    /// Takes an opened file in.
    pub(super) fn enlist(&self, file: &Weak<PooledFile>) {
        let mut queue = self.queue.lock();
        if queue.len() > 2 * self.open_now() + LOOKED_AT {
            // Segments that were deleted leave their places behind.
            queue.retain(|file| file.strong_count() > 0);
        }
        queue.push_back(file.clone());
    }

    /// Closes up to `wanted` files; fewer where those looked at are in use or hold unsynced bytes.
    fn close_some(&self, wanted: usize) -> usize {
        let mut handles = Vec::new();
        {
            let mut queue = self.queue.lock();
            for _ in 0..queue.len().min(LOOKED_AT + 2 * wanted) {
                let Some(next) = queue.pop_front() else { break };
                let Some(file) = next.upgrade() else { continue };
                match file.give_up() {
                    Ok(handle) => handles.extend(handle),
                    Err(_) => queue.push_back(next),
                }
                if handles.len() >= wanted {
                    break;
                }
            }
        }
        // Closed here, where no lock is held.
        let count = handles.len();
        self.closed.fetch_add(count as u64, Ordering::Relaxed);
        count
    }

    /// Runs a call of the disk; again after closing files where there was no descriptor for it.
    fn with_descriptors<T>(&self, mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        match call() {
            Err(error) if disk::is_out_of_files(&error) && self.close_some(CLOSED_AT_ONCE) > 0 => {
                call()
            }
            result => result,
        }
    }
}

impl Disk for OpenFiles {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        self.with_descriptors(|| self.disk.open(path, mode))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        self.with_descriptors(|| self.disk.list(folder))
    }

    fn create_dir_all(&self, folder: &Path) -> io::Result<()> {
        self.disk.create_dir_all(folder)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn remove_dir_all(&self, folder: &Path) -> io::Result<()> {
        self.with_descriptors(|| self.disk.remove_dir_all(folder))
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        self.with_descriptors(|| self.disk.sync_dir(folder))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send + Sync>>> {
        self.with_descriptors(|| self.disk.lock(path))
    }

    fn boot_id(&self) -> String {
        self.disk.boot_id()
    }

    fn space(&self, folder: &Path) -> io::Result<Space> {
        self.disk.space(folder)
    }
}
