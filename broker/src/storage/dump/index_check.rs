//! Compares `.index` and `.timeindex` with their log while the log is gone through, entry by entry:
//! the memory is a block of each, however long they are.

use std::io;
use std::path::{Path, PathBuf};

use proto::Offset;
use proto::record::BatchHeader;

use crate::storage::disk::{DiskFile, ReadOnlyFile, read_fully};

/// Entries read at a time.
const BLOCK: usize = 4096;
/// Findings told for one index; one that is wrong is wrong in many places.
const FINDINGS_MAX: usize = 10;

/// The entries of an index file, in order.
#[derive(Debug)]
pub(super) struct Entries<const N: usize> {
    file: ReadOnlyFile,
    /// Bytes when it was opened: an index that grows is read up to there.
    pub(super) len: u64,
    at: u64,
    block: Vec<u8>,
    block_at: u64,
}

impl<const N: usize> Entries<N> {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = ReadOnlyFile::open(path)?;
        let len = file.size()?;
        Ok(Self { file, len, at: 0, block: Vec::new(), block_at: 0 })
    }

    /// Bytes at the end that are no whole entry.
    pub(super) fn torn(&self) -> u64 {
        self.len % N as u64
    }

    /// Entries gone through.
    pub(super) fn number(&self) -> u64 {
        self.at / N as u64
    }

    /// The next entry. Ends before room that a writer (Kafka) reserved: zeros behind the first
    /// entry.
    pub(super) fn step(&mut self) -> io::Result<Option<[u8; N]>> {
        if self.at + N as u64 > self.len {
            return Ok(None);
        }
        let mut from = (self.at - self.block_at) as usize;
        if from + N > self.block.len() {
            let wanted = (self.len - self.at).min((BLOCK * N) as u64) as usize;
            self.block.resize(wanted, 0);
            self.block_at = self.at;
            from = 0;
            let read = read_fully(&self.file, &mut self.block, self.at)?;
            self.block.truncate(read);
        }
        let Some(entry) = self.block.get(from..).and_then(|rest| rest.first_chunk::<N>()) else {
            return Ok(None);
        };
        if self.at > 0 && *entry == [0; N] {
            return Ok(None);
        }
        self.at += N as u64;
        Ok(Some(*entry))
    }
}

/// An entry of `.index`: last offset of a batch less the base offset, and the batch's position.
pub(super) fn decode_offset(base: Offset, entry: [u8; 8]) -> (i64, u64) {
    let [a, b, c, d, e, f, g, h] = entry;
    let relative = u32::from_be_bytes([a, b, c, d]);
    (base.0.saturating_add(relative.into()), u32::from_be_bytes([e, f, g, h]).into())
}

/// An entry of `.timeindex`: a timestamp, and the offset less the base offset of who has it.
pub(super) fn decode_time(base: Offset, entry: [u8; 12]) -> (i64, i64) {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = entry;
    let relative = u32::from_be_bytes([i, j, k, l]);
    (i64::from_be_bytes([a, b, c, d, e, f, g, h]), base.0.saturating_add(relative.into()))
}

/// What is wrong with an index.
#[derive(Debug)]
pub(super) struct IndexFinding {
    pub(super) file: PathBuf,
    pub(super) what: String,
}

/// One index during the comparison.
struct Side<const N: usize> {
    path: PathBuf,
    entries: Entries<N>,
    /// Looked at next.
    next: Option<[u8; N]>,
    findings: Vec<String>,
    more: usize,
}

impl<const N: usize> Side<N> {
    /// `None` where there is no such file.
    fn open(path: PathBuf) -> io::Result<Option<Self>> {
        let mut entries = match Entries::open(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let next = entries.step()?;
        Ok(Some(Self { path, entries, next, findings: Vec::new(), more: 0 }))
    }

    fn tell(&mut self, what: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(what);
        } else {
            self.more += 1;
        }
    }

    /// Goes on to the entry after the present one.
    fn advance(&mut self) -> io::Result<()> {
        self.next = self.entries.step()?;
        Ok(())
    }

    fn into_findings(mut self, all: &mut Vec<IndexFinding>) {
        if self.more > 0 {
            self.findings.push(format!("{} more entries are wrong", self.more));
        }
        let file = self.path;
        all.extend(self.findings.into_iter().map(|what| IndexFinding { file: file.clone(), what }));
    }
}

/// The comparison of a segment's indexes with its log.
pub(super) struct IndexCheck {
    base: Offset,
    offsets: Option<Side<8>>,
    times: Option<Side<12>>,
    /// The last entries, to see the order.
    last_offset: Option<(i64, u64)>,
    last_time: Option<(i64, i64)>,
    /// The largest timestamp of the batches so far.
    newest: Option<i64>,
    /// Batches that could not be read may have had what an entry tells.
    damaged: bool,
}

