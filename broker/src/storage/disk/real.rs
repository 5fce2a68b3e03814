//! [`RealDisk`]: Linux.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use memmap2::{MmapOptions, MmapRaw};
use nix::fcntl::{FallocateFlags, Flock, FlockArg, PosixFadviseAdvice, fallocate, posix_fadvise};

use super::{Disk, DiskFile, Entry, MappedRange, OpenMode, Space, modified_ms};

/// Unit of `st_blocks`.
const STAT_BLOCK: u64 = 512;
/// Room behind a file's end that is not worth giving back: a file system rounds up to its blocks.
const ROUNDED_UP: u64 = 64 << 10;

/// The machine's file systems.
#[derive(Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        match mode {
            OpenMode::Existing => {}
            OpenMode::Create => {
                options.create(true).truncate(false);
            }
            OpenMode::Truncate => {
                options.create(true).truncate(true);
            }
        }
        let file = options.open(path)?;
        Ok(Arc::new(RealFile { file, no_wait: AtomicBool::new(true) }))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            // A name that is not text is none of ours.
            let Ok(name) = entry.file_name().into_string() else { continue };
            match entry.metadata() {
                Ok(meta) => entries.push(Entry { name, is_dir: meta.is_dir(), len: meta.len() }),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(entries)
    }

    fn create_dir_all(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, folder: &Path) -> io::Result<()> {
        fs::remove_dir_all(folder)
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send + Sync>>> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(Box::new(lock))),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(errno.into()),
        }
    }

    fn boot_id(&self) -> String {
        fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|text| text.trim().to_owned())
            .unwrap_or_default()
    }

    fn space(&self, folder: &Path) -> io::Result<Space> {
        let stat = nix::sys::statvfs::statvfs(folder)?;
        let block = stat.fragment_size();
        Ok(Space {
            total: stat.blocks().saturating_mul(block),
            free: stat.blocks_available().saturating_mul(block),
        })
    }
}

#[derive(Debug)]
struct RealFile {
    file: File,
    /// Whether the file system knows `RWF_NOWAIT` (tmpfs does not); found out by trying.
    no_wait: AtomicBool,
}

impl DiskFile for RealFile {
    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        let position = i64::try_from(position).map_err(|_| io::ErrorKind::FileTooLarge)?;
        nix::sys::uio::pwritev(&self.file, slices, position).map_err(Into::into)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }

    fn read_resident(&self, buffer: &mut [u8], position: u64) -> io::Result<Option<usize>> {
        if !self.no_wait.load(Ordering::Relaxed) {
            return self.read_at(buffer, position).map(Some);
        }
        let position_c = i64::try_from(position).map_err(|_| io::ErrorKind::InvalidInput)?;
        let slice = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: the one iovec describes `buffer`, which is borrowed mutably for the whole call;
        // the descriptor is open as long as `self`.
        let read = unsafe {
            libc::preadv2(self.file.as_raw_fd(), &raw const slice, 1, position_c, libc::RWF_NOWAIT)
        };
        if let Ok(read) = usize::try_from(read) {
            return Ok(Some(read));
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EAGAIN) => Ok(None),
            Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL) => {
                self.no_wait.store(false, Ordering::Relaxed);
                self.read_at(buffer, position).map(Some)
            }
            _ => Err(error),
        }
    }

    fn size(&self) -> io::Result<u64> {
        self.file.metadata().map(|meta| meta.len())
    }

    fn modified_ms(&self) -> io::Result<i64> {
        modified_ms(&self.file)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn start_write_back(&self, position: u64, len: u64) {
        let (Ok(position), Ok(len)) = (i64::try_from(position), i64::try_from(len)) else { return };
        // SAFETY: takes a descriptor and numbers, touches no memory of ours. It is a hint: errors
        // are left to the fdatasync that follows.
        unsafe {
            libc::sync_file_range(
                self.file.as_raw_fd(),
                position,
                len,
                libc::SYNC_FILE_RANGE_WRITE,
            );
        }
    }

    fn reserve(&self, position: u64, len: u64) -> io::Result<()> {
        let number = |n| i64::try_from(n).map_err(|_| io::ErrorKind::FileTooLarge);
        let (position, len) = (number(position)?, number(len)?);
        let flags = FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(&self.file, flags, position, len).map_err(Into::into)
    }

    fn give_back(&self) -> io::Result<()> {
        let stat = self.file.metadata()?;
        if stat.blocks() * STAT_BLOCK <= stat.len() + ROUNDED_UP {
            return Ok(());
        }
        // Cutting a file where it ends frees the blocks behind.
        self.file.set_len(stat.len())?;
        self.file.set_modified(stat.modified()?)
    }

    fn forget_cached(&self) {
        let _ = posix_fadvise(&self.file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    }

    fn map(&self, position: u64, len: usize) -> io::Result<Box<dyn MappedRange>> {
        let map = MmapOptions::new().offset(position).len(len).map_raw_read_only(&self.file)?;
        Ok(Box::new(RealMap { map: Arc::new(map) }))
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}

struct RealMap {
    map: Arc<MmapRaw>,
}

/// What a slice of a map keeps alive.
struct MapSlice {
    map: Arc<MmapRaw>,
    from: usize,
    len: usize,
}

impl AsRef<[u8]> for MapSlice {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `RealMap::slice` checked that the range lies in the mapping, which lives as long
        // as `self.map`. The bytes are in the file and stay as they are while the slice lives:
        // `segment` hands out written ranges only, appends go after them, and a truncation below
        // a range handed out writes a new file instead of cutting this one.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(self.from), self.len) }
    }
}

impl MappedRange for RealMap {
    fn slice(&self, from: usize, len: usize) -> Bytes {
        let inside = from.checked_add(len).is_some_and(|end| end <= self.map.len());
        assert!(inside, "slice {from}+{len} of a map of {}", self.map.len());
        Bytes::from_owner(MapSlice { map: self.map.clone(), from, len })
    }

    fn is_resident(&self, from: usize, len: usize) -> bool {
        const PAGES: usize = 4096;
        let page = page_size();
        let end = (from + len).min(self.map.len());
        let mut start = from / page * page;
        let mut states = [0u8; PAGES];
        while start < end {
            let bytes = (end - start).min(PAGES * page);
            let pages = bytes.div_ceil(page);
            // SAFETY: `start` is page-aligned inside the mapping (maps start on pages) and
            // `start + bytes` is not past it; `states` has a byte for each page. mincore reads
            // page tables, not the pages.
            let result = unsafe {
                libc::mincore(self.map.as_mut_ptr().add(start).cast(), bytes, states.as_mut_ptr())
            };
            if result != 0 || states[..pages].iter().any(|state| state & 1 == 0) {
                return false;
            }
            start += bytes;
        }
        true
    }

    fn is_pinned(&self) -> bool {
        Arc::strong_count(&self.map) > 1
    }

    fn size(&self) -> usize {
        self.map.len()
    }
}

fn page_size() -> usize {
    // SAFETY: no arguments but a constant, no memory touched.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}
