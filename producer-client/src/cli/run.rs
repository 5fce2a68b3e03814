//! One run: a thread reads and sends, this one watches signals and shows the rate, then everything is
//! waited for and reported.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use producer_client::{Producer, ProducerConfig};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::args::SendArgs;
use super::input::Input;
use super::record_rule::RecordRule;
use super::report::{Rate, Summary};
use super::sink::{ProducerSink, Progress, Sink};
use super::{follow, input, settings, topic};

/// As a shell reports an interrupt.
const INTERRUPTED: u8 = 130;
/// How long a reading thread that is to stop may take for the lines it has in hand.
const STOP_WAIT: Duration = Duration::from_secs(1);
/// A record's own fields beside the line.
const RECORD_OVERHEAD: usize = 160;

/// Sends what the arguments say.
pub(crate) fn run(args: &SendArgs) -> Result<ExitCode> {
    let topic = args.topic.as_deref().context(
        "no topic: say where the lines go with --topic NAME (`producer --help` shows examples)",
    )?;
    let config = settings::load(&args.settings)?;
    let rule = RecordRule::new(topic, args)?;
    let inputs = if args.follow { Vec::new() } else { input::open(&args.files)? };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        tokio::select! {
            checked = topic::check(&config, topic, args) => checked?,
            () = signals.next() => return Ok(ExitCode::from(INTERRUPTED)),
        }
        let run = Run::start(args, config, rule, inputs)?;
        run.watch(args, topic, &mut signals).await
    })
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

struct Run {
    producer: Producer,
    progress: Arc<Progress>,
    started: Instant,
    /// What the reading thread ended with: whether its input came to an end.
    reader: oneshot::Receiver<Result<bool>>,
}

impl Run {
    fn start(
        args: &SendArgs,
        config: ProducerConfig,
        rule: RecordRule,
        inputs: Vec<Input>,
    ) -> Result<Self> {
        let line_len_max = config.max_request_size.saturating_sub(RECORD_OVERHEAD);
        let producer = Producer::start(config)?;
        let progress = Arc::<Progress>::default();
        let (done, reader) = oneshot::channel();
        let (skip, keep_going) = (args.skip_long_lines, args.keep_going);
        let (is_following, from_end, files) = (args.follow, args.from_end, args.files.clone());
        let thread = {
            let (producer, progress) = (producer.clone(), Arc::clone(&progress));
            move || {
                let mut sink = ProducerSink::new(&producer, &rule, &progress, skip, keep_going);
                let outcome = if is_following {
                    let grace = follow::GRACE;
                    follow::follow(&files, from_end, line_len_max, grace, &mut sink).map(|()| {
                        // Following ends well when it is told to end.
                        sink.progress().is_stopped()
                    })
                } else {
                    input::read_all(inputs, line_len_max, &mut sink)
                };
                drop(sink);
                let _ = done.send(outcome);
            }
        };
        std::thread::Builder::new().name("reader".into()).spawn(thread)?;
        Ok(Self { producer, progress, started: Instant::now(), reader })
    }

    async fn watch(
        mut self,
        args: &SendArgs,
        topic: &str,
        signals: &mut Signals,
    ) -> Result<ExitCode> {
        let mut rate = Rate::new(args);
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.reset();
        let mut read: Option<Result<bool>> = None;
        let mut is_interrupted = false;
        while read.is_none() && !is_interrupted {
            tokio::select! {
                ended = &mut self.reader => {
                    read = Some(ended.unwrap_or_else(|_| Err(anyhow::anyhow!("the reading thread died"))));
                }
                () = signals.next() => {
                    is_interrupted = true;
                    read = self.stop_reading().await;
                }
                _ = tick.tick() => rate.show(&self.progress, &self.producer),
            }
        }
        let timeout = self.producer.config().delivery_timeout + Duration::from_secs(5);
        let mut closing = self.producer.close(timeout);
        let closed = loop {
            tokio::select! {
                closed = &mut closing => break Some(closed),
                () = signals.next() => break None,
                _ = tick.tick() => rate.show(&self.progress, &self.producer),
            }
        };
        rate.clear();
        let (progress, producer) = (&self.progress, &self.producer);
        let summary =
            Summary::new(topic, progress, producer, self.started.elapsed(), is_interrupted);
        let is_complete = args.follow || matches!(read, Some(Ok(true)));
        if let Some(Err(error)) = &read {
            eprintln!("producer: {error:#}");
        }
        match &closed {
            Some(Err(error)) => eprintln!("producer: {error}"),
            None => eprintln!(
                "producer: interrupted before everything was acknowledged; what is missing may have \
                 been appended"
            ),
            Some(Ok(())) => {}
        }
        summary.print(args);
        let is_delivered = matches!(closed, Some(Ok(()))) && summary.failed == 0;
        Ok(match (is_delivered && !matches!(read, Some(Err(_))), is_complete) {
            (true, true) => ExitCode::SUCCESS,
            (true, false) if is_interrupted => ExitCode::from(INTERRUPTED),
            _ => ExitCode::FAILURE,
        })
    }

    /// Tells the reader to stop and waits until it sends nothing more: it has ended, or it is in a read
    /// that may never return, after which it looks.
    async fn stop_reading(&mut self) -> Option<Result<bool>> {
        self.progress.stop();
        let deadline = Instant::now() + STOP_WAIT;
        let mut look = tokio::time::interval(Duration::from_millis(2));
        loop {
            tokio::select! {
                ended = &mut self.reader => return ended.ok(),
                _ = look.tick() => {
                    let is_idle = self.progress.is_waiting.load(Ordering::SeqCst);
                    if is_idle || Instant::now() >= deadline {
                        return None;
                    }
                }
            }
        }
    }
}
