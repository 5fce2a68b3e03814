//! What clients saw, as compact as a run of millions of records needs it.
//!
//! Values name themselves (`<producer>:<number>`), so that a value that was read tells which send it
//! came from. Times are milliseconds since the run began.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Milliseconds since the run began.
pub type Millis = u32;

/// Which send of which producer: 24 and 40 bits of one word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(u64);

impl Value {
    /// No value: an offset that holds no record.
    pub const NONE: Self = Self(u64::MAX);
    const NUMBER_BITS: u32 = 40;

    /// The `number`th send of a producer.
    pub fn new(producer: u32, number: u64) -> Self {
        assert!(producer < 1 << 24 && number < (1 << Self::NUMBER_BITS) - 1, "out of range");
        Self(u64::from(producer) << Self::NUMBER_BITS | number)
    }

    /// The producer.
    pub fn producer(self) -> u32 {
        (self.0 >> Self::NUMBER_BITS) as u32
    }

    /// The producer's own count.
    pub fn number(self) -> u64 {
        self.0 & ((1 << Self::NUMBER_BITS) - 1)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NONE => f.write_str("nothing"),
            value => write!(f, "{}:{}", value.producer(), value.number()),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A place in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition {} offset {}", self.partition, self.offset)
    }
}

/// How a send ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Not known, or an error: the record may be in the log or not.
    Unknown,
    /// Acknowledged at this offset.
    At(i64),
    /// Acknowledged by a broker that no longer knew where (a retry long after).
    Somewhere,
}

/// One send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Send {
    /// Where it was sent to; `None` where the producer chose and no answer told.
    pub partition: Option<i32>,
    /// How it ended.
    pub outcome: Outcome,
    /// When it was handed to the producer.
    pub sent: Millis,
    /// When it ended.
    pub ended: Millis,
}

/// All the sends of one producer, in their order: the index is the number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sends {
    /// Names the producer in the values.
    pub producer: u32,
    /// Its sends.
    pub sends: Vec<Send>,
}

/// One partition as it stands in the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FinalPartition {
    /// The first offset.
    pub start: i64,
    /// What each offset from `start` to the high watermark holds.
    pub values: Vec<Value>,
}

impl FinalPartition {
    /// The high watermark.
    pub fn end(&self) -> i64 {
        self.start + self.values.len() as i64
    }

    /// What an offset holds; `None` outside of the log.
    pub fn get(&self, offset: i64) -> Option<Value> {
        self.values.get(usize::try_from(offset - self.start).ok()?).copied()
    }

    /// Puts a value at an offset at or above the start.
    pub fn put(&mut self, offset: i64, value: Value) {
        let index = usize::try_from(offset - self.start).expect("at or above the start");
        if self.values.len() <= index {
            self.values.resize(index + 1, Value::NONE);
        }
        self.values[index] = value;
    }
}

/// The topic as it stands in the end.
pub type FinalLog = BTreeMap<i32, FinalPartition>;

/// Consecutive offsets of one partition, delivered one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub(super) partition: i32,
    pub(super) first: i64,
    pub(super) at: Millis,
    /// Where its values begin in [`Delivered`].
    pub(super) values: usize,
}

/// Everything that one reader delivered, in its order: runs, and 8 bytes a record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Names the reader.
    pub reader: String,
    /// Its group; a reader without one reads each partition from a place on without a gap.
    pub group: Option<String>,
    runs: Vec<Run>,
    values: Vec<Value>,
}

impl Delivered {
    /// An empty record of a reader.
    pub fn new(reader: &str, group: Option<&str>) -> Self {
        let group = group.map(str::to_owned);
        Self { reader: reader.to_owned(), group, runs: Vec::new(), values: Vec::new() }
    }

    /// A record was delivered.
    pub fn push(&mut self, at: Millis, place: Position, value: Value) {
        let follows = self.runs.last().is_some_and(|run| {
            let length = (self.values.len() - run.values) as i64;
            run.partition == place.partition && run.first + length == place.offset
        });
        if !follows {
            let Position { partition, offset } = place;
            self.runs.push(Run { partition, first: offset, at, values: self.values.len() });
        }
        self.values.push(value);
    }

    /// Every run with its values.
    pub fn runs(&self) -> impl Iterator<Item = (&Run, &[Value])> {
        let ends = self.runs.iter().skip(1).map(|run| run.values).chain([self.values.len()]);
        self.runs.iter().zip(ends).map(|(run, end)| (run, &self.values[run.values..end]))
    }

