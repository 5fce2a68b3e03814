//! What a run was: one line of JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::schedule::FaultKind;
use crate::checker::{History, Kind, Millis, Outcome, Verdict};

/// The pauses of one fault.
#[derive(Debug, Clone)]
pub struct Pause {
    /// Which fault.
    pub kind: FaultKind,
    /// The longest time without an acknowledgement, of the partition that waited longest.
    pub worst_ms: Millis,
}

/// Seconds that the worst partition of each fault was without an acknowledgement, from the last one
/// before the fault to the first one after it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct WithoutLeader {
    /// Over all faults.
    pub total: f64,
    /// Of a fault.
    pub median: f64,
    /// Of a fault.
    pub worst: f64,
}

impl WithoutLeader {
    /// Sums up the worst pause of each fault.
    pub fn of(pauses: impl IntoIterator<Item = Millis>) -> Self {
        let mut pauses: Vec<Millis> = pauses.into_iter().collect();
        pauses.sort_unstable();
        let seconds = |ms: u64| ms as f64 / 1000.0;
        let at = |index: usize| pauses.get(index).map_or(0.0, |ms| seconds(u64::from(*ms)));
        Self {
            total: seconds(pauses.iter().copied().map(u64::from).sum()),
            median: at(pauses.len() / 2),
            worst: at(pauses.len().saturating_sub(1)),
        }
    }
}

/// The line.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Whether everything held.
    pub ok: bool,
    /// What the schedule was made from.
    pub seed: u64,
    /// How many faults were injected and healed.
    pub faults: usize,
    /// The same by kind.
    pub faults_by_kind: BTreeMap<FaultKind, usize>,
    /// Whether the time was over before the schedule was.
    pub cut_short: bool,
    /// How long it took.
    pub seconds: f64,
    /// Records acknowledged.
    pub acknowledged: u64,
    /// Records whose send ended with an error: their fate is not known.
    pub failed: u64,
    /// Records that the group was delivered, repetitions included.
    pub delivered: u64,
    /// Records in the log, read in the end.
    pub read: u64,
    /// Generations of a group that a broker coordinates.
    pub generations: i32,
    /// Broken promises by kind, zeros included.
    #[serde(flatten)]
    pub broken: BTreeMap<Kind, u64>,
    /// Milliseconds from a send to its acknowledgement, the whole run over: median, 99th percentile,
    /// longest.
    pub acknowledged_ms: [Millis; 3],
    /// Replicas whose bytes differ below the high watermark.
    pub replicas_differ: usize,
    /// Seconds without acknowledgements.
    pub seconds_without_leader: WithoutLeader,
    /// The same by kind of fault.
    pub seconds_without_leader_by_kind: BTreeMap<FaultKind, WithoutLeader>,
    /// What went wrong.
    pub why: Vec<String>,
}

impl Report {
    /// Nothing yet.
    pub fn new(seed: u64) -> Self {
        Self {
            ok: false,
            seed,
            faults: 0,
            faults_by_kind: BTreeMap::new(),
            cut_short: false,
            seconds: 0.0,
            acknowledged: 0,
            failed: 0,
            delivered: 0,
            read: 0,
            generations: 0,
            broken: BTreeMap::new(),
            acknowledged_ms: [0; 3],
            replicas_differ: 0,
            seconds_without_leader: WithoutLeader::default(),
            seconds_without_leader_by_kind: BTreeMap::new(),
            why: Vec::new(),
        }
    }

    /// Adds what faults cost.
    pub fn pauses(&mut self, pauses: &[Pause]) {
        self.faults = pauses.len();
        for pause in pauses {
            *self.faults_by_kind.entry(pause.kind).or_default() += 1;
        }
        self.seconds_without_leader = WithoutLeader::of(pauses.iter().map(|p| p.worst_ms));
        for kind in self.faults_by_kind.keys() {
            let of_kind = pauses.iter().filter(|pause| pause.kind == *kind);
            let sum = WithoutLeader::of(of_kind.map(|pause| pause.worst_ms));
            self.seconds_without_leader_by_kind.insert(*kind, sum);
        }
    }

    /// Adds how long acknowledgements took.
    pub fn latency(&mut self, history: &History) {
        let sends = history.sends.iter().flat_map(|sends| &sends.sends);
        let acknowledged = sends.filter(|send| send.outcome != Outcome::Unknown);
        let mut took: Vec<Millis> = acknowledged.map(|send| send.ended - send.sent).collect();
        took.sort_unstable();
        let at = |part: usize| took.get(took.len() * part / 100).or(took.last());
        self.acknowledged_ms = [50, 99, 100].map(|part| at(part).copied().unwrap_or(0));
    }

    /// Adds what the checker found.
    pub fn verdict(&mut self, history: &History, verdict: &Verdict) {
        let values = history.log.values().map(|log| log.values.len() as u64);
        self.read = values.sum();
        let members = history.delivered.iter().filter(|delivered| delivered.group.is_some());
        self.delivered = members.map(|delivered| delivered.len() as u64).sum();
        self.broken = Kind::ALL.into_iter().map(|kind| (kind, verdict.count(kind))).collect();
        if !verdict.is_clean() {
            self.why.push(verdict.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_worst() {
        assert_eq!(WithoutLeader::of([]), WithoutLeader::default());
        let sum = WithoutLeader::of([3_000, 1_000, 2_000]);
        assert_eq!(sum, WithoutLeader { total: 6.0, median: 2.0, worst: 3.0 });
    }

    #[test]
    fn the_line_has_every_count() {
        let mut report = Report::new(3);
        report.verdict(&History::default(), &Verdict::default());
        report.pauses(&[Pause { kind: FaultKind::KillBroker, worst_ms: 1_500 }]);
        let line = serde_json::to_value(&report).unwrap();
        for key in ["lost", "duplicated", "out_of_order", "two_values", "vanished", "two_owners"] {
            assert_eq!(line[key], 0, "{key} in {line}");
        }
        assert_eq!(line["faults_by_kind"]["kill_broker"], 1);
        assert_eq!(line["seconds_without_leader"]["worst"], 1.5);
    }
}
