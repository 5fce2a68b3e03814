//! [`FaultyDisk`]: a disk in memory that breaks as told.
//!
//! It keeps two states: what a process sees, and what is on stable storage. A power cut keeps the
//! second, plus a random part of the pages and a random prefix of the name changes that were not
//! synced, as a kernel may have written them back on its own. A failed sync loses its pages for
//! good though later syncs succeed, as on Linux.
//!
//! It also watches the promise of [`MappedRange`]: changing or cutting off bytes under a living
//! slice panics.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Disk, DiskFile, Entry, MappedRange, OpenMode, Space};
use crate::storage::Clock;

const PAGE: usize = 4096;

/// What is to go wrong; all parts may be changed at any time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    /// Bytes of file data the disk holds; writes beyond are short, then `ENOSPC`.
    pub(crate) capacity: Option<usize>,
    /// So many next syncs of files whose path contains the text fail.
    pub(crate) failing_syncs: Option<(String, u32)>,
    /// Reads of files whose path contains the text fail with `EIO`.
    pub(crate) failing_reads: Option<String>,
    /// Writes of files whose path contains the text fail with `EIO`, after half of the bytes.
    pub(crate) failing_writes: Option<String>,
    /// Writes of files whose path contains the text panic, after half of the bytes.
    pub(crate) panicking_writes: Option<String>,
    /// Everything in a path that begins with it fails with `EIO`.
    pub(crate) dead: Option<PathBuf>,
    /// Cutting files fails.
    pub(crate) failing_cuts: bool,
    /// Nothing is in memory: reads that may not wait give nothing.
    pub(crate) cold: bool,
    /// Descriptors there are; opening one more is `EMFILE`.
    pub(crate) descriptors: Option<usize>,
    /// What [`Disk::space`] answers.
    pub(crate) space: Option<Space>,
    /// After so many more changes (of names or bytes, syncs included) every further one fails, as
    /// if the process had ended there.
    pub(crate) changes_left: Option<u64>,
    /// The next write that fails for that has written half of its bytes.
    pub(crate) torn_write: bool,
}

