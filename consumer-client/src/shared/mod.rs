//! What the application's threads and the consumer's own thread share: the assigned partitions, the
//! queues of fetched answers and the events, all under one lock that is never held across a wait.
//!
//! - `state`: the data, and what is true of it.
//! - `fetching`: what the fetcher asks and reports.
//! - `control`: assignment, seek, pause, and what members of a group do.
//! - `reader`: how the application takes records.
//! - `truncation`: where the leader's log parts from what was fetched.
//!
//! The application's threads never touch the network, the consumer's thread never decodes records.

mod control;
mod fetching;
mod reader;
mod state;
mod truncation;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use crate::config::ConsumerConfig;
use crate::event::Event;

pub(crate) use fetching::{Answer, Unresolved, Want, Wants};
pub(crate) use reader::{InOrder, Reader, Rest, Taken, Wait};
use state::State;

/// Where delivery of a partition begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// At this offset.
    Offset(proto::Offset),
    /// At the oldest record.
    Beginning,
    /// After the newest record.
    End,
    /// At the first record whose timestamp is this or later, in milliseconds since the epoch; at
    /// the end where there is none.
    Time(i64),
}

/// See the module. Shared by `Arc`.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: ConsumerConfig,
    state: Mutex<State>,
    /// Records, events or the close of the consumer: blocked readers look again.
    readable: Condvar,
    /// Counts what blocked readers are told.
    tellings: AtomicU64,
    /// The partitions are given by a group's plan, which also follows the deletion of topics.
    pub(crate) grouped: AtomicBool,
    /// How often the application has asked for something.
    taken: AtomicU64,
    /// Partitions to look after (leader, start, problem): the fetcher's driver looks again.
    pub(crate) work: Notify,
    /// What may be fetched has changed: the broker sessions look again.
    pub(crate) wants: tokio::sync::watch::Sender<u64>,
    /// A partition that was stopped may be drained.
    pub(crate) drained: Notify,
}

impl Shared {
    pub(crate) fn new(config: ConsumerConfig) -> Arc<Self> {
        Arc::new(Self {
            config,
            state: Mutex::new(State::default()),
            readable: Condvar::new(),
            tellings: AtomicU64::new(0),
            grouped: AtomicBool::new(false),
            taken: AtomicU64::new(0),
            work: Notify::new(),
            wants: tokio::sync::watch::Sender::new(0),
            drained: Notify::new(),
        })
    }

    /// Logs an event and keeps it for the application.
    pub(crate) fn emit(&self, event: Event) {
        event.log();
        let mut state = self.state.lock();
        state.push_event(event);
        self.wake_readers(&mut state);
    }

    /// No more records: blocked readers return, streams end.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        self.wake_readers(&mut state);
    }

    fn wake_readers(&self, state: &mut State) {
        self.tellings.fetch_add(1, Ordering::Release);
        self.readable.notify_all();
        state.wake_tasks();
    }

    /// Looks for something new for `busy.poll.us`, without the lock.
    fn poll_busily(&self, told: u64) {
        let span = self.config.busy_poll;
        let began = Instant::now();
        while self.tellings.load(Ordering::Acquire) == told && began.elapsed() < span {
            std::thread::yield_now();
        }
    }

    fn wants_changed(&self) {
        self.wants.send_modify(|version| *version += 1);
    }
}
