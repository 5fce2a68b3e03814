//! The consumer: its own thread (or task), and what it reads.

mod polling;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use coordinator::zk::names;
use proto::client::Cluster;
use proto::{Offset, TopicPartition};
use tokio::sync::mpsc;

use crate::config::ConsumerConfig;
use crate::control::Control;
use crate::error::{ConfigError, ConsumerError};
use crate::membership::streams::Streams;
use crate::positions::Positions;
use crate::shared::{InOrder, Reader, Rest, Shared, StartAt};
use crate::stream::MessageStream;
use crate::subscription::Subscription;
use crate::worker::{self, Command};

pub use polling::Polled;

/// The longest wait for the consumer's own thread when a consumer is dropped without being closed.
const DROP_WITHIN: Duration = Duration::from_secs(5);

/// A pull consumer. Takes records by [`Consumer::poll`], or hands them to message streams.
///
/// Has a thread of its own for sockets, timers and the registry's session, so an application that
/// works long on a record starves none of them. Dropping it closes it; [`Consumer::close`] also
/// says whether that went well.
#[derive(Debug)]
pub struct Consumer {
    control: Control,
    reader: Option<Reader>,
    /// Records decoded and not handed out: `max.poll.records` ended a poll inside their batch.
    rest: Option<Rest>,
    /// An event that comes after the records of the last poll.
    after: Option<InOrder>,
    /// Partitions of which the last poll handed something out.
    handed: Vec<Arc<Positions>>,
    /// How many batches the last poll for batches gave: room is made for as many.
    batches_before: usize,
    thread: Option<std::thread::JoinHandle<()>>,
    mode: Mode,
    joined: Option<Streams>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Unassigned,
    /// By [`Consumer::assign`].
    Assigned,
    /// A member of a group that polls.
    Subscribed,
    /// A member of a group whose partitions flow into message streams.
    Streams,
}

