//! A file of a segment that need not be open: opened when it is used, closed by [`OpenFiles`] when
//! others need its descriptor more.
//!
//! What it promises:
//! - A log file that holds bytes written and not synced since stays open, so that the error of a
//!   failed write-back reaches the fsync that follows. (Index files are caches and may be closed.)
//! - A file in use is not closed; a mapping needs no descriptor once it is made.
//! - A retired file is never opened again: its name may by then be another file's. Who still uses
//!   it gets an error and looks the segment up anew.

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use super::disk::{DiskFile, MappedRange, OpenMode};
use super::open_files::{Handle, OpenFiles};

/// What a file is, as far as closing it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Records: unsynced bytes keep it open.
    Log,
    /// A cache of the log, checked before it is believed.
    Index,
}

/// Writes by number, so that a sync knows whether it covered all of them.
/// `synced <= done <= begun`; the file is dirty while `synced < begun`.
#[derive(Debug, Default)]
struct Writes {
    begun: u64,
    done: u64,
    synced: u64,
}

/// See the module. Readers take no lock while it is open.
pub(super) struct PooledFile {
    /// Changes with the name; who changes it keeps the file open meanwhile.
    path: Mutex<PathBuf>,
    role: Role,
    files: Arc<OpenFiles>,
    handle: ArcSwapOption<Handle>,
    /// Held while the file is opened and closed, never while it is read, written or synced.
    writes: Mutex<Writes>,
    /// Since it was last looked at for closing.
    used: AtomicBool,
    retired: AtomicBool,
    me: Weak<Self>,
}

impl fmt::Debug for PooledFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PooledFile").field(&*self.path.lock()).finish()
    }
}

/// Why a file stays open.
#[derive(Debug)]
pub(super) struct InUse;

impl PooledFile {
    pub(super) fn open(
        files: Arc<OpenFiles>,
        path: &Path,
        mode: OpenMode,
        role: Role,
    ) -> io::Result<Arc<Self>> {
        let handle = files.handle(path, mode)?;
        let file = Arc::new_cyclic(|me| Self {
            path: Mutex::new(path.to_owned()),
            role,
            handle: ArcSwapOption::new(Some(handle)),
            writes: Mutex::default(),
            used: AtomicBool::new(true),
            retired: AtomicBool::new(false),
            me: me.clone(),
            files,
        });
        file.files.enlist(&file.me);
        Ok(file)
    }

    /// The open file: stays open while it is held. Opens it, so that it may wait for the disk.
    pub(super) fn pin(&self) -> io::Result<Arc<Handle>> {
        if let Some(handle) = self.handle_if_open() {
            return Ok(handle);
        }
        self.open_locked(&mut self.writes.lock())
    }

    /// It has another name now. The caller has pinned it since before the old name went.
    pub(super) fn renamed(&self, path: &Path) {
        path.clone_into(&mut self.path.lock());
    }

    /// From here on it is not opened again; what has it open goes on with it.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
    }

    fn handle_if_open(&self) -> Option<Arc<Handle>> {
        let handle = self.handle.load_full()?;
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        Some(handle)
    }

    fn open_locked(&self, _: &mut Writes) -> io::Result<Arc<Handle>> {
        if let Some(handle) = self.handle_if_open() {
            return Ok(handle);
        }
        let path = self.path.lock().clone();
        let handle = self.files.handle(&path, OpenMode::Existing)?;
        // After opening: who retires it does so before the name becomes another file's.
        if self.retired.load(Ordering::SeqCst) {
            let text = format!("{} was replaced or deleted meanwhile", path.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        self.used.store(true, Ordering::Relaxed);
        self.handle.store(Some(handle.clone()));
        self.files.enlist(&self.me);
        Ok(handle)
    }

    /// Gives the descriptor up for closing; `None` when it is closed already.
    pub(super) fn give_up(&self) -> Result<Option<Arc<Handle>>, InUse> {
        let writes = self.writes.try_lock().ok_or(InUse)?;
        let dirty = self.role == Role::Log && writes.synced < writes.begun;
        if self.used.swap(false, Ordering::Relaxed) || dirty {
            return Err(InUse);
        }
        let Some(handle) = self.handle.swap(None) else { return Ok(None) };
        // Somebody uses it: a second descriptor beside it would not be told of its errors.
        if Arc::strong_count(&handle) > 1 {
            self.handle.store(Some(handle));
            return Err(InUse);
        }
        Ok(Some(handle))
    }

    /// Runs a change of the file, which it must not be closed after before a sync.
    fn change<R>(&self, run: impl FnOnce(&dyn DiskFile) -> io::Result<R>) -> io::Result<R> {
        let handle = {
            let mut writes = self.writes.lock();
            let handle = self.open_locked(&mut writes)?;
            writes.begun += 1;
            handle
        };
        let result = run(&*handle.file);
        self.writes.lock().done += 1;
        result
    }
}

impl DiskFile for PooledFile {
    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        self.change(|file| file.write_at(slices, position))
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.pin()?.file.read_at(buffer, position)
    }

    /// A closed file's bytes are not in memory as far as a caller that may not wait can tell.
    fn read_resident(&self, buffer: &mut [u8], position: u64) -> io::Result<Option<usize>> {
        match self.handle_if_open() {
            Some(handle) => handle.file.read_resident(buffer, position),
            None => Ok(None),
        }
    }

    fn size(&self) -> io::Result<u64> {
        self.pin()?.file.size()
    }

    fn modified_ms(&self) -> io::Result<i64> {
        self.pin()?.file.modified_ms()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(|file| file.set_len(len))
    }

    /// Always asks the disk: an earlier process may have written what is not synced.
    fn sync(&self) -> io::Result<()> {
        let (handle, begun, done) = {
            let mut writes = self.writes.lock();
            let handle = self.open_locked(&mut writes)?;
            (handle, writes.begun, writes.done)
        };
        handle.file.sync()?;
        if self.role == Role::Log {
            self.files.count_sync();
        }
        if begun == done {
            // Those that began since are not covered.
            let mut writes = self.writes.lock();
            writes.synced = writes.synced.max(done);
        }
        Ok(())
    }

    fn start_write_back(&self, position: u64, len: u64) {
        if let Some(handle) = self.handle_if_open() {
            handle.file.start_write_back(position, len);
        }
    }

    fn reserve(&self, position: u64, len: u64) -> io::Result<()> {
        self.pin()?.file.reserve(position, len)
    }

    fn give_back(&self) -> io::Result<()> {
        self.pin()?.file.give_back()
    }

    fn forget_cached(&self) {
        if let Ok(handle) = self.pin() {
            handle.file.forget_cached();
        }
    }

    fn map(&self, position: u64, len: usize) -> io::Result<Box<dyn MappedRange>> {
        self.pin()?.file.map(position, len)
    }

    /// None of its own: a handle, which stays open while it is held, has one.
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn is_open(&self) -> bool {
        self.handle.load().is_some()
    }
}
