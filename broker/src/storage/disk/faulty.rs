//! [`FaultyDisk`]: a disk in memory that breaks as told.
//!
//! It keeps two states: what a process sees, and what is on stable storage. A power cut keeps the
//! second, plus a random part of the pages and a random prefix of the name changes that were not
//! synced, as a kernel may have written them back on its own. A failed sync loses its pages for
//! good though later syncs succeed, as on Linux.
//!
//! It also watches the promise of [`MappedRange`](super::MappedRange): changing or cutting off
//! bytes under a living slice panics.

mod contents;
mod faults;
mod file;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use self::contents::Contents;
pub(crate) use self::faults::Faults;
use self::file::FaultyFile;
use super::{Disk, DiskFile, Entry, OpenMode, Space};
use crate::storage::Clock;

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
