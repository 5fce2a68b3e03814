//! What every log of a process shares: the disk, the clock, and the budgets.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::clock::Clock;
use super::compaction::Cleaning;
use super::disk::Disk;
use super::maps::MapBudget;
use super::open_files::OpenFiles;
use super::producer_state::ProducerBudget;
use super::retention::RetentionCounters;
use super::troubles::Troubles;

/// Handed down to each log and segment.
pub(super) struct Context {
    /// By way of `files`, so that no call fails for want of a descriptor that could be had.
    pub(super) disk: Arc<dyn Disk>,
    pub(super) files: Arc<OpenFiles>,
    pub(super) clock: Arc<dyn Clock>,
    /// Bytes of segments that recovery has read and checked, over all directories.
    pub(super) scanned: AtomicU64,
    pub(super) maps: Arc<MapBudget>,
    pub(super) producers: Arc<ProducerBudget>,
    pub(super) cleaning: Arc<Cleaning>,
    pub(super) retention: RetentionCounters,
    pub(super) troubles: Arc<Troubles>,
}
