//! Putting a compacted copy in the place of the segments it was made of.
//!
//! | step | on the disk | a crash after it |
//! |---|---|---|
//! | copy written and synced | `B.log.cleaned`, the sources | the copy goes |
//! | copy renamed: the commit | `B.log.swap`, the sources | undone or completed, by what the disk kept |
//! | directory synced | the same | completed |
//! | sources removed, but for `B.log`; indexes of all | `B.log.swap`, `B.log` | completed |
//! | directory synced | the same | completed |
//! | swap renamed over `B.log`, indexes renamed | `B.log`, `B.index`, `B.timeindex` | done; indexes are rebuilt where they are missing |
//! | directory synced | the same | done |
//!
//! `B` is the base offset of the first source. Which segments a `.swap` file replaces is told by
//! its own batches: all that begin below the offset it ends at. Offsets are dense, so that this is
//! where the last source ended.
//!
//! In memory the list changes right after the commit, under the writer lock, which is not held over
//! any of the disk's work; `CompactionState::replacing` keeps others off the files until the end.

use std::io;
use std::path::Path;
use std::sync::Arc;

use proto::Offset;

use super::error::CompactionError;
use crate::storage::disk::{Disk, OpenMode};
use crate::storage::header_walk::{HeaderWalk, WalkError};
use crate::storage::log::Log;
use crate::storage::segment::{Segment, Tip, file_name, parse_file_name};
use crate::storage::wait::Wait;

/// What follows the names of a copy's files until it is whole.
pub(super) const CLEANED: &str = ".cleaned";
const LOG_CLEANED: &str = "log.cleaned";
const LOG_SWAP: &str = "log.swap";
const LOG_DAMAGED: &str = "log.swap.damaged";
const INDEXES: [(&str, &str); 2] = [("index.cleaned", "index"), ("timeindex.cleaned", "timeindex")];
/// Snapshots of producers kept wherever they are: the newest is read at a start, the one before it
/// where the newest does not fit.
const SNAPSHOTS_KEPT: usize = 2;

/// Replaces `sources`, which follow each other in the log, by their compacted copy. On an error
/// before the commit nothing has changed; after it the log is offline, and opening it anew
/// completes the swap.
pub(super) fn replace(
    log: &Log,
    sources: &[Arc<Segment>],
    copy: Segment,
) -> Result<(), CompactionError> {
    let replacing = log.compaction.replacing.lock();
    log.check_online()?;
    let folder = log.folder();
    let disk = &*log.context.disk;
    let Some(at) = place_of(log, sources) else { return Err(CompactionError::Overtaken) };
    let base_offset = copy.base_offset;
    let name = |extension| folder.join(file_name(base_offset, extension));
    let copy = Arc::new(copy);
    // It is used under names that change.
    let pinned = copy.pin().map_err(CompactionError::write("opening the compacted copy"))?;
    disk.rename(&name(LOG_CLEANED), &name(LOG_SWAP))
        .map_err(CompactionError::write("committing the compacted copy"))?;
    {
        let _writer = log.writer.lock();
        let mut list = Vec::clone(&log.segments.load());
        let replaced = list.splice(at..at + sources.len(), [copy.clone()]).collect::<Vec<_>>();
        log.segments.replace(list);
        for segment in replaced {
            segment.retire();
        }
    }
    let gone: Vec<_> = sources.iter().skip(1).map(|source| source.base_offset).collect();
    let settled = settle(disk, &folder, base_offset, &gone, true);
    if settled.is_ok() {
        copy.renamed(&folder);
        remove_snapshots(log, disk, &folder);
    }
    drop((pinned, replacing));
    settled.map_err(|cause| {
        let text = format!("putting compacted segments in place failed: {cause}");
        CompactionError::Offline(log.fail(&text))
    })
}

/// Where the sources are in the list, if they are there still, one behind the other, undamaged.
/// Callers hold `replacing`: from here on only the list's end changes.
fn place_of(log: &Log, sources: &[Arc<Segment>]) -> Option<usize> {
    let list = log.segments.load();
    let first = sources.first()?;
    let at = list.iter().position(|segment| segment.generation == first.generation)?;
    let there = list.get(at..at + sources.len())?;
    let same = there.iter().zip(sources).all(|(a, b)| a.generation == b.generation);
    let closed = at + sources.len() < list.len();
    let damage = log.damaged();
    let damaged = |s: &Arc<Segment>| damage.iter().any(|range| range.segment == s.base_offset);
    (same && closed && !sources.iter().any(damaged)).then_some(at)
}