impl IndexCheck {
    /// Opens the indexes of a segment, before the log's length is taken: what they point at is
    /// there then.
    pub(super) fn open(folder: &Path, base: Offset) -> io::Result<Self> {
        let name = |extension| folder.join(crate::storage::segment::file_name(base, extension));
        Ok(Self {
            base,
            offsets: Side::open(name("index"))?,
            times: Side::open(name("timeindex"))?,
            last_offset: None,
            last_time: None,
            newest: None,
            damaged: false,
        })
    }

    /// Which of the two are missing.
    pub(super) fn missing(&self) -> impl Iterator<Item = &'static str> {
        let offsets = self.offsets.is_none().then_some("index");
        let times = self.times.is_none().then_some("timeindex");
        offsets.into_iter().chain(times)
    }

    /// Compares with the next good batch.
    pub(super) fn batch(&mut self, position: u64, header: &BatchHeader) -> io::Result<()> {
        self.offsets_upto(position, Some(header))?;
        self.times_upto(header)?;
        self.newest = self.newest.max(time_of(header));
        Ok(())
    }

    /// Steps over bytes that cannot be read.
    pub(super) fn damage(&mut self, end_position: u64) -> io::Result<()> {
        self.damaged = true;
        while let Some(side) = &mut self.offsets
            && let Some(entry) = side.next
            && decode_offset(self.base, entry).1 < end_position
        {
            self.last_offset = Some(decode_offset(self.base, entry));
            side.advance()?;
        }
        Ok(())
    }

    /// What was found, the log having ended.
    pub(super) fn finish(mut self, end: u64) -> io::Result<Vec<IndexFinding>> {
        self.offsets_upto(u64::MAX, None)?;
        while let Some(side) = &mut self.times
            && let Some(entry) = side.next
        {
            let (timestamp, offset) = decode_time(self.base, entry);
            if !self.damaged {
                side.tell(format!(
                    "an entry tells time {timestamp} of offset {offset}, which the log of {end} \
                     bytes does not have"
                ));
            }
            side.advance()?;
        }
        let mut findings = Vec::new();
        if let Some(side) = self.offsets {
            side.into_findings(&mut findings);
        }
        if let Some(side) = self.times {
            side.into_findings(&mut findings);
        }
        Ok(findings)
    }

    /// Entries up to the batch at `position`.
    fn offsets_upto(&mut self, position: u64, batch: Option<&BatchHeader>) -> io::Result<()> {
        while let Some(side) = &mut self.offsets
            && let Some(entry) = side.next
        {
            let (offset, at) = decode_offset(self.base, entry);
            if at > position {
                break;
            }
            if self.last_offset.is_some_and(|(o, p)| offset <= o || at <= p) {
                side.tell(format!("offset {offset} at position {at} is out of order"));
            } else if at < position || batch.is_none() {
                side.tell(format!("position {at} (offset {offset}) is not where a batch begins"));
            } else if let Some(header) = batch.filter(|h| h.last_offset().0 != offset) {
                let last = header.last_offset();
                side.tell(format!("the batch at {at} ends with offset {last}, not {offset}"));
            }
            self.last_offset = Some((offset, at));
            side.advance()?;
        }
        Ok(())
    }

    /// Entries whose offset is at most the batch's last.
    fn times_upto(&mut self, header: &BatchHeader) -> io::Result<()> {
        while let Some(side) = &mut self.times
            && let Some(entry) = side.next
        {
            let (timestamp, offset) = decode_time(self.base, entry);
            if offset > header.last_offset().0 {
                break;
            }
            let largest = self.newest.max(time_of(header)).unwrap_or(timestamp);
            if self.last_time.is_some_and(|(t, o)| timestamp <= t || offset < o) {
                side.tell(format!("time {timestamp} of offset {offset} is out of order"));
            } else if offset < header.base_offset.0 {
                if !self.damaged {
                    side.tell(format!("time {timestamp} is of offset {offset}, which is missing"));
                }
            } else if header.max_timestamp != timestamp || (largest != timestamp && !self.damaged) {
                side.tell(format!(
                    "time {timestamp} of offset {offset}: its batch has {}, the largest so far \
                     is {largest}",
                    header.max_timestamp
                ));
            }
            self.last_time = Some((timestamp, offset));
            side.advance()?;
        }
        Ok(())
    }
}

/// The greatest timestamp of a batch; the empty ones that compaction leaves are in no time index.
fn time_of(header: &BatchHeader) -> Option<i64> {
    (header.record_count > 0).then_some(header.max_timestamp)
}
