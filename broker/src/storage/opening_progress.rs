//! Lines in the log while a directory's partitions are opened: how many of them, how much was read
//! of what is to be read after a stop that was not clean, and how long the rest may take.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::context::Context;
use super::positions_checkpoint::Positions;
use super::segment::parse_file_name;
use super::start::FoundDir;

/// Between two lines.
const EVERY: Duration = Duration::from_secs(2);

/// The opening of one directory.
pub(super) struct OpeningProgress<'a> {
    context: &'a Context,
    found: &'a FoundDir,
    begun: Duration,
    /// Milliseconds after `begun` of the last line.
    told: AtomicU64,
    /// What other directories had scanned when this one began is not its own; with several it is
    /// the sum of all, as the disks' common work.
    scanned_before: u64,
    to_scan: u64,
}

impl<'a> OpeningProgress<'a> {
    pub(super) fn new(context: &'a Context, found: &'a FoundDir) -> Self {
        let to_scan = if found.clean { 0 } else { to_scan(context, found) };
        if to_scan > 0 {
            tracing::info!(
                dir = %found.open.dir.path.display(), partitions = found.partitions.len(),
                mib = to_scan >> 20, "the last stop was not clean: partitions are checked"
            );
        }
        Self {
            context,
            found,
            begun: context.clock.elapsed(),
            told: AtomicU64::new(0),
            scanned_before: context.scanned.load(Ordering::Relaxed),
            to_scan,
        }
    }

    /// After each partition; says something now and then, and at the end.
    pub(super) fn tell(&self, done: usize) {
        let total = self.found.partitions.len();
        let took = self.context.clock.elapsed().saturating_sub(self.begun);
        let (now, told) = (took.as_millis() as u64, self.told.load(Ordering::Relaxed));
        if done < total && now < told + EVERY.as_millis() as u64 {
            return;
        }
        self.told.store(now, Ordering::Relaxed);
        let scanned = self.context.scanned.load(Ordering::Relaxed) - self.scanned_before;
        let part = match self.to_scan {
            0 => done as f64 / total.max(1) as f64,
            bytes => (scanned as f64 / bytes as f64).min(1.0),
        };
        let left = if part > 0.0 { took.as_secs_f64() * (1.0 - part) / part } else { 0.0 };
        tracing::info!(
            dir = %self.found.open.dir.path.display(), done, total, clean = self.found.clean,
            mib_checked = scanned >> 20, mib_to_check = self.to_scan >> 20, ?took,
            seconds_left = left.ceil(), "partitions opened"
        );
    }
}

/// About the bytes that recovery is going to read: segments from the recovery points on.
fn to_scan(context: &Context, found: &FoundDir) -> u64 {
    let of = |partition| {
        let positions = found.positions.as_ref().and_then(|all| all.get(partition));
        let from = positions.map_or(0, |Positions { recovery_point, .. }| recovery_point.0);
        let folder = found.open.dir.path.join(partition.to_string());
        let mut segments: Vec<_> = context
            .disk
            .list(&folder)
            .unwrap_or_default()
            .iter()
            .filter_map(|entry| Some((parse_file_name(&entry.name)?, entry.len)))
            .filter(|((_, extension), _)| *extension == "log")
            .map(|((base, _), len)| (base.0, len))
            .collect();
        segments.sort_unstable();
        let first = segments.partition_point(|(base, _)| *base <= from).saturating_sub(1);
        segments[first.min(segments.len())..].iter().map(|(_, len)| len).sum::<u64>()
    };
    found.partitions.iter().map(of).sum()
}
