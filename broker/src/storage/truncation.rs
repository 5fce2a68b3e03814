//! Cutting a log back to an offset, or beginning it anew at one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use proto::Offset;

use super::damage;
use super::disk::{Disk, DiskFile, OpenMode, read_fully, write_fully};
use super::epoch_history::EpochHistory;
use super::error::LogError;
use super::header_walk::WalkError;
use super::log::{Log, Writer};
use super::replay;
use super::segment::{Segment, Tip, file_name, parse_file_name};
use super::segments::position_of;
use super::set_aside::SetAside;
use super::verify;
use super::wait::Wait;

impl Log {
    /// Cuts the log back so that it ends at or before `offset`, at a batch boundary; returns where
    /// it ends now. At or above the log end nothing happens; below the log start everything goes
    /// and the log begins anew where it ends, at `offset` when no segment reaches down to it. This
    /// alone moves the log start back.
    ///
    /// After return the cut is on stable storage. Slices handed out stay as they were: where one
    /// reaches beyond the cut, what stays is copied to a new file. Excludes appends and flushes; an
    /// error takes the log offline.
    pub fn truncate_to(&self, offset: Offset) -> Result<Offset, LogError> {
        self.check_online()?;
        let result = {
            let _replacing = self.compaction.replacing.lock();
            let _running = self.flush.running.lock();
            let mut writer = self.writer.lock();
            if offset >= self.log_end() {
                return Ok(self.log_end());
            }
            self.contain_locked("truncating", &mut writer, |w| self.truncate_locked(w, offset))
        };
        let result = result.map_err(|broken| self.tell_broken(&broken))?;
        if let Err(cause) = &result {
            self.fail(&format!("truncating to {offset} failed: {cause}"));
        }
        let log_end = result.map_err(|cause| self.io_error("truncating", cause))?;
        // A file that still has the epochs cut off is set right by recovery.
        let _ = self.save_epochs();
        self.forget_damage(|range| range.from < log_end);
        tracing::info!(partition = %self.partition, log_end = log_end.0, "log truncated");
        Ok(log_end)
    }

    /// Drops everything and begins anew at `offset`, which may be behind the log end: the log of a
    /// follower whose leader has no longer what comes next here. High watermark, log start and log
    /// end are `offset` then; epochs and producers are those of the records to come, none yet.
    ///
    /// After return it is on stable storage. A crash meanwhile leaves what was before, or a part of
    /// it from the log start on, or the new beginning. Excludes appends and flushes; an error takes
    /// the log offline.
    pub fn restart_at(&self, offset: Offset) -> Result<(), LogError> {
        self.check_online()?;
        let result = {
            let _replacing = self.compaction.replacing.lock();
            let _running = self.flush.running.lock();
            let mut writer = self.writer.lock();
            self.contain_locked("beginning anew", &mut writer, |w| self.restart_locked(w, offset))
        };
        let result = result.map_err(|broken| self.tell_broken(&broken))?;
        if let Err(cause) = &result {
            self.fail(&format!("beginning anew at {offset} failed: {cause}"));
        }
        result.map_err(|cause| self.io_error("beginning anew", cause))?;
        // A file that still has epochs of before is set right by recovery.
        let _ = self.save_epochs();
        self.forget_damage(|_| false);
        tracing::info!(partition = %self.partition, log_end = offset.0, "log begins anew");
        Ok(())
    }