/// The steps after the commit; each may have been done before.
fn settle(
    disk: &dyn Disk,
    folder: &Path,
    base_offset: Offset,
    gone: &[Offset],
    with_indexes: bool,
) -> io::Result<()> {
    disk.sync_dir(folder)?;
    for &base in gone {
        remove(disk, &folder.join(file_name(base, "log")))?;
    }
    for base in gone.iter().copied().chain([base_offset]) {
        remove(disk, &folder.join(file_name(base, "index")))?;
        remove(disk, &folder.join(file_name(base, "timeindex")))?;
    }
    // An index of the old log must not meet the new one.
    disk.sync_dir(folder)?;
    let name = |extension| folder.join(file_name(base_offset, extension));
    disk.rename(&name(LOG_SWAP), &name("log"))?;
    if with_indexes {
        for (from, to) in INDEXES {
            disk.rename(&name(from), &name(to))?;
        }
    }
    disk.sync_dir(folder)
}

/// Producer snapshots are named after the segments that begin there; those of segments that are
/// merged into others would stay for ever.
fn remove_snapshots(log: &Log, disk: &dyn Disk, folder: &Path) {
    let Ok(entries) = disk.list(folder) else { return };
    let names = entries.iter().filter_map(|entry| parse_file_name(&entry.name));
    let mut offsets: Vec<_> =
        names.filter(|(_, extension)| *extension == "snapshot").map(|(base, _)| base).collect();
    offsets.sort_unstable();
    offsets.truncate(offsets.len().saturating_sub(SNAPSHOTS_KEPT));
    let list = log.segments.load();
    for offset in offsets {
        if list.binary_search_by_key(&offset, |segment| segment.base_offset).is_err() {
            // One that stays is read by nobody.
            let _ = disk.remove_file(&folder.join(file_name(offset, "snapshot")));
        }
    }
}

/// Removes what a cleaning that was given up left.
pub(super) fn discard(log: &Log) {
    let _replacing = log.compaction.replacing.lock();
    let folder = log.folder();
    let disk = &*log.context.disk;
    for entry in disk.list(&folder).unwrap_or_default() {
        if entry.name.ends_with(CLEANED) {
            // The next start removes it.
            let _ = disk.remove_file(&folder.join(&entry.name));
        }
    }
}

/// At a start: removes copies that were not committed, and completes the swaps that were. True when
/// names changed.
pub(in crate::storage) fn recover(disk: &dyn Disk, folder: &Path) -> io::Result<bool> {
    let entries = disk.list(folder)?;
    let mut changed = false;
    let mut bases = Vec::new();
    let mut swaps = Vec::new();
    for entry in &entries {
        if entry.name.ends_with(CLEANED) {
            disk.remove_file(&folder.join(&entry.name))?;
            changed = true;
        }
        match parse_file_name(&entry.name) {
            Some((base, "log")) => bases.push(base),
            Some((base, LOG_SWAP)) => swaps.push(base),
            _ => {}
        }
    }
    swaps.sort_unstable();
    for base in swaps {
        changed = true;
        let swap = folder.join(file_name(base, LOG_SWAP));
        match end_of(disk, &swap, base)? {
            Some(end) => {
                let gone = bases.iter().copied().filter(|&other| base < other && other < end);
                settle(disk, folder, base, &gone.collect::<Vec<_>>(), false)?;
                bases.retain(|&other| other <= base || other >= end);
                tracing::info!(swap = %swap.display(), "a compaction cut off by a crash is completed");
            }
            None => set_aside(disk, folder, base)?,
        }
    }
    Ok(changed)
}

/// Where a swap file ends, by its headers; `None` where they are not what was written and synced.
fn end_of(disk: &dyn Disk, path: &Path, base: Offset) -> io::Result<Option<Offset>> {
    let file = disk.open(path, OpenMode::Existing)?;
    let whole = Tip { end_offset: base.plus(i64::from(i32::MAX)), size: file.size()? };
    let mut walk = HeaderWalk::new(&*file, 0, whole, Wait::Allowed).expecting(base);
    let mut end = None;
    loop {
        match walk.step() {
            Ok(Some((_, header))) => end = Some(header.next_offset()),
            Ok(None) => return Ok(end),
            Err(WalkError::Bad { .. }) => return Ok(None),
            Err(WalkError::Io(error)) => return Err(error),
        }
    }
}

/// The disk did not keep what it had promised. What sources are left are served, holes between them
/// are found as damage, and the file stays for a person to look at.
fn set_aside(disk: &dyn Disk, folder: &Path, base: Offset) -> io::Result<()> {
    let from = folder.join(file_name(base, LOG_SWAP));
    let to = folder.join(file_name(base, LOG_DAMAGED));
    tracing::error!(
        swap = %from.display(), kept_as = %to.display(),
        "a compacted segment that was synced is damaged: the segments it was made of are served, \
         as far as they are left"
    );
    disk.rename(&from, &to)?;
    disk.sync_dir(folder)
}

fn remove(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
