//! Members of a consumer group as processes of their own (`foreign/python/*_member.py`), and what they
//! told: who has which partition, and which records they read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::programs::Programs;
use crate::process::Process;
use crate::workload::nap;

/// How long a group may take to agree anew, a session timeout of [`SESSION`] included.
pub const AGREES_WITHIN: Duration = Duration::from_secs(60);
/// Session timeout of members, where a test says nothing else.
pub const SESSION: Duration = Duration::from_secs(2);

/// Something that a member told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// It was given partitions.
    Assigned {
        /// Which.
        partitions: BTreeSet<i32>,
    },
    /// Partitions were taken from it.
    Revoked {
        /// Which.
        partitions: BTreeSet<i32>,
    },
    /// It had lost partitions before it knew.
    Lost {
        /// Which.
        partitions: BTreeSet<i32>,
    },
    /// It read records.
    Read {
        /// Partition and offset of each.
        records: Vec<(i32, i64)>,
    },
    /// The client told an error, and went on.
    Error {
        /// What it said.
        text: String,
    },
    /// It has left.
    Closed,
}

/// How a member joins.
#[derive(Debug, Clone)]
pub struct MemberOptions<'a> {
    /// The group.
    pub group: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// The assignor's name.
    pub strategy: &'a str,
    /// How long it may be silent.
    pub session: Duration,
    /// `group.instance.id` of a static member.
    pub instance: Option<&'a str>,
}

/// A member that runs, or has run.
pub struct Member {
    name: String,
    process: Process,
    output: PathBuf,
}

impl Member {
    /// Starts one; its files are called `name` and lie in `dir`.
    pub fn start(
        programs: &Programs,
        dir: &Path,
        name: &str,
        options: &MemberOptions<'_>,
    ) -> Result<Self> {
        let output = dir.join(format!("{name}.out"));
        let mut command = programs.command("member");
        command.args([options.group, options.topic, options.strategy]);
        command.arg(options.session.as_millis().to_string()).args(options.instance);
        command.stdout(std::fs::File::create(&output)?);
        let process = Process::spawn(name, dir, command)?;
        Ok(Self { name: name.to_owned(), process, output })
    }

    /// Everything it has told so far.
    pub fn events(&self) -> Result<Vec<Event>> {
        let text = std::fs::read_to_string(&self.output)?;
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("not an event: {line}")))
            .collect()
    }

    /// What it has told beside records.
    pub fn rebalances(&self) -> Result<Vec<Event>> {
        let events = self.events()?.into_iter();
        Ok(events.filter(|event| !matches!(event, Event::Read { .. })).collect())
    }

    /// The partitions it has now, by what it told.
    pub fn owned(&self) -> Result<BTreeSet<i32>> {
        let mut owned = BTreeSet::new();
        for event in self.events()? {
            match event {
                Event::Assigned { partitions } => owned.extend(partitions),
                Event::Revoked { partitions } | Event::Lost { partitions } => {
                    owned.retain(|partition| !partitions.contains(partition));
                }
                _ => {}
            }
        }
        Ok(owned)
    }

    /// Every record it has read, in its order.
    pub fn read(&self) -> Result<Vec<(i32, i64)>> {
        let reads = self.events()?.into_iter().filter_map(|event| match event {
            Event::Read { records } => Some(records),
            _ => None,
        });
        Ok(reads.flatten().collect())
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// SIGTERM: it commits and leaves.
    pub fn stop(&mut self) -> Result<()> {
        self.process.stop(Duration::from_secs(20))?;
        let events = self.events()?;
        ensure!(events.last() == Some(&Event::Closed), "{} did not close", self.name);
        Ok(())
    }
}

/// Waits until these members, and nobody else, share `partitions` evenly.
pub fn settled(members: &[&Member], partitions: usize) -> Result<()> {
    let begun = Instant::now();
    let expected: BTreeSet<i32> = (0..).take(partitions).collect();
    loop {
        let owned: Vec<_> = members.iter().map(|member| member.owned()).collect::<Result<_>>()?;
        let even = partitions / members.len();
        let is_even = owned.iter().all(|of| (even..=even + 1).contains(&of.len()));
        let count: usize = owned.iter().map(BTreeSet::len).sum();
        let union: BTreeSet<i32> = owned.iter().flatten().copied().collect();
        if is_even && count == partitions && union == expected {
            return Ok(());
        }
        if begun.elapsed() > AGREES_WITHIN {
            let logs = members.iter().map(|of| format!("{}: {}", of.name, of.process.log_tail()));
            bail!("{partitions} partitions: {owned:?}\n{}", logs.collect::<Vec<_>>().join("\n"));
        }
        nap(Duration::from_millis(20));
    }
}

/// Waits until these members together have read every record below `ends` of each partition; how often
/// each was read.
pub fn read_all(members: &[&Member], ends: &[i64]) -> Result<BTreeMap<(i32, i64), usize>> {
    let begun = Instant::now();
    loop {
        let mut times = BTreeMap::new();
        for member in members {
            for record in member.read()? {
                *times.entry(record).or_default() += 1;
            }
        }
        let missing: Vec<(i32, i64)> = (0..)
            .zip(ends)
            .flat_map(|(partition, end)| (0..*end).map(move |offset| (partition, offset)))
            .filter(|record| !times.contains_key(record))
            .collect();
        if missing.is_empty() {
            return Ok(times);
        }
        if begun.elapsed() > AGREES_WITHIN {
            bail!("{} records were not read, the first of them {:?}", missing.len(), missing[0]);
        }
        nap(Duration::from_millis(20));
    }
}
