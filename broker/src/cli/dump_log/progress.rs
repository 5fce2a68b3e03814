//! A bar on standard error that says how far long work has come.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

/// Work that is done earlier shows nothing.
const TICK: Duration = Duration::from_millis(250);

/// A bar over bytes, or one that nobody sees.
pub(super) fn bar(total: u64, wanted: bool) -> ProgressBar {
    if !wanted {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total).with_finish(ProgressFinish::AndClear);
    let template =
        "[{bar:24}] {percent:>3} %  {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.enable_steady_tick(TICK);
    bar
}