impl Faults {
    fn change(&mut self) -> io::Result<()> {
        match &mut self.changes_left {
            None => Ok(()),
            Some(0) => Err(broken()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}

/// See the module.
#[derive(Clone, Default)]
pub(crate) struct FaultyDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Counts power cuts; handles of an earlier life are dead.
    life: u64,
    boots: u64,
    /// What times of changes are taken from; without one, everything was changed just now.
    clock: Option<Arc<dyn Clock>>,
    files: HashMap<u64, Contents>,
    next_file: u64,
    names: Names,
    durable_names: Names,
    pending: Vec<NameChange>,
    locked: HashSet<PathBuf>,
    faults: Faults,
    /// Every descriptor that is open; it is closed when nobody else holds it.
    open: Vec<Weak<()>>,
}

/// Folders are `None`, files their number.
type Names = BTreeMap<PathBuf, Option<u64>>;

#[derive(Debug, Clone)]
enum NameChange {
    Set(PathBuf, Option<u64>),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl NameChange {
    fn is_in(&self, folder: &Path) -> bool {
        let in_folder = |path: &Path| path.parent() == Some(folder);
        match self {
            Self::Set(path, _) | Self::Remove(path) => in_folder(path),
            Self::Rename(from, to) => in_folder(from) || in_folder(to),
        }
    }

    fn apply(&self, names: &mut Names) {
        let below = |names: &Names, path: &Path| -> Vec<PathBuf> {
            names.keys().filter(|name| name.starts_with(path)).cloned().collect()
        };
        match self {
            Self::Set(path, node) => {
                names.insert(path.clone(), *node);
            }
            Self::Remove(path) => {
                for name in below(names, path) {
                    names.remove(&name);
                }
            }
            Self::Rename(from, to) => {
                for name in below(names, from) {
                    let node = names.remove(&name).unwrap();
                    let rest = name.strip_prefix(from).unwrap();
                    let new = if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) };
                    names.insert(new, node);
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct Contents {
    data: Vec<u8>,
    durable: Vec<u8>,
    /// Pages a failed sync gave up: clean, and not on the disk.
    lost: HashSet<usize>,
    pins: Vec<(Weak<()>, usize, usize)>,
    modified_ms: Option<i64>,
}

impl Contents {
    fn sync(&mut self) {
        let mut durable = self.data.clone();
        for &page in &self.lost {
            for at in page * PAGE..((page + 1) * PAGE).min(durable.len()) {
                durable[at] = self.durable.get(at).copied().unwrap_or(0);
            }
        }
        self.durable = durable;
    }

    fn lose_dirty(&mut self) {
        let pages = self.data.len().max(self.durable.len()).div_ceil(PAGE);
        let dirty = (0..pages).filter(|&p| page(&self.data, p) != page(&self.durable, p));
        let dirty: Vec<_> = dirty.collect();
        self.lost.extend(dirty);
    }

    fn crash(&mut self, random: &mut fastrand::Rng) {
        let (old, new) = (self.durable.len(), self.data.len());
        let len = match random.u8(0..3) {
            0 => old,
            1 => new,
            _ => random.usize(old.min(new)..=old.max(new)),
        };
        let mut after = vec![0; len];
        for number in 0..len.div_ceil(PAGE) {
            let written = !self.lost.contains(&number) && random.bool();
            let from = if written { &self.data } else { &self.durable };
            let source = page(from, number);
            let at = number * PAGE;
            let end = (at + source.len()).min(len);
            after[at..end].copy_from_slice(&source[..end - at]);
        }
        let modified_ms = self.modified_ms;
        *self = Self { durable: after.clone(), data: after, modified_ms, ..Self::default() };
    }

    fn check_pins(&mut self, from: usize, to: usize) {
        self.pins.retain(|(alive, _, _)| alive.strong_count() > 0);
        for &(_, start, end) in &self.pins {
            assert!(
                end <= from || to <= start,
                "bytes {from}..{to} change under a living slice of {start}..{end}"
            );
        }
    }
}

fn page(bytes: &[u8], number: usize) -> &[u8] {
    let from = (number * PAGE).min(bytes.len());
    &bytes[from..(from + PAGE).min(bytes.len())]
}

impl FaultyDisk {
    /// An empty disk with one folder.
    pub(crate) fn new(folder: &Path) -> Self {
        let disk = Self::default();
        {
            let mut state = disk.state.lock();
            for folder in folder.ancestors() {
                state.names.insert(folder.to_owned(), None);
            }
            state.durable_names = state.names.clone();
        }
        disk
    }

    /// Takes times of changes from a clock.
    pub(crate) fn set_clock(&self, clock: Arc<dyn Clock>) {
        self.state.lock().clock = Some(clock);
    }

    /// Every file with its bytes.
    pub(crate) fn image(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.state.lock();
        let files = state.names.iter().filter_map(|(path, node)| Some((path, (*node)?)));
        files.map(|(path, number)| (path.clone(), state.files[&number].data.clone())).collect()
    }

    /// A disk with these files, all of them durable.
    pub(crate) fn of_image(folder: &Path, image: &BTreeMap<PathBuf, Vec<u8>>) -> Self {
        let disk = Self::new(folder);
        {
            let state = &mut *disk.state.lock();
            for (path, bytes) in image {
                for folder in path.ancestors().skip(1) {
                    state.names.insert(folder.to_owned(), None);
                }
                let number = state.next_file;
                state.next_file += 1;
                state.names.insert(path.clone(), Some(number));
                let (data, durable) = (bytes.clone(), bytes.clone());
                state.files.insert(number, Contents { data, durable, ..Contents::default() });
            }
            state.durable_names = state.names.clone();
        }
        disk
    }

    /// Changes what goes wrong.
    pub(crate) fn set_faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.state.lock().faults);
    }

    /// Cuts the power: open files are dead, faults are gone, unsynced data is partly gone.
    pub(crate) fn power_cut(&self, random: &mut fastrand::Rng) {
        let mut state = self.state.lock();
        state.life += 1;
        state.boots += 1;
        state.faults = Faults::default();
        state.locked.clear();
        let pending = std::mem::take(&mut state.pending);
        let survive = random.usize(0..=pending.len());
        let mut names = std::mem::take(&mut state.durable_names);
        for change in &pending[..survive] {
            change.apply(&mut names);
        }
        let folders: Vec<_> =
            names.keys().flat_map(|p| p.ancestors().skip(1)).map(Path::to_owned).collect();
        for folder in folders {
            names.entry(folder).or_insert(None);
        }
        let mut numbers: Vec<_> = state.files.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            state.files.get_mut(&number).unwrap().crash(random);
        }
        state.durable_names = names.clone();
        state.names = names;
    }

    /// Ends the process but not the kernel: open files are dead, nothing is lost.
    pub(crate) fn kill(&self) {
        let mut state = self.state.lock();
        state.life += 1;
        state.locked.clear();
    }

    /// Descriptors open now.
    pub(crate) fn open_now(&self) -> usize {
        let mut state = self.state.lock();
        state.open.retain(|file| file.strong_count() > 0);
        state.open.len()
    }

    /// Changes a file behind the back of who uses it, durably.
    pub(crate) fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state.lock();
        let number = state.names[path].unwrap();
        let contents = state.files.get_mut(&number).unwrap();
        change(&mut contents.data);
        contents.durable = contents.data.clone();
    }

    fn change_names(state: &mut State, change: NameChange) {
        change.apply(&mut state.names);
        state.pending.push(change);
    }
}

impl State {
    fn check_alive(&self, path: &Path) -> io::Result<()> {
        match &self.faults.dead {
            Some(dead) if path.starts_with(dead) => Err(broken()),
            _ => Ok(()),
        }
    }
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{} does not exist", path.display()))
}

fn broken() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let open = self.open_now();
        let mut state = self.state.lock();
        state.check_alive(path)?;
        if state.faults.descriptors.is_some_and(|most| open >= most) {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        let number = match state.names.get(path) {
            Some(Some(number)) => *number,
            Some(None) => return Err(io::ErrorKind::IsADirectory.into()),
            None if mode == OpenMode::Existing => return Err(not_found(path)),
            None => {
                if !path.parent().is_some_and(|folder| state.names.contains_key(folder)) {
                    return Err(not_found(path));
                }
                state.faults.change()?;
                let number = state.next_file;
                state.next_file += 1;
                state.files.insert(number, Contents::default());
                Self::change_names(&mut state, NameChange::Set(path.to_owned(), Some(number)));
                number
            }
        };
        if mode == OpenMode::Truncate {
            state.faults.change()?;
            let contents = state.files.get_mut(&number).unwrap();
            contents.check_pins(0, usize::MAX);
            contents.data.clear();
        }
        let life = state.life;
        let descriptor = Arc::new(());
        state.open.push(Arc::downgrade(&descriptor));
        let path = path.to_owned();
        Ok(Arc::new(FaultyFile {
            state: self.state.clone(),
            number,
            life,
            path,
            _descriptor: descriptor,
        }))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        let state = self.state.lock();
        state.check_alive(folder)?;
        if !state.names.contains_key(folder) {
            return Err(not_found(folder));
        }
        let inside = state.names.iter().filter(|(path, _)| path.parent() == Some(folder));
        Ok(inside
            .map(|(path, node)| Entry {
                name: path.file_name().unwrap().to_str().unwrap().to_owned(),
                is_dir: node.is_none(),
                len: node.map_or(0, |number| state.files[&number].data.len() as u64),
            })
            .collect())
    }

    fn create_dir_all(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check_alive(folder)?;
        let missing: Vec<_> =
            folder.ancestors().filter(|path| !state.names.contains_key(*path)).collect();
        for path in missing.into_iter().rev() {
            Self::change_names(&mut state, NameChange::Set(path.to_owned(), None));
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check_alive(from)?;
        if !state.names.contains_key(from) {
            return Err(not_found(from));
        }
        state.faults.change()?;
        Self::change_names(&mut state, NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check_alive(path)?;
        if !state.names.contains_key(path) {
            return Err(not_found(path));
        }
        state.faults.change()?;
        Self::change_names(&mut state, NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn remove_dir_all(&self, folder: &Path) -> io::Result<()> {
        self.remove_file(folder)
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        let state = &mut *self.state.lock();
        state.check_alive(folder)?;
        state.faults.change()?;
        for change in state.pending.extract_if(.., |change| change.is_in(folder)) {
            change.apply(&mut state.durable_names);
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send + Sync>>> {
        let mut state = self.state.lock();
        if !state.locked.insert(path.to_owned()) {
            return Ok(None);
        }
        let life = state.life;
        Ok(Some(Box::new(Held { state: self.state.clone(), path: path.to_owned(), life })))
    }

    fn boot_id(&self) -> String {
        self.state.lock().boots.to_string()
    }

    fn space(&self, _folder: &Path) -> io::Result<Space> {
        let plenty = Space { total: 1 << 40, free: 1 << 39 };
        Ok(self.state.lock().faults.space.unwrap_or(plenty))
    }
}

struct Held {
    state: Arc<Mutex<State>>,
    path: PathBuf,
    life: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if state.life == self.life {
            state.locked.remove(&self.path);
        }
    }
}

#[derive(Clone)]
struct FaultyFile {
    state: Arc<Mutex<State>>,
    number: u64,
    life: u64,
    path: PathBuf,
    /// Maps of it hold none, as on the real disk.
    _descriptor: Arc<()>,
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
