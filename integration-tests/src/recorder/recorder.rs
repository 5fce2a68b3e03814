//! One run's recording: starts the clients, waits for what they have to show, ends them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::board::{Board, Progress};
use super::client::{Client, Clients, Reading};
use super::foreign::{self, Library};
use super::ottla;
use super::whole_log::{READ_STALL_MAX, read_log};
use crate::checker::{History, Millis, Sends};
use crate::workload::nap;

/// Most sends without an outcome of one producer; above it the producer waits.
pub(super) const UNDER_WAY_MAX: usize = 50_000;
/// So many records go to a partition before the next has its turn, so that a batch has several: what
/// is tested is not how fast a debug build handles single records.
pub(super) const BURST: usize = 8;
/// Bytes of a value at least.
pub(super) const VALUE_BYTES: usize = 100;
/// How often a member commits.
pub(super) const COMMIT_EVERY: Duration = Duration::from_millis(500);

/// What clients work with.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Brokers to ask first, over gRPC.
    pub grpc: String,
    /// The same over Kafka's protocol; empty where nobody speaks it.
    pub kafka: String,
    /// The topic.
    pub topic: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// Session timeout of members of groups.
    pub session: Duration,
    /// Where processes of clients log to.
    pub dir: PathBuf,
}

/// One run's recording.
pub struct Recorder {
    clients: Clients,
    subject: Subject,
    board: Arc<Board>,
    producers: Vec<Client<Sends>>,
    readers: Vec<Client<Reading>>,
}

impl Recorder {
    /// Records what these clients do.
    pub fn new(clients: Clients, subject: Subject) -> Self {
        let board = Arc::new(Board::new(subject.partitions));
        Self { clients, subject, board, producers: Vec::new(), readers: Vec::new() }
    }

    /// Milliseconds since the recording began.
    pub fn now(&self) -> Millis {
        self.board.now()
    }

    /// Starts an idempotent producer, acks=all, that sends so many records a second, a few to each
    /// partition in turn.
    pub fn produce(&mut self, rate: u32) -> Result<()> {
        let number = self.producers.len() as u32;
        let started = match Library::of(self.clients) {
            None => ottla::produce(&self.subject, &self.board, number, rate),
            Some(library) => foreign::produce(library, &self.subject, &self.board, number, rate),
        };
        self.producers.push(started?);
        Ok(())
    }

    /// Starts a member of a group.
    pub fn join(&mut self, group: &str) -> Result<()> {
        let name = format!("{group}-{}", self.readers.len());
        let started = match Library::of(self.clients) {
            None => ottla::join(self.clients, &self.subject, &self.board, &name, group),
            Some(library) => foreign::join(library, &self.subject, &self.board, &name, group),
        };
        self.readers.push(started?);
        Ok(())
    }

    /// Starts a reader of all partitions from their beginning, without a group.
    pub fn tail(&mut self) -> Result<()> {
        let name = format!("tail-{}", self.readers.len());
        let started = match Library::of(self.clients) {
            None => ottla::tail(&self.subject, &self.board, &name),
            Some(library) => foreign::tail(library, &self.subject, &self.board, &name),
        };
        self.readers.push(started?);
        Ok(())
    }

    /// Every partition's progress.
    pub fn progress(&self) -> Vec<Progress> {
        self.board.progress()
    }

    /// Records acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.board.progress().iter().map(|progress| progress.acknowledged).sum()
    }

    /// Records whose send ended with an error so far.
    pub fn failed(&self) -> u64 {
        self.board.failures()
    }

    /// The events of readers and the failures of producers, the last few thousand, a line each.
    pub fn notes(&self) -> String {
        self.board.notes()
    }

    /// Begins to measure the longest pause of each partition anew.
    pub fn begin_pause(&self) {
        self.board.begin_pause();
    }

    /// The longest time without an acknowledgement of each partition since
    /// [`Recorder::begin_pause`], one that still lasts included.
    pub fn pauses(&self) -> Vec<Millis> {
        let now = self.now();
        let progress = self.progress();
        progress.iter().map(|p| p.pause.max(now.saturating_sub(p.newest_at))).collect()
    }

    /// Waits until every partition acknowledges a record that was sent after now, and the group is
    /// delivered it; which ones did not within the limit is the error.
    pub fn all_partitions_work(&self, limit: Duration, delivered: bool) -> Result<Duration> {
        let (since, begun) = (self.now(), Instant::now());
        // What each partition must be delivered: the first record sent after now.
        let mut wanted: Vec<Option<i64>> = vec![None; self.subject.partitions as usize];
        loop {
            let progress = self.progress();
            for (wanted, progress) in wanted.iter_mut().zip(&progress) {
                if wanted.is_none() && progress.acknowledged > 0 && progress.newest_sent >= since {
                    *wanted = Some(progress.newest_offset);
                }
            }
            let works = |(wanted, progress): (&Option<i64>, &Progress)| {
                wanted.is_some_and(|offset| !delivered || progress.delivered > offset)
            };
            if wanted.iter().zip(&progress).all(works) {
                return Ok(begun.elapsed());
            }
            if begun.elapsed() > limit {
                let stuck = wanted.iter().zip(&progress).enumerate();
                let stuck = stuck.filter(|(_, pair)| !works(*pair)).map(|(partition, pair)| {
                    let what = if pair.0.is_none() { "acknowledges" } else { "delivers" };
                    format!("partition {partition} {what} nothing ({:?})", pair.1)
                });
                bail!("{limit:?} later: {}", stuck.collect::<Vec<_>>().join("; "));
            }
            self.watch_threads()?;
            nap(Duration::from_millis(5));
        }
    }

    /// Waits until `more` records were acknowledged from now on.
    pub fn wait_for_more(&self, more: u64, limit: Duration) -> Result<()> {
        let (target, deadline) = (self.acknowledged() + more, Instant::now() + limit);
        while self.acknowledged() < target {
            let missing = target - self.acknowledged();
            ensure!(Instant::now() < deadline, "{missing} of {more} records not acknowledged");
            self.watch_threads()?;
            nap(Duration::from_millis(10));
        }
        Ok(())
    }

    fn watch_threads(&self) -> Result<()> {
        let ended = self.producers.iter().any(Client::has_ended)
            || self.readers.iter().any(Client::has_ended);
        ensure!(!ended, "a producer or a reader ended: see the end of the run");
        Ok(())
    }

    /// Ends producers, waits until the readers have everything, reads the whole log: the history.
    pub fn finish(self) -> Result<History> {
        let sends = Client::end(self.producers);
        let Subject { grpc, topic, partitions, .. } = &self.subject;
        let log = read_log(grpc, topic, *partitions);
        // Readers end also where the log cannot be read.
        let deadline = Instant::now() + READ_STALL_MAX;
        while let (Ok(log), true) = (&log, Instant::now() < deadline) {
            let progress = self.board.progress();
            let behind = |(p, progress): (i32, &Progress)| progress.delivered < log[&p].end();
            let readers = self.readers.iter().any(|reader| !reader.has_ended());
            if !readers || !(0..).zip(&progress).any(behind) {
                break;
            }
            nap(Duration::from_millis(20));
        }
        // One more commit.
        nap(COMMIT_EVERY * 2);
        let readers = Client::end(self.readers);
        let mut history = History { sends: sends?, log: log?, ..History::default() };
        for reading in readers? {
            history.delivered.push(reading.delivered);
            history.commits.extend(reading.commits);
            history.taken.extend(reading.taken);
            history.resumed.extend(reading.resumed);
        }
        history.bad_ends = self.board.bad_ends();
        Ok(history)
    }
}
