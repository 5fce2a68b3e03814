//! All partitions stored here, by topic name and number. Readers take no lock; one changer at a
//! time opens, deletes and sets aside.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use proto::{Partition as PartitionNumber, TopicId, TopicPartition};
use tokio::sync::watch;

use super::context::Context;
use super::writer::DirectoryWriter;
use super::{IsrListener, Partition};
use crate::metrics::Metrics;
use crate::storage::{Log, LogConfig, LogSet, LogSetError, NewLog};

/// Why a partition is not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Nothing of the name is stored here.
    NotHere,
    /// Another topic of the name is.
    OtherTopic,
}

/// The partitions of one topic that are stored here.
#[derive(Clone)]
struct Hosted {
    id: TopicId,
    partitions: BTreeMap<PartitionNumber, Arc<Partition>>,
}

/// The set; owns the logs.
pub struct PartitionSet {
    logs: LogSet,
    topics: ArcSwap<HashMap<Arc<str>, Hosted>>,
    /// Held while the set changes; the writers of the directories.
    writers: Mutex<HashMap<PathBuf, Arc<DirectoryWriter>>>,
    context: Arc<Context>,
    troubles: watch::Receiver<()>,
}

impl PartitionSet {
    /// Over opened logs; nothing is served before [`PartitionSet::open`]. Replicas may lag for
    /// `lag_time_max` (`replica.lag.time.max.ms`).
    pub fn new(logs: LogSet, metrics: Arc<Metrics>, lag_time_max: Duration) -> Self {
        let context = Context { metrics, lag_time_max, isr_listener: OnceLock::new() };
        let (troubled, troubles) = watch::channel(());
        logs.on_trouble(move || {
            troubled.send_replace(());
        });
        Self {
            logs,
            topics: ArcSwap::default(),
            writers: Mutex::default(),
            context: Arc::new(context),
            troubles,
        }
    }

    /// Changes whenever a log goes offline or is found damaged, or a directory fails.
    pub fn troubles(&self) -> watch::Receiver<()> {
        self.troubles.clone()
    }

    /// Whether a log is offline or damaged.
    pub fn is_troubled(&self) -> bool {
        let wrong = |log: &Log| log.offline().is_some() || !log.damaged().is_empty();
        self.topics
            .load()
            .values()
            .flat_map(|hosted| hosted.partitions.values())
            .any(|partition| wrong(partition.log()))
    }

    /// Who is told when a partition's ISR may have to change; set once, before any is led.
    pub fn set_isr_listener(&self, listener: Arc<dyn IsrListener>) {
        let set = self.context.isr_listener.set(listener);
        debug_assert!(set.is_ok(), "the listener is set once");
    }

    /// The logs themselves.
    pub fn logs(&self) -> &LogSet {
        &self.logs
    }

    /// The partition of this name that belongs to this topic.
    pub fn find(
        &self,
        topic: &str,
        id: TopicId,
        partition: PartitionNumber,
    ) -> Result<Arc<Partition>, Missing> {
        let topics = self.topics.load();
        let hosted = topics.get(topic).ok_or(Missing::NotHere)?;
        if hosted.id != id {
            return Err(Missing::OtherTopic);
        }
        hosted.partitions.get(&partition).cloned().ok_or(Missing::NotHere)
    }

    /// Every partition on disk, served or not.
    pub fn stored(&self) -> Vec<(TopicPartition, TopicId)> {
        self.logs.logs().iter().map(|log| (log.partition().clone(), log.topic_id())).collect()
    }

    /// Every partition served.
    pub fn all(&self) -> Vec<Arc<Partition>> {
        let topics = self.topics.load();
        topics.values().flat_map(|hosted| hosted.partitions.values().cloned()).collect()
    }

    /// Serves a partition: opens its log, or makes one. Leads nothing yet. Blocks on the disk.
    pub fn open(
        &self,
        name: &TopicPartition,
        id: TopicId,
        config: LogConfig,
    ) -> Result<Arc<Partition>, OpenPartitionError> {
        if let Ok(partition) = self.find(&name.topic, id, name.partition) {
            return Ok(partition);
        }
        let new = NewLog { partition: name.clone(), topic_id: id, config };
        let opened = self.open_all(&[new]).pop();
        opened.unwrap_or(Err(OpenPartitionError::Log(LogSetError::NoDirectory)))
    }

