//! What all clients of a run write on: how far each partition has come, and what they said.

use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use crate::checker::{Millis, Position};

/// The last things that clients said are kept, for whoever looks into a failed run.
const NOTES_MAX: usize = 2_000;

/// What is known of a partition now.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Records acknowledged.
    pub acknowledged: u64,
    /// When the record that was acknowledged last was sent.
    pub newest_sent: Millis,
    /// Its offset.
    pub newest_offset: i64,
    /// When it was acknowledged.
    pub newest_at: Millis,
    /// The longest time between two acknowledgements since [`super::Recorder::begin_pause`].
    pub pause: Millis,
    /// The next offset that the group has not been delivered.
    pub delivered: i64,
}

/// Shared by every client and who watches them.
#[derive(Debug)]
pub(super) struct Board {
    began: Instant,
    progress: Mutex<Vec<Progress>>,
    failed: AtomicU64,
    notes: Mutex<VecDeque<String>>,
    /// How clients ended that should not have.
    ended: Mutex<Vec<String>>,
}

impl Board {
    pub(super) fn new(partitions: i32) -> Self {
        Self {
            began: Instant::now(),
            progress: Mutex::new(vec![Progress::default(); partitions as usize]),
            failed: AtomicU64::new(0),
            notes: Mutex::default(),
            ended: Mutex::default(),
        }
    }

    /// Milliseconds since the recording began.
    pub(super) fn now(&self) -> Millis {
        Millis::try_from(self.began.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    pub(super) fn partitions(&self) -> i32 {
        self.progress.lock().len() as i32
    }

    pub(super) fn progress(&self) -> Vec<Progress> {
        self.progress.lock().clone()
    }

    pub(super) fn failures(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    pub(super) fn notes(&self) -> String {
        let notes = self.notes.lock();
        notes.iter().flat_map(|note| [note.as_str(), "\n"]).collect()
    }

    /// A client has come to a bad end.
    pub(super) fn ended(&self, error: &anyhow::Error) {
        self.ended.lock().push(format!("{error:#}"));
    }

    /// What clients came to.
    pub(super) fn bad_ends(&self) -> Vec<String> {
        self.ended.lock().clone()
    }

    /// Begins to measure the longest pause of each partition anew.
    pub(super) fn begin_pause(&self) {
        self.progress.lock().iter_mut().for_each(|progress| progress.pause = 0);
    }

    /// A record that was sent at `sent` is acknowledged; where, if that was said.
    pub(super) fn acknowledged(
        &self,
        now: Millis,
        sent: Millis,
        partition: i32,
        offset: Option<i64>,
    ) {
        let progress = &mut self.progress.lock()[partition as usize];
        progress.acknowledged += 1;
        if progress.newest_at > 0 {
            progress.pause = progress.pause.max(now.saturating_sub(progress.newest_at));
        }
        progress.newest_at = now;
        if let Some(offset) = offset {
            progress.newest_sent = progress.newest_sent.max(sent);
            progress.newest_offset = offset;
        }
    }

    /// A send ended with an error.
    pub(super) fn failed(&self, now: Millis, producer: u32, number: u64, error: &dyn Display) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.note(now, &format!("producer {producer}"), &format!("send {number}: {error}"));
    }

    /// The group was delivered a record.
    pub(super) fn delivered(&self, place: Position) {
        let delivered = &mut self.progress.lock()[place.partition as usize].delivered;
        *delivered = (*delivered).max(place.offset + 1);
    }

    /// A client said something.
    pub(super) fn note(&self, at: Millis, who: &str, what: &dyn Display) {
        let mut notes = self.notes.lock();
        if notes.len() == NOTES_MAX {
            notes.pop_front();
        }
        notes.push_back(format!("{at} ms {who}: {what}"));
    }
}
