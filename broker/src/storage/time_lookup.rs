//! Finding the first record at or after a time. Reads the log, so it is for disk threads.

use proto::Offset;
use proto::record::{Batch, BatchDecoder};

use super::config::DECOMPRESSED_MAX;
use super::damage;
use super::disk::read_fully;
use super::error::ReadError;
use super::header_walk::{HeaderWalk, WalkError};
use super::log::Log;
use super::segment::Segment;
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
    /// The first record below `upto` (exclusive) whose timestamp is at or after `timestamp`.
    pub fn offset_for_time(
        &self,
        timestamp: i64,
        upto: Offset,
    ) -> Result<Option<TimedOffset>, ReadError> {
        self.check_online()?;
        let list = self.segments.load();
        for segment in list.iter().take_while(|segment| segment.base_offset < upto) {
            if segment.newest().is_none_or(|newest| newest.timestamp < timestamp) {
                continue;
            }
            let found =
                self.search(segment, timestamp).map_err(|error| self.read_failed(&error))?;
            if let Some(found) = found {
                return Ok((found.offset < upto).then_some(found));
            }
        }
        Ok(None)
    }

    /// The record with the greatest timestamp below `upto`, as far as whole segments tell.
    pub fn newest_record(&self) -> Option<TimedOffset> {
        let list = self.segments.load();
        let newest = list.iter().filter_map(|segment| segment.newest());
        newest
            .max_by_key(|entry| entry.timestamp)
            .map(|entry| TimedOffset { offset: entry.offset, timestamp: entry.timestamp })
    }

    fn search(&self, segment: &Segment, timestamp: i64) -> std::io::Result<Option<TimedOffset>> {
        let tip = segment.tip();
        let damage = self.damage.load();
        let skip = |position| damage::skip(&damage, segment.base_offset, position);
        let from = segment.times.before(timestamp)?.map_or(segment.base_offset, |e| e.offset);
        let begin = match segment.locate(from, tip, &skip, Wait::Allowed) {
            Ok(begin) => begin,
            Err(WalkError::Io(error)) => return Err(error),
            Err(WalkError::Bad { .. }) => return Ok(None),
        };
        let mut position = begin.size;
        let mut walk = HeaderWalk::new(&*segment.file, position, tip, Wait::Allowed);
        loop {
            if let Some(end) = skip(position) {
                walk.jump(end);
            }
            match walk.step() {
                Ok(Some((at, header))) => {
                    position = at + header.size_in_bytes() as u64;
                    // An empty batch, left by compaction, has no record.
                    if header.record_count > 0 && header.max_timestamp >= timestamp {
                        let mut bytes = vec![0; header.size_in_bytes()];
                        let read = read_fully(&*segment.file, &mut bytes, at)?;
                        let found = first_in_batch(&bytes[..read], timestamp);
                        // Records that cannot be read, a bomb say: the reader learns of it there.
                        let whole = TimedOffset {
                            offset: header.base_offset,
                            timestamp: header.max_timestamp,
                        };
                        return Ok(Some(found.unwrap_or(whole)));
                    }
                }
                Ok(None) | Err(WalkError::Bad { .. }) => return Ok(None),
                Err(WalkError::Io(error)) => return Err(error),
            }
        }
    }
}

fn first_in_batch(bytes: &[u8], timestamp: i64) -> Option<TimedOffset> {
    let batch = Batch::parse(bytes).ok()?;
    let mut decoder = BatchDecoder::new(DECOMPRESSED_MAX);
    let records = decoder.records(&batch).ok()?;
    records
        .map_while(Result::ok)
        .find(|record| record.timestamp >= timestamp)
        .map(|record| TimedOffset { offset: record.offset, timestamp: record.timestamp })
}