    fn restart_locked(&self, writer: &mut Writer, offset: Offset) -> io::Result<()> {
        let (disk, folder) = (&*self.context.disk, self.folder());
        let list = Arc::clone(&self.segments.load());
        // As in a cut: nothing that goes is to be missed by the next start.
        let first = list.first().map_or(offset, |first| first.base_offset);
        self.move_back_to(first.min(offset))?;
        for segment in list.iter().rev() {
            segment.retire();
            self.remove_files(std::slice::from_ref(segment))?;
        }
        self.flush.closing.lock().clear();
        for entry in disk.list(&folder)? {
            if let Some((_, "snapshot" | "window")) = parse_file_name(&entry.name) {
                disk.remove_file(&folder.join(&entry.name))?;
            }
        }
        disk.sync_dir(&folder)?;
        let segment = Segment::create(&self.context, &folder, offset)?;
        segment.sync(&self.context, &folder)?;
        segment.resume(Tip { end_offset: offset, size: 0 }, None, self.context.clock.now_ms());
        self.segments.replace(vec![Arc::new(segment)]);
        writer.written_back = 0;
        writer.set_aside = SetAside::default();
        writer.producers.clear();
        self.change_epochs(writer, first.min(offset), EpochHistory::clear);
        self.log_end.store(offset.0, Ordering::Release);
        self.high_watermark.store(offset.0, Ordering::Release);
        self.flushed.store(offset.0, Ordering::Release);
        self.log_start.store(offset.0, Ordering::Release);
        self.dir.write_checkpoint(disk)
    }

    /// Takes log start, flushed end and high watermark back to where the log is going to end, and
    /// writes that down first: a recovery point above the cut would make the next start take what
    /// was cut for damage.
    fn move_back_to(&self, log_end: Offset) -> io::Result<()> {
        self.flushed.fetch_min(log_end.0, Ordering::AcqRel);
        self.log_start.fetch_min(log_end.0, Ordering::AcqRel);
        self.high_watermark.fetch_min(log_end.0, Ordering::AcqRel);
        let disk = &*self.context.disk;
        self.dir.write_checkpoint(disk)?;
        self.dir.cleaned.lower(disk, &self.dir.path, &self.partition, log_end)
    }

    fn truncate_locked(&self, writer: &mut Writer, offset: Offset) -> io::Result<Offset> {
        let list = Arc::clone(&self.segments.load());
        let at = position_of(&list, offset);
        let (kept, gone) = list.split_at(at);
        let mut kept = kept.to_vec();
        let Some(first) = gone.first() else {
            return Err(io::Error::other("a log without segments"));
        };
        let cut = self.cut_at(first, offset)?;
        let log_end = cut.end_offset;
        self.move_back_to(log_end)?;
        let segment = self.cut_segment(first, &gone[1..], cut)?;
        kept.push(Arc::new(segment));
        self.log_end.store(log_end.0, Ordering::Release);
        writer.written_back = kept.last().map_or(0, |last| last.tip().size);
        writer.set_aside = SetAside::default();
        self.segments.replace(kept.clone());
        self.flush.closing.lock().retain(|closing| closing.end_offset <= log_end);
        self.change_epochs(writer, log_end, |epochs| epochs.cut_end(log_end));
        let (context, folder) = (&self.context, self.folder());
        let damaged = self.damage.load();
        replay::load_producers(context, &folder, &kept, &damaged, log_end, &mut writer.producers)
            .map(|()| log_end)
    }

    /// Where the segment is to end; before its beginning when all of the log goes.
    fn cut_at(&self, first: &Segment, offset: Offset) -> io::Result<Tip> {
        if offset < first.base_offset {
            return Ok(Tip { end_offset: offset, size: 0 });
        }
        let damaged = self.damage.load();
        let mut ranges = damaged.iter().filter(|range| range.segment == first.base_offset);
        if let Some(range) = ranges.find(|range| range.from <= offset && offset < range.to) {
            // Nobody can tell where its batches begin: all of it goes.
            return Ok(Tip { end_offset: range.from, size: range.position });
        }
        let skip = |position| damage::skip(&damaged, first.base_offset, position);
        match first.locate(offset, first.tip(), &skip, Wait::Allowed) {
            Ok(cut) => Ok(cut),
            Err(WalkError::Io(error)) => Err(error),
            // Damage before the cut: what follows it cannot be told apart, so it goes as well.
            Err(WalkError::Bad { position, .. }) => verify::bad_place(first, position, &damaged),
        }
    }

