//! Files of a [`FaultyDisk`](super::FaultyDisk), and maps of them.

use std::collections::HashSet;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::contents::{Contents, PAGE};
use super::{Faults, State, broken};
use crate::storage::disk::{DiskFile, MappedRange};

/// An open file, of the life of the disk that it was opened in.
#[derive(Clone)]
pub(super) struct FaultyFile {
    pub(super) state: Arc<Mutex<State>>,
    pub(super) number: u64,
    pub(super) life: u64,
    pub(super) path: PathBuf,
    /// Maps of it hold none, as on the real disk.
    pub(super) _descriptor: Arc<()>,
}

impl std::fmt::Debug for FaultyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FaultyFile").field(&self.path).finish()
    }
}

impl FaultyFile {
    fn with<R>(&self, run: impl FnOnce(&mut Contents, &mut Faults, usize) -> R) -> io::Result<R> {
        let state = &mut *self.state.lock();
        if state.life != self.life {
            return Err(io::Error::other("this file was open before the crash"));
        }
        state.check_alive(&self.path)?;
        let names = &state.names;
        let used = match state.faults.capacity {
            None => 0,
            Some(_) => {
                let linked: HashSet<u64> = names.values().flatten().copied().collect();
                linked.iter().map(|number| state.files[number].data.len()).sum()
            }
        };
        let contents = state.files.get_mut(&self.number).unwrap();
        Ok(run(contents, &mut state.faults, used))
    }

    fn touch(&self) {
        let now_ms = self.state.lock().clock.as_ref().map(|clock| clock.now_ms());
        let _ = self.with(|contents, _, _| contents.modified_ms = now_ms);
    }

    fn is_meant(&self, fault: &Option<String>) -> bool {
        fault.as_ref().is_some_and(|text| self.path.to_string_lossy().contains(text))
    }
}

impl DiskFile for FaultyFile {
    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        let mut bytes = Vec::new();
        slices.iter().for_each(|slice| bytes.extend_from_slice(slice));
        self.touch();
        self.with(|contents, faults, used| {
            let mut error = None;
            if let Err(ended) = faults.change() {
                if !std::mem::take(&mut faults.torn_write) {
                    return Err(ended);
                }
                bytes.truncate(bytes.len() / 2);
                error = Some(ended);
            }
            let position = position as usize;
            if self.is_meant(&faults.failing_writes) {
                let half = bytes.len() / 2;
                bytes.truncate(half);
                if half < PAGE {
                    error = Some(broken());
                }
            }
            let panics = self.is_meant(&faults.panicking_writes);
            if panics {
                bytes.truncate(bytes.len() / 2);
            }
            if let Some(capacity) = faults.capacity {
                let room = capacity.saturating_sub(used) + contents.data.len();
                bytes.truncate(room.saturating_sub(position));
                if bytes.is_empty() {
                    return Err(io::ErrorKind::StorageFull.into());
                }
            }
            let end = position + bytes.len();
            contents.check_pins(position, end);
            if contents.data.len() < end {
                contents.data.resize(end, 0);
            }
            contents.data[position..end].copy_from_slice(&bytes);
            for page in position / PAGE..end.div_ceil(PAGE) {
                contents.lost.remove(&page);
            }
            assert!(!panics, "injected while writing {}", self.path.display());
            error.map_or(Ok(bytes.len()), Err)
        })?
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.with(|contents, faults, _| {
            if self.is_meant(&faults.failing_reads) {
                return Err(broken());
            }
            let from = (position as usize).min(contents.data.len());
            let len = buffer.len().min(contents.data.len() - from);
            buffer[..len].copy_from_slice(&contents.data[from..from + len]);
            Ok(len)
        })?
    }

    fn read_resident(&self, buffer: &mut [u8], position: u64) -> io::Result<Option<usize>> {
        if self.with(|_, faults, _| faults.cold)? {
            return Ok(None);
        }
        self.read_at(buffer, position).map(Some)
    }

    fn size(&self) -> io::Result<u64> {
        self.with(|contents, _, _| contents.data.len() as u64)
    }

    fn modified_ms(&self) -> io::Result<i64> {
        self.with(|contents, _, _| contents.modified_ms.unwrap_or(i64::MAX))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.touch();
        self.with(|contents, faults, _| {
            if faults.failing_cuts {
                return Err(broken());
            }
            faults.change()?;
            contents.check_pins(len as usize, usize::MAX);
            contents.data.resize(len as usize, 0);
            Ok(())
        })?
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|contents, faults, _| {
            faults.change()?;
            if let Some((text, left)) = &mut faults.failing_syncs
                && *left > 0
                && self.path.to_string_lossy().contains(text.as_str())
            {
                *left -= 1;
                contents.lose_dirty();
                return Err(broken());
            }
            contents.sync();
            Ok(())
        })?
    }

    fn start_write_back(&self, _position: u64, _len: u64) {}

    fn forget_cached(&self) {
        let _ = self.with(|contents, _, _| {
            for page in std::mem::take(&mut contents.lost) {
                for at in page * PAGE..((page + 1) * PAGE).min(contents.data.len()) {
                    contents.data[at] = contents.durable.get(at).copied().unwrap_or(0);
                }
            }
        });
    }

    fn map(&self, position: u64, len: usize) -> io::Result<Box<dyn MappedRange>> {
        let file = Self { _descriptor: Arc::default(), ..self.clone() };
        Ok(Box::new(FaultyMap { file, position: position as usize, len }))
    }

    fn fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
}

struct FaultyMap {
    file: FaultyFile,
    position: usize,
    len: usize,
}

struct Pinned {
    bytes: Vec<u8>,
    _alive: Arc<()>,
}

impl AsRef<[u8]> for Pinned {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl MappedRange for FaultyMap {
    fn slice(&self, from: usize, len: usize) -> Bytes {
        let start = self.position + from;
        let alive = Arc::new(());
        let bytes = self.file.with(|contents, _, _| {
            contents.pins.push((Arc::downgrade(&alive), start, start + len));
            contents.data[start..start + len].to_vec()
        });
        Bytes::from_owner(Pinned { bytes: bytes.unwrap(), _alive: alive })
    }

    fn is_resident(&self, _from: usize, _len: usize) -> bool {
        !self.file.with(|_, faults, _| faults.cold).unwrap_or(false)
    }

    fn is_pinned(&self) -> bool {
        let (from, to) = (self.position, self.position + self.len);
        let pinned = self.file.with(|contents, _, _| {
            contents
                .pins
                .iter()
                .any(|(alive, start, end)| from <= *start && *end <= to && alive.strong_count() > 0)
        });
        pinned.unwrap_or(false)
    }

    fn size(&self) -> usize {
        self.len
    }
}
