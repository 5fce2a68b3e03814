//! A member of a group of ours, or a reader of everything, that records what it is delivered and
//! commits.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use consumer_client::{
    Consumer, ConsumerConfig, ConsumerError, Control, Event, StartAt, Subscription,
};
use futures_util::FutureExt;
use proto::{Offset, TopicPartition};

use crate::checker::{Commit, Position, Value};
use crate::recorder::board::Board;
use crate::recorder::client::{Client, Clients, Reading, Stop};
use crate::recorder::recorder::{COMMIT_EVERY, Subject};
use crate::workload::parse_value;

type Committing = Pin<Box<dyn Future<Output = Result<(), ConsumerError>>>>;

struct Reader {
    topic: String,
    reading: Reading,
    board: Arc<Board>,
    /// The next offset of each partition that is owned and was delivered something.
    positions: BTreeMap<i32, i64>,
    /// What was last asked to be committed.
    committed: BTreeMap<i32, i64>,
}

/// Starts a member of a group.
pub(in crate::recorder) fn join(
    clients: Clients,
    subject: &Subject,
    board: &Arc<Board>,
    name: &str,
    group: &str,
) -> Result<Client<Reading>> {
    let mut config = ConsumerConfig::new(subject.grpc.split(','));
    let session = subject.session.as_millis().to_string();
    let settings = [
        ("group.id", group),
        ("consumer.id", name),
        ("auto.offset.reset", "earliest"),
        ("enable.auto.commit", "false"),
        ("zookeeper.session.timeout.ms", &session),
    ];
    for (key, value) in settings {
        config.set(key, value)?;
    }
    if clients.have_coordinator() {
        let heartbeat = (subject.session.as_millis() / 6).max(100).to_string();
        for (key, value) in [
            ("membership", "broker"),
            ("session.timeout.ms", session.as_str()),
            ("heartbeat.interval.ms", heartbeat.as_str()),
        ] {
            config.set(key, value)?;
        }
    }
    let mut consumer = Consumer::new(config)?;
    consumer.subscribe(&Subscription::topics([subject.topic.as_str()]))?;
    Ok(read(subject, board, consumer, Reading::new(name, Some(group))))
}

/// Starts a reader of all partitions from their beginning, without a group.
pub(in crate::recorder) fn tail(
    subject: &Subject,
    board: &Arc<Board>,
    name: &str,
) -> Result<Client<Reading>> {
    let mut consumer = Consumer::new(ConsumerConfig::new(subject.grpc.split(',')))?;
    let all = 0..board.partitions();
    let all = all.map(|partition| TopicPartition::new(subject.topic.as_str(), partition));
    consumer.assign(all.map(|partition| (partition, StartAt::Beginning)))?;
    Ok(read(subject, board, consumer, Reading::new(name, None)))
}

fn read(
    subject: &Subject,
    board: &Arc<Board>,
    consumer: Consumer,
    reading: Reading,
) -> Client<Reading> {
    let stop: Arc<AtomicBool> = Arc::default();
    let mut reader = Reader {
        topic: subject.topic.clone(),
        reading,
        board: Arc::clone(board),
        positions: BTreeMap::new(),
        committed: BTreeMap::new(),
    };
    let thread = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            reader.run(consumer, &stop)?;
            Ok(reader.reading)
        }
    });
    Client { thread, stop: Stop::Flag(stop) }
}

impl Reader {
    fn name(&self) -> &str {
        &self.reading.delivered.reader
    }

    fn is_member(&self) -> bool {
        self.reading.delivered.group.is_some()
    }

    fn run(&mut self, mut consumer: Consumer, stop: &AtomicBool) -> Result<()> {
        let control = consumer.control();
        let mut under_way: Option<(Vec<Commit>, Committing)> = None;
        let mut last_commit = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let polled = consumer
                .poll(Duration::from_millis(50))
                .map_err(|error| anyhow!("{}: {error}", self.name()))?;
            for event in &polled.events {
                self.event(event)?;
            }
            for record in polled.items {
                let (producer, number) = parse_value(record.payload())?;
                let place = Position { partition: record.partition, offset: record.offset.0 };
                let now = self.board.now();
                self.reading.delivered.push(now, place, Value::new(producer, number));
                self.positions.insert(place.partition, place.offset + 1);
                if self.is_member() {
                    self.board.delivered(place);
                }
            }
            if let Some((commits, outcome)) = &mut under_way {
                let Some(outcome) = outcome.as_mut().now_or_never() else { continue };
                let (ended, confirmed) = (self.board.now(), outcome.is_ok());
                if let Err(error) = &outcome {
                    self.board.note(ended, self.name(), error);
                }
                let ended = commits.drain(..).map(|c| Commit { ended, confirmed, ..c });
                self.reading.commits.extend(ended);
                under_way = None;
            }
            if self.is_member() && last_commit.elapsed() >= COMMIT_EVERY {
                last_commit = Instant::now();
                under_way = self.commit(&control);
            }
        }
        // An outcome that is not known by now stays unknown.
        self.reading.commits.extend(under_way.into_iter().flat_map(|(commits, _)| commits));
        consumer.close().map_err(|error| anyhow!("{}: {error}", self.name()))
    }

    fn commit(&mut self, control: &Control) -> Option<(Vec<Commit>, Committing)> {
        let owned = control.assignment();
        self.positions.retain(|p, _| owned.iter().any(|owned| owned.partition == *p));
        let moved = self.positions.iter();
        let moved = moved.filter(|(p, offset)| self.committed.get(p) != Some(offset));
        let offsets: Vec<(i32, i64)> = moved.map(|(&p, &offset)| (p, offset)).collect();
        if offsets.is_empty() {
            return None;
        }
        self.committed.extend(offsets.iter().copied());
        let begun = self.board.now();
        let commits = offsets.iter().map(|&(partition, offset)| Commit {
            group: self.reading.delivered.group.clone().unwrap_or_default(),
            member: self.name().to_owned(),
            partition,
            offset,
            begun,
            ended: begun,
            confirmed: false,
        });
        let commits = commits.collect();
        let offsets: Vec<_> = offsets
            .iter()
            .map(|&(p, offset)| (TopicPartition::new(self.topic.as_str(), p), Offset(offset)))
            .collect();
        Some((commits, Box::pin(control.commit_offsets_async(offsets))))
    }

    fn event(&mut self, event: &Event) -> Result<()> {
        let now = self.board.now();
        self.board.note(now, self.name(), event);
        match event {
            Event::PartitionsRevoked(partitions) | Event::PartitionsLost(partitions) => {
                for partition in partitions {
                    self.positions.remove(&partition.partition);
                    self.committed.remove(&partition.partition);
                }
            }
            // Nothing of these ever happens to a topic that keeps everything.
            Event::OutOfRange { .. }
            | Event::TopicDeleted { .. }
            | Event::TopicRecreated { .. }
            | Event::StoredOffsetIgnored { .. }
            | Event::Damaged { .. } => bail!("{now} ms: {} was told: {event}", self.name()),
            _ => {}
        }
        Ok(())
    }
}
