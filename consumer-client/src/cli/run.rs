//! One run: poll, write out, count, until there is a reason to end. Only what was written out
//! counts as read: a group's offsets never run ahead of standard output.

use std::collections::BTreeMap;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use consumer_client::{Consumer, ConsumerError, Event, RecordBatch};
use proto::{Offset, TopicPartition};
use tokio::signal::unix::{SignalKind, signal};

use super::args::ReadArgs;
use super::output::Output;
use super::report::Report;
use super::settings;
use super::start::Selection;

/// How long a poll waits: signals and time-outs are looked at between polls.
const POLL: Duration = Duration::from_millis(100);
/// A group's member without partitions for so long has come to the end of what it gets.
const UNASSIGNED_IS_END: Duration = Duration::from_secs(10);
/// `--timeout-ms` passed before `--max-messages` had come.
const TOO_FEW: u8 = 3;
/// Came to offsets that cannot be read.
const DAMAGED: u8 = 4;

/// Why a run ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Enough,
    TimedOut,
    Exhausted,
    Interrupted,
    ReaderGone,
}

/// Reads what the arguments say.
pub(crate) fn run(args: &ReadArgs) -> Result<ExitCode> {
    let mut loaded = settings::load(&args.settings)?;
    let grouped = loaded.config.group_id.is_some();
    if args.from_beginning {
        loaded.prefer("auto.offset.reset", "earliest")?;
    } else if args.offset.is_some() {
        // An offset that was asked for by number is there, or it is an error.
        loaded.prefer("auto.offset.reset", "none")?;
    }
    if args.skip_damaged {
        loaded.config.set("on.damage", "skip")?;
    }
    loaded.prefer("default.api.timeout.ms", "15000")?;
    let selection = Selection::new(args, grouped)?;
    let output = Output::new(args)?;
    let interrupted = listen()?;
    let consumer = Consumer::new(loaded.config)?;
    let report = Report::new(args.stats);
    let mut run = Run {
        args,
        consumer,
        selection,
        output,
        report,
        ends: Ends { began: Instant::now(), known: BTreeMap::new(), looked: None },
        interrupted,
        last_record: Instant::now(),
    };
    let end = run.read();
    let Run { consumer, report, .. } = run;
    let stats = consumer.control().stats();
    let closed = consumer.close();
    let end = match end {
        Err(error) if matches!(error.downcast_ref(), Some(ConsumerError::Damaged { .. })) => {
            tracing::error!("{error} (--skip-damaged does that)");
            return Ok(ExitCode::from(DAMAGED));
        }
        end => end?,
    };
    closed.context("the consumer did not close cleanly")?;
    report.end(stats.leader_changes);
    let too_few = end == End::TimedOut && args.max_messages.is_some();
    Ok(if too_few { ExitCode::from(TOO_FEW) } else { ExitCode::SUCCESS })
}

/// Set by an interrupt or a request to terminate.
fn listen() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&flag);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let wait = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            set.store(true, Ordering::Relaxed);
            // The next one ends the process at once.
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            std::process::exit(130);
        });
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait)?;
    Ok(flag)
}

struct Run<'a> {
    args: &'a ReadArgs,
    consumer: Consumer,
    selection: Selection,
    output: Output,
    report: Report,
    ends: Ends,
    interrupted: Arc<AtomicBool>,
    last_record: Instant,
}

