//! The small parts: what errors mean, calls that do less than asked, and the machine's own files.

use std::sync::atomic::{AtomicU32, Ordering};

use super::faulty::FaultyDisk;
use super::*;

/// A file whose every second call is interrupted, and that takes and gives three bytes at most.
#[derive(Debug)]
struct Stutters(Arc<dyn DiskFile>, AtomicU32);

impl Stutters {
    fn interrupts(&self) -> io::Result<()> {
        match self.1.fetch_add(1, Ordering::Relaxed) % 2 {
            0 => Err(io::ErrorKind::Interrupted.into()),
            _ => Ok(()),
        }
    }
}

impl DiskFile for Stutters {
    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        self.interrupts()?;
        let front = &slices[0][..slices[0].len().min(3)];
        self.0.write_at(&[IoSlice::new(front)], position)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.interrupts()?;
        let len = buffer.len().min(3);
        self.0.read_at(&mut buffer[..len], position)
    }

    fn read_resident(&self, buffer: &mut [u8], position: u64) -> io::Result<Option<usize>> {
        self.0.read_resident(buffer, position)
    }

    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn modified_ms(&self) -> io::Result<i64> {
        self.0.modified_ms()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn start_write_back(&self, _: u64, _: u64) {}

    fn forget_cached(&self) {}

    fn map(&self, position: u64, len: usize) -> io::Result<Box<dyn MappedRange>> {
        self.0.map(position, len)
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

#[test]
fn errors_that_pass_are_told_from_those_that_do_not() {
    let error = io::Error::from_raw_os_error;
    for full in [libc::ENOSPC, libc::EDQUOT] {
        assert!(is_full(&error(full)) && !is_out_of_files(&error(full)));
    }
    for few in [libc::EMFILE, libc::ENFILE] {
        assert!(is_out_of_files(&error(few)) && !is_full(&error(few)));
    }
    for bad in [libc::EIO, libc::EROFS, libc::ENOENT] {
        assert!(!is_full(&error(bad)) && !is_out_of_files(&error(bad)));
    }
}

#[test]
fn calls_that_are_interrupted_or_do_less_than_asked_go_on() {
    let disk = FaultyDisk::new(Path::new("/d"));
    let file = disk.open(Path::new("/d/f"), OpenMode::Create).unwrap();
    let file = Stutters(file, AtomicU32::new(0));
    write_fully(&file, b"0123456789", 2).unwrap();
    let mut buffer = [b'-'; 16];
    assert_eq!(read_fully(&file, &mut buffer, 2).unwrap(), 10);
    assert_eq!(&buffer, b"0123456789------");
}

#[test]
fn small_files_are_read_whole_or_not_at_all_and_replaced_the_same_way() {
    let (disk, path) = (FaultyDisk::new(Path::new("/d")), Path::new("/d/f"));
    replace_file(&disk, path, b"0123456789").unwrap();
    assert_eq!(read_file(&disk, path, 10).unwrap(), b"0123456789");
    assert_eq!(read_file(&disk, path, 9).unwrap_err().kind(), io::ErrorKind::InvalidData);
    disk.set_faults(|faults| faults.capacity = Some(15));
    assert!(is_full(&replace_file(&disk, path, &[7; 20]).unwrap_err()));
    assert_eq!(read_file(&disk, path, 10).unwrap(), b"0123456789");
    let names: Vec<_> = disk.list(Path::new("/d")).unwrap().into_iter().map(|e| e.name).collect();
    assert_eq!(names, ["f"], "what was half written keeps no space");
}

#[test]
fn the_machines_files_are_opened_listed_and_locked_as_told() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, path) = (RealDisk, dir.path().join("f"));
    assert!(disk.open(&path, OpenMode::Existing).is_err());
    let file = disk.open(&path, OpenMode::Create).unwrap();
    write_fully(&*file, b"bytes", 0).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let age_ms = now.as_millis() as i64 - file.modified_ms().unwrap();
    assert!((-60_000..60_000).contains(&age_ms), "{age_ms}");
    assert_eq!(disk.open(&path, OpenMode::Create).unwrap().size().unwrap(), 5);
    disk.create_dir_all(&dir.path().join("a/b")).unwrap();
    let mut entries = disk.list(dir.path()).unwrap();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let seen: Vec<_> = entries.iter().map(|e| (e.name.as_str(), e.is_dir)).collect();
    assert_eq!((seen, entries[1].len), (vec![("a", true), ("f", false)], 5));
    assert_eq!(disk.open(&path, OpenMode::Truncate).unwrap().size().unwrap(), 0);

    let lock = disk.lock(&path).unwrap();
    assert!(lock.is_some() && disk.lock(&path).unwrap().is_none());
    drop(lock);
    assert!(disk.lock(&path).unwrap().is_some());
    let space = disk.space(dir.path()).unwrap();
    assert!(0 < space.free && space.free <= space.total, "{space:?}");
}

#[test]
fn a_map_knows_whether_slices_of_it_live() {
    let dir = tempfile::tempdir().unwrap();
    let file = RealDisk.open(&dir.path().join("f"), OpenMode::Create).unwrap();
    write_fully(&*file, &[5; 1000], 0).unwrap();
    let map = file.map(0, 1 << 16).unwrap();
    assert!(!map.is_pinned() && map.size() == 1 << 16);
    let slice = map.slice(10, 20);
    assert!(map.is_pinned() && slice[..] == [5; 20]);
    drop(slice);
    assert!(!map.is_pinned());
    assert!(map.is_resident(0, 1000), "it was written just now");
}

#[test]
fn a_file_for_reading_takes_no_change() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let file = RealDisk.open(&path, OpenMode::Create).unwrap();
    write_fully(&*file, b"bytes", 0).unwrap();
    let read_only = ReadOnlyFile::open(&path).unwrap();
    let kind = |result: io::Result<()>| result.unwrap_err().kind();
    let refused = io::ErrorKind::ReadOnlyFilesystem;
    assert_eq!(kind(write_fully(&read_only, b"other", 0)), refused);
    assert_eq!((kind(read_only.set_len(1)), kind(read_only.sync())), (refused, refused));
    let mut buffer = [0; 8];
    assert_eq!(read_fully(&read_only, &mut buffer, 0).unwrap(), 5);
    assert_eq!((&buffer[..5], read_only.size().unwrap()), (&b"bytes"[..], 5));
}
