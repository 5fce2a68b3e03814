//! From what was noted to figures. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::clock::Micros;
use super::load::Sent;
use super::readers::{Leadership, WholeLog};
use super::states::{Change, Seen};
use crate::checker::Outcome;

/// A stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// From here.
    pub from: Micros,
    /// To here.
    pub to: Micros,
}

impl Window {
    fn has(&self, at: Micros) -> bool {
        (self.from..=self.to).contains(&at)
    }
}

/// Milliseconds, sorted and summed up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Distribution {
    /// Of so many.
    pub count: usize,
    /// The median.
    pub p50: f64,
    /// Of a hundred, one is longer.
    pub p99: f64,
    /// Of a thousand, one is longer.
    pub p99_9: f64,
    /// The longest.
    pub max: f64,
}

impl Distribution {
    /// Of these spans.
    pub fn of(spans: impl IntoIterator<Item = Micros>) -> Self {
        let mut spans: Vec<Micros> = spans.into_iter().collect();
        spans.sort_unstable();
        let at = |part: f64| {
            let index = (spans.len() as f64 * part) as usize;
            millis(spans.get(index).or(spans.last()).copied().unwrap_or_default())
        };
        Self { count: spans.len(), p50: at(0.5), p99: at(0.99), p99_9: at(0.999), max: at(1.0) }
    }
}

/// To a tenth of a millisecond.
pub fn millis(span: Micros) -> f64 {
    (span as f64 / 100.0).round() / 10.0
}

/// How produce fared in some time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Produce {
    /// Records that were due in it.
    pub records: usize,
    /// Those that failed.
    pub failed: usize,
    /// From when a record was due to its acknowledgement.
    pub latency_ms: Distribution,
    /// The longest time in which a partition acknowledged nothing.
    pub longest_stall_ms: f64,
}

impl Produce {
    /// Over all that was due within the windows. A stall counts where it ends within one.
    pub fn within(sent: &[Sent], windows: &[Window]) -> Self {
        let due: Vec<&Sent> =
            sent.iter().filter(|sent| windows.iter().any(|w| w.has(sent.due))).collect();
        let acknowledged = due.iter().filter(|sent| sent.is_acknowledged());
        Self {
            records: due.len(),
            failed: due.iter().filter(|sent| !sent.is_acknowledged()).count(),
            latency_ms: Distribution::of(acknowledged.map(|sent| sent.ended - sent.due)),
            longest_stall_ms: millis(longest_stall(sent, windows)),
        }
    }
}

fn longest_stall(sent: &[Sent], windows: &[Window]) -> Micros {
    let mut last: BTreeMap<i32, Micros> = BTreeMap::new();
    let mut longest = 0;
    for sent in sent.iter().filter(|sent| sent.is_acknowledged()) {
        let before = last.insert(sent.partition, sent.ended).unwrap_or(sent.ended);
        if windows.iter().any(|window| window.has(sent.ended)) {
            longest = longest.max(sent.ended - before);
        }
    }
    longest
}

/// The slowest changes that are told one by one.
const SLOWEST: usize = 8;

/// One leader change, for whoever looks into a slow one: milliseconds since the run began, and since the
/// write.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ChangeTimes {
    /// The partition.
    pub partition: i32,
    /// The new leader.
    pub leader: i32,
    /// Its epoch.
    pub epoch: i32,
    /// When it was written.
    pub at_ms: f64,
    /// Until a client that only listens was told.
    pub told_ms: Option<f64>,
    /// Until the first acknowledgement of the new leader's.
    pub acknowledged_ms: f64,
    /// Until the first record of the new leader's was delivered.
    pub delivered_ms: Option<f64>,
}

/// How clients followed leaders that changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Following {
    /// Changes with all their times.
    pub changes: usize,
    /// Changes left out: their write was followed by another before it was seen, or nothing was written
    /// by that leader.
    pub left_out: usize,
    /// From the write in the registry until a client that only listens was told.
    pub committed_to_told_ms: Distribution,
    /// … until the producer had its first acknowledgement of a record that the new leader appended.
    pub committed_to_acknowledged_ms: Distribution,
    /// … until a consumer had the first of them.
    pub committed_to_delivered_ms: Distribution,
    /// The slowest ones.
    pub slowest: Vec<ChangeTimes>,
}

/// When things were first seen of each leadership.
#[derive(Debug, Clone, Default)]
pub struct Firsts {
    told: BTreeMap<Leadership, Micros>,
    acknowledged: BTreeMap<Leadership, Micros>,
    delivered: BTreeMap<Leadership, Micros>,
}

