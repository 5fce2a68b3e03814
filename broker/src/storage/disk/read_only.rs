//! [`ReadOnlyFile`]: a file of the machine that cannot be changed through it, for tools that look
//! at files which are not theirs.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{DiskFile, MappedRange, modified_ms};

/// A file opened for reading alone: the system refuses writes, and so does every call here.
#[derive(Debug)]
pub struct ReadOnlyFile {
    file: File,
}

impl ReadOnlyFile {
    /// Opens an existing file.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)? })
    }
}

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl DiskFile for ReadOnlyFile {
    fn write_at(&self, _slices: &[IoSlice<'_>], _position: u64) -> io::Result<usize> {
        refused()
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }

    fn read_resident(&self, buffer: &mut [u8], position: u64) -> io::Result<Option<usize>> {
        self.read_at(buffer, position).map(Some)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn modified_ms(&self) -> io::Result<i64> {
        modified_ms(&self.file)
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        refused()
    }

    fn sync(&self) -> io::Result<()> {
        refused()
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
