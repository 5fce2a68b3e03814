//! What all fetchers are at, added up into the broker's gauges.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::fetchers::FetcherKey;
use crate::metrics::Metrics;

/// Of one fetcher, or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Figures {
    /// Of the partition that is furthest behind, in offsets.
    pub(super) max_lag: i64,
    /// Partitions that are not fetched now because of an error.
    pub(super) failed: i64,
    /// Partitions that catch up on the throttled stream.
    pub(super) refilling: i64,
    /// Offsets they lack together.
    pub(super) refill_left: i64,
}

/// Each fetcher puts its figures here about once a second.
pub(super) struct Board {
    metrics: Arc<Metrics>,
    figures: Mutex<HashMap<FetcherKey, Figures>>,
}

impl Board {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, figures: Mutex::default() }
    }

    /// Replaces a fetcher's figures; `None`: it has ended.
    pub(super) fn put(&self, key: &FetcherKey, figures: Option<Figures>) {
        let mut all = self.figures.lock();
        match figures {
            Some(figures) => all.insert(key.clone(), figures),
            None => all.remove(key),
        };
        let mut sum = Figures::default();
        for one in all.values() {
            sum.max_lag = sum.max_lag.max(one.max_lag);
            sum.failed += one.failed;
            sum.refilling += one.refilling;
            sum.refill_left += one.refill_left;
        }
        self.metrics.replica_max_lag.set(sum.max_lag);
        self.metrics.replica_failed_partitions.set(sum.failed);
        self.metrics.replica_refilling.set(sum.refilling);
        self.metrics.replica_refill_left.set(sum.refill_left);
    }
}

#[cfg(test)]
mod tests {
    use proto::BrokerId;

    use super::super::fetchers::LeaderAddress;
    use super::super::lane::Lane;
    use super::*;

    #[test]
    fn the_lag_is_that_of_who_is_furthest_behind_until_its_fetcher_ends() {
        let metrics = Arc::<Metrics>::default();
        let board = Board::new(Arc::clone(&metrics));
        let key = |leader: i32, lane| FetcherKey {
            leader: LeaderAddress { id: BrokerId(leader), address: format!("host:{leader}") },
            shard: 0,
            lane,
        };
        let lags = |max_lag| Some(Figures { max_lag, failed: 1, ..Figures::default() });
        board.put(&key(1, Lane::InSync), lags(7));
        board.put(&key(2, Lane::Refill), lags(90));
        let seen = || (metrics.replica_max_lag.get(), metrics.replica_failed_partitions.get());
        assert_eq!(seen(), (90, 2));
        board.put(&key(2, Lane::Refill), lags(3));
        assert_eq!(seen(), (7, 2));
        board.put(&key(1, Lane::InSync), None);
        assert_eq!(seen(), (3, 1));
    }
}
