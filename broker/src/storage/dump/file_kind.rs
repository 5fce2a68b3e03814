//! What a file is, by its name.

use proto::Offset;

use crate::storage::segment::parse_file_name;
use crate::storage::{damage, epoch_history, partition_metadata, positions_checkpoint};

/// A file that a dump can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    /// `<base>.log`
    Log(Offset),
    /// `<base>.log.cut`: what recovery put aside from behind a log's end.
    Cut(Offset),
    /// A segment under another name: batches from its first byte on.
    ForeignLog,
    /// `<base>.index`
    Index(Offset),
    /// `<base>.timeindex`
    TimeIndex(Offset),
    /// `<base>.txnindex`
    TransactionIndex(Offset),
    /// `<offset>.snapshot`
    Snapshot(Offset),
    /// `<offset>.window`
    Window(Offset),
    /// `leader-epoch-checkpoint`
    Epochs,
    /// `partition.metadata`
    Metadata,
    /// `positions-checkpoint` of a log directory
    Positions,
    /// `damaged-ranges`
    DamagedRanges,
}

impl FileKind {
    /// `None` for a name that is none of a log's.
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            epoch_history::FILE_NAME => return Some(Self::Epochs),
            partition_metadata::FILE_NAME => return Some(Self::Metadata),
            positions_checkpoint::FILE_NAME => return Some(Self::Positions),
            damage::FILE_NAME => return Some(Self::DamagedRanges),
            _ => {}
        }
        match parse_file_name(name) {
            Some((base, "log")) => Some(Self::Log(base)),
            Some((base, "log.cut")) => Some(Self::Cut(base)),
            Some((base, "index")) => Some(Self::Index(base)),
            Some((base, "timeindex")) => Some(Self::TimeIndex(base)),
            Some((base, "txnindex")) => Some(Self::TransactionIndex(base)),
            Some((base, "snapshot")) => Some(Self::Snapshot(base)),
            Some((base, "window")) => Some(Self::Window(base)),
            _ if name.ends_with(".log") || name.ends_with(".log.cut") => Some(Self::ForeignLog),
            _ => None,
        }
    }

    /// Whether it holds batches.
    pub(super) fn is_log(self) -> bool {
        matches!(self, Self::Log(_) | Self::Cut(_) | Self::ForeignLog)
    }

    /// Where it is printed: segments in order, each with its files, then the rest.
    pub(super) fn rank(self) -> (i64, u8) {
        match self {
            Self::Log(base) => (base.0, 0),
            Self::Index(base) => (base.0, 1),
            Self::TimeIndex(base) => (base.0, 2),
            Self::TransactionIndex(base) => (base.0, 3),
            Self::Cut(base) => (base.0, 4),
            Self::Snapshot(base) => (base.0, 5),
            Self::Window(base) => (base.0, 6),
            Self::ForeignLog => (i64::MAX, 0),
            Self::Epochs => (i64::MAX, 1),
            Self::Metadata => (i64::MAX, 2),
            Self::DamagedRanges => (i64::MAX, 3),
            Self::Positions => (i64::MAX, 4),
        }
    }
}
