//! What was measured: lines of JSON, and a table of medians with both systems side by side.

use std::fmt::Write as _;

use serde::Serialize;

use super::system::{System, Used};
use super::tool::{Latency, Told};

/// Of one run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figure {
    pub(crate) system: System,
    pub(crate) round: usize,
    pub(crate) figure: &'static str,
    records: u64,
    records_per_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p95_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p999_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_ms: Option<f64>,
    /// CPU seconds for a million records.
    broker_cpu_s_per_m: f64,
    client_cpu_s_per_m: f64,
    broker_memory_mib: f64,
    broker_started_in_ms: f64,
}

impl Figure {
    pub(crate) fn new(
        system: System,
        round: usize,
        figure: &'static str,
        told: &Told,
        used: &Used,
    ) -> Self {
        let millions = told.records as f64 / 1e6;
        let latency = |of: fn(Latency) -> f64| told.latency_ms.map(of);
        Self {
            system,
            round,
            figure,
            records: told.records,
            records_per_s: told.records_per_s,
            p50_ms: latency(|latency| latency.p50),
            p95_ms: latency(|latency| latency.p95),
            p99_ms: latency(|latency| latency.p99),
            p999_ms: latency(|latency| latency.p999),
            max_ms: latency(|latency| latency.max),
            broker_cpu_s_per_m: used.cpu_s / millions,
            client_cpu_s_per_m: told.client_cpu_s / millions,
            broker_memory_mib: used.memory_mib,
            broker_started_in_ms: used.started_in_ms,
        }
    }
}

/// Name, and how it is had from a figure.
type Row = (&'static str, fn(&Figure) -> Option<f64>);

const ROWS: [Row; 8] = [
    ("records/s", |figure| Some(figure.records_per_s)),
    ("p50 ms", |figure| figure.p50_ms),
    ("p99 ms", |figure| figure.p99_ms),
    ("p99.9 ms", |figure| figure.p999_ms),
    ("broker CPU s/M", |figure| Some(figure.broker_cpu_s_per_m)),
    ("client CPU s/M", |figure| Some(figure.client_cpu_s_per_m)),
    ("broker memory MiB", |figure| Some(figure.broker_memory_mib)),
    ("started in ms", |figure| Some(figure.broker_started_in_ms)),
];

/// Medians over the rounds.
pub(crate) fn table(all: &[Figure]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for figure in all {
        if !names.contains(&figure.figure) {
            names.push(figure.figure);
        }
    }
    let mut text = format!("{:<38} {:>14} {:>14} {:>8}\n", "", "Ottla", "Apache Kafka", "ratio");
    for name in names {
        for (row, of) in ROWS {
            let median = |system| {
                let figures = all.iter().filter(|f| f.figure == name && f.system == system);
                median(figures.filter_map(of).collect())
            };
            let (ours, theirs) = (median(System::Ottla), median(System::ApacheKafka));
            if ours.is_none() && theirs.is_none() {
                continue;
            }
            let show = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), shown);
            let ratio = ours.zip(theirs).map(|(ours, theirs)| ours / theirs);
            let ratio = ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            let name = format!("{name}: {row}");
            let _ = writeln!(text, "{name:<38} {:>14} {:>14} {ratio:>8}", show(ours), show(theirs));
        }
    }
    text
}

fn shown(value: f64) -> String {
    if value >= 1_000.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        _ if values.is_empty() => None,
        1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}
