//! Rebuilds the producers' state: the newest snapshot that fits, then the headers of the log
//! behind it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use proto::Offset;
use proto::record::BatchHeader;

use super::context::Context;
use super::damage::{self, DamagedRange};
use super::disk;
use super::header_walk::{HeaderWalk, WalkError};
use super::producer_snapshot;
use super::producer_state::ProducerState;
use super::segment::{Segment, file_name, parse_file_name};
use super::sequence_window;
use super::wait::Wait;

/// A snapshot larger than this is not read.
const SNAPSHOT_BYTES_MAX: u64 = 256 << 20;

/// Fills `producers` with what it was when the log ended at `log_end`, and deletes snapshots of
/// later offsets: what they tell of is gone.
///
/// A window file has all there is to remember up to its offset. Without one, the log is read from
/// an older snapshot on than need be, so that more batches than the last one are known.
pub(super) fn load_producers(
    context: &Context,
    folder: &Path,
    list: &[Arc<Segment>],
    damage: &[DamagedRange],
    log_end: Offset,
    producers: &mut ProducerState,
) -> io::Result<()> {
    producers.clear();
    let now_ms = context.clock.now_ms();
    let (mut windows, mut snapshots) = (Vec::new(), Vec::new());
    let mut removed = false;
    for entry in context.disk.list(folder)? {
        match parse_file_name(&entry.name) {
            Some((offset, "snapshot" | "window")) if offset > log_end => {
                context.disk.remove_file(&folder.join(&entry.name))?;
                removed = true;
            }
            Some((offset, "snapshot")) => snapshots.push(offset),
            Some((offset, "window")) => windows.push(offset),
            _ => {}
        }
    }
    if removed {
        // A crash must not bring them back when the log has grown to their offset again.
        context.disk.sync_dir(folder)?;
    }
    windows.sort_unstable_by_key(|&offset| std::cmp::Reverse(offset));
    snapshots.sort_unstable_by_key(|&offset| std::cmp::Reverse(offset));
    let read = |offset, extension| {
        let path = folder.join(file_name(offset, extension));
        disk::read_file(&*context.disk, &path, SNAPSHOT_BYTES_MAX).ok()
    };
    let window =
        |&offset: &Offset| Some((offset, sequence_window::decode(&read(offset, "window")?)?));
    let snapshot = |&offset: &Offset| {
        Some((offset, producer_snapshot::decode(&read(offset, "snapshot")?, now_ms)?))
    };
    let log_start = list.first().map_or(log_end, |first| first.base_offset);
    let known = windows.iter().find_map(window).or_else(|| {
        let older = snapshots.iter().skip(1).take_while(|&&offset| offset >= log_start);
        older.into_iter().find_map(snapshot)
    });
    let mut from = log_start;
    if let Some((offset, all)) = known {
        from = from.max(offset);
        all.into_iter().for_each(|(id, producer)| producers.restore(id, producer));
    }
    each_header(list, damage, from, |header| {
        producers.push(header, None, now_ms);
        producers.commit();
    })?;
    // Who wrote only before the log start is in the snapshots alone.
    let newest = snapshots.iter().find_map(snapshot).map(|(_, all)| all);
    for (id, producer) in newest.unwrap_or_default() {
        if !producers.knows(id) {
            producers.restore(id, producer);
        }
    }
    Ok(())
}

/// Calls `each` with the header of every good batch that begins at or after `from`.
pub(super) fn each_header(
    list: &[Arc<Segment>],
    damage: &[DamagedRange],
    from: Offset,
    mut each: impl FnMut(&BatchHeader),
) -> io::Result<()> {
    for segment in list.iter().filter(|segment| segment.tip().end_offset > from) {
        let tip = segment.tip();
        let skip = |position| damage::skip(damage, segment.base_offset, position);
        let begin = match segment.locate(from, tip, &skip, Wait::Allowed) {
            Ok(begin) => begin,
            Err(WalkError::Io(error)) => return Err(error),
            Err(WalkError::Bad { .. }) => continue,
        };
        let mut walk = HeaderWalk::new(&*segment.file, begin.size, tip, Wait::Allowed);
        let mut position = begin.size;
        loop {
            if let Some(end) = skip(position) {
                walk.jump(end);
            }
            match walk.step() {
                Ok(Some((at, header))) => {
                    if header.base_offset >= from {
                        each(&header);
                    }
                    position = at + header.size_in_bytes() as u64;
                }
                Ok(None) => break,
                Err(WalkError::Io(error)) => return Err(error),
                // Not known as damaged yet; a read will find out.
                Err(WalkError::Bad { .. }) => break,
            }
        }
    }
    Ok(())
}
