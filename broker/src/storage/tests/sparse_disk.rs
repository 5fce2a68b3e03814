//! A disk in memory whose logs may have many gigabytes of zeros: pages of zeros are not kept.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::storage::disk::faulty::FaultyDisk;
use crate::storage::disk::{Disk, DiskFile, Entry, MappedRange, OpenMode, Space};

const PAGE: u64 = 4096;
const MANY: usize = 256 * 1024;
static ZEROS: [u8; MANY] = [0; MANY];

/// Names, and files other than logs, are those of a [`FaultyDisk`].
#[derive(Clone)]
pub(super) struct SparseDisk {
    rest: FaultyDisk,
    logs: Arc<Mutex<HashMap<PathBuf, Arc<SparseFile>>>>,
    zeros: Arc<OnceLock<Range<usize>>>,
}

#[derive(Debug, Default)]
struct SparseFile {
    contents: Mutex<Contents>,
    zeros: Arc<OnceLock<Range<usize>>>,
}

#[derive(Debug, Default)]
struct Contents {
    pages: BTreeMap<u64, Box<[u8]>>,
    len: u64,
}

impl SparseDisk {
    pub(super) fn new(folder: &Path) -> Self {
        Self { rest: FaultyDisk::new(folder), logs: Arc::default(), zeros: Arc::default() }
    }

    /// Has writes out of these bytes, which must be zeros and stay, taken for zeros unseen: looking
    /// at ten gigabytes takes seconds.
    pub(super) fn trust_zeros(&self, bytes: &'static [u8]) {
        assert!(bytes.chunks(MANY).all(|part| part == &ZEROS[..part.len()]));
        let range = bytes.as_ptr_range();
        self.zeros.set(range.start.addr()..range.end.addr()).unwrap();
    }

    /// Bytes of logs kept in memory.
    pub(super) fn kept_bytes(&self) -> u64 {
        let logs = self.logs.lock();
        logs.values().map(|file| file.contents.lock().pages.len() as u64 * PAGE).sum()
    }
}

impl Disk for SparseDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.rest.open(path, mode)?;
        if path.extension().is_none_or(|extension| extension != "log") {
            return Ok(file);
        }
        let new = || Arc::new(SparseFile { zeros: self.zeros.clone(), ..SparseFile::default() });
        let log = self.logs.lock().entry(path.to_owned()).or_insert_with(new).clone();
        if mode == OpenMode::Truncate {
            log.set_len(0)?;
        }
        Ok(log)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        self.rest.list(folder)
    }

    fn create_dir_all(&self, folder: &Path) -> io::Result<()> {
        self.rest.create_dir_all(folder)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.rest.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.logs.lock().remove(path);
        self.rest.remove_file(path)
    }

    fn remove_dir_all(&self, folder: &Path) -> io::Result<()> {
        self.rest.remove_dir_all(folder)
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        self.rest.sync_dir(folder)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send + Sync>>> {
        self.rest.lock(path)
    }

    fn boot_id(&self) -> String {
        self.rest.boot_id()
    }

    fn space(&self, folder: &Path) -> io::Result<Space> {
        self.rest.space(folder)
    }
}

impl SparseFile {
    /// Calls `each` with every page that a range touches: its number, where in it, where in the range.
    fn each_page(position: u64, len: usize, mut each: impl FnMut(u64, usize, Range<usize>)) {
        let mut done = 0;
        while done < len {
            let at = position + done as u64;
            let within = (at % PAGE) as usize;
            let part = (PAGE as usize - within).min(len - done);
            each(at / PAGE, within, done..done + part);
            done += part;
        }
    }
}

impl DiskFile for SparseFile {
    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        let contents = &mut *self.contents.lock();
        let mut at = position;
        for slice in slices {
            let after = at + slice.len() as u64;
            let untouched = contents.pages.range(at / PAGE..after.div_ceil(PAGE)).next().is_none();
            let memory = slice.as_ptr_range();
            let trusted = self.zeros.get().is_some_and(|zeros| {
                zeros.start <= memory.start.addr() && memory.end.addr() <= zeros.end
            });
            let zero = || slice.chunks(MANY).all(|part| part == &ZEROS[..part.len()]);
            if untouched && (trusted || zero()) {
                at = after;
                continue;
            }
            Self::each_page(at, slice.len(), |number, within, range| {
                let bytes = &slice[range];
                if let Some(page) = contents.pages.get_mut(&number) {
                    page[within..within + bytes.len()].copy_from_slice(bytes);
                } else if bytes != &ZEROS[..bytes.len()] {
                    let mut page = vec![0; PAGE as usize].into_boxed_slice();
                    page[within..within + bytes.len()].copy_from_slice(bytes);
                    contents.pages.insert(number, page);
                }
            });
            at = after;
        }
        contents.len = contents.len.max(at);
        Ok((at - position) as usize)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let contents = self.contents.lock();
        let len = buffer.len().min(contents.len.saturating_sub(position) as usize);
        Self::each_page(position, len, |number, within, range| {
            let bytes = &mut buffer[range];
            match contents.pages.get(&number) {
                Some(page) => bytes.copy_from_slice(&page[within..within + bytes.len()]),
                None => bytes.fill(0),
            }
        });
        Ok(len)
    }

    fn read_resident(&self, buffer: &mut [u8], position: u64) -> io::Result<Option<usize>> {
        self.read_at(buffer, position).map(Some)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.contents.lock().len)
    }

    fn modified_ms(&self) -> io::Result<i64> {
        Ok(i64::MAX)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let contents = &mut *self.contents.lock();
        contents.pages.retain(|&number, _| number * PAGE < len);
        if let Some(page) = contents.pages.get_mut(&(len / PAGE)) {
            page[(len % PAGE) as usize..].fill(0);
        }
        contents.len = len;
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn start_write_back(&self, _position: u64, _len: u64) {}

    fn forget_cached(&self) {}

    fn map(&self, _position: u64, _len: usize) -> io::Result<Box<dyn MappedRange>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
}
