//! Prints items as lines, and counts damage.

use std::collections::HashSet;
use std::io::{self, BufWriter, StdoutLock, Write};

use super::{json, text};
use crate::storage::dump::{DumpReport, DumpSink, Field, Kind, Value};
use indicatif::ProgressBar;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Text { color: bool },
    Json,
}

/// Writes to standard output; a write that fails ends the dump.
pub(super) struct Printer<'o> {
    out: BufWriter<StdoutLock<'o>>,
    format: Format,
    progress: ProgressBar,
    summary: bool,
    line: String,
    damages: u64,
    /// Files with damage, for the last line.
    damaged: HashSet<String>,
}

impl<'o> Printer<'o> {
    pub(super) fn new(
        out: StdoutLock<'o>,
        format: Format,
        progress: ProgressBar,
        summary: bool,
    ) -> Self {
        Self {
            out: BufWriter::with_capacity(1 << 16, out),
            format,
            progress,
            summary,
            line: String::new(),
            damages: 0,
            damaged: HashSet::new(),
        }
    }

    /// Damages told so far.
    pub(super) fn damages(&self) -> u64 {
        self.damages
    }

    /// Prints the totals.
    pub(super) fn end(&mut self, report: &DumpReport) -> io::Result<()> {
        let int = |number: u64| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
        if report.files > 1 {
            let fields = [
                ("files", int(report.files)),
                ("damagedFiles", int(self.damaged.len() as u64)),
                ("batches", int(report.batches)),
                ("records", int(report.records)),
                ("bytes", int(report.bytes)),
                ("damages", int(report.damages)),
            ];
            self.print("total", None, &fields)?;
        }
        self.flush()
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        let out = &mut self.out;
        self.progress.suspend(|| out.flush())
    }

    fn print(&mut self, name: &str, kind: Option<Kind>, fields: &[Field<'_>]) -> io::Result<()> {
        self.line.clear();
        match self.format {
            Format::Text { color } => text::line(&mut self.line, name, kind, fields, color),
            Format::Json => json::line(&mut self.line, name, fields),
        }
        self.line.push('\n');
        self.out.write_all(self.line.as_bytes())
    }
}

impl DumpSink for Printer<'_> {
    fn wants(&self, kind: Kind) -> bool {
        match kind {
            Kind::Damage | Kind::Note | Kind::Summary => true,
            Kind::File | Kind::Batch | Kind::Record | Kind::Entry => !self.summary,
        }
    }

    fn item(&mut self, kind: Kind, fields: &[Field<'_>]) -> io::Result<()> {
        let name = match kind {
            Kind::File => "file",
            Kind::Batch => "batch",
            Kind::Record => "record",
            Kind::Entry => "entry",
            Kind::Damage => "damage",
            Kind::Note => "note",
            Kind::Summary => "summary",
        };
        if kind == Kind::Damage {
            self.damages += 1;
            if let Some((_, Value::Owned(file))) = fields.first()
                && self.damaged.len() < 100_000
            {
                self.damaged.insert(file.clone());
            }
        }
        self.print(name, Some(kind), fields)
    }

    fn progress(&mut self, bytes: u64) {
        self.progress.inc(bytes);
    }
}