    /// How many records were delivered.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether nothing was.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// A commit that a member asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The group.
    pub group: String,
    /// The member.
    pub member: String,
    /// The partition.
    pub partition: i32,
    /// The next offset to be read.
    pub offset: i64,
    /// When it was asked for.
    pub begun: Millis,
    /// When it ended.
    pub ended: Millis,
    /// Whether it was confirmed; a commit that was not may have been written or not.
    pub confirmed: bool,
}

/// What the registry, or the coordinator's record of a generation, said about an owner.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// The group.
    pub group: String,
    /// The partition.
    pub partition: i32,
    /// The generation of the plan.
    pub generation: i32,
    /// Who held it.
    pub member: String,
}

/// What the registry, or a record of the coordinator, said about a committed offset.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredOffset {
    /// The group.
    pub group: String,
    /// The partition.
    pub partition: i32,
    /// In which order: the version of the registry's node, or where the record stands in
    /// `__consumer_offsets`.
    pub version: i64,
    /// The next offset to be read.
    pub offset: i64,
}

/// What a member of a group with a coordinator said that it was given, all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The group.
    pub group: String,
    /// The member.
    pub member: String,
    /// Its partitions from then on.
    pub partitions: BTreeSet<i32>,
    /// When.
    pub at: Millis,
}

/// Where a member went on that was given a partition: the first offset that it was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resumed {
    /// The group.
    pub group: String,
    /// The member.
    pub member: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// When it was given the partition; it asked for the committed offset later.
    pub since: Millis,
}

/// Everything that was recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// The sends of each producer.
    pub sends: Vec<Sends>,
    /// The whole log, read in the end.
    pub log: FinalLog,
    /// What each reader delivered.
    pub delivered: Vec<Delivered>,
    /// Every commit.
    pub commits: Vec<Commit>,
    /// Every owner that was seen.
    pub claims: Vec<Claim>,
    /// Every committed offset that was seen in the registry, or in the records of the coordinator.
    pub stored: Vec<StoredOffset>,
    /// What members were given; each must be in `claims`.
    pub taken: Vec<Taken>,
    /// Where members went on.
    pub resumed: Vec<Resumed>,
    /// What clients ended with that ended before their time; what they did until then is in the rest.
    pub bad_ends: Vec<String>,
}

/// One send and how it ended, as a simple load records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Which producer instance sent it; order is judged within one.
    pub producer: u32,
    /// The producer's own count, dense from 0 in the order of its sends.
    pub number: u64,
    /// Where it was acknowledged; `None` where the outcome is unknown or an error.
    pub acknowledged: Option<Position>,
}

/// One record read from the whole log, from the start to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// Where it was.
    pub position: Position,
    /// Who sent it.
    pub producer: u32,
    /// The producer's count.
    pub number: u64,
}

impl History {
    /// A history of sends and one reading of the log. An offset that was read with two values keeps
    /// the first in the log; all of them are what a reader delivered.
    pub fn of(sent: &[Sent], read: &[Read]) -> Self {
        let mut by_producer: BTreeMap<u32, Vec<Send>> = BTreeMap::new();
        for sent in sent {
            let sends = by_producer.entry(sent.producer).or_default();
            let (partition, outcome) = match sent.acknowledged {
                Some(place) => (Some(place.partition), Outcome::At(place.offset)),
                None => (None, Outcome::Unknown),
            };
            let unknown = Send { partition: None, outcome: Outcome::Unknown, sent: 0, ended: 0 };
            let index = sent.number as usize;
            sends.resize((index + 1).max(sends.len()), unknown);
            sends[index] = Send { partition, outcome, ..unknown };
        }
        let mut log = FinalLog::new();
        let mut delivered = Delivered::new("the reading of the log", Some(""));
        for read in read {
            let value = Value::new(read.producer, read.number);
            let place = read.position;
            let partition = log.entry(place.partition).or_default();
            if partition.get(place.offset).is_none_or(|there| there == Value::NONE) {
                partition.put(place.offset, value);
            }
            delivered.push(0, place, value);
        }
        let sends = by_producer.into_iter().map(|(producer, sends)| Sends { producer, sends });
        Self { sends: sends.collect(), log, delivered: vec![delivered], ..Self::default() }
    }
}
