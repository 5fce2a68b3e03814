//! A line on standard error that says how far long work has come.

use std::io::Write;
use std::time::{Duration, Instant};

/// The line is drawn anew this often, and not at all by work that is done earlier.
const EVERY: Duration = Duration::from_millis(250);

/// The line, or nothing where nobody watches.
#[derive(Debug)]
pub(super) struct Progress {
    total: u64,
    done: u64,
    started: Instant,
    drawn: Option<Instant>,
    shown: bool,
    wanted: bool,
}

impl Progress {
    pub(super) fn new(total: u64, wanted: bool) -> Self {
        Self { total, done: 0, started: Instant::now(), drawn: None, shown: false, wanted }
    }

    pub(super) fn add(&mut self, bytes: u64) {
        self.done += bytes;
        let now = Instant::now();
        let due = self.drawn.unwrap_or(self.started) + EVERY;
        if self.wanted && now >= due {
            self.drawn = Some(now);
            self.shown = true;
            let line = line(self.done, self.total, now - self.started);
            // Nobody is harmed when it cannot be drawn.
            let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
        }
    }

    /// Wipes the line, so that something else can be printed.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn line(done: u64, total: u64, elapsed: Duration) -> String {
    const WIDTH: usize = 24;
    let share = (done as f64 / total.max(1) as f64).min(1.0);
    let filled = (share * WIDTH as f64) as usize;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let rate = mib(done) / elapsed.as_secs_f64().max(0.001);
    format!(
        "[{}{}] {:3.0} %  {:.0} of {:.0} MiB, {rate:.0} MiB/s",
        "=".repeat(filled),
        " ".repeat(WIDTH - filled),
        share * 100.0,
        mib(done),
        mib(total),
    )
}
