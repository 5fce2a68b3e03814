//! Finding the first record at or after a time. Reads the log, so it is for disk threads.

use proto::Offset;
use proto::record::{Batch, BatchDecoder};

use super::config::DECOMPRESSED_MAX;
use super::damage;
use super::disk::read_fully;
use super::error::ReadError;
use super::header_walk::{HeaderWalk, WalkError};
use super::log::Log;
use super::segment::{Segment, Tip};
use super::wait::Wait;

/// A record found by its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedOffset {
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp, at or after the one asked for.
    pub timestamp: i64,
}

impl Log {
    /// The first record from the log start to `upto` (exclusive) whose timestamp is at or after
    /// `timestamp`.
    pub fn offset_for_time(
        &self,
        timestamp: i64,
        upto: Offset,
    ) -> Result<Option<TimedOffset>, ReadError> {
        self.check_online()?;
        'again: loop {
            let list = self.segments.load_full();
            let log_start = self.log_start();
            for segment in list.iter().take_while(|segment| segment.base_offset < upto) {
                let late = segment.newest().is_some_and(|newest| newest.timestamp >= timestamp);
                if !late || segment.tip().end_offset <= log_start {
                    continue;
                }
                match self.search(segment, timestamp, log_start) {
                    Ok(None) => {}
                    Ok(Some(found)) => return Ok((found.offset < upto).then_some(found)),
                    // Deleted or replaced meanwhile: nothing wrong with the disk.
                    Err(_) if segment.is_retired() => continue 'again,
                    Err(WalkError::Io(error)) => return Err(self.read_failed(&error)),
                    // Damage that nobody has met yet: searched again behind it.
                    Err(WalkError::Bad { position, .. }) => {
                        self.discover(segment, position)?;
                        continue 'again;
                    }
                }
            }
            return Ok(None);
        }
    }

    /// The record with the greatest timestamp below `upto`, as far as whole segments tell.
    pub fn newest_record(&self) -> Option<TimedOffset> {
        let list = self.segments.load();
        let newest = list.iter().filter_map(|segment| segment.newest());
        newest
            .max_by_key(|entry| entry.timestamp)
            .map(|entry| TimedOffset { offset: entry.offset, timestamp: entry.timestamp })
    }

    fn search(
        &self,
        segment: &Segment,
        timestamp: i64,
        log_start: Offset,
    ) -> Result<Option<TimedOffset>, WalkError> {
        let tip = segment.tip();
        let damage = self.damage.load();
        let skip = |position| damage::skip(&damage, segment.base_offset, position);
        // An entry that does not fit the log is not believed.
        let entry = segment.times.before(timestamp)?.filter(|entry| entry.timestamp < timestamp);
        let begin = entry.map(|entry| segment.time_entry_at(entry, tip, &skip)).transpose()?;
        let begin = match begin.flatten() {
            Some(begin) if begin.end_offset >= log_start => begin,
            _ if segment.base_offset < log_start => {
                segment.locate(log_start, tip, &skip, Wait::Allowed)?
            }
            _ => Tip { end_offset: segment.base_offset, size: 0 },
        };
        let mut position = begin.size;
        let walk = HeaderWalk::new(&*segment.file, position, tip, Wait::Allowed);
        let mut walk = walk.expecting(begin.end_offset);
        loop {
            if let Some(end) = skip(position) {
                walk.jump(end);
            }
            match walk.step() {
                Ok(Some((at, header))) => {
                    position = at + header.size_in_bytes() as u64;
                    // An empty batch, left by compaction, has no record.
                    if header.record_count == 0 || header.max_timestamp < timestamp {
                        continue;
                    }
                    let mut bytes = vec![0; header.size_in_bytes()];
                    let read = read_fully(&*segment.file, &mut bytes, at)?;
                    let found = first_in_batch(&bytes[..read], timestamp, log_start);
                    if let InBatch::Found(offset, timestamp) = found {
                        return Ok(Some(TimedOffset { offset, timestamp }));
                    }
                    if let InBatch::Unreadable = found {
                        // A bomb, say: the reader learns of it there.
                        let offset = header.base_offset.max(log_start);
                        let timestamp = header.max_timestamp;
                        return Ok(Some(TimedOffset { offset, timestamp }));
                    }
                }
                Ok(None) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

/// What a batch says about a time.
enum InBatch {
    /// The first record that counts, and its timestamp.
    Found(Offset, i64),
    /// No record of it counts: those late enough were deleted or compacted away, or its header
    /// tells of a later time than its records have.
    Nothing,
    /// The records cannot be looked at.
    Unreadable,
}

fn first_in_batch(bytes: &[u8], timestamp: i64, log_start: Offset) -> InBatch {
    let Ok(batch) = Batch::parse(bytes) else { return InBatch::Unreadable };
    let mut decoder = BatchDecoder::new(DECOMPRESSED_MAX);
    let Ok(records) = decoder.records(&batch) else { return InBatch::Unreadable };
    for record in records {
        match record {
            Ok(record) if record.timestamp >= timestamp && record.offset >= log_start => {
                return InBatch::Found(record.offset, record.timestamp);
            }
            Ok(_) => {}
            Err(_) => return InBatch::Unreadable,
        }
    }
    InBatch::Nothing
}
