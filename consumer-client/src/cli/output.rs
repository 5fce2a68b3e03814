//! Standard output: one buffer, written whole, nothing kept back across a poll.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use proto::TopicPartition;
use proto::record::RecordRef;

use super::args::{Format, ReadArgs};
use super::format::Layout;
use super::json;

/// Written out when so much has gathered.
const BUFFER_BYTES: usize = 256 << 10;

/// Lays records out and writes them.
pub(crate) struct Output {
    layout: Option<Layout>,
    buffer: Vec<u8>,
    out: File,
}

impl Output {
    /// To standard output, as the arguments say.
    pub(crate) fn new(args: &ReadArgs) -> anyhow::Result<Self> {
        let layout = match args.format {
            Format::Text => Some(Layout::compile(&args.output_format, &args.null_value)?),
            Format::Json => None,
        };
        // Past the standard library's line buffer, which looks at every byte.
        let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self { layout, buffer: Vec::with_capacity(BUFFER_BYTES * 2), out })
    }

    /// Lays a record out; writes when enough has gathered.
    #[inline]
    pub(crate) fn record(&mut self, tp: &TopicPartition, record: &RecordRef<'_>) -> io::Result<()> {
        match &self.layout {
            Some(layout) => layout.write(&mut self.buffer, tp, record),
            None => json::write(&mut self.buffer, tp, record),
        }
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// Writes all that has gathered.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let written = self.out.write_all(&self.buffer);
        self.buffer.clear();
        written
    }
}
