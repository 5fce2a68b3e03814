//! Files that grow, read on across rotation.
//!
//! - **Renamed and made again**: the path has another inode. The old file stays open and is read until
//!   nothing came to it for [`GRACE`], because its writer may not have noticed yet; the new one is read
//!   from its beginning.
//! - **Copied and truncated**: the file is shorter than what was read, or the bytes before the position
//!   are not those that were read there: it is read again from its beginning.
//! - **Not there** (yet, or between rename and creation): waited for.
//!
//! A line without its end waits for it; it is sent as it is once its file is given up. What is written
//! and truncated, or a file that is made and renamed, between two looks ([`PAUSE`] apart) is not seen.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::input::Lines;
use super::sink::Sink;

/// Between two looks at files that do not grow.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a file that was rotated away is read on after its last growth.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// Reads of one file before the next has its turn.
const READS_A_TURN: usize = 8;
/// Bytes before the position that are compared.
const TRACE_LEN: usize = 64;

/// Inode and device.
type FileId = (u64, u64);

fn id_of(metadata: &Metadata) -> FileId {
    (metadata.ino(), metadata.dev())
}

/// An open file.
struct OpenFile {
    file: File,
    id: FileId,
    position: u64,
    /// The last bytes read.
    trace: Vec<u8>,
    lines: Lines,
    last_growth: Instant,
}

/// A path that is followed: its file, and those that were rotated away.
struct Followed {
    path: PathBuf,
    current: Option<OpenFile>,
    rotated: Vec<OpenFile>,
    was_missed: bool,
}

/// Reads `paths` as they grow until `sink` is over.
pub(crate) fn follow(
    paths: &[PathBuf],
    from_end: bool,
    line_len_max: usize,
    grace: Duration,
    sink: &mut impl Sink,
) -> Result<()> {
    let mut all = Vec::with_capacity(paths.len());
    for path in paths {
        let current = OpenFile::open(path, from_end, line_len_max)?;
        let path = path.clone();
        all.push(Followed { path, current, rotated: Vec::new(), was_missed: false });
    }
    while !sink.is_over() {
        let mut has_grown = false;
        for followed in &mut all {
            has_grown |= followed.look(line_len_max, grace, sink)?;
        }
        if !has_grown {
            sink.progress().pause(PAUSE);
        }
    }
    let open = all.iter().flat_map(|followed| followed.rotated.iter().chain(&followed.current));
    let unfinished = open.filter(|file| file.lines.buffer.rest_len() > 0).count();
    sink.progress().unfinished.store(unfinished as u64, Ordering::Relaxed);
    Ok(())
}

impl Followed {
    /// Reads what is new; true if there was something.
    fn look(&mut self, line_len_max: usize, grace: Duration, sink: &mut impl Sink) -> Result<bool> {
        let mut has_grown = false;
        let mut kept = Vec::new();
        for mut file in self.rotated.drain(..) {
            has_grown |= file.read_on(sink)?;
            if file.last_growth.elapsed() < grace && !sink.is_over() {
                kept.push(file);
            } else if sink.is_over() {
                kept.push(file);
                break;
            } else {
                file.lines.hand_over_rest(sink)?;
            }
        }
        self.rotated = kept;
        if let Some(file) = &mut self.current {
            if file.read_on(sink)? {
                return Ok(true);
            }
            match std::fs::metadata(&self.path) {
                Ok(metadata) if id_of(&metadata) == file.id => return Ok(has_grown),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(has_grown),
                Err(error) => {
                    let what = format!("cannot look at {}", self.path.display());
                    return Err(error).context(what);
                }
            }
            // Another file is there now. What was written before it came is read first.
            while file.read_on(sink)? && !sink.is_over() {}
        }
        let Some(new) = OpenFile::open(&self.path, false, line_len_max)? else {
            if self.current.is_none() && !std::mem::replace(&mut self.was_missed, true) {
                eprintln!("producer: waiting for {} to appear", self.path.display());
            }
            return Ok(has_grown);
        };
        if let Some(mut old) = self.current.replace(new) {
            tracing::info!(path = %self.path.display(), "the file was rotated");
            old.last_growth = Instant::now();
            self.rotated.push(old);
        }
        Ok(true)
    }
}

impl OpenFile {
    /// Opens the file if it is there.
    fn open(path: &Path, at_end: bool, line_len_max: usize) -> Result<Option<Self>> {
        let what = || format!("cannot follow {}", path.display());
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(what),
        };
        let metadata = file.metadata().with_context(what)?;
        anyhow::ensure!(metadata.is_file(), "{} is no regular file", path.display());
        let position = if at_end { file.seek(SeekFrom::End(0)).with_context(what)? } else { 0 };
        Ok(Some(Self {
            file,
            id: id_of(&metadata),
            position,
            trace: Vec::new(),
            lines: Lines::new(path, line_len_max),
            last_growth: Instant::now(),
        }))
    }

    /// Reads and hands over what is there; true if there was something.
    fn read_on(&mut self, sink: &mut impl Sink) -> Result<bool> {
        let cannot_read = |path: &Path| format!("cannot read {}", path.display());
        if self.was_rewritten().with_context(|| cannot_read(&self.lines.source))? {
            eprintln!("producer: {} was truncated, reading it anew", self.lines.source.display());
            self.lines.hand_over_rest(sink)?;
            self.file.rewind().with_context(|| cannot_read(&self.lines.source))?;
            self.position = 0;
            self.trace.clear();
        }
        let mut has_grown = false;
        for _ in 0..READS_A_TURN {
            let read = self.lines.buffer.fill(&mut self.file);
            let len = read.with_context(|| cannot_read(&self.lines.source))?;
            if len == 0 {
                break;
            }
            has_grown = true;
            self.position += len as u64;
            self.last_growth = Instant::now();
            self.remember(len);
            self.lines.hand_over(sink)?;
            if sink.is_over() {
                break;
            }
        }
        Ok(has_grown)
    }

    fn remember(&mut self, len: usize) {
        self.trace.extend_from_slice(self.lines.buffer.last_read(len.min(TRACE_LEN)));
        let surplus = self.trace.len().saturating_sub(TRACE_LEN);
        self.trace.drain(..surplus);
    }

    /// Whether the file is another one in the same place.
    fn was_rewritten(&self) -> std::io::Result<bool> {
        if self.file.metadata()?.len() < self.position {
            return Ok(true);
        }
        if self.trace.is_empty() {
            return Ok(false);
        }
        let mut there = [0; TRACE_LEN];
        let there = &mut there[..self.trace.len()];
        match self.file.read_exact_at(there, self.position - self.trace.len() as u64) {
            Ok(()) => Ok(*there != *self.trace),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(true),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
