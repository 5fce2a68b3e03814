//! Which partitions are read and from where, when no group says so.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use consumer_client::{Consumer, ConsumerError, StartAt, Subscription};
use proto::{Offset, TopicPartition};

use super::args::ReadArgs;

/// New topics and partitions are looked for so often.
const RESCAN_EVERY: Duration = Duration::from_secs(5);

/// What is read: by the group's plan, or by this.
pub(crate) struct Selection {
    grouped: bool,
    topics: Subscription,
    partitions: Vec<i32>,
    scanned: Instant,
}

/// Where reading begins without a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begin {
    At(StartAt),
    /// So many records before the end of each partition.
    Last(i64),
}

impl Selection {
    pub(crate) fn new(args: &ReadArgs, grouped: bool) -> Result<Self> {
        let topics = match (&args.whitelist, args.topic.is_empty()) {
            (Some(pattern), _) => Subscription::pattern(pattern)?,
            (None, false) => Subscription::topics(args.topic.iter().map(String::as_str)),
            (None, true) => bail!(
                "no topic: say what to read with --topic NAME or --whitelist REGEX (`consumer --help` \
                 shows examples)"
            ),
        };
        Ok(Self { grouped, topics, partitions: args.partition.clone(), scanned: Instant::now() })
    }

    /// Begins to read.
    pub(crate) fn begin(&mut self, consumer: &mut Consumer, args: &ReadArgs) -> Result<()> {
        if self.grouped {
            self.warn_of_missing(consumer)?;
            return Ok(consumer.subscribe(&self.topics)?);
        }
        let begin = begin(args)?;
        let partitions = self.scan(consumer)?;
        if partitions.is_empty() && !matches!(self.topics, Subscription::Pattern { .. }) {
            bail!("none of the partitions asked for exists");
        }
        let starts = match begin {
            Begin::At(start) => partitions.into_iter().map(|p| (p, start)).collect(),
            Begin::Last(count) => last(consumer, &partitions, count)?,
        };
        Ok(consumer.assign(starts)?)
    }

    /// A group waits for topics that do not exist; the person should know.
    fn warn_of_missing(&self, consumer: &Consumer) -> Result<()> {
        let Subscription::Topics(topics) = &self.topics else { return Ok(()) };
        for name in topics.keys() {
            match consumer.control().partitions_for(name) {
                Ok(_) => {}
                Err(ConsumerError::Refused { message, .. }) => {
                    tracing::warn!("{message}; waiting for topic {name} to be created");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Takes up topics and partitions that came since, from their beginning.
    pub(crate) fn rescan(&mut self, consumer: &mut Consumer) -> Result<()> {
        if self.grouped || !self.partitions.is_empty() || self.scanned.elapsed() < RESCAN_EVERY {
            return Ok(());
        }
        self.scanned = Instant::now();
        match self.scan(consumer) {
            Ok(partitions) => {
                let starts = partitions.into_iter().map(|p| (p, StartAt::Beginning));
                consumer.assign_also(starts)?;
            }
            // A topic that went is told by an event; brokers that are away by the partitions.
            Err(error) => tracing::info!("no new partitions looked for: {error:#}"),
        }
        Ok(())
    }

    fn scan(&self, consumer: &Consumer) -> Result<Vec<TopicPartition>> {
        let control = consumer.control();
        let names: Vec<String> = match &self.topics {
            Subscription::Topics(topics) => topics.keys().cloned().collect(),
            pattern => {
                let names = control.topics().context("cannot list the topics")?;
                names.into_iter().filter(|name| pattern.streams_of(name).is_some()).collect()
            }
        };
        let mut found = Vec::new();
        for name in names {
            let all = control.partitions_for(&name)?;
            for number in &self.partitions {
                let known = all.iter().any(|p| p.partition == *number);
                let count = all.len();
                anyhow::ensure!(known, "{name} has no partition {number}, only 0 to {}", count - 1);
            }
            let asked = |p: &TopicPartition| {
                self.partitions.is_empty() || self.partitions.contains(&p.partition)
            };
            found.extend(all.into_iter().filter(asked));
        }
        Ok(found)
    }
}

fn begin(args: &ReadArgs) -> Result<Begin> {
    if let Some(timestamp) = args.timestamp {
        return Ok(Begin::At(StartAt::Time(timestamp)));
    }
    let Some(offset) = args.offset.as_deref() else {
        let start = if args.from_beginning { StartAt::Beginning } else { StartAt::End };
        return Ok(Begin::At(start));
    };
    Ok(match (offset, offset.parse::<i64>()) {
        ("beginning" | "earliest" | "smallest", _) => Begin::At(StartAt::Beginning),
        ("end" | "latest" | "largest", _) => Begin::At(StartAt::End),
        (_, Ok(number)) if number >= 0 => Begin::At(StartAt::Offset(Offset(number))),
        (_, Ok(number)) => Begin::Last(number.saturating_neg()),
        (_, Err(_)) => bail!("`--offset {offset}`: beginning, end, a number or -N is expected"),
    })
}

fn last(
    consumer: &Consumer,
    partitions: &[TopicPartition],
    count: i64,
) -> Result<Vec<(TopicPartition, StartAt)>> {
    let control = consumer.control();
    let beginnings = control.beginning_offsets(partitions)?;
    let ends: BTreeMap<_, _> = control.end_offsets(partitions)?;
    let starts = ends.into_iter().map(|(partition, end)| {
        let beginning = beginnings.get(&partition).copied().unwrap_or(Offset::ZERO);
        let start = end.plus(count.saturating_neg()).max(beginning);
        (partition, StartAt::Offset(start))
    });
    Ok(starts.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_places_numbers_or_counted_from_the_end() {
        let offset = |text: &str| {
            begin(&ReadArgs { offset: Some(text.to_owned()), ..ReadArgs::default() }).ok()
        };
        assert_eq!(offset("beginning"), Some(Begin::At(StartAt::Beginning)));
        assert_eq!(offset("latest"), Some(Begin::At(StartAt::End)));
        assert_eq!(offset("17"), Some(Begin::At(StartAt::Offset(Offset(17)))));
        assert_eq!(offset("-5"), Some(Begin::Last(5)));
        assert_eq!(offset("x"), None);
        assert_eq!(begin(&ReadArgs::default()).unwrap(), Begin::At(StartAt::End));
    }
}
