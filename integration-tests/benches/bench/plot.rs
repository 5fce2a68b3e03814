//! The charts of a run: rates against the size of batches, percentiles of latency. Each is written where
//! its figures were measured; values are medians over the repeats.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::presets::{KINDS, SIZES, sized};
use crate::report::{Figure, median};
use crate::svg::{Chart, Line, Scale};

const PERCENTILES: [(&str, &str); 5] = [
    ("50 %", "p50_us"),
    ("90 %", "p90_us"),
    ("99 %", "p99_us"),
    ("99.9 %", "p99_9_us"),
    ("99.99 %", "p99_99_us"),
];

pub(crate) fn write_all(dir: &Path, figures: &[Figure]) -> Result<()> {
    let charts = [("batch-size.svg", batch_sizes(figures)), ("latency.svg", latencies(figures))];
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    for (name, chart) in charts {
        let Some(chart) = chart else { continue };
        let path = dir.join(name);
        let mut file = std::fs::File::create(&path)?;
        file.write_all(chart.svg().as_bytes())?;
        eprintln!("wrote {}", path.display());
    }
    Ok(())
}

fn median_of(figures: &[Figure], name: &str, key: &str) -> Option<f64> {
    let same = figures.iter().filter(|figure| figure.name == name);
    let values: Vec<&Value> = same.map(|figure| &figure.values).collect();
    median(&values, key)
}

fn batch_sizes(figures: &[Figure]) -> Option<Chart> {
    let rates = |kind: &str| {
        let at = |size: usize| median_of(figures, &sized(kind, size), "records_per_second");
        let found = SIZES.into_iter().enumerate();
        found.filter_map(|(position, size)| Some((position, at(size)?))).collect::<Vec<_>>()
    };
    let lines: Vec<Line> = KINDS
        .iter()
        .map(|kind| Line {
            name: (*kind).to_owned(),
            points: rates(kind),
            is_limit: kind.contains("limit"),
        })
        .filter(|line| !line.points.is_empty())
        .collect();
    let bytes = figures.iter().find_map(|figure| figure.values["value_bytes"].as_u64());
    (!lines.is_empty()).then(|| Chart {
        title: format!("Rate by size of batches, records of {} bytes", bytes.unwrap_or_default()),
        x_label: "size of a batch (batch.size), KiB".into(),
        x_ticks: SIZES.iter().map(|size| (size >> 10).to_string()).collect(),
        y_label: "records/s".into(),
        y_scale: Scale::Linear,
        lines,
    })
}

fn latencies(figures: &[Figure]) -> Option<Chart> {
    let mut names: Vec<&str> = Vec::new();
    for figure in figures.iter().filter(|figure| figure.values["p50_us"].is_number()) {
        if !names.contains(&figure.name.as_str()) {
            names.push(&figure.name);
        }
    }
    let line = |name: &&str| {
        let values = PERCENTILES.iter().enumerate();
        let at = |key: &str| median_of(figures, name, key);
        Line {
            name: (*name).to_owned(),
            points: values.filter_map(|(n, (_, key))| Some((n, at(key)?))).collect(),
            is_limit: name.starts_with("limit"),
        }
    };
    (!names.is_empty()).then(|| Chart {
        title: "Latency".into(),
        x_label: "percentile".into(),
        x_ticks: PERCENTILES.iter().map(|(name, _)| (*name).to_owned()).collect(),
        y_label: "microseconds".into(),
        y_scale: Scale::Log10,
        lines: names.iter().map(line).collect(),
    })
}
