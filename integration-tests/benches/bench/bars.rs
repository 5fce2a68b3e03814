//! What is required of the product, each beside what this run measured: a bar counts where its figure
//! was measured, and goes by the median over all repeats.
//!
//! Bars of CPU seconds stand twice: as they were set, on a machine that spends 0.12 (broker) and 0.04
//! (client) seconds per million records on the TCP limit and 0.017 and 0.058 on that of `sendfile`, and as
//! the multiple of the limit's CPU which that is, since this machine may be a slower or a faster one.

use serde_json::{Value, json};

use crate::presets::recipes::{
    BEFORE_ACK, DRAIN, DRAIN_ONE, FIFTY, LINGER, TONIC_FETCH, TONIC_FETCH_LARGE, TONIC_PRODUCE,
    TRIP_CALLER, TRIP_POLLED, of, paced_name, replicated_name,
};
use crate::report::{Figure, median, short};
use crate::run::IDLE;

#[derive(Debug, Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    fn is_reached(self, measured: f64) -> bool {
        match self {
            Self::AtLeast(least) => measured >= least,
            Self::AtMost(most) => measured <= most,
        }
    }

    fn limit(self) -> f64 {
        match self {
            Self::AtLeast(limit) | Self::AtMost(limit) => limit,
        }
    }

    fn sign(self) -> char {
        match self {
            Self::AtLeast(_) => '≥',
            Self::AtMost(_) => '≤',
        }
    }
}

struct Bar {
    figure: String,
    /// Where the figure has it.
    key: &'static str,
    what: &'static str,
    bound: Bound,
}

fn bars() -> Vec<Bar> {
    let mut bars = Vec::new();
    for partitions in [1, 12] {
        let mut add = |figure: &str, key, what, bound| {
            bars.push(Bar { figure: of(figure, partitions), key, what, bound });
        };
        let (rate, ratio) = ("records_per_second", "ratio");
        let (broker, client) = ("broker_cpu_per_million", "client_cpu_per_million");
        let (broker_ratio, client_ratio) = ("ratio_broker_cpu", "ratio_client_cpu");
        add(LINGER, ratio, "rate / limit", Bound::AtLeast(0.70));
        add(LINGER, broker, "broker CPU s/M", Bound::AtMost(0.15));
        add(LINGER, broker_ratio, "broker CPU / limit's", Bound::AtMost(0.15 / 0.12));
        add(LINGER, client, "client CPU s/M", Bound::AtMost(0.20));
        add(LINGER, client_ratio, "client CPU / limit's", Bound::AtMost(0.20 / 0.04));
        add(FIFTY, rate, "records/s", Bound::AtLeast(1.5e6));
        add(FIFTY, broker, "broker CPU s/M", Bound::AtMost(0.8));
        add(DRAIN, ratio, "rate / limit", Bound::AtLeast(0.95));
        add(DRAIN, broker, "broker CPU s/M", Bound::AtMost(0.05));
        add(DRAIN, broker_ratio, "broker CPU / limit's", Bound::AtMost(0.05 / 0.017));
        let in_client = "records_per_client_cpu_second";
        add(DRAIN, in_client, "records a CPU second of the client", Bound::AtLeast(15e6));
        add(DRAIN, client_ratio, "client CPU / limit's", Bound::AtMost(1.0 / 15.0 / 0.058));
        add(DRAIN_ONE, rate, "records/s", Bound::AtLeast(5e6));
        add(BEFORE_ACK, ratio, "rate / limit", Bound::AtLeast(0.8));
    }
    bars.extend(latency());
    let mut add = |figure: String, key, what, bound| bars.push(Bar { figure, key, what, bound });
    add(TONIC_FETCH.into(), "ratio", "rate / limit", Bound::AtLeast(0.45));
    add(TONIC_FETCH_LARGE.into(), "ratio", "rate / limit", Bound::AtLeast(0.75));
    add(TONIC_PRODUCE.into(), "ratio", "rate / limit", Bound::AtLeast(0.5));
    let has_six = std::thread::available_parallelism().is_ok_and(|cores| cores.get() >= 6);
    let least = if has_six { 0.5 } else { 0.35 };
    add(replicated_name(3), "ratio", "rate / replication 1", Bound::AtLeast(least));
    let all = "ratio_all_cpu_per_gb";
    add(replicated_name(3), all, "all CPU per GB / replication 1", Bound::AtMost(2.8));
    add(IDLE.into(), "idle_mib", "MiB of memory", Bound::AtMost(30.0));
    bars
}

/// Those of times are reckoned from the machine's own round trip: 300 µs and 1.5 ms where it is 100 µs.
fn latency() -> Vec<Bar> {
    let mut bars = Vec::new();
    let mut add = |figure: String, key, what, bound| bars.push(Bar { figure, key, what, bound });
    add(TRIP_CALLER.into(), "ratio", "p99 / limit's p99", Bound::AtMost(1.25));
    add(TRIP_POLLED.into(), "ratio_p50", "p50 / limit's p50", Bound::AtMost(0.25));
    add(TRIP_POLLED.into(), "ratio", "p99 / limit's p99", Bound::AtMost(0.25));
    for rate in [10_000, 100_000] {
        let name = paced_name(rate);
        add(name.clone(), "ratio_p50", "p50 / round trip limit's p50", Bound::AtMost(3.0));
        let key = "ratio_p99_to_p50";
        add(name, key, "p99 / round trip limit's p50", Bound::AtMost(15.0));
    }
    bars
}

/// A table on standard error, JSON lines on standard output.
pub(crate) fn print(figures: &[Figure], only_json: bool) {
    let measured = |bar: &Bar| {
        let same = figures.iter().filter(|figure| figure.name == bar.figure);
        let values: Vec<&Value> = same.map(|figure| &figure.values).collect();
        median(&values, bar.key)
    };
    let found: Vec<(Bar, f64)> =
        bars().into_iter().filter_map(|bar| measured(&bar).map(|value| (bar, value))).collect();
    if !found.is_empty() && !only_json {
        eprintln!("\n{:<92} {:>10} {:>10}  reached", "bar", "required", "measured");
    }
    for (bar, value) in &found {
        let (is_reached, limit) = (bar.bound.is_reached(*value), bar.bound.limit());
        println!(
            "{}",
            json!({
                "bar": bar.figure, "key": bar.key, "required": format!("{} {limit}", bar.bound.sign()),
                "measured": value, "reached": is_reached,
            })
        );
        if !only_json {
            let name = format!("{}: {}", bar.figure, bar.what);
            let required = format!("{} {}", bar.bound.sign(), short(limit));
            let verdict = if is_reached { "yes" } else { "NO" };
            eprintln!("{name:<92} {required:>10} {:>10}  {verdict}", short(*value));
        }
    }
}
