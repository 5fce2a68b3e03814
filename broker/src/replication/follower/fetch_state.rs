//! What a follower does about each thing that happens to one of its partitions. Pure.
//!
//! | event | next phase | action |
//! |---|---|---|
//! | `Added` | `Held` | |
//! | `Appended` | `Held`; failures are forgotten | |
//! | `Corrupt`, first time | `Due` | forget the handle, ask again |
//! | `Corrupt`, second time | `Due`, the leader is to verify | forget the handle |
//! | `Corrupt`, from then on | `Waiting`, the leader is to verify | forget the handle |
//! | `Diverging` | `Due` | cut the log, ask again |
//! | `OutOfRange` | `Asking` | ask the leader where its log starts |
//! | `StartTold` | `Due` | |
//! | `Refused` (not leader, fenced, unknown epoch, damaged there, …) | `Waiting` | |
//! | `Local(Passing)` | `Waiting` | forget the handle |
//! | `Local(Full)` | `Waiting`, a second or more | forget the handle |
//! | `Local(Over)` | `Over` | forget the handle |
//! | `Moved` | `Due` | forget the handle |
//! | `Disconnected` | `Due` from `Held` and `Asking`, else as it was | |
//! | `Elapsed` | `Due` from `Waiting` when its time has come | |
//!
//! Nothing leaves `Over`: a new leader epoch, or a log that was opened anew, is followed as another
//! partition. Each failure in a row doubles the wait up to `replica.fetch.backoff.ms`; the first is
//! short, because a new leader often hears of its leadership a moment after its followers.

use std::time::{Duration, Instant};

/// The wait after a first failure.
const WAIT_FIRST: Duration = Duration::from_millis(25);
/// The wait after the disk was full.
const WAIT_FULL: Duration = Duration::from_secs(1);
/// Bytes that do not hold are asked for again so often before there is a wait.
const ASK_AGAIN: u32 = 2;

/// Where a partition stands with its leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// To be added with the next request.
    Due {
        /// The leader is to check the first batch on its disk.
        verify: bool,
    },
    /// The leader holds its handle: records come.
    Held,
    /// Its position is out of the leader's range: the leader is asked where its log starts.
    Asking,
    /// Nothing is asked before this moment.
    Waiting {
        /// The moment.
        until: Instant,
        /// As in `Due`.
        verify: bool,
    },
    /// Nothing is asked any more.
    Over,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A request that adds it was sent.
    Added,
    /// Records were appended.
    Appended,
    /// Bytes came that are no whole batches, whose CRC does not hold, or that do not follow the log.
    Corrupt,
    /// The leader's log has another history below the position.
    Diverging,
    /// The position is outside the leader's log.
    OutOfRange,
    /// The leader told where its log starts, and the log here agrees with that.
    StartTold,
    /// The leader refuses, or what it says cannot be.
    Refused,
    /// The log here could not do its part.
    Local(LocalFault),
    /// It is to be added again: its order on the stream changes.
    Moved,
    /// The stream is gone.
    Disconnected,
    /// Time went by.
    Elapsed,
}

/// Why the log here did not do its part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::replication) enum LocalFault {
    /// It may go better next time.
    Passing,
    /// No room on the disk.
    Full,
    /// The log is offline or deleted, or another epoch is followed.
    Over,
}

/// What is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing.
    None,
    /// The leader is told to forget the handle.
    Forget,
    /// The log is cut to where it agrees with the leader's; its handle is forgotten already.
    Truncate,
    /// The leader is asked where its log starts; its handle is forgotten already.
    AskStart,
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FetchState {
    pub(super) phase: Phase,
    /// In a row.
    pub(super) failures: u32,
    /// Answers in a row whose bytes did not hold.
    pub(super) corrupt: u32,
}

/// When something happened, and what waits are made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) now: Instant,
    /// `replica.fetch.backoff.ms`.
    pub(super) wait_max: Duration,
    /// From 0 to 1, at random: waits differ by up to a fifth either way.
    pub(super) jitter: f64,
}

impl FetchState {
    /// To be added.
    pub(super) fn new() -> Self {
        Self { phase: Phase::Due { verify: false }, failures: 0, corrupt: 0 }
    }

    /// The table of the module.
    pub(super) fn next(self, event: Event, at: Moment) -> (Self, Action) {
        if self.phase == Phase::Over {
            return (self, Action::None);
        }
        match event {
            Event::Added => (self.to(Phase::Held), Action::None),
            Event::Appended => (Self { phase: Phase::Held, failures: 0, corrupt: 0 }, Action::None),
            Event::Corrupt => (self.doubt(at), Action::Forget),
            Event::Diverging => (self.to(Phase::Due { verify: false }), Action::Truncate),
            Event::OutOfRange => (self.to(Phase::Asking), Action::AskStart),
            Event::StartTold => (self.to(Phase::Due { verify: false }), Action::None),
            Event::Refused => (self.wait(at, Duration::ZERO, false), Action::None),
            Event::Local(LocalFault::Passing) => {
                (self.wait(at, Duration::ZERO, false), Action::Forget)
            }
            Event::Local(LocalFault::Full) => (self.wait(at, WAIT_FULL, false), Action::Forget),
            Event::Local(LocalFault::Over) => (self.to(Phase::Over), Action::Forget),
            Event::Moved => (self.to(Phase::Due { verify: false }), Action::Forget),
            Event::Disconnected => match self.phase {
                Phase::Held | Phase::Asking => {
                    (self.to(Phase::Due { verify: self.corrupt >= ASK_AGAIN }), Action::None)
                }
                _ => (self, Action::None),
            },
            Event::Elapsed => match self.phase {
                Phase::Waiting { until, verify } if until <= at.now => {
                    (self.to(Phase::Due { verify }), Action::None)
                }
                _ => (self, Action::None),
            },
        }
    }

    fn to(self, phase: Phase) -> Self {
        Self { phase, ..self }
    }

    fn doubt(self, at: Moment) -> Self {
        let corrupt = self.corrupt.saturating_add(1);
        let verify = corrupt >= ASK_AGAIN;
        match corrupt {
            ..=ASK_AGAIN => Self { phase: Phase::Due { verify }, corrupt, ..self },
            _ => Self { corrupt, ..self.wait(at, Duration::ZERO, verify) },
        }
    }

    fn wait(self, at: Moment, least: Duration, verify: bool) -> Self {
        let first = WAIT_FIRST.min(at.wait_max);
        let doubled = first.saturating_mul(1 << self.failures.min(16));
        let wait = doubled.min(at.wait_max).max(least).mul_f64(0.8 + 0.4 * at.jitter);
        let phase = Phase::Waiting { until: at.now + wait, verify };
        Self { phase, failures: self.failures.saturating_add(1), ..self }
    }
}