impl Firsts {
    /// From everything that was noted.
    pub fn of(
        seen: &Seen,
        sent: &[Sent],
        whole: &WholeLog,
        delivered: impl IntoIterator<Item = BTreeMap<Leadership, Micros>>,
    ) -> Self {
        let mut firsts = Self { told: seen.told.clone(), ..Self::default() };
        let earlier = |firsts: &mut BTreeMap<Leadership, Micros>, of: Leadership, at: Micros| {
            firsts.entry(of).and_modify(|first| *first = at.min(*first)).or_insert(at);
        };
        for sent in sent {
            let Outcome::At(offset) = sent.outcome else { continue };
            if let Some(of) = whole.leadership(sent.partition, offset) {
                earlier(&mut firsts.acknowledged, of, sent.ended);
            }
        }
        for (of, at) in delivered.into_iter().flatten() {
            earlier(&mut firsts.delivered, of, at);
        }
        firsts
    }

    /// When the first record of this leadership was acknowledged.
    pub fn acknowledged(&self, of: Leadership) -> Option<Micros> {
        self.acknowledged.get(&of).copied()
    }

    /// Over the changes within the windows.
    pub fn following(&self, changes: &[Change], windows: &[Window]) -> Following {
        let is_within = |at: Micros| windows.iter().any(|window| window.has(at));
        let mut left_out = 0;
        let mut spans: Vec<(&Change, Micros, [Option<Micros>; 3])> = Vec::new();
        for change in changes {
            let of = (change.partition, change.epoch);
            let times = [&self.told, &self.acknowledged, &self.delivered];
            let times = times.map(|firsts| firsts.get(&of).copied());
            match change.committed {
                Some(at) if times[1].is_some() => {
                    spans.push((change, at, times.map(|time| Some(time? - at))));
                }
                at => left_out += usize::from(at.or(times[0]).is_some_and(is_within)),
            }
        }
        spans.retain(|(_, at, _)| is_within(*at));
        let distribution =
            |which: usize| Distribution::of(spans.iter().filter_map(|(.., times)| times[which]));
        let (told, acknowledged, delivered) = (distribution(0), distribution(1), distribution(2));
        spans.sort_by_key(|(.., times)| std::cmp::Reverse(times[1]));
        let slowest = spans.iter().take(SLOWEST).map(|(change, at, times)| ChangeTimes {
            partition: change.partition,
            leader: change.leader,
            epoch: change.epoch,
            at_ms: millis(*at),
            told_ms: times[0].map(millis),
            acknowledged_ms: times[1].map_or(0.0, millis),
            delivered_ms: times[2].map(millis),
        });
        Following {
            changes: spans.len(),
            left_out,
            committed_to_told_ms: told,
            committed_to_acknowledged_ms: acknowledged,
            committed_to_delivered_ms: delivered,
            slowest: slowest.collect(),
        }
    }
}

impl WholeLog {
    /// Whose record is at this offset.
    pub fn leadership(&self, partition: i32, offset: i64) -> Option<Leadership> {
        let of_partition = self.began.range((partition, i32::MIN)..=(partition, i32::MAX));
        let before = of_partition.filter(|(_, began)| **began <= offset);
        before.max_by_key(|(_, began)| **began).map(|(of, _)| *of)
    }
}

/// A leader that was killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kill {
    /// From the signal until all replicas were in sync again.
    pub window: Window,
    /// Who.
    pub broker: i32,
    /// What it led.
    pub led: Vec<i32>,
}

/// What kills cost.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FailOver {
    /// How many.
    pub kills: usize,
    /// From a kill until the last partition that the broker led had acknowledged a record of a new
    /// leader.
    pub fail_over_ms: Distribution,
    /// From a kill until the last new leader was written: detection and election.
    pub until_elected_ms: Distribution,
    /// The longest time in which a partition that another broker led acknowledged nothing.
    pub others_stall_ms: Distribution,
}