impl Consumer {
    /// Starts a consumer with a thread of its own. Connects when there is something to ask.
    pub fn new(config: ConsumerConfig) -> Result<Self, ConsumerError> {
        config.validate()?;
        let cluster = worker::cluster(&config)?;
        let (control, commands) = Self::control_of(config, &cluster);
        let shared = Arc::clone(&control.shared);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ConsumerError::Thread)?;
        let thread = std::thread::Builder::new()
            .name("consumer".to_owned())
            .spawn(move || runtime.block_on(worker::run(shared, cluster, commands)))
            .map_err(ConsumerError::Thread)?;
        Ok(Self::with(control, Some(thread)))
    }

    /// Starts a consumer whose sockets and timers live on the current tokio runtime. The runtime
    /// must not be blocked: use the async calls and streams.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn on_current_runtime(config: ConsumerConfig) -> Result<Self, ConsumerError> {
        config.validate()?;
        let cluster: Cluster = worker::cluster(&config)?;
        let (control, commands) = Self::control_of(config, &cluster);
        tokio::spawn(worker::run(Arc::clone(&control.shared), cluster, commands));
        Ok(Self::with(control, None))
    }

    fn control_of(
        config: ConsumerConfig,
        cluster: &Cluster,
    ) -> (Control, mpsc::UnboundedReceiver<Command>) {
        // Every command but a fire-and-forget close has a caller that waits for it.
        let (commands, receiver) = mpsc::unbounded_channel();
        (Control { shared: Shared::new(config), commands, counts: cluster.counts() }, receiver)
    }

    fn with(control: Control, thread: Option<std::thread::JoinHandle<()>>) -> Self {
        Self {
            control,
            reader: None,
            rest: None,
            after: None,
            handed: Vec::new(),
            batches_before: 0,
            thread,
            mode: Mode::Unassigned,
            joined: None,
        }
    }

    /// A handle for other threads: seek, pause, positions, offsets.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Reads exactly these partitions from now on, each from its start. Partitions assigned before
    /// and not named are given up; those named begin anew.
    pub fn assign(
        &mut self,
        partitions: impl IntoIterator<Item = (TopicPartition, StartAt)>,
    ) -> Result<(), ConsumerError> {
        self.enter(Mode::Assigned, "assign")?;
        self.settle();
        let queue = self.reader_queue();
        let wanted: Vec<_> = partitions.into_iter().collect();
        let shared = &self.control.shared;
        let mut given_up = shared.assignment();
        given_up.retain(|partition| wanted.iter().all(|(wanted, _)| wanted != partition));
        shared.stop(&given_up);
        for (partition, start) in wanted {
            shared.start(partition, None, Some(start), queue);
        }
        Ok(())
    }

    /// Reads these partitions, too, each from its start; one that is assigned already goes on.
    pub fn assign_also(
        &mut self,
        partitions: impl IntoIterator<Item = (TopicPartition, StartAt)>,
    ) -> Result<(), ConsumerError> {
        self.enter(Mode::Assigned, "assign_also")?;
        let queue = self.reader_queue();
        let shared = &self.control.shared;
        let assigned = shared.assignment();
        for (partition, start) in partitions {
            if assigned.binary_search(&partition).is_err() {
                shared.start(partition, None, Some(start), queue);
            }
        }
        Ok(())
    }

    /// Of what the last poll handed out, the records of this partition from `offset` on were not
    /// handled: they are not committed. Then seek there, or close.
    pub fn unread_from(&mut self, partition: &TopicPartition, offset: Offset) {
        let handed = self.handed.iter().find(|handed| handed.partition == *partition);
        if let Some(positions) = handed
            && positions.next().is_some_and(|next| offset < next)
        {
            positions.hand_out(offset);
        }
    }

    /// Joins the group of `group.id` and polls its share of these topics. Called again, it changes
    /// what is read.
    pub fn subscribe(&mut self, subscription: &Subscription) -> Result<(), ConsumerError> {
        self.enter(Mode::Subscribed, "subscribe")?;
        let queue = self.reader_queue();
        self.join(Streams::one(subscription, queue));
        Ok(())
    }

    /// The paper's call: joins the group, and gives `count` streams that share this member's part
    /// of the topic's partitions between them. Each is an iterator that blocks when there is
    /// nothing and ends only when the consumer is closed. Several topics can be read by several
    /// calls.
    pub fn create_message_streams(
        &mut self,
        topic: &str,
        count: u32,
    ) -> Result<Vec<MessageStream>, ConsumerError> {
        names::check_topic(topic).map_err(|error| ConfigError::InvalidValue {
            name: "topic",
            value: topic.to_owned(),
            reason: error.to_string(),
        })?;
        self.message_streams(&Subscription::topics([topic]), count)
    }

    /// The same over every topic, present or future, whose whole name matches.
    pub fn create_message_streams_by_filter(
        &mut self,
        pattern: &str,
        count: u32,
    ) -> Result<Vec<MessageStream>, ConsumerError> {
        self.message_streams(&Subscription::pattern(pattern)?, count)
    }

    fn message_streams(
        &mut self,
        subscription: &Subscription,
        count: u32,
    ) -> Result<Vec<MessageStream>, ConsumerError> {
        self.enter(Mode::Streams, "create_message_streams")?;
        let shared = &self.control.shared;
        let queues: Vec<usize> = (0..count.max(1)).map(|_| shared.add_queue()).collect();
        let streams = queues.iter().map(|queue| MessageStream::new(Arc::clone(shared), *queue));
        let streams = streams.collect();
        let wanted = Streams::of(subscription, &queues);
        let wanted = match &self.joined {
            None => wanted,
            Some(before) => before.and(&wanted).ok_or(ConsumerError::WrongMode {
                call: "create_message_streams",
                reason: "a pattern takes all the streams of a consumer",
            })?,
        };
        self.join(wanted);
        Ok(streams)
    }

    fn enter(&mut self, mode: Mode, call: &'static str) -> Result<(), ConsumerError> {
        let reason = match self.mode {
            Mode::Unassigned => "",
            now if now == mode => "",
            Mode::Assigned => "partitions were assigned explicitly",
            Mode::Subscribed => "the consumer is subscribed",
            Mode::Streams => "the consumer feeds message streams",
        };
        if !reason.is_empty() {
            return Err(ConsumerError::WrongMode { call, reason });
        }
        if mode != Mode::Assigned {
            let config = &self.control.shared.config;
            let group = config.group_id.as_deref().ok_or(ConsumerError::NoGroup { call })?;
            names::check_group(group).map_err(|error| ConfigError::InvalidValue {
                name: "group.id",
                value: group.to_owned(),
                reason: error.to_string(),
            })?;
            self.control.shared.grouped.store(true, Ordering::Relaxed);
        }
        self.mode = mode;
        Ok(())
    }

    fn join(&mut self, streams: Streams) {
        self.joined = Some(streams.clone());
        // Where the worker is gone, the next poll says so.
        let _ = self.control.commands.send(Command::Subscribe { streams });
    }

    /// The queue of [`Consumer::poll`].
    fn reader_queue(&mut self) -> usize {
        if let Some(reader) = &self.reader {
            return reader.queue();
        }
        let queue = self.control.shared.add_queue();
        self.reader = Some(Reader::new(Arc::clone(&self.control.shared), queue, true));
        queue
    }

    /// Ends the consumer: what was handed out counts as handled, positions are committed (with
    /// `enable.auto.commit`), partitions released, and the group left at once.
    pub fn close(mut self) -> Result<(), ConsumerError> {
        self.settle();
        let closed = self.control.wait(self.control.ask(|reply| Command::Close { reply }));
        if let Some(thread) = self.thread.take() {
            // A panic there was reported there.
            let _ = thread.join();
        }
        closed
    }

    /// [`Consumer::close`] for a task.
    pub async fn close_async(mut self) -> Result<(), ConsumerError> {
        self.settle();
        self.control.ask(|reply| Command::Close { reply }).await
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.settle();
        }
        let closed = self.control.ask(|reply| Command::Close { reply });
        if self.thread.take().is_some() {
            let _ = crate::blocking::block_on(closed, Some(Instant::now() + DROP_WITHIN));
        }
    }
}