impl Run<'_> {
    fn read(&mut self) -> Result<End> {
        self.selection.begin(&mut self.consumer, self.args)?;
        self.last_record = Instant::now();
        loop {
            if self.interrupted.load(Ordering::Relaxed) {
                return Ok(End::Interrupted);
            }
            if self.args.max_messages.is_some_and(|max| self.report.records() >= max) {
                return Ok(End::Enough);
            }
            let taken = Instant::now();
            let polled = match self.consumer.poll_batches(POLL) {
                Ok(polled) => polled,
                Err(ConsumerError::Closed) => bail!("the consumer's own thread ended"),
                Err(error) => return Err(error.into()),
            };
            for event in &polled.events {
                self.heed(event)?;
            }
            if !polled.items.is_empty() {
                self.last_record = Instant::now();
                if let Some(end) = self.write(&polled.items, taken)? {
                    return Ok(end);
                }
            }
            if self.args.exit_at_end && self.ends.reached(&self.consumer)? {
                return Ok(End::Exhausted);
            }
            let timeout = self.args.timeout_ms.map(Duration::from_millis);
            if timeout.is_some_and(|timeout| self.last_record.elapsed() >= timeout) {
                return Ok(End::TimedOut);
            }
            self.selection.rescan(&mut self.consumer)?;
            self.report.tick();
        }
    }

    /// Writes batches out. What could not be written is not read.
    fn write(&mut self, batches: &[RecordBatch], taken: Instant) -> Result<Option<End>> {
        let room = self.args.max_messages.map_or(u64::MAX, |max| max - self.report.records());
        let mut written = 0;
        let mut bytes = 0;
        for (at, batch) in batches.iter().enumerate() {
            for record in batch.records() {
                if written == room {
                    break;
                }
                let record = match record {
                    Ok(record) => record,
                    Err(error) if self.args.skip_damaged => {
                        tracing::warn!("{}: {error}; skipped", batch.partition());
                        break;
                    }
                    Err(error) => {
                        self.unread(&batches[at..]);
                        let _ = self.output.flush();
                        bail!("{}: {error}", batch.partition());
                    }
                };
                if let Err(error) = self.output.record(batch.partition(), &record) {
                    self.unread(batches);
                    return gone(&error);
                }
                written += 1;
                bytes += (record.value.map_or(0, <[u8]>::len) + record.key.map_or(0, <[u8]>::len))
                    as u64;
                if written == room {
                    let next = record.offset.plus(1);
                    self.consumer.unread_from(batch.partition(), next);
                    self.unread_others(batch.partition(), &batches[at + 1..]);
                }
            }
        }
        if let Err(error) = self.output.flush() {
            self.unread(batches);
            return gone(&error);
        }
        self.report.count(written, bytes, taken);
        Ok(None)
    }

    /// Nothing of these batches counts as read, nor what comes after them in their partitions.
    fn unread(&mut self, batches: &[RecordBatch]) {
        // The last of a partition first, so that the first has the last word.
        for batch in batches.iter().rev() {
            self.consumer.unread_from(batch.partition(), batch.first_offset());
        }
    }

    /// The same, but for a partition whose place is known.
    fn unread_others(&mut self, known: &TopicPartition, batches: &[RecordBatch]) {
        for batch in batches.iter().rev().filter(|batch| batch.partition() != known) {
            self.consumer.unread_from(batch.partition(), batch.first_offset());
        }
    }

    /// Events are logged by the library; some end a run.
    fn heed(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::OutOfRange { resume_at: None, .. } | Event::NoPosition { .. } => {
                bail!("{event}; --set auto.offset.reset=earliest or latest begins there instead")
            }
            _ => Ok(()),
        }
    }
}

/// A reader that went away ends the run quietly.
fn gone(error: &io::Error) -> Result<Option<End>> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(Some(End::ReaderGone)),
        _ => bail!("cannot write to standard output: {error}"),
    }
}

/// The ends of the partitions as they were when each began to be read.
struct Ends {
    began: Instant,
    known: BTreeMap<TopicPartition, Offset>,
    looked: Option<Instant>,
}

impl Ends {
    fn reached(&mut self, consumer: &Consumer) -> Result<bool> {
        if self.looked.is_some_and(|at| at.elapsed() < POLL) {
            return Ok(false);
        }
        self.looked = Some(Instant::now());
        let control = consumer.control();
        let assigned = control.assignment();
        let new: Vec<_> =
            assigned.iter().filter(|p| !self.known.contains_key(p)).cloned().collect();
        if !new.is_empty() {
            self.known.extend(control.end_offsets(&new)?);
        }
        if assigned.is_empty() {
            // Before the group's plan came there is nothing to be at the end of; a member that gets
            // nothing is at the end all the same.
            return Ok(self.began.elapsed() >= UNASSIGNED_IS_END);
        }
        let at_end = |partition: &TopicPartition| {
            let position = control.position(partition).ok().flatten();
            position.is_some_and(|position| Some(&position) >= self.known.get(partition))
        };
        Ok(assigned.iter().all(at_end))
    }
}
