//! Which part of a log may be compacted, how dirty it is, and whether it is due. Pure.
//!
//! ```text
//! segments   |---|---|---|---|---|---|---|---|---
//!            ^ clean     ^ first dirty   ^ end    active, unsettled, too young, or behind damage
//! ```

use proto::Offset;

use crate::storage::config::LogConfig;

/// What of a closed segment the choice goes by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    /// Exclusive.
    pub(super) end: Offset,
    pub(super) size: u64,
    /// The greatest timestamp of its records, if it has records.
    pub(super) newest_ms: Option<i64>,
    /// When its first batch was appended.
    pub(super) first_append_ms: Option<i64>,
    pub(super) damaged: bool,
}

/// What may be compacted now.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Selection {
    /// So many of the oldest segments.
    pub(super) segments: usize,
    /// Bytes of those below the first dirty offset.
    pub(super) clean_bytes: u64,
    /// Bytes of the others.
    pub(super) dirty_bytes: u64,
    /// Records waited longer than `max.compaction.lag.ms`.
    pub(super) overdue: bool,
    /// A damaged segment ends the range.
    pub(super) blocked: bool,
}

impl Selection {
    /// Chooses from all closed segments, oldest first. Above `settled` (committed and flushed)
    /// nothing is touched.
    pub(super) fn of(
        closed: &[Extent],
        first_dirty: Offset,
        settled: Offset,
        config: &LogConfig,
        now_ms: i64,
    ) -> Self {
        let lag_ms = i64::try_from(config.min_compaction_lag_ms).unwrap_or(i64::MAX);
        let old_enough = now_ms.saturating_sub(lag_ms);
        let overdue_ms = config
            .max_compaction_lag_ms
            .map(|lag| now_ms.saturating_sub(i64::try_from(lag).unwrap_or(i64::MAX)));
        let mut selection = Self::default();
        for segment in closed {
            let dirty = segment.end > first_dirty;
            let too_young =
                lag_ms > 0 && dirty && segment.newest_ms.is_some_and(|newest| newest > old_enough);
            selection.blocked = segment.damaged;
            if segment.damaged || segment.end > settled || too_young {
                break;
            }
            selection.segments += 1;
            if dirty {
                selection.dirty_bytes += segment.size;
                let before = |limit| segment.first_append_ms.is_some_and(|first| first < limit);
                selection.overdue |= overdue_ms.is_some_and(before);
            } else {
                selection.clean_bytes += segment.size;
            }
        }
        selection
    }

    /// The dirty part, 0 to 1.
    pub(super) fn dirty_ratio(&self) -> f64 {
        match self.dirty_bytes {
            0 => 0.0,
            dirty => dirty as f64 / (dirty + self.clean_bytes) as f64,
        }
    }

    /// Whether there is enough to do.
    pub(super) fn is_due(&self, config: &LogConfig) -> bool {
        self.dirty_bytes > 0
            && (self.overdue || self.dirty_ratio() > config.min_cleanable_dirty_ratio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000;

    fn extents(count: i64) -> Vec<Extent> {
        let extent = |i: i64| Extent {
            end: Offset(10 * (i + 1)),
            size: 100,
            newest_ms: Some(NOW - 1000 * (count - i)),
            first_append_ms: Some(NOW - 1000 * (count - i) - 500),
            damaged: false,
        };
        (0..count).map(extent).collect()
    }

    fn of(extents: &[Extent], first_dirty: i64, settled: i64, config: &LogConfig) -> Selection {
        Selection::of(extents, Offset(first_dirty), Offset(settled), config, NOW)
    }

    #[test]
    fn the_dirty_ratio_decides() {
        let config = LogConfig { min_cleanable_dirty_ratio: 0.5, ..LogConfig::default() };
        let all = extents(4);
        for (first_dirty, ratio, due) in [
            (0, 1.0, true),
            (10, 0.75, true),
            (20, 0.5, false),
            (35, 0.25, false),
            (40, 0.0, false),
        ] {
            let selection = of(&all, first_dirty, 40, &config);
            assert_eq!(selection.segments, 4);
            assert!((selection.dirty_ratio() - ratio).abs() < 1e-9, "{first_dirty}");
            assert_eq!(selection.is_due(&config), due, "{first_dirty}");
        }
    }

    #[test]
    fn what_is_not_settled_or_too_young_or_behind_damage_stays() {
        let config = LogConfig::default();
        let mut all = extents(4);
        assert_eq!(of(&all, 0, 39, &config).segments, 3);
        assert_eq!(of(&all, 0, 9, &config), Selection::default());
        let lag = LogConfig { min_compaction_lag_ms: 2500, ..config.clone() };
        assert_eq!(of(&all, 0, 40, &lag).segments, 2);
        assert_eq!(of(&all, 40, 40, &lag).segments, 4, "what is clean already has no lag");
        all[1].damaged = true;
        let selection = of(&all, 0, 40, &config);
        assert_eq!((selection.segments, selection.blocked), (1, true));
    }

    #[test]
    fn records_beyond_the_greatest_lag_make_a_log_due_whatever_its_ratio() {
        let config = LogConfig {
            min_cleanable_dirty_ratio: 1.0,
            max_compaction_lag_ms: Some(1600),
            ..LogConfig::default()
        };
        let all = extents(4);
        assert!(of(&all, 20, 40, &config).is_due(&config));
        assert!(!of(&all, 30, 40, &config).is_due(&config), "the last one waits 1500 ms");
        let without = LogConfig { max_compaction_lag_ms: None, ..config };
        assert!(!of(&all, 0, 40, &without).is_due(&without));
    }
}