    /// The same for many, in order, and much quicker where logs have to be made.
    pub fn open_all(&self, new: &[NewLog]) -> Vec<Result<Arc<Partition>, OpenPartitionError>> {
        let mut writers = self.writers.lock();
        let logs = self.logs.create_all(new);
        let opened = logs.into_iter().zip(new).map(|(log, new)| {
            let NewLog { partition: name, topic_id: id, .. } = new;
            if let Ok(partition) = self.find(&name.topic, *id, name.partition) {
                return Ok(partition);
            }
            let log = log?;
            let writer = self.writer_of(&log, &mut writers)?;
            let partition = Partition::new(log, writer, Arc::clone(&self.context));
            self.insert(name, *id, Arc::clone(&partition));
            Ok(partition)
        });
        opened.collect()
    }

    /// The writer thread of the directory that a log lies in.
    fn writer_of(
        &self,
        log: &Log,
        writers: &mut HashMap<PathBuf, Arc<DirectoryWriter>>,
    ) -> Result<Arc<DirectoryWriter>, OpenPartitionError> {
        let folder = log.folder();
        let directory = folder.parent().unwrap_or(&folder).to_owned();
        if let Some(writer) = writers.get(&directory) {
            return Ok(Arc::clone(writer));
        }
        let number = writers.len().to_string();
        let writer = DirectoryWriter::start(&number, Arc::clone(&self.context.metrics))
            .map_err(OpenPartitionError::Thread)?;
        writers.insert(directory, Arc::clone(&writer));
        Ok(writer)
    }

    fn insert(&self, name: &TopicPartition, id: TopicId, partition: Arc<Partition>) {
        self.change(|topics| {
            let hosted = topics
                .entry(Arc::clone(&name.topic))
                .or_insert_with(|| Hosted { id, partitions: BTreeMap::new() });
            if hosted.id != id {
                *hosted = Hosted { id, partitions: BTreeMap::new() };
            }
            hosted.partitions.insert(name.partition, partition);
        });
    }

    /// Partitions whose log went offline.
    pub fn offline(&self) -> Vec<Arc<Partition>> {
        let mut all = self.all();
        all.retain(|partition| partition.log().offline().is_some());
        all
    }

    /// Opens an offline partition's log anew, checked from what is really on the disk. Leads
    /// nothing yet: what was lost may have been read in the epoch it led. Blocks on the disk.
    pub fn reopen(&self, name: &TopicPartition, id: TopicId) -> Result<(), OpenPartitionError> {
        let mut writers = self.writers.lock();
        let log = self.logs.reopen(name)?;
        let writer = self.writer_of(&log, &mut writers)?;
        self.insert(name, id, Partition::new(log, writer, Arc::clone(&self.context)));
        Ok(())
    }

    /// Serves a partition no more and deletes its log. Blocks on the disk.
    pub fn delete(&self, name: &TopicPartition, id: TopicId) -> Result<(), LogSetError> {
        let _changing = self.writers.lock();
        self.withdraw(name, id);
        self.logs.delete(name, id)
    }

    /// Serves a partition no more and keeps its log under another name, for a person to look at.
    pub fn set_aside(&self, name: &TopicPartition, id: TopicId) -> Result<(), LogSetError> {
        let _changing = self.writers.lock();
        self.withdraw(name, id);
        self.logs.set_aside(name).map(|_| ())
    }

    fn withdraw(&self, name: &TopicPartition, id: TopicId) {
        let Ok(partition) = self.find(&name.topic, id, name.partition) else { return };
        partition.stop_leading();
        self.change(|topics| {
            if let Some(hosted) = topics.get_mut(&name.topic) {
                hosted.partitions.remove(&name.partition);
                if hosted.partitions.is_empty() {
                    topics.remove(&name.topic);
                }
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<Arc<str>, Hosted>)) {
        let mut topics = HashMap::clone(&self.topics.load());
        change(&mut topics);
        let count: usize = topics.values().map(|hosted| hosted.partitions.len()).sum();
        self.context.metrics.partitions.set(count as i64);
        self.topics.store(Arc::new(topics));
    }
}

/// Why a partition is not served.
#[derive(Debug, thiserror::Error)]
pub enum OpenPartitionError {
    /// Its log.
    #[error(transparent)]
    Log(#[from] LogSetError),
    /// No thread for its directory.
    #[error("cannot start the writer thread of a directory: {0}; raise the process limit")]
    Thread(io::Error),
}
