//! Appending what a follower fetched: the leader's batches as they are, offsets and epochs included,
//! so that the bytes of both logs are the same.
//!
//! Nothing is judged again that the leader judged: sizes, timestamps, sequences. What is checked is
//! that the log stays one log: every batch begins where the one before ended, and leader epochs
//! never go back.

use bytes::Bytes;
use proto::record::BatchHeader;
use proto::{LeaderEpoch, Offset};

use super::append::check_length;
use super::compaction::EmptyRun;
use super::error::{AppendError, LogError};
use super::log::{Log, Writer};
use super::write_group::{ChunkCursor, GroupWriter, Stamp};

impl Log {
    /// Appends fetched batches; the first begins at the log end, each other where the one before
    /// it ends. `headers` are those of `chunks`, with CRCs checked (`proto::record::check_chunks`).
    /// `window` is how deep producers pipeline, as the leader told; 0 is Kafka's five.
    ///
    /// One batch may begin before the log end: an empty one that compaction left at the leader,
    /// which covers offsets from below the log end on. It is taken from the log end on.
    ///
    /// After return the batches are in the page cache and readable, as after [`Log::append`], and
    /// producers' sequences and epochs are as at the leader. On an error the batches before the
    /// refused one may have been appended: the log end tells. Errors that pass by themselves:
    /// `DiskFull`, `LowSpace`, `OutOfFiles`; `NotNext` and `OlderEpoch` say that the fetch was of
    /// another place or another history. Calls exclude each other and [`Log::append`].
    pub fn append_fetched(
        &self,
        chunks: &[Bytes],
        headers: &[BatchHeader],
        window: u16,
    ) -> Result<(), AppendError> {
        check_length(chunks, headers)?;
        if let Some(first) = headers.first() {
            self.forget_empty_epochs(first)?;
        }
        let mut writer = self.writer.lock();
        let before = self.log_end();
        let appended = self.contain_locked("appending what was fetched", &mut writer, |writer| {
            self.append_fetched_locked(writer, chunks, headers, window)
        });
        drop(writer);
        match appended {
            Ok((result, failure)) => {
                self.settle_append(self.log_end() > before, failure);
                result
            }
            Err(broken) => Err(self.tell_broken(&broken).into()),
        }
    }

    /// The result, and why the log must go offline.
    fn append_fetched_locked(
        &self,
        writer: &mut Writer,
        chunks: &[Bytes],
        headers: &[BatchHeader],
        window: u16,
    ) -> (Result<(), AppendError>, Option<String>) {
        let config = self.config.load_full();
        let mut group = GroupWriter::new(self, writer, &config);
        let mut cursor = ChunkCursor::new(chunks);
        let mut latest = self.latest_epoch();
        let taken = headers.iter().try_for_each(|header| {
            group.check_open()?;
            take(&mut group, header, &mut latest, &mut cursor, window)?;
            if group.is_full() { group.commit() } else { Ok(()) }
        });
        // What was staged before the refused batch counts.
        let result = group.commit().and(taken);
        (result, group.into_failure())
    }

    /// Epochs in which this broker once led without a record: where the new leader has batches of
    /// an older epoch there, they never were. Written down before those batches are.
    fn forget_empty_epochs(&self, first: &BatchHeader) -> Result<(), AppendError> {
        if self.latest_epoch() <= first.leader_epoch {
            return Ok(());
        }
        {
            let mut writer = self.writer.lock();
            let log_end = self.log_end();
            self.change_epochs(&mut writer, log_end, |epochs| epochs.cut_end(log_end));
        }
        match self.save_epochs() {
            Ok(()) => Ok(()),
            Err(LogError::Offline(offline)) => Err(offline.into()),
            Err(LogError::Io { what, cause, .. }) => {
                let passing = AppendError::passing(&self.partition, &cause);
                Err(passing.unwrap_or_else(|| self.fail(&format!("{what}: {cause}")).into()))
            }
        }
    }
}

/// Stages one batch behind the others.
fn take<'a>(
    group: &mut GroupWriter<'_, 'a>,
    header: &BatchHeader,
    latest: &mut LeaderEpoch,
    chunks: &mut ChunkCursor<'a>,
    window: u16,
) -> Result<(), AppendError> {
    let partition = &{ group.log }.partition;
    if header.leader_epoch < *latest {
        let (latest, found) = (*latest, header.leader_epoch);
        return Err(AppendError::OlderEpoch { partition: partition.clone(), latest, found });
    }
    let (header, stamp) = match placed(header, group.end().end_offset) {
        Some(placed) => placed,
        None => {
            let (log_end, found) = (group.end().end_offset, header.base_offset);
            return Err(AppendError::NotNext { partition: partition.clone(), log_end, found });
        }
    };
    if !group.has_room(std::slice::from_ref(&header)) {
        group.commit()?;
        group.roll()?;
    }
    *latest = header.leader_epoch;
    group.stage(header, stamp, chunks, window);
    Ok(())
}

/// The batch as it follows the log end, if it does.
fn placed(header: &BatchHeader, log_end: Offset) -> Option<(BatchHeader, Stamp)> {
    if header.base_offset == log_end {
        return Some((header.clone(), Stamp::AsItCame));
    }
    let overlaps = header.base_offset < log_end && log_end < header.next_offset();
    // It has nothing but its header, as the rest of it has.
    let rest = EmptyRun::of_empty(header).filter(|_| overlaps)?.from(log_end);
    Some((rest.header(), Stamp::Placed))
}
