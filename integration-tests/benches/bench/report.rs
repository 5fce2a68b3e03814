//! Turns what was measured into figures: JSON lines at once, a table at the end.

use serde_json::{Value, json};

use crate::meter::merge;

/// Rounds to four significant digits: more would pretend.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let scale = 10f64.powf(3.0 - value.abs().log10().floor());
    (value * scale).round() / scale
}

/// Adds rates to what clients and brokers measured.
pub(crate) fn derive(measured: &mut Value) {
    let number = |key: &str| measured[key].as_f64();
    let mut derived = serde_json::Map::new();
    let mut add = |key: &str, value: Option<f64>| {
        if let Some(value) = value {
            derived.insert(key.to_owned(), json!(rounded(value)));
        }
    };
    let records = number("records").unwrap_or_default();
    let bytes = records * number("value_bytes").unwrap_or_default();
    let seconds = number("seconds");
    add("records_per_second", seconds.map(|seconds| records / seconds));
    add("mb_per_second", seconds.map(|seconds| bytes / seconds / 1e6));
    add("all_cpu_per_gb", number("all_cpu_seconds").map(|cpu| cpu / bytes * 1e9));
    let of_client = number("client_cpu_seconds").filter(|cpu| *cpu > 0.0);
    add("records_per_client_cpu_second", of_client.map(|cpu| records / cpu));
    for who in ["broker", "client", "producer", "consumer"] {
        let cpu = number(&format!("{who}_cpu_seconds"));
        add(&format!("{who}_cpu_per_million"), cpu.map(|cpu| cpu / records * 1e6));
        let peak = number(&format!("{who}_peak_kib"));
        add(&format!("{who}_peak_mib"), peak.map(|kib| kib / 1024.0));
        let file = number(&format!("{who}_peak_file_kib"));
        add(&format!("{who}_peak_file_mib"), file.map(|kib| kib / 1024.0));
    }
    if let Some(object) = measured.as_object_mut() {
        object.retain(|key, _| !key.ends_with("_kib") && key != "began" && key != "ended");
        for value in object.values_mut() {
            if let Some(number) = value.as_f64().filter(|_| value.is_f64()) {
                *value = json!(rounded(number));
            }
        }
        object.extend(derived);
    }
}

/// Adds how a figure compares with `limit`: `ratio` of the rates, or of the 99th percentiles where the
/// limit is one of latency.
pub(crate) fn add_ratios(values: &mut Value, limit: &Figure) {
    let of = |key: &str, limit_key: &str| -> Option<f64> {
        let ratio = values[key].as_f64()? / limit.values[limit_key].as_f64()?;
        ratio.is_finite().then_some(rounded(ratio))
    };
    let is_latency = limit.values["p99_us"].is_number();
    let ratios = [
        ("ratio", if is_latency { of("p99_us", "p99_us") } else { None }),
        ("ratio", if is_latency { None } else { of("records_per_second", "records_per_second") }),
        ("ratio_p50", of("p50_us", "p50_us")),
        ("ratio_p99_to_p50", of("p99_us", "p50_us")),
        ("ratio_all_cpu_per_gb", of("all_cpu_per_gb", "all_cpu_per_gb")),
        ("ratio_broker_cpu", of("broker_cpu_per_million", "broker_cpu_per_million")),
        ("ratio_client_cpu", of("client_cpu_per_million", "client_cpu_per_million")),
    ];
    let mut added = serde_json::Map::new();
    for (key, ratio) in ratios {
        if let Some(ratio) = ratio {
            added.insert(key.to_owned(), json!(ratio));
        }
    }
    added.insert("ratio_to".to_owned(), json!(limit.name));
    merge(values, Value::Object(added));
}

/// One measured figure.
#[derive(Debug)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) values: Value,
}

/// Column heads and where their values are.
const COLUMNS: [(&str, &str); 10] = [
    ("records/s", "records_per_second"),
    ("MB/s", "mb_per_second"),
    ("ratio", "ratio"),
    ("broker s/M", "broker_cpu_per_million"),
    ("client s/M", "client_cpu_per_million"),
    ("broker MiB", "broker_peak_mib"),
    ("client MiB", "client_peak_mib"),
    ("B/record", "disk_bytes_per_record"),
    ("p50 µs", "p50_us"),
    ("p99 µs", "p99_us"),
];

/// The medians of all repeats, for people.
pub(crate) fn print_table(figures: &[Figure]) {
    let mut names: Vec<&str> = Vec::new();
    let timed = figures.iter().filter(|figure| figure.values["seconds"].is_number());
    for figure in timed {
        if !names.contains(&figure.name.as_str()) {
            names.push(&figure.name);
        }
    }
    eprint!("\n{:<48}", "figure");
    COLUMNS.iter().for_each(|(head, _)| eprint!(" {head:>10}"));
    eprintln!("  other load");
    for name in names {
        let same: Vec<&Value> =
            figures.iter().filter(|f| f.name == name).map(|f| &f.values).collect();
        eprint!("{name:<48}");
        for (_, key) in COLUMNS {
            eprint!(" {:>10}", median(&same, key).map_or_else(String::new, short));
        }
        let other = median(&same, "other_cores");
        eprintln!("  {}", other.map_or_else(String::new, |cores| format!("{cores:.2} cores")));
    }
    eprintln!(
        "\ns/M: CPU seconds per million records, user and system. MiB: RssAnon + RssShmem at the peak \
         (client: above its start). ratio: to the limit measured in the same repeat. MB/s: of values. \
         Drains: order, count and content of every record checked."
    );
}

/// The median of what the values have under `key`.
pub(crate) fn median(values: &[&Value], key: &str) -> Option<f64> {
    let mut numbers: Vec<f64> = values.iter().filter_map(|value| value[key].as_f64()).collect();
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied()
}

/// For people.
pub(crate) fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.2} M", value / 1e6),
        value if value >= 1e4 => format!("{:.0} k", value / 1e3),
        value if value >= 100.0 => format!("{value:.0}"),
        value => format!("{value:.2}"),
    }
}
