//! The rate while lines are sent, and the summary at the end.

use std::io::{IsTerminal, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use producer_client::{Acks, Producer};

use super::args::{Format, SendArgs};
use super::sink::Progress;

/// Prints on standard error, over and over on one line where that is a terminal.
pub(crate) struct Rate {
    is_shown: bool,
    is_terminal: bool,
    last: (Instant, u64, u64),
}

impl Rate {
    pub(crate) fn new(args: &SendArgs) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let is_shown = !args.quiet && (is_terminal || args.stats);
        Self { is_shown, is_terminal, last: (Instant::now(), 0, 0) }
    }

    pub(crate) fn show(&mut self, progress: &Progress, producer: &Producer) {
        if !self.is_shown {
            return;
        }
        let (then, lines_then, bytes_then) = self.last;
        let lines = progress.lines.load(Ordering::Relaxed);
        let bytes = progress.bytes.load(Ordering::Relaxed);
        let seconds = then.elapsed().as_secs_f64().max(1e-6);
        self.last = (Instant::now(), lines, bytes);
        let stats = producer.stats();
        let text = format!(
            "{} lines, {} lines/s, {}/s; acknowledged {}{}",
            grouped(lines),
            grouped(((lines - lines_then) as f64 / seconds) as u64),
            sized((bytes - bytes_then) as f64 / seconds),
            grouped(stats.acknowledged),
            if stats.failed > 0 { format!(", failed {}", stats.failed) } else { String::new() },
        );
        let mut stderr = std::io::stderr().lock();
        // Who closed standard error does not want it.
        let _ = match self.is_terminal {
            true => write!(stderr, "\r\x1b[K{text}"),
            false => writeln!(stderr, "{text}"),
        };
        let _ = stderr.flush();
    }

    /// Leaves the line for what is printed next.
    pub(crate) fn clear(&self) {
        if self.is_shown && self.is_terminal {
            eprint!("\r\x1b[K");
        }
    }
}

/// What was sent and what became of it.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Summary {
    pub(crate) topic: String,
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    pub(crate) lines_per_second: f64,
    pub(crate) bytes_per_second: f64,
    /// With acks=0 nothing is.
    pub(crate) acknowledged: u64,
    pub(crate) failed: u64,
    /// What compression left of the batches' bytes; 1 without it.
    pub(crate) compression_rate: f64,
    /// Partitions that got another leader, or the same one anew: no errors.
    pub(crate) leader_changes: u64,
    pub(crate) skipped_long_lines: u64,
    pub(crate) unfinished_lines: u64,
    pub(crate) interrupted: bool,
}

impl Summary {
    pub(crate) fn new(
        topic: &str,
        progress: &Progress,
        producer: &Producer,
        elapsed: Duration,
        interrupted: bool,
    ) -> Self {
        let (lines, bytes) =
            (progress.lines.load(Ordering::Relaxed), progress.bytes.load(Ordering::Relaxed));
        let stats = producer.stats();
        let seconds = elapsed.as_secs_f64();
        let per_second = |count: u64| (count as f64 / seconds.max(1e-6)).round();
        Self {
            topic: topic.into(),
            lines,
            bytes,
            seconds: (seconds * 1e6).round() / 1e6,
            lines_per_second: per_second(lines),
            bytes_per_second: per_second(bytes),
            acknowledged: match producer.config().acks {
                Acks::None => 0,
                Acks::Leader | Acks::All => stats.acknowledged,
            },
            failed: stats.failed,
            compression_rate: (stats.compression_rate().unwrap_or(1.0) * 1e4).round() / 1e4,
            leader_changes: stats.leader_changes,
            skipped_long_lines: progress.skipped.load(Ordering::Relaxed),
            unfinished_lines: progress.unfinished.load(Ordering::Relaxed),
            interrupted,
        }
    }

    pub(crate) fn print(&self, args: &SendArgs) {
        match args.format {
            Format::Json => {
                let text = serde_json::to_string(self).unwrap_or_default();
                let _ = writeln!(std::io::stdout(), "{text}");
            }
            Format::Text if args.quiet => {}
            Format::Text => eprintln!("{}", self.text()),
        }
    }

    fn text(&self) -> String {
        let mut text = format!(
            "{} lines, {} in {:.2} s ({} lines/s, {}/s); acknowledged {}, failed {}",
            grouped(self.lines),
            sized(self.bytes as f64),
            self.seconds,
            grouped(self.lines_per_second as u64),
            sized(self.bytes_per_second),
            grouped(self.acknowledged),
            grouped(self.failed),
        );
        if self.compression_rate < 1.0 {
            text.push_str(&format!(", compressed to {:.1} %", self.compression_rate * 100.0));
        }
        if self.leader_changes > 0 {
            text.push_str(&format!(", followed {} leader changes", grouped(self.leader_changes)));
        }
        for (count, what) in [
            (self.skipped_long_lines, "too long and left out"),
            (self.unfinished_lines, "unfinished and not sent"),
        ] {
            if count > 0 {
                text.push_str(&format!(", {} {what}", grouped(count)));
            }
        }
        if self.interrupted {
            text.push_str(" (interrupted)");
        }
        text
    }
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes in decimal units.
fn sized(bytes: f64) -> String {
    let mut value = bytes;
    for unit in ["B", "kB", "MB"] {
        if value < 1000.0 {
            return if unit == "B" {
                format!("{value:.0} B")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1000.0;
    }
    format!("{value:.2} GB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
        for (bytes, text) in [
            (0.0, "0 B"),
            (999.0, "999 B"),
            (1500.0, "1.5 kB"),
            (2.5e6, "2.5 MB"),
            (3e9, "3.00 GB"),
        ] {
            assert_eq!(sized(bytes), text);
        }
    }
}