impl FailOver {
    /// Over these kills.
    pub fn of(kills: &[Kill], changes: &[Change], firsts: &Firsts, sent: &[Sent]) -> Self {
        let (mut failed_over, mut elected, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for kill in kills {
            let of_led = |change: &&Change| {
                kill.led.contains(&change.partition) && change.leader != kill.broker
            };
            let first = changes.iter().filter(of_led).filter_map(|change| {
                let first = firsts.acknowledged((change.partition, change.epoch))?;
                let here = kill.window.has(first);
                here.then_some((change.partition, (first, change.committed)))
            });
            // The first leader of each after the kill.
            let mut leaders: BTreeMap<i32, (Micros, Option<Micros>)> = BTreeMap::new();
            first.for_each(|(partition, times)| _ = leaders.entry(partition).or_insert(times));
            let last = leaders.values().map(|(first, _)| first - kill.window.from).max();
            failed_over.extend(last);
            let written = leaders.values().filter_map(|(_, at)| *at);
            elected.extend(written.map(|at| at - kill.window.from).max());
            let of_others: Vec<Sent> =
                sent.iter().filter(|sent| !kill.led.contains(&sent.partition)).copied().collect();
            others.push(longest_stall(&of_others, &[kill.window]));
        }
        Self {
            kills: kills.len(),
            fail_over_ms: Distribution::of(failed_over),
            until_elected_ms: Distribution::of(elected),
            others_stall_ms: Distribution::of(others),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Micros = 1_000;

    fn sent(partition: i32, due: Micros, ended: Micros, offset: i64) -> Sent {
        let outcome = if offset < 0 { Outcome::Unknown } else { Outcome::At(offset) };
        Sent { partition, due: due * MS, ended: ended * MS, outcome }
    }

    fn window(from: Micros, to: Micros) -> Window {
        Window { from: from * MS, to: to * MS }
    }

    #[test]
    fn percentiles_and_their_ends() {
        let all = Distribution::of((1..=1000).rev().map(|ms| ms * MS));
        assert_eq!((all.count, all.p50, all.p99), (1000, 501.0, 991.0));
        assert_eq!((all.p99_9, all.max), (1000.0, 1000.0));
        assert_eq!(Distribution::of([]), Distribution::default());
        assert_eq!(Distribution::of([1_260]).p99, 1.3);
    }

    #[test]
    fn produce_counts_what_was_due_and_stalls_that_end() {
        let all = [
            sent(0, 0, 10, 0),
            sent(1, 0, 11, 0),
            sent(0, 100, 400, 1),
            sent(1, 100, 111, 1),
            sent(1, 200, 900, -1),
            sent(0, 500, 501, 2),
        ];
        let within = Produce::within(&all, &[window(50, 450)]);
        assert_eq!((within.records, within.failed), (3, 1));
        assert_eq!((within.latency_ms.p50, within.latency_ms.max), (300.0, 300.0));
        assert_eq!(within.longest_stall_ms, 390.0);
        assert_eq!(Produce::within(&all, &[window(450, 600)]).longest_stall_ms, 101.0);
    }

    /// Partition 0 was led in epoch 3, then in 4 from offset 5 on.
    fn firsts() -> (Firsts, Vec<Change>, Vec<Sent>) {
        let whole = WholeLog { began: [((0, 3), 0), ((0, 4), 5)].into(), ..WholeLog::default() };
        let all = vec![
            sent(0, 0, 10, 0),
            sent(1, 0, 10, 0),
            // Acknowledged by the old leader after the new one was written.
            sent(0, 90, 120, 4),
            sent(0, 110, 150, 5),
            sent(0, 120, 151, 6),
            sent(1, 130, 160, 1),
        ];
        let seen = Seen { told: [((0, 4), 130 * MS)].into(), ..Seen::default() };
        let change = Change { partition: 0, epoch: 4, leader: 2, committed: Some(100 * MS) };
        let unseen = Change { committed: None, epoch: 5, ..change };
        let delivered = [[((0, 4), 170 * MS)].into(), [((0, 4), 160 * MS)].into()];
        (Firsts::of(&seen, &all, &whole, delivered), vec![change, unseen], all)
    }

    #[test]
    fn a_change_is_followed_when_the_new_leader_has_acknowledged() {
        let (firsts, changes, _) = firsts();
        let following = firsts.following(&changes, &[window(0, 1000)]);
        assert_eq!((following.changes, following.left_out), (1, 0));
        assert_eq!(following.committed_to_told_ms.max, 30.0);
        assert_eq!(following.committed_to_acknowledged_ms.max, 50.0);
        assert_eq!(following.committed_to_delivered_ms.max, 60.0);
        let slowest = following.slowest[0];
        assert_eq!((slowest.leader, slowest.at_ms, slowest.told_ms), (2, 100.0, Some(30.0)));
        assert_eq!(firsts.following(&changes, &[window(0, 50)]).changes, 0);
        let unseen = Change { committed: None, ..changes[0] };
        assert_eq!(firsts.following(&[unseen], &[window(0, 1000)]).left_out, 1);
    }

    #[test]
    fn a_fail_over_ends_with_the_new_leaders_first_acknowledgement() {
        let (firsts, changes, all) = firsts();
        let kill = Kill { window: window(20, 1000), broker: 1, led: vec![0] };
        let cost = FailOver::of(&[kill], &changes, &firsts, &all);
        assert_eq!((cost.kills, cost.fail_over_ms.max), (1, 130.0));
        assert_eq!((cost.until_elected_ms.max, cost.others_stall_ms.max), (80.0, 150.0));
    }
}
