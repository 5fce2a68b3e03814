//! Closing the active segment and beginning a new one.
//!
//! By time a segment is closed `segment.ms` after its first append by the broker's clock, whether
//! more comes or not, so that quiet topics expire. (Kafka goes by the timestamps of the batches and
//! looks only when one comes: a quiet topic's segment stays open, and a producer decides by its
//! stamps how many segments there are.) Less a jitter that is fixed for each segment.
//!
//! Under the writer lock only the new files are made. What makes the old segment complete (its
//! last bytes on stable storage, its indexes, the producers' snapshot) is left to the flusher.

use std::io;
use std::sync::Arc;

use proto::{Offset, TopicPartition};

use super::config::LogConfig;
use super::disk::{DiskFile, replace_file};
use super::log::{Log, Writer};
use super::producer_snapshot;
use super::segment::{Segment, file_name, parse_file_name};
use super::sequence_window;
use super::set_aside::SetAside;

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

/// How long after its first append a segment is closed: `segment.ms` less up to `segment.jitter.ms`,
/// the same after a restart.
fn roll_after_ms(partition: &TopicPartition, base_offset: Offset, config: &LogConfig) -> u64 {
    let jitter = config.segment_jitter_ms.unwrap_or(config.segment_ms / 20).min(config.segment_ms);
    let mut hash = crc32fast::Hasher::new();
    hash.update(partition.topic.as_bytes());
    hash.update(&partition.partition.to_be_bytes());
    hash.update(&base_offset.0.to_be_bytes());
    let part = (u128::from(jitter) * u128::from(hash.finalize())) >> 32;
    config.segment_ms - u64::try_from(part).unwrap_or(0)
}

impl Log {
    /// Whether a segment has records and is older than segments become.
    pub(super) fn is_old(&self, segment: &Segment, config: &LogConfig, now_ms: i64) -> bool {
        let after = roll_after_ms(&self.partition, segment.base_offset, config).max(1);
        let age = segment.first_append_ms().map_or(0, |first| now_ms.saturating_sub(first));
        u64::try_from(age).is_ok_and(|age| age >= after)
    }

    /// Begins a new segment at the log end; nothing happens where the active one is empty.
    pub fn roll(&self) -> io::Result<()> {
        let mut writer = self.writer.lock();
        if self.offline.get().is_some() {
            return Ok(());
        }
        self.roll_locked(&mut writer)
    }

    /// Rolls when the active segment has records and is old.
    pub(super) fn roll_if_old(&self, now_ms: i64) -> io::Result<()> {
        match self.segments.active() {
            Some(active) if self.is_old(&active, &self.config.load(), now_ms) => self.roll(),
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
        writer.set_aside = SetAside::default();
        self.dir.flusher.enqueue(self);
        Ok(())
    }

    /// Writes what a closed segment has beside its log; all of it can be rebuilt, so errors are
    /// only logged.
    pub(super) fn finish_closing(&self, closed: &Closing) {
        if let Err(error) = closed.segment.file.give_back() {
            tracing::warn!(partition = %self.partition, %error, "room on the disk not given back");
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_thousand_partitions_roll_spread_over_the_jitter_and_never_late() {
        const DAY: u64 = 86_400_000;
        let config = LogConfig { segment_ms: 7 * DAY, ..LogConfig::default() };
        let jitter = config.segment_ms / 20;
        let mut buckets = [0; 20];
        for number in 0..2000 {
            let partition = TopicPartition::new("metrics", number);
            let after = roll_after_ms(&partition, Offset(0), &config);
            assert!(after <= config.segment_ms && after > config.segment_ms - jitter);
            assert_eq!(after, roll_after_ms(&partition, Offset(0), &config));
            buckets[((config.segment_ms - after) * 20 / jitter) as usize] += 1;
        }
        assert!(buckets.iter().all(|&count| (50..200).contains(&count)), "{buckets:?}");
        let partition = TopicPartition::new("metrics", 0);
        let fixed = LogConfig { segment_jitter_ms: Some(0), ..config.clone() };
        assert_eq!(roll_after_ms(&partition, Offset(5), &fixed), config.segment_ms);
        let wild = LogConfig { segment_jitter_ms: Some(u64::MAX), ..config };
        assert!(roll_after_ms(&partition, Offset(5), &wild) <= 7 * DAY);
    }
}
