//! Waiting for reassignments with a display of how far they are.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressFinish, ProgressStyle};
use proto::v1;

use super::ask;
use super::plan_file::Of;
use crate::cli::admin::Admin;
use crate::cli::failure::Failure;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between two lines where nobody sees a bar.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// So long nobody may answer; a controller's fail-over takes less.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Waits until none of these partitions is under way any more.
pub(crate) async fn wait(admin: &mut Admin, partitions: &BTreeSet<Of>) -> Result<(), Failure> {
    let display = Display::new();
    let (mut heard, mut told) = (Instant::now(), Instant::now());
    let mut most = 0;
    loop {
        admin.again();
        match ask::list(admin, true).await {
            Ok(list) => {
                heard = Instant::now();
                let all = list.reassignments.into_iter();
                let left: Vec<_> = all.filter(|r| partitions.contains(&ask::of(r))).collect();
                if left.is_empty() {
                    return Ok(());
                }
                let state = Left::of(&left);
                most = state.bytes.max(most);
                display.show(&state, most, partitions.len(), &mut told);
            }
            Err(failure) if failure.code != 3 || heard.elapsed() > SILENCE_MAX => {
                return Err(Failure {
                    code: failure.code,
                    text: format!("{}; the reassignment goes on by itself", failure.text),
                });
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What is left of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Left {
    partitions: usize,
    bytes: u64,
    records: u64,
    /// Some replica's distance is not known.
    guessed: bool,
}

impl Left {
    fn of(under_way: &[v1::OngoingReassignment]) -> Self {
        let mut left = Self { partitions: under_way.len(), ..Self::default() };
        for replica in under_way.iter().flat_map(|r| &r.progress) {
            left.bytes += u64::try_from(replica.bytes_left).unwrap_or(0);
            left.records += u64::try_from(replica.offsets_left).unwrap_or(0);
            left.guessed |= replica.offsets_left < 0;
        }
        left
    }

    fn text(&self, of: usize) -> String {
        let at_least = if self.guessed { "at least " } else { "" };
        format!(
            "{} of {of} partitions under way, {at_least}{} records ({}) left",
            self.partitions,
            self.records,
            HumanBytes(self.bytes)
        )
    }
}

/// A bar on a terminal, a line now and then elsewhere; both on standard error.
enum Display {
    Bar(ProgressBar),
    Lines,
}

impl Display {
    fn new() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines;
        }
        let bar = ProgressBar::new(0).with_finish(ProgressFinish::AndClear);
        // Without colours: NO_COLOR asks for none, and nobody misses them.
        let template = "[{bar:24}] {percent:>3} %  {msg}, {bytes_per_sec}, {eta} to go";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        Self::Bar(bar)
    }

    fn show(&self, left: &Left, most: u64, of: usize, told: &mut Instant) {
        match self {
            Self::Bar(bar) => {
                bar.set_length(most);
                bar.set_position(most - left.bytes);
                bar.set_message(left.text(of));
            }
            Self::Lines if told.elapsed() >= LINE_EVERY => {
                *told = Instant::now();
                eprintln!("{}", left.text(of));
            }
            Self::Lines => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_summed_up_and_unknowns_are_said() {
        let replica = |broker, offsets_left, bytes_left| v1::AddingReplica {
            broker,
            offsets_left,
            bytes_left,
            ..Default::default()
        };
        let of = |progress| v1::OngoingReassignment { progress, ..Default::default() };
        let known = [of(vec![replica(1, 10, 2_048), replica(2, 5, 1_024)]), of(Vec::new())];
        let left = Left::of(&known);
        assert_eq!(left.text(3), "2 of 3 partitions under way, 15 records (3.00 KiB) left");
        let unknown = [of(vec![replica(1, -1, -1), replica(2, 5, 1_024)])];
        assert!(Left::of(&unknown).text(1).contains("at least 5 records"));
    }
}
