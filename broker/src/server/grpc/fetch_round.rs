//! One round of a fetch stream: how much it may send, how long it may wait, what it has to send.

use std::time::{Duration, Instant};

use proto::v1;

use crate::api::Fetched;
use crate::config::RequestConfig;

/// How long a follower may not know that the high watermark moved, where no records come. At once it
/// would double the rounds: the mark moves whenever a follower has told what it has.
const NEWS_WAIT: Duration = Duration::from_millis(10);

/// A round under way.
pub(super) struct Round {
    pub(super) request_id: u64,
    pub(super) deadline: Instant,
    pub(super) min_bytes: usize,
    pub(super) max_bytes: usize,
    pub(super) sent: usize,
    /// An error was sent: do not make the client wait for more.
    pub(super) hurry: bool,
    /// Read and not sent, because less than `min_bytes` is there.
    pub(super) staged: Vec<(u32, Fetched)>,
    pub(super) staged_bytes: usize,
    /// Followers' handles that are to be told positions without records, if no records come.
    pub(super) news: Vec<u32>,
}

impl Round {
    /// As the request and the broker's limits want it.
    pub(super) fn new(request: &v1::FetchRequest, limits: &RequestConfig, now: Instant) -> Self {
        let wait = Duration::from_millis(request.max_wait_ms.into()).min(limits.fetch_max_wait);
        let max_bytes = match request.max_bytes {
            0 => limits.fetch_max_bytes,
            bytes => limits.fetch_max_bytes.min(usize::try_from(bytes).unwrap_or(usize::MAX)),
        };
        Self {
            request_id: request.request_id,
            deadline: now + wait,
            min_bytes: (request.min_bytes.max(1) as usize).min(max_bytes),
            max_bytes,
            sent: 0,
            hurry: false,
            staged: Vec::new(),
            staged_bytes: 0,
            news: Vec::new(),
        }
    }

    pub(super) fn room(&self) -> usize {
        self.max_bytes.saturating_sub(self.sent + self.staged_bytes)
    }

    pub(super) fn has_room(&self) -> bool {
        self.room() > 0
    }

    pub(super) fn has_something(&self) -> bool {
        self.sent + self.staged_bytes > 0
    }

    /// Whether what is there is worth an answer.
    pub(super) fn has_enough(&self) -> bool {
        self.hurry || self.sent + self.staged_bytes >= self.min_bytes
    }

    /// A follower is to be told positions: soon, but records that come meanwhile tell them too.
    pub(super) fn has_news(&mut self, number: u32, now: Instant) {
        self.news.push(number);
        self.deadline = self.deadline.min(now + NEWS_WAIT);
    }

    /// Forgets what was read of a handle that is read anew.
    pub(super) fn unstage(&mut self, number: u32) {
        if let Some(at) = self.staged.iter().position(|(staged, _)| *staged == number) {
            self.staged_bytes -= self.staged.remove(at).1.bytes();
        }
    }
}
