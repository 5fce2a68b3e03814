//! Lines of files and of standard input, once to their end.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};

use super::line_buffer::{LineBuffer, Next};
use super::sink::Sink;

/// A file being read, or standard input.
pub(crate) enum Input {
    File(PathBuf, File),
    Stdin,
}

/// Opens all before anything is sent, so that a misspelt name costs nothing.
pub(crate) fn open(paths: &[PathBuf]) -> Result<Vec<Input>> {
    if paths.is_empty() {
        return Ok(vec![Input::Stdin]);
    }
    let open = |path: &PathBuf| {
        if path.as_os_str() == "-" {
            return Ok(Input::Stdin);
        }
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let is_directory = file.metadata().is_ok_and(|metadata| metadata.is_dir());
        anyhow::ensure!(!is_directory, "{} is a directory: give its files", path.display());
        Ok(Input::File(path.clone(), file))
    };
    paths.iter().map(open).collect()
}

/// Lines with the name and number that errors give.
pub(crate) struct Lines {
    pub(crate) source: PathBuf,
    pub(crate) number: u64,
    pub(crate) buffer: LineBuffer,
}

impl Lines {
    pub(crate) fn new(source: &Path, line_len_max: usize) -> Self {
        Self { source: source.into(), number: 0, buffer: LineBuffer::new(line_len_max) }
    }

    /// Hands over the whole lines in the buffer, fewer if no more are wanted.
    pub(crate) fn hand_over(&mut self, sink: &mut impl Sink) -> Result<()> {
        loop {
            if self.number.is_multiple_of(256) && sink.is_over() {
                return Ok(());
            }
            match self.buffer.next() {
                Next::NeedMore => return Ok(()),
                Next::Line(line) => {
                    self.number += 1;
                    sink.line(line, &self.source, self.number)?;
                }
                Next::TooLong(len) => {
                    self.number += 1;
                    sink.too_long(len, &self.source, self.number)?;
                }
            }
        }
    }

    /// Hands over what has no line end.
    pub(crate) fn hand_over_rest(&mut self, sink: &mut impl Sink) -> Result<()> {
        if let Some(line) = self.buffer.take_rest() {
            self.number += 1;
            sink.line(line, &self.source, self.number)?;
        }
        Ok(())
    }
}

/// Reads all inputs in their order; true if they came to their end.
pub(crate) fn read_all(
    inputs: Vec<Input>,
    line_len_max: usize,
    sink: &mut impl Sink,
) -> Result<bool> {
    for input in inputs {
        let is_at_end = match input {
            Input::File(path, mut file) => read(&mut file, &path, line_len_max, sink)?,
            Input::Stdin => {
                let name = Path::new("standard input");
                // The lock's own buffer is passed by: reads are larger.
                read(&mut std::io::stdin().lock(), name, line_len_max, sink)?
            }
        };
        if !is_at_end {
            return Ok(false);
        }
    }
    Ok(true)
}

fn read(
    from: &mut impl Read,
    name: &Path,
    line_len_max: usize,
    sink: &mut impl Sink,
) -> Result<bool> {
    let mut lines = Lines::new(name, line_len_max);
    loop {
        let progress = sink.progress();
        progress.is_waiting.store(true, Ordering::SeqCst);
        let read = if progress.is_stopped() { Ok(0) } else { lines.buffer.fill(from) };
        progress.is_waiting.store(false, Ordering::SeqCst);
        let len = read.with_context(|| format!("cannot read {}", name.display()))?;
        if sink.is_over() {
            return Ok(false);
        }
        if len == 0 {
            lines.hand_over_rest(sink)?;
            return Ok(true);
        }
        lines.hand_over(sink)?;
        if sink.is_over() {
            return Ok(false);
        }
    }
}
