//! From the files of a data directory to the state they hold, at every start.
//!
//! The snapshot, then the records of the log behind it, each with the next zxid. The log ends
//! at its zeros or at the first bad record: a write that was under way when the machine
//! stopped. Such a tail was never answered for; it is copied to `log.cut` and wiped. Where a
//! record further on says that the bad one had been on disk, this is no torn tail but damage,
//! and the server does not start.

use std::io;

use super::super::error::EmbeddedError;
use super::super::state::{Limits, State};
use super::disk::{Disk, DiskFile};
use super::record::{self, Found};
use super::snapshot;

/// The open log. `header <= end <= allocated`; the bytes from `end` to `allocated` are zeros.
pub(crate) struct LogFile {
    pub(crate) file: Box<dyn DiskFile>,
    /// Where the next record goes.
    pub(crate) end: u64,
    /// The length of the file.
    pub(crate) allocated: u64,
}

/// What a start found.
pub(crate) struct Recovered {
    pub(crate) state: State,
    pub(crate) log: LogFile,
    pub(crate) snapshot_bytes: u64,
    /// Records applied on top of the snapshot.
    pub(crate) replayed: u64,
    /// Bytes behind the last good record that were no zeros, now in `log.cut`.
    pub(crate) cut_bytes: u64,
}

/// Reads the directory and leaves the log ready to be appended to.
pub(crate) fn recover(disk: &dyn Disk, limits: Limits) -> Result<Recovered, EmbeddedError> {
    let io = |action: &'static str| move |source| EmbeddedError::Io { action, source };
    let (mut state, snapshot_bytes) =
        match disk.read("snapshot").map_err(io("read the file \"snapshot\""))? {
            None => (State::new(limits), 0),
            Some(bytes) => {
                let state =
                    snapshot::decode(&bytes, limits).map_err(|_| EmbeddedError::DamagedSnapshot)?;
                (state, bytes.len() as u64)
            }
        };
    let log =
        disk.read_without_zeros("log").map_err(io("read the file \"log\""))?.unwrap_or_default();
    let replay = replay(&mut state, &log)?;
    let tail = log.get(replay.end..).unwrap_or_default();
    let cut_bytes = tail.len();
    if cut_bytes > 0 {
        tracing::warn!(bytes = cut_bytes, zxid = state.zxid, "log has a torn tail, cut off");
        // For people to look at only: a full disk must not keep the server from starting.
        let _ = disk.replace("log.cut", tail);
    }
    let log = open(disk, replay.end, cut_bytes).map_err(io("open the file \"log\""))?;
    let (replayed, cut_bytes) = (replay.records, cut_bytes as u64);
    Ok(Recovered { state, log, snapshot_bytes, replayed, cut_bytes })
}

struct Replay {
    end: usize,
    records: u64,
}

fn replay(state: &mut State, log: &[u8]) -> Result<Replay, EmbeddedError> {
    let mut position = record::HEADER.len();
    if !log.starts_with(&record::HEADER) {
        // A log that was only being made holds nothing yet.
        let new = record::HEADER.starts_with(log);
        return if new {
            Ok(Replay { end: 0, records: 0 })
        } else {
            Err(EmbeddedError::DamagedLog { offset: 0 })
        };
    }
    let mut records = 0;
    loop {
        let damaged = EmbeddedError::DamagedLog { offset: position as u64 };
        match record::decode(&log[position..]) {
            Found::End if record::proves_synced(&log[position..], state.zxid + 1) => {
                return Err(damaged);
            }
            Found::End => break,
            Found::Record(found) => {
                // What the snapshot has already, where the log was not yet started over.
                if found.record.stamp.zxid > state.zxid {
                    state.replay(found.record).map_err(|_| damaged)?;
                    records += 1;
                }
                position += found.len;
            }
        }
    }
    Ok(Replay { end: position, records })
}

fn open(disk: &dyn Disk, end: usize, cut_bytes: usize) -> io::Result<LogFile> {
    let (mut file, allocated) = disk.open("log")?;
    let mut end = end as u64;
    if cut_bytes > 0 {
        file.write_at(end, &vec![0; cut_bytes])?;
        file.sync()?;
    }
    if end < record::HEADER.len() as u64 {
        file.write_at(0, &record::HEADER)?;
        file.sync()?;
        disk.sync_directory()?;
        end = record::HEADER.len() as u64;
    }
    Ok(LogFile { file, end, allocated: allocated.max(end) })
}
