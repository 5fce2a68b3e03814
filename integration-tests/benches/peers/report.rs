//! What was measured: lines of JSON, and a table of medians with everybody side by side.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::system::System;

/// Of one system in one round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) system: System,
    pub(crate) round: usize,
    pub(crate) figure: String,
    /// On the disk before it is acknowledged.
    pub(crate) durable: bool,
    pub(crate) records: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) records_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p50_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p99_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p99_9_us: Option<f64>,
    /// How late the sender of a steady rate was itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sender_behind_p99_us: Option<f64>,
    /// CPU seconds for a million records, user and system.
    pub(crate) server_cpu_s_per_m: f64,
    pub(crate) client_cpu_s_per_m: f64,
    /// RssAnon + RssShmem at the peak, all processes of the server.
    pub(crate) server_memory_mib: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disk_bytes_per_record: Option<f64>,
    pub(crate) server_ready_ms: f64,
    /// Cores that neither the server nor its clients used.
    pub(crate) other_cores: f64,
}

/// A line of the table.
struct Row {
    name: &'static str,
    of: fn(&Figure) -> Option<f64>,
    /// Ottla's divided by the other's stands beside it.
    has_ratio: bool,
}

const fn row(name: &'static str, of: fn(&Figure) -> Option<f64>) -> Row {
    Row { name, of, has_ratio: true }
}

const ROWS: [Row; 9] = [
    row("records/s", |figure| figure.records_per_s),
    row("p50 µs", |figure| figure.p50_us),
    row("p99 µs", |figure| figure.p99_us),
    row("server CPU s/M", |figure| Some(figure.server_cpu_s_per_m)),
    row("client CPU s/M", |figure| Some(figure.client_cpu_s_per_m)),
    row("server memory MiB", |figure| Some(figure.server_memory_mib)),
    row("disk B/record", |figure| figure.disk_bytes_per_record),
    Row { name: "sender late p99 µs", of: |figure| figure.sender_behind_p99_us, has_ratio: false },
    Row { name: "other load, cores", of: |figure| Some(figure.other_cores), has_ratio: false },
];

/// Medians over the rounds.
pub(crate) fn table(all: &[Figure]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for figure in all {
        if !names.contains(&figure.figure.as_str()) {
            names.push(&figure.figure);
        }
    }
    let systems: Vec<System> =
        System::all().filter(|system| all.iter().any(|figure| figure.system == *system)).collect();
    let mut text = format!("{:<20}", "");
    for system in &systems {
        let _ = write!(text, " {:>16}", system.name());
    }
    text.push('\n');
    for name in names {
        let _ = writeln!(text, "{name}");
        for Row { name: row, of, has_ratio } in ROWS {
            let value = |system: System| {
                let same = all.iter().filter(|f| f.figure == name && f.system == system);
                median(same.filter_map(of).collect())
            };
            if !systems.iter().any(|system| value(*system).is_some()) {
                continue;
            }
            let ours = value(System::Ottla).filter(|_| has_ratio);
            let _ = write!(text, "  {row:<18}");
            for system in &systems {
                let _ = write!(text, " {:>16}", cell(*system, value(*system), ours));
            }
            text.push('\n');
        }
    }
    text.push_str(
        "\nMedians of all rounds; in parentheses Ottla's divided by this one's. s/M: CPU seconds per \
         million records. Memory: RssAnon + RssShmem at the peak. Every value that was read back was \
         compared, in order.\n",
    );
    text
}

fn cell(system: System, value: Option<f64>, ours: Option<f64>) -> String {
    let Some(value) = value else { return "-".to_owned() };
    match ours {
        Some(ours) if system != System::Ottla && value > 0.0 => {
            format!("{} ({:.2})", short(value), ours / value)
        }
        _ => short(value),
    }
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

fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.2} M", value / 1e6),
        value if value >= 1e4 => format!("{:.0} k", value / 1e3),
        value if value >= 100.0 => format!("{value:.0}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(system: &str, round: usize, rate: f64) -> Figure {
        let line = serde_json::json!({
            "system": system, "round": round, "figure": "produce", "durable": false,
            "records": 10, "records_per_s": rate, "server_cpu_s_per_m": 0.5,
            "client_cpu_s_per_m": 0.0, "server_memory_mib": 10.0, "server_ready_ms": 1.0,
            "other_cores": 0.0,
        });
        serde_json::from_value(line).unwrap()
    }

    #[test]
    fn the_table_has_medians_and_what_ours_is_to_each() {
        let all = [
            figure("ottla", 0, 3e6),
            figure("ottla", 1, 1e6),
            figure("ottla", 2, 2e6),
            figure("redis", 0, 4e5),
            figure("redis", 1, 6e5),
        ];
        let table = table(&all);
        let rates = table.lines().find(|line| line.contains("records/s")).unwrap();
        let cells: Vec<&str> = rates.split_whitespace().collect();
        assert_eq!(cells, ["records/s", "2.00", "M", "500", "k", "(4.00)"]);
        assert!(!table.contains("p50"), "nobody measured it:\n{table}");
        // Nothing is divided by zero.
        let client = table.lines().find(|line| line.contains("client CPU")).unwrap();
        assert!(!client.contains('('), "{client}");
    }

    #[test]
    fn a_figure_survives_its_line_of_json() {
        let one = figure("ottla-kafka", 4, 1.5);
        let line = serde_json::to_string(&one).unwrap();
        let again: Figure = serde_json::from_str(&line).unwrap();
        assert_eq!((again.system, again.round), (System::OttlaKafka, 4));
        assert_eq!((again.records_per_s, again.p50_us), (Some(1.5), None));
    }
}
