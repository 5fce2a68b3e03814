//! The rate while records are read, and the summary at the end.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Counts records; prints on standard error where `--stats` asks for it.
pub(crate) struct Report {
    shown: bool,
    terminal: bool,
    records: u64,
    bytes: u64,
    /// First and last record.
    span: Option<(Instant, Instant)>,
    last: (Instant, u64, u64),
}

impl Report {
    pub(crate) fn new(shown: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let (span, last) = (None, (Instant::now(), 0, 0));
        Self { shown, terminal, records: 0, bytes: 0, span, last }
    }

    /// Records so far.
    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// Counts what was written out. `since`: when it was taken.
    pub(crate) fn count(&mut self, records: u64, bytes: u64, since: Instant) {
        if records > 0 {
            self.records += records;
            self.bytes += bytes;
            let first = self.span.map_or(since, |(first, _)| first);
            self.span = Some((first, Instant::now()));
        }
    }

    /// Prints the rate once a second.
    pub(crate) fn tick(&mut self) {
        let (then, records, bytes) = self.last;
        let passed = then.elapsed();
        if !self.shown || passed < Duration::from_secs(1) {
            return;
        }
        self.last = (Instant::now(), self.records, self.bytes);
        let rate = rates(self.records - records, self.bytes - bytes, passed);
        let text = format!("{} records, {rate}", grouped(self.records));
        let mut stderr = std::io::stderr().lock();
        // Who closed standard error does not want it.
        let _ = match self.terminal {
            true => write!(stderr, "\r\x1b[K{text}"),
            false => writeln!(stderr, "{text}"),
        };
        let _ = stderr.flush();
    }

    /// Prints the summary.
    pub(crate) fn end(&self, leader_changes: u64) {
        if !self.shown {
            return;
        }
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        let passed = self.span.map_or(Duration::ZERO, |(first, last)| last - first);
        let (records, seconds) = (grouped(self.records), passed.as_secs_f64());
        let rate = rates(self.records, self.bytes, passed);
        let text = format!("{clear}read {records} records, {} bytes", grouped(self.bytes));
        let followed = match leader_changes {
            0 => String::new(),
            changes => format!(", followed {} leader changes", grouped(changes)),
        };
        let _ = writeln!(std::io::stderr(), "{text} in {seconds:.2} s, {rate}{followed}");
    }
}

fn rates(records: u64, bytes: u64, passed: Duration) -> String {
    let seconds = passed.as_secs_f64().max(1e-6);
    let megabytes = bytes as f64 / 1e6 / seconds;
    format!("{} records/s, {megabytes:.1} MB/s", grouped((records as f64 / seconds) as u64))
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1234567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
