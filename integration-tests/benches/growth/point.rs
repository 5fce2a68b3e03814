//! Points of a series: what one unit costs at each, against what it cost at the first.

use serde_json::{Value, json};

/// A unit may cost so much more than at the first point before it counts as worse than linear: less
/// is within what one run differs from the next.
const SLACK: f64 = 1.3;

/// What one unit costs at one point.
pub(crate) struct Cost {
    pub(crate) series: &'static str,
    /// How many: partitions, clients, bytes.
    pub(crate) at: u64,
    /// What is measured, with the unit that it is of.
    pub(crate) name: String,
    pub(crate) value: f64,
    /// Against the first point of the same name; `None` where it has no growth to speak of.
    pub(crate) factor: Option<f64>,
}

/// All costs of a run.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) costs: Vec<Cost>,
}

impl Report {
    /// A cost of one unit, which stays as it is where cost grows linearly.
    pub(crate) fn cost(&mut self, series: &'static str, at: u64, name: &str, value: f64) {
        let first = self.costs.iter().find(|cost| cost.series == series && cost.name == name);
        // What shrank at first, as memory may that is given back meanwhile, is nothing to compare with.
        let factor = match first {
            Some(first) => (first.value > 0.0).then(|| value / first.value),
            None => (value > 0.0).then_some(1.0),
        };
        self.add(Cost { series, at, name: name.to_owned(), value, factor });
    }

    /// A figure that is told beside the costs: a rate, a size.
    pub(crate) fn figure(&mut self, series: &'static str, at: u64, name: &str, value: f64) {
        self.add(Cost { series, at, name: name.to_owned(), value, factor: None });
    }

    fn add(&mut self, cost: Cost) {
        let mut line = json!({
            "series": cost.series, "at": cost.at, "name": cost.name, "value": rounded(cost.value),
        });
        if let (Some(factor), Value::Object(line)) = (cost.factor, &mut line) {
            line.insert("factor".into(), json!(rounded(factor)));
            line.insert("worse_than_linear".into(), json!(factor > SLACK));
        }
        println!("{line}");
        self.costs.push(cost);
    }

    /// Rows are names, columns are points.
    pub(crate) fn print_table(&self) {
        let mut series: Vec<&str> = self.costs.iter().map(|cost| cost.series).collect();
        series.dedup();
        for series in series {
            let of: Vec<&Cost> = self.costs.iter().filter(|cost| cost.series == series).collect();
            let mut points: Vec<u64> = of.iter().map(|cost| cost.at).collect();
            points.sort_unstable();
            points.dedup();
            eprint!("\n{series:<52}");
            points.iter().for_each(|at| eprint!(" {at:>18}"));
            eprintln!();
            let mut names: Vec<&str> = Vec::new();
            for cost in &of {
                if !names.contains(&cost.name.as_str()) {
                    names.push(&cost.name);
                }
            }
            for name in names {
                eprint!("{name:<52}");
                for at in &points {
                    let cost = of.iter().find(|cost| cost.at == *at && cost.name == name);
                    eprint!(" {:>18}", cost.map_or_else(String::new, |cost| cell(cost)));
                }
                eprintln!();
            }
        }
        self.print_judgement();
    }

    fn print_judgement(&self) {
        eprintln!("\nx: against the first point; 1 is linear. Worse than linear (above {SLACK}):");
        let mut none = true;
        for cost in &self.costs {
            if let Some(factor) = cost.factor.filter(|&factor| factor > SLACK) {
                none = false;
                eprintln!("  {} {}: {} x{factor:.2}", cost.series, cost.at, cost.name);
            }
        }
        if none {
            eprintln!("  nothing");
        }
    }
}

fn cell(cost: &Cost) -> String {
    let value = short(cost.value);
    match cost.factor {
        Some(factor) => format!("{value} x{factor:.2}"),
        None => value,
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

/// Four significant digits: more would pretend.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let scale = 10f64.powf(3.0 - value.abs().log10().floor());
    (value * scale).round() / scale
}
