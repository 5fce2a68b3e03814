//! The ways a log set ends, and what must be there afterwards.

use std::time::Duration;

use proto::Offset;

use super::story::{Story, read_records};
use crate::storage::tests::{append, batch, partition};
use crate::storage::{Clock, DeleteUpTo};

impl Story<'_> {
    /// A failed sync takes the log offline; opened anew, it has what is really there.
    pub(super) fn fail_a_sync(&mut self) {
        if self.log.flushed() == self.log.log_end() {
            return;
        }
        self.slices.clear();
        self.disk.set_faults(|faults| faults.failing_syncs = Some((".log".into(), 1)));
        let error = self.log.flush().unwrap_err();
        assert!(self.log.offline().is_some(), "{error}");
        assert!(append(&self.log, &batch(&["x"])).is_err());
        self.disk.set_faults(|faults| faults.failing_syncs = None);
        let flushed = self.log.flushed().0;
        self.log = self.set.as_ref().unwrap().reopen(&partition()).unwrap();
        self.settle(flushed);
    }

    pub(super) fn restart(&mut self) {
        self.empty_disk();
        self.slices.clear();
        self.set.take().unwrap().close();
        let report = self.open();
        // A segment of nothing but empty batches has no time index to be believed by.
        let compact = self.world.config.log.cleanup_policy.compact;
        assert!(report.clean && (compact || report.scanned_bytes == 0), "{report:?}");
        self.truth.flushed = self.truth.end;
        self.check_all();
    }

    pub(super) fn kill(&mut self) {
        self.maybe_checkpoint();
        self.disk.kill();
        self.slices.clear();
        let report = self.open();
        assert!(!report.unsynced_lost && report.cut_bytes == 0, "{report:?}");
        self.truth.flushed = self.truth.end;
        self.check_all();
    }

    pub(super) fn power_cut(&mut self) {
        self.maybe_checkpoint();
        let flushed = self.log.flushed().0;
        assert!(flushed >= self.truth.flushed);
        self.disk.power_cut(&mut self.random);
        self.slices.clear();
        let report = self.open();
        assert!(report.unsynced_lost, "{report:?}");
        self.settle(flushed);
    }

    fn maybe_checkpoint(&mut self) {
        if self.random.bool() {
            self.set.as_ref().unwrap().checkpoint();
        }
        self.empty_disk();
    }

    /// The disk takes so many more changes and no other, in the middle of something; then the
    /// process is dead, or the machine.
    pub(super) fn die_in_the_middle(&mut self) {
        let changes = self.random.choice([4, 12, 40]).map_or(0, |most| self.random.u64(0..most));
        let what = self.random.u8(0..8);
        let power = self.random.bool();
        let cause = if power { "power cut" } else { "kill" };
        self.note(&format!("  {cause} after {changes} changes of operation {what}"));
        self.dying = true;
        let least = self.doomed(what, changes);
        self.dying = false;
        let flushed = self.log.flushed().0.min(least);
        self.slices.clear();
        if power {
            self.disk.power_cut(&mut self.random);
        } else {
            self.disk.set_faults(|faults| {
                (faults.changes_left, faults.torn_write) = (None, false);
            });
            self.disk.kill();
        }
        self.open();
        self.adopt_pending();
        self.settle(if power { flushed } else { least.min(self.truth.end) });
    }

    /// Does something until the disk fails. All below the answer must survive a kill.
    fn doomed(&mut self, what: u8, changes: u64) -> i64 {
        let torn_write = self.random.bool();
        let set_fuse = |story: &Self| {
            story.disk.set_faults(|faults| {
                (faults.changes_left, faults.torn_write) = (Some(changes), torn_write);
            });
        };
        match what {
            0 => {
                set_fuse(self);
                self.append();
            }
            1 => {
                set_fuse(self);
                let _ = self.log.flush();
            }
            2 => {
                set_fuse(self);
                let _ = self.log.roll();
                self.run_due();
            }
            3 => {
                let to = self.truncation_point();
                set_fuse(self);
                (self.went_back, self.truncated) = (true, true);
                let _ = self.log.truncate_to(Offset(to));
                let least = self.truth.cut_of(to);
                // The log start goes back with the end, and before it.
                self.truth.deleted = self.truth.deleted.min(least);
                return least;
            }
            4 => {
                self.log.set_high_watermark(self.log.log_end());
                set_fuse(self);
                let _ = self.log.compact();
            }
            5 => {
                self.log.set_high_watermark(self.log.log_end());
                self.world.clock.advance(Duration::from_millis(self.random.u64(0..80_000)));
                set_fuse(self);
                self.run_due();
            }
            6 => {
                self.log.set_high_watermark(self.log.log_end());
                let upto = self.random.i64(self.truth.start..=self.truth.end);
                set_fuse(self);
                if self.log.delete_records(DeleteUpTo::Offset(Offset(upto))).is_ok() {
                    self.truth.deleted = upto;
                }
                self.truth.start = self.truth.start.max(upto);
            }
            _ => {
                set_fuse(self);
                self.append();
                let _ = self.log.roll();
                let _ = self.log.flush();
                self.append();
            }
        }
        self.truth.end
    }

    /// Batches that were written and not acknowledged may be there: in order, and whole.
    fn adopt_pending(&mut self) {
        let end = self.log.log_end().0;
        while let Some(sent) = self.pending.pop_front() {
            if self.truth.end + sent.records.len() as i64 <= end {
                self.accept(sent);
            } else {
                self.pending.clear();
            }
        }
    }

    /// After a loss: all that was flushed is there, what is there is what was written.
    fn settle(&mut self, least: i64) {
        // Nothing above is compacted.
        let settled = least;
        let (start, end) = (self.log.log_start().0, self.log.log_end().0);
        assert!(
            self.truth.may_end(end, least),
            "the log ends at {end}, not in {least}..={}",
            self.truth.end
        );
        assert!(start <= self.truth.start.max(least), "start {start}");
        assert!(start >= self.truth.deleted.min(end), "start {start}");
        self.went_back |= end < self.truth.end;
        let started = self.truth.start;
        self.truth.cut(end);
        self.truth.start = start;
        self.truth.flushed = end;
        if self.world.config.log.cleanup_policy.compact {
            let read = read_records(&self.log, Offset(start));
            self.truth.settle_compaction(&read, settled.min(end), self.world.clock.now_ms());
            self.went_back = true;
        }
        self.note(&format!("  from {started} to {start}..{end}"));
        self.check_all();
    }
}
