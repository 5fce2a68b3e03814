//! The only door to the file system, and the only `unsafe` of the storage layer.
//!
//! [`Disk`] and [`DiskFile`] are the few calls the log needs, small enough that a test can put a
//! breaking disk behind them (`faulty`). [`RealDisk`] is Linux. Nothing here knows what a batch is.

// The calls std and nix have no safe form of: mincore, preadv2, sync_file_range, mappings.
mod read_only;
#[allow(unsafe_code)]
mod real;

#[cfg(test)]
pub(crate) mod faulty;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

pub use read_only::ReadOnlyFile;
pub use real::RealDisk;

/// A file system.
///
/// A name change (create, rename, remove) is durable only after [`Disk::sync_dir`] of its folder.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file for reading and writing.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;

    /// Names in a folder, in no order.
    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>>;

    /// Makes a folder and those above it; fine when it is there.
    fn create_dir_all(&self, folder: &Path) -> io::Result<()>;

    /// Renames a file or a folder, replacing a file of the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a folder and what is in it.
    fn remove_dir_all(&self, folder: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    fn sync_dir(&self, folder: &Path) -> io::Result<()>;

    /// Takes a lock on a file that lasts until the guard drops or the process ends; `None` when
    /// another process holds it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send + Sync>>>;

    /// Changes with each start of the machine.
    fn boot_id(&self) -> String;

    /// The room on the file system that a folder lies on.
    fn space(&self, folder: &Path) -> io::Result<Space>;
}

/// Room on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Space {
    /// All there is, in bytes.
    pub total: u64,
    /// What an ordinary process may still write, in bytes.
    pub free: u64,
}

/// An open file. Reads and writes name their position; there is no cursor.
pub trait DiskFile: Send + Sync + fmt::Debug + 'static {
    /// Writes from `slices` at `position`; like `pwritev`, it may write less than all.
    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<usize>;

    /// Reads at `position`; 0 is the end of the file.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;

    /// Reads what is in memory and does not wait for the disk: `None` when the first byte is not
    /// there, fewer bytes when later ones are not.
    fn read_resident(&self, buffer: &mut [u8], position: u64) -> io::Result<Option<usize>>;

    /// The length in bytes.
    fn size(&self) -> io::Result<u64>;

    /// When bytes were last written or cut, in milliseconds since the epoch by the file system's
    /// clock.
    fn modified_ms(&self) -> io::Result<i64>;

    /// Cuts or extends (with zeros).
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Waits until the bytes and the length are on stable storage.
    ///
    /// After an error nothing is known about bytes written since the last success, and a second
    /// call proves nothing: Linux marks pages clean whose write-back failed.
    fn sync(&self) -> io::Result<()>;

    /// Starts write-back of a range without waiting; a hint. A length of 0 is all from there on.
    fn start_write_back(&self, position: u64, len: u64);

    /// Has the file system set room aside for what is written from `position` on, without changing
    /// the file's length; a hint. Blocks that are there when bytes come make writing them cheaper.
    fn reserve(&self, _position: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    /// Gives back what is set aside behind the file's end. The file's times stay as they are.
    fn give_back(&self) -> io::Result<()> {
        Ok(())
    }

    /// Forgets cached pages, so that the next read asks the disk; a hint.
    fn forget_cached(&self);

    /// Maps `[position, position + len)` for reading, also past the end of the file: those bytes
    /// become readable as it grows. `position` must be a multiple of [`MAP_ALIGNMENT`].
    ///
    /// `Unsupported` where the disk has no maps.
    fn map(&self, position: u64, len: usize) -> io::Result<Box<dyn MappedRange>>;

    /// The descriptor, for `sendfile`; `None` on a disk that is not the machine's.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// Whether using it needs no opening first, which may wait for the disk.
    fn is_open(&self) -> bool {
        true
    }
}

/// Positions of maps are multiples of this (the largest page size in use).
pub const MAP_ALIGNMENT: u64 = 64 * 1024;

/// A part of a file mapped for reading. It goes when it and every slice of it are dropped.
///
/// The holder takes slices only of bytes that were written and that nobody will change or cut off
/// the file while the slice lives (`segment` keeps that promise).
pub trait MappedRange: Send + Sync {
    /// Bytes `[from, from + len)` of the range, without copying.
    fn slice(&self, from: usize, len: usize) -> Bytes;

    /// Whether all pages of the range are in memory, so that touching them does not wait.
    fn is_resident(&self, from: usize, len: usize) -> bool;

    /// Whether slices of it are alive.
    fn is_pinned(&self) -> bool;

    /// Bytes of address space it covers.
    fn size(&self) -> usize;
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// It must exist.
    Existing,
    /// Made when missing.
    Create,
    /// Made when missing, emptied when there.
    Truncate,
}

/// A name in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The last part of the path.
    pub name: String,
    /// File or folder.
    pub is_dir: bool,
    /// Bytes, for a file.
    pub len: u64,
}

/// When a file was last changed, in milliseconds since the epoch.
fn modified_ms(file: &std::fs::File) -> io::Result<i64> {
    let modified = file.metadata()?.modified()?;
    let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Whether an error says that the disk (or a quota) is full: it passes when there is space again.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether an error says that the process or the machine has no descriptor left: it passes.
pub fn is_out_of_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Reads until `buffer` is full or the file ends; returns the bytes read.
pub fn read_fully(file: &dyn DiskFile, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], position + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Writes all of `bytes`; what was written of a failed write stays.
pub fn write_fully(file: &dyn DiskFile, bytes: &[u8], position: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match file.write_at(&[IoSlice::new(&bytes[done..])], position + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Reads a whole small file; an error above `limit` bytes.
pub fn read_file(disk: &dyn Disk, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Existing)?;
    let len = file.size()?;
    if len > limit {
        let text = format!("{} has {len} bytes, at most {limit} are expected", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    let read = read_fully(&*file, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Replaces a file whole: temporary file, fsync, rename, fsync of the folder. After a crash the
/// file is the old one or the new one.
pub fn replace_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let temporary = Path::new(&name);
    let written = disk.open(temporary, OpenMode::Truncate).and_then(|file| {
        write_fully(&*file, bytes, 0)?;
        file.sync()
    });
    if let Err(e) = written {
        // A half-written temporary file would keep space on a full disk.
        let _ = disk.remove_file(temporary);
        return Err(e);
    }
    disk.rename(temporary, path)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new(".")))
}
