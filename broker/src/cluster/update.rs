//! The controller's numbered updates: which to apply, which to drop, when to read everything anew.
//! Pure.

/// Where this broker stands in the controller's numbering.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Numbering {
    /// The highest controller epoch seen.
    pub(super) controller_epoch: i32,
    /// The last update applied of that controller.
    pub(super) applied: u64,
}

/// What to do with an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The sender is no longer the controller: drop it.
    Stale,
    /// Applied before: acknowledge it again.
    Repeated,
    /// The next one: apply it.
    Apply,
    /// Something was missed, or the sender does not know what this broker has: read the registry
    /// whole, then apply it.
    Reread,
}

impl Numbering {
    /// Judges an update. The first of a sender (sequence 1) always asks for a whole read; it may
    /// come again within one controller epoch, when this broker registered anew.
    pub(super) fn judge(&self, controller_epoch: i32, sequence: u64) -> Verdict {
        if controller_epoch < self.controller_epoch {
            return Verdict::Stale;
        }
        let same = controller_epoch == self.controller_epoch;
        if sequence > 1 && same && sequence <= self.applied {
            return Verdict::Repeated;
        }
        if sequence > 1 && same && sequence == self.applied + 1 {
            return Verdict::Apply;
        }
        Verdict::Reread
    }

    /// Notes that an update was applied.
    pub(super) fn applied(&mut self, controller_epoch: i32, sequence: u64) {
        *self = Self { controller_epoch, applied: sequence };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_are_applied_in_order_and_a_gap_means_reading_again() {
        let mut numbering = Numbering::default();
        assert_eq!(numbering.judge(5, 1), Verdict::Reread);
        numbering.applied(5, 1);
        assert_eq!(numbering.judge(5, 2), Verdict::Apply);
        numbering.applied(5, 2);
        assert_eq!(numbering.judge(5, 2), Verdict::Repeated);
        assert_eq!(numbering.judge(5, 4), Verdict::Reread);
    }

    #[test]
    fn an_older_controller_is_dropped_and_a_newer_one_begins_anew() {
        let mut numbering = Numbering::default();
        numbering.applied(5, 9);
        assert_eq!(numbering.judge(4, 10), Verdict::Stale);
        assert_eq!(numbering.judge(6, 10), Verdict::Reread);
        numbering.applied(6, 10);
        assert_eq!(numbering.judge(6, 11), Verdict::Apply);
    }

    #[test]
    fn a_new_link_of_the_same_controller_begins_anew() {
        let mut numbering = Numbering::default();
        numbering.applied(5, 17);
        assert_eq!(numbering.judge(5, 1), Verdict::Reread);
        numbering.applied(5, 1);
        assert_eq!(numbering.judge(5, 2), Verdict::Apply);
    }
}
