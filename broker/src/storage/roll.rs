//! Closing the active segment and beginning a new one.
//!
//! Under the writer lock only the new files are made. What makes the old segment complete (its
//! last bytes on stable storage, its indexes, the producers' snapshot) is left to the flusher.

use std::io;
use std::sync::Arc;

use proto::Offset;

use super::disk::replace_file;
use super::log::{Log, Writer};
use super::producer_snapshot;
use super::segment::{Segment, file_name, parse_file_name};
use super::sequence_window;

/// Window files kept: the newest, and one before it in case a crash takes the newest's log bytes.
const WINDOWS_KEPT: usize = 2;
/// Snapshots that may wait in memory for a slow flusher; older ones are dropped, which costs a
/// longer replay.
const CLOSING_MAX: usize = 8;

/// A segment that was closed, and the producers at its end.
#[derive(Debug)]
pub(super) struct Closing {
    segment: Arc<Segment>,
    pub(super) end_offset: Offset,
    snapshot: Vec<u8>,
    window: Vec<u8>,
}

impl Log {
    /// Begins a new segment at the log end; nothing happens where the active one is empty.
    pub fn roll(&self) -> io::Result<()> {
        if self.offline.get().is_some() {
            return Ok(());
        }
        self.roll_locked(&mut self.writer.lock())
    }

    /// Rolls when the active segment has records and is older than `segment.ms`.
    pub(super) fn roll_if_old(&self, now_ms: i64) -> io::Result<()> {
        let old = |segment: &Segment| {
            let age = segment.first_append_ms().map_or(0, |first| now_ms.saturating_sub(first));
            u64::try_from(age).is_ok_and(|age| age > 0 && age >= self.config.load().segment_ms)
        };
        match self.segments.active() {
            Some(active) if old(&active) => self.roll(),
            _ => Ok(()),
        }
    }

    pub(super) fn roll_locked(&self, writer: &mut Writer) -> io::Result<()> {
        let mut list = Vec::clone(&self.segments.load());
        let Some(active) = list.last().cloned().filter(|active| active.tip().size > 0) else {
            return Ok(());
        };
        let end_offset = active.tip().end_offset;
        let segment = Segment::create(&self.context, &self.folder.read(), end_offset)?;
        list.push(Arc::new(segment));
        let closed = Closing {
            segment: active,
            end_offset,
            snapshot: producer_snapshot::encode(&writer.producers),
            window: sequence_window::encode(&writer.producers),
        };
        {
            let mut closing = self.flush.closing.lock();
            closing.push(closed);
            if closing.len() > CLOSING_MAX {
                closing.remove(0);
            }
        }
        self.segments.replace(list);
        writer.written_back = 0;
        self.dir.flusher.enqueue(self);
        Ok(())
    }

    /// Writes what a closed segment has beside its log; all of it can be rebuilt, so errors are
    /// only logged.
    pub(super) fn finish_closing(&self, closed: &Closing) {
        if let Err(error) = closed.segment.close_indexes() {
            tracing::warn!(partition = %self.partition, %error, "indexes not written");
        }
        if let Err(error) = self.write_snapshot(closed.end_offset, &closed.snapshot, &closed.window)
        {
            tracing::warn!(partition = %self.partition, %error, "producer snapshot not written");
        }
    }

    /// The producers' state at the log end, as their two files.
    pub(super) fn encode_producers(&self) -> (Vec<u8>, Vec<u8>) {
        let writer = self.writer.lock();
        (producer_snapshot::encode(&writer.producers), sequence_window::encode(&writer.producers))
    }

    /// Writes the producers' state at `offset`.
    pub(super) fn write_snapshot(
        &self,
        offset: Offset,
        snapshot: &[u8],
        window: &[u8],
    ) -> io::Result<()> {
        let disk = &*self.context.disk;
        let folder = self.folder();
        replace_file(disk, &folder.join(file_name(offset, "window")), window)?;
        replace_file(disk, &folder.join(file_name(offset, "snapshot")), snapshot)?;
        let names = disk.list(&folder)?;
        let mut windows: Vec<_> = names
            .iter()
            .filter_map(|entry| parse_file_name(&entry.name))
            .filter(|(_, extension)| *extension == "window")
            .map(|(offset, _)| offset)
            .collect();
        windows.sort_unstable();
        let excess = windows.len().saturating_sub(WINDOWS_KEPT);
        for offset in &windows[..excess] {
            disk.remove_file(&folder.join(file_name(*offset, "window")))?;
        }
        Ok(())
    }
}
