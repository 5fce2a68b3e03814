//! What all partitions of a broker share.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::IsrListener;
use crate::metrics::Metrics;

/// Shared by all partitions.
pub(super) struct Context {
    pub(super) metrics: Arc<Metrics>,
    /// `replica.lag.time.max.ms`.
    pub(super) lag_time_max: Duration,
    /// Who changes ISRs in the registry.
    pub(super) isr_listener: OnceLock<Arc<dyn IsrListener>>,
}
