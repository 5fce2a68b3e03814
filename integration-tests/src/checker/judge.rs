//! From a history to the promises it breaks. Pure; one pass over the log, one over the sends, one
//! over what was delivered.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::history::{
    Claim, Commit, Delivered, FinalPartition, History, Millis, Outcome, Position, Resumed, Send,
    StoredOffset, Value,
};
use super::verdict::{Kind, Verdict};

/// Every promise that the history breaks.
pub fn judge(history: &History) -> Verdict {
    let mut judge = Judge {
        history,
        producers: history.sends.iter().enumerate().map(|(i, s)| (s.producer, i)).collect(),
        verdict: Verdict::default(),
    };
    let found = judge.log();
    judge.sends(&found);
    judge.delivered();
    judge.skipped();
    judge.commits();
    judge.stored();
    judge.claims();
    judge.taken();
    judge.resumed();
    judge.verdict
}

/// Where each send was found: by producer, then by number. An offset of -1: nowhere.
type Found = Vec<Vec<Position>>;

const NOWHERE: Position = Position { partition: -1, offset: -1 };

struct Judge<'a> {
    history: &'a History,
    producers: HashMap<u32, usize>,
    verdict: Verdict,
}

impl Judge<'_> {
    /// Walks the log: what nobody sent, what is there twice, what is out of order.
    fn log(&mut self) -> Found {
        let sends = &self.history.sends;
        let mut found: Found = sends.iter().map(|s| vec![NOWHERE; s.sends.len()]).collect();
        for (&partition, log) in &self.history.log {
            // The highest number so far of each producer, and where it is.
            let mut newest: HashMap<u32, (u64, i64)> = HashMap::new();
            for (offset, &value) in (log.start..).zip(&log.values) {
                if value == Value::NONE {
                    continue;
                }
                let place = Position { partition, offset };
                let (producer, number) = (value.producer(), value.number());
                let index = self.producers.get(&producer).copied();
                let send = index.and_then(|i| sends[i].sends.get(number as usize));
                let Some((index, send)) = index.zip(send) else {
                    self.verdict.add(Kind::Invented, place, || format!("{value} was never sent"));
                    continue;
                };
                if send.partition.is_some_and(|sent_to| sent_to != partition) {
                    let told = || format!("{value} was {}", tell(send));
                    self.verdict.add(Kind::Invented, place, told);
                }
                let before = &mut found[index][number as usize];
                if *before != NOWHERE {
                    let told = || format!("{value} is also at {before}; it was {}", tell(send));
                    self.verdict.add(Kind::Duplicated, place, told);
                    continue;
                }
                *before = place;
                let newest = newest.entry(producer).or_insert((number, offset));
                if number < newest.0 {
                    let (later, at) = *newest;
                    let told = || format!("{value} stands behind {producer}:{later} at {at}");
                    self.verdict.add(Kind::OutOfOrder, place, told);
                } else {
                    *newest = (number, offset);
                }
            }
        }
        found
    }

    /// Every acknowledged send is in the log, where it was acknowledged.
    fn sends(&mut self, found: &Found) {
        for (sends, found) in self.history.sends.iter().zip(found) {
            for (number, (send, &found)) in (0u64..).zip(sends.sends.iter().zip(found)) {
                let value = Value::new(sends.producer, number);
                let partition = send.partition.unwrap_or(-1);
                let acknowledged = match send.outcome {
                    Outcome::Unknown => continue,
                    Outcome::Somewhere => None,
                    Outcome::At(offset) => Some(Position { partition, offset }),
                };
                let place = acknowledged.unwrap_or(Position { partition, offset: -1 });
                if found == NOWHERE {
                    let start = self.history.log.get(&partition).map_or(0, |log| log.start);
                    // What retention has deleted is not judged.
                    if acknowledged.is_none_or(|place| place.offset >= start) {
                        let around = self.around(place);
                        let told = || format!("{value} was {}; {around}", tell(send));
                        self.verdict.add(Kind::Lost, place, told);
                    }
                } else if acknowledged.is_some_and(|place| place != found) {
                    let around = self.around(place);
                    let told = || format!("{value} is at {found}, was {}; {around}", tell(send));
                    self.verdict.add(Kind::Moved, place, told);
                }
            }
        }
    }

    /// What the log holds at a place and beside it, and who was delivered what there.
    fn around(&self, place: Position) -> String {
        let Some(log) = self.history.log.get(&place.partition) else {
            return "the partition is not in the log".to_owned();
        };
        let offsets = (place.offset - 1).max(log.start)..(place.offset + 2).min(log.end());
        let there: Vec<String> =
            offsets.filter_map(|o| Some(format!("{o}={}", log.get(o)?))).collect();
        let mut told = format!("the log is {}..{}: {}", log.start, log.end(), there.join(" "));
        for delivered in &self.history.delivered {
            let seen = delivered.runs().find_map(|(run, values)| {
                let inside = run.partition == place.partition && run.first <= place.offset;
                let index = usize::try_from(place.offset - run.first).ok().filter(|_| inside)?;
                values.get(index).map(|value| (run.at, *value))
            });
            if let Some((at, value)) = seen {
                told +=
                    &format!("; {} was delivered {value} there, from {at} ms", delivered.reader);
            }
        }
        told
    }

    /// Whatever was delivered is in the log in the end, with the same value.
    fn delivered(&mut self) {
        // Only of places that the log does not have, so it stays small.
        let mut outside: HashMap<Position, Value> = HashMap::new();
        let nothing = FinalPartition::default();
        for delivered in &self.history.delivered {
            for (run, values) in delivered.runs() {
                let log = self.history.log.get(&run.partition).unwrap_or(&nothing);
                for (offset, &value) in (run.first..).zip(values) {
                    let there = log.get(offset);
                    if there == Some(value) || offset < log.start {
                        continue;
                    }
                    let place = Position { partition: run.partition, offset };
                    let reader = &delivered.reader;
                    let told = |there: Value, at: Millis| {
                        format!("{reader} was delivered {value} from {at} ms; it holds {there}")
                    };
                    if let Some(there) = there.filter(|there| *there != Value::NONE) {
                        self.verdict.add(Kind::TwoValues, place, || told(there, run.at));
                        continue;
                    }
                    let context = || told(Value::NONE, run.at);
                    self.verdict.add(Kind::Vanished, place, context);
                    match outside.insert(place, value) {
                        Some(before) if before != value => {
                            self.verdict.add(Kind::TwoValues, place, || told(before, run.at));
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    /// Nothing that a group committed as handled was delivered to none of its members; a reader
    /// without a group leaves nothing out between its first record and its last.
    fn skipped(&mut self) {
        let mut committed: BTreeMap<(&str, i32), i64> = BTreeMap::new();
        let of_commits = self.history.commits.iter().filter(|commit| commit.confirmed);
        let of_commits = of_commits.map(|c| (c.group.as_str(), c.partition, c.offset));
        let of_nodes = self.history.stored.iter();
        let of_nodes = of_nodes.map(|s| (s.group.as_str(), s.partition, s.offset));
        for (group, partition, offset) in of_commits.chain(of_nodes) {
            let highest = committed.entry((group, partition)).or_insert(offset);
            *highest = offset.max(*highest);
        }
        for ((group, partition), end) in committed {
            let members = self.history.delivered.iter();
            let members = members.filter(|d| d.group.as_deref() == Some(group));
            self.gaps(members.collect(), group, partition, None, end);
        }
        for delivered in self.history.delivered.iter().filter(|d| d.group.is_none()) {
            let mut ranges: BTreeMap<i32, (i64, i64)> = BTreeMap::new();
            for (run, values) in delivered.runs() {
                let end = run.first + values.len() as i64;
                let range = ranges.entry(run.partition).or_insert((run.first, end));
                *range = (range.0.min(run.first), range.1.max(end));
            }
            for (partition, (first, end)) in ranges {
                let reader = &delivered.reader;
                self.gaps(vec![delivered], reader, partition, Some(first), end);
            }
        }
    }

    fn gaps(
        &mut self,
        readers: Vec<&Delivered>,
        who: &str,
        partition: i32,
        first: Option<i64>,
        end: i64,
    ) {
        let Some(log) = self.history.log.get(&partition) else { return };
        let mut seen = vec![false; log.values.len()];
        for reader in readers {
            for (run, values) in reader.runs().filter(|(run, _)| run.partition == partition) {
                let from = (run.first - log.start).clamp(0, seen.len() as i64) as usize;
                let to = run.first + values.len() as i64 - log.start;
                seen[from..to.clamp(from as i64, log.values.len() as i64) as usize].fill(true);
            }
        }
        let first = first.unwrap_or(log.start).max(log.start);
        for offset in first..end.min(log.end()) {
            let index = (offset - log.start) as usize;
            if !seen[index] && log.values[index] != Value::NONE {
                let value = log.values[index];
                let told = || format!("{value} was delivered to nobody of {who}; it is past {end}");
                self.verdict.add(Kind::Skipped, Position { partition, offset }, told);
            }
        }
    }

    /// No commit that began after another was confirmed has a lower offset and is confirmed.
    fn commits(&mut self) {
        let mut by_partition: BTreeMap<(&str, i32), Vec<&Commit>> = BTreeMap::new();
        for commit in self.history.commits.iter().filter(|commit| commit.confirmed) {
            by_partition.entry((&commit.group, commit.partition)).or_default().push(commit);
        }
        for ((_, partition), mut commits) in by_partition {
            commits.sort_by_key(|commit| commit.begun);
            let mut ended = commits.clone();
            ended.sort_by_key(|commit| commit.ended);
            let mut ended = ended.into_iter().peekable();
            let mut highest: Option<&Commit> = None;
            for commit in commits {
                while let Some(before) = ended.next_if(|before| before.ended < commit.begun) {
                    if highest.is_none_or(|highest| highest.offset < before.offset) {
                        highest = Some(before);
                    }
                }
                if let Some(before) = highest.filter(|before| before.offset > commit.offset) {
                    let place = Position { partition, offset: commit.offset };
                    let told = || format!("{commit:?} came after {before:?}");
                    self.verdict.add(Kind::CommitBack, place, told);
                }
            }
        }
    }

    /// The committed offset in the registry goes forward with the node's version.
    fn stored(&mut self) {
        let mut stored: Vec<&StoredOffset> = self.history.stored.iter().collect();
        stored.sort();
        for pair in stored.windows(2) {
            let (before, after) = (pair[0], pair[1]);
            let same = before.group == after.group && before.partition == after.partition;
            if same && after.offset < before.offset {
                let place = Position { partition: after.partition, offset: after.offset };
                let told = || format!("in the registry {before:?} became {after:?}");
                self.verdict.add(Kind::CommitBack, place, told);
            }
        }
    }

    /// One owner a partition and generation.
    fn claims(&mut self) {
        let claims: BTreeSet<&Claim> = self.history.claims.iter().collect();
        let claims: Vec<&Claim> = claims.into_iter().collect();
        for pair in claims.windows(2) {
            let (one, other) = (pair[0], pair[1]);
            let same = one.group == other.group && one.partition == other.partition;
            if same && one.generation == other.generation {
                let place = Position { partition: one.partition, offset: -1 };
                let told = || {
                    let generation = one.generation;
                    format!("{} and {} in generation {generation}", one.member, other.member)
                };
                self.verdict.add(Kind::TwoOwners, place, told);
            }
        }
    }

    /// What a member was given is its share in a generation that the coordinator has on record.
    fn taken(&mut self) {
        let mut shares: BTreeMap<(&str, &str), BTreeMap<i32, BTreeSet<i32>>> = BTreeMap::new();
        for claim in &self.history.claims {
            let of_member = shares.entry((&claim.group, &claim.member)).or_default();
            of_member.entry(claim.generation).or_default().insert(claim.partition);
        }
        for taken in self.history.taken.iter().filter(|taken| !taken.partitions.is_empty()) {
            let of_member = shares.get(&(taken.group.as_str(), taken.member.as_str()));
            let mut given = of_member.into_iter().flat_map(BTreeMap::values);
            if !given.any(|share| *share == taken.partitions) {
                let partition = taken.partitions.first().copied().unwrap_or(-1);
                let place = Position { partition, offset: -1 };
                self.verdict.add(Kind::NotGiven, place, || format!("{taken:?} of {of_member:?}"));
            }
        }
    }

    /// A member goes on at or behind what was confirmed as committed before it was given the partition.
    fn resumed(&mut self) {
        for Resumed { group, member, partition, offset, since } in &self.history.resumed {
            let before = self.history.commits.iter().filter(|commit| {
                commit.confirmed
                    && commit.partition == *partition
                    && commit.group == *group
                    && commit.ended < *since
            });
            let newest = before.max_by_key(|commit| commit.offset);
            if let Some(commit) = newest.filter(|commit| commit.offset > *offset) {
                let place = Position { partition: *partition, offset: *offset };
                let told = || format!("{member} went on there at {since} ms, after {commit:?}");
                self.verdict.add(Kind::CommitBack, place, told);
            }
        }
    }
}

fn tell(send: &Send) -> String {
    let partition = match send.partition {
        Some(partition) => format!("partition {partition}"),
        None => "some partition".to_owned(),
    };
    let Send { outcome, sent, ended, .. } = send;
    format!("sent to {partition} at {sent} ms, {outcome:?} at {ended} ms")
}
