//! The files of one data directory, behind a trait that tests can break.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What the log needs of a directory. Names are plain file names.
pub(crate) trait Disk: Send {
    /// The whole file, or `None` if there is none.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;
    /// The file up to its last byte that is not zero, or `None` if there is none. Costs no more
    /// memory than it gives.
    fn read_without_zeros(&self, name: &str) -> io::Result<Option<Vec<u8>>>;
    /// Opens a file for writing, makes it if missing; gives its length too.
    fn open(&self, name: &str) -> io::Result<(Box<dyn DiskFile>, u64)>;
    /// Replaces a file whole: after a crash it is the old one or the new one.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Makes new names in the directory survive a crash.
    fn sync_directory(&self) -> io::Result<()>;
}

/// One open file.
pub(crate) trait DiskFile: Send {
    /// Writes all of the bytes; after an error any part of them may have been written.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    fn set_len(&mut self, len: u64) -> io::Result<()>;
    /// What was written before this call survives a power cut once it returns.
    fn sync(&mut self) -> io::Result<()>;
}

/// A real directory. Holds its lock: no second server can open it.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Makes the directory if missing and locks it; `None` if another process has the lock.
    pub(crate) fn lock(path: &Path) -> io::Result<Option<Self>> {
        std::fs::create_dir_all(path)?;
        let lock =
            OpenOptions::new().write(true).create(true).truncate(false).open(path.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Self { path: path.to_owned(), _lock: lock })),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Disk for Directory {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match std::fs::read(self.path.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read_without_zeros(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let mut file = match File::open(self.path.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut block = [0; 16 << 10];
        let (mut bytes, mut zeros) = (Vec::new(), 0);
        loop {
            let read = file.read(&mut block)?;
            let content = without_zeros(&block[..read]);
            if read == 0 {
                return Ok(Some(bytes));
            }
            if !content.is_empty() {
                bytes.resize(bytes.len() + zeros, 0);
                bytes.extend_from_slice(content);
                zeros = 0;
            }
            zeros += read - content.len();
        }
    }

    fn open(&self, name: &str) -> io::Result<(Box<dyn DiskFile>, u64)> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.path.join(name))?;
        let len = file.metadata()?.len();
        Ok((Box::new(file), len))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.path.join(format!("{name}.tmp"));
        let write = || {
            let file = File::create(&temporary)?;
            file.write_all_at(bytes, 0)?;
            file.sync_all()?;
            std::fs::rename(&temporary, self.path.join(name))
        };
        write().inspect_err(|_| {
            // What is left of it would only take space away from the log.
            let _ = std::fs::remove_file(&temporary);
        })?;
        self.sync_directory()
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

impl DiskFile for File {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Whether the error says that there is no space left.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Up to the last byte that is not zero.
pub(crate) fn without_zeros(bytes: &[u8]) -> &[u8] {
    static ZEROS: [u8; 4096] = [0; 4096];
    let mut rest = bytes;
    while let Some((front, block)) = rest.split_last_chunk::<4096>()
        && *block == ZEROS
    {
        rest = front;
    }
    let end = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &rest[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_in_the_middle_are_read_and_those_at_the_end_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Directory::lock(directory.path()).unwrap().unwrap();
        assert!(Directory::lock(directory.path()).unwrap().is_none());
        assert_eq!(disk.read_without_zeros("log").unwrap(), None);
        for len in [0, 1, 16 << 10, (16 << 10) + 1, 50_000] {
            let mut bytes = vec![0; len];
            bytes.extend_from_slice(&[1, 0, 2]);
            let (mut file, _) = disk.open("log").unwrap();
            file.set_len(0).unwrap();
            file.write_at(0, &bytes).unwrap();
            assert_eq!(disk.read_without_zeros("log").unwrap(), Some(bytes.clone()));
            file.set_len(200_000).unwrap();
            assert_eq!(disk.read_without_zeros("log").unwrap(), Some(bytes));
        }
    }
}