    /// Deletes the later segments from the newest back, then cuts the first.
    fn cut_segment(
        &self,
        first: &Arc<Segment>,
        later: &[Arc<Segment>],
        cut: Tip,
    ) -> io::Result<Segment> {
        let folder = self.folder();
        let disk = &*self.context.disk;
        for segment in later.iter().rev() {
            segment.retire();
            self.remove_files(std::slice::from_ref(segment))?;
        }
        if cut.end_offset < first.base_offset {
            first.retire();
            self.remove_files(std::slice::from_ref(first))?;
            let segment = Segment::create(&self.context, &folder, cut.end_offset)?;
            segment.sync(&self.context, &folder)?;
            return Ok(segment);
        }
        first.index.write_out()?;
        first.times.write_out()?;
        // A retired segment's file is not opened any more.
        let file = first.file.pin()?;
        let handed_out = first.retire();
        let in_place = handed_out <= cut.size;
        if in_place {
            file.file.set_len(cut.size)?;
            file.file.sync()?;
        } else {
            let path = folder.join(file_name(first.base_offset, "log"));
            let copy = folder.join(file_name(first.base_offset, "log.tmp"));
            copy_front(disk, &*file.file, cut.size, &copy)?;
            disk.rename(&copy, &path)?;
        }
        disk.sync_dir(&folder)?;
        let segment = Segment::open(&self.context, &folder, first.base_offset)?;
        if in_place {
            // It is the same file: slices of it bind the next cut too.
            segment.hand_out(handed_out);
        }
        segment.index.truncate_to(cut.size)?;
        segment.times.truncate_to(cut.end_offset)?;
        // Entries of before must not come back beside new ones; the log is right without them.
        segment.index.sync()?;
        segment.times.sync()?;
        let newest = newest_of(&segment, cut)?;
        let now_ms = self.context.clock.now_ms();
        segment.resume(cut, newest, now_ms);
        if cut.size > 0 {
            let last_ms = first.last_append_ms().unwrap_or(now_ms);
            segment.set_append_times(first.first_append_ms().unwrap_or(now_ms), last_ms);
        }
        Ok(segment)
    }

    /// Keeps only the damaged ranges that `keep` holds for, and writes the list down.
    pub(super) fn forget_damage(&self, keep: impl Fn(&damage::DamagedRange) -> bool) {
        if self.damage.load().iter().all(&keep) {
            return;
        }
        self.damage.rcu(|ranges| ranges.iter().copied().filter(&keep).collect::<Vec<_>>());
        self.write_damage();
    }

    /// Writes the damaged ranges down; a failure costs finding them again.
    pub(super) fn write_damage(&self) {
        let path = self.folder().join(damage::FILE_NAME);
        let text = damage::encode(&self.damage.load());
        let disk = &*self.context.disk;
        if let Err(error) = super::disk::replace_file(disk, &path, text.as_bytes()) {
            tracing::warn!(partition = %self.partition, %error, "damaged ranges not written down");
        }
    }
}

/// The newest record below `cut`: the index knows it up to its last entry, the walk the rest.
fn newest_of(segment: &Segment, cut: Tip) -> io::Result<Option<super::time_index::TimeEntry>> {
    use super::header_walk::HeaderWalk;
    let start = segment.index.last()?.map_or(0, |entry| entry.position);
    let mut newest = segment.times.last()?;
    let mut walk = HeaderWalk::new(&*segment.file, start, cut, Wait::Allowed);
    while let Ok(Some((_, header))) = walk.step() {
        let timed = header.record_count > 0;
        if timed && newest.is_none_or(|entry| header.max_timestamp > entry.timestamp) {
            let (timestamp, offset) = (header.max_timestamp, header.last_offset());
            newest = Some(super::time_index::TimeEntry { timestamp, offset });
        }
    }
    Ok(newest)
}

fn copy_front(
    disk: &dyn Disk,
    file: &dyn DiskFile,
    len: u64,
    path: &std::path::Path,
) -> io::Result<()> {
    const BLOCK: u64 = 1 << 20;
    let copy = disk.open(path, OpenMode::Truncate)?;
    let mut at = 0;
    while at < len {
        let mut block = vec![0; (len - at).min(BLOCK) as usize];
        let read = read_fully(file, &mut block, at)?;
        if read < block.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        write_fully(&*copy, &block, at)?;
        at += read as u64;
    }
    copy.sync()
}
