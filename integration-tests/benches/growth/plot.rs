//! Every series as a panel of one picture: factors against the first point, over a logarithmic axis.
//! A flat line at 1 is cost that grows linearly.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use anyhow::Result;

use crate::point::{Cost, Report};

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 50.0;
const TOP: f64 = 40.0;
/// The field in which lines are drawn; names stand right of it.
const FIELD: (f64, f64) = (230.0, 230.0);
/// The axis of factors, as powers of two.
const LOWEST: f64 = -4.0;
const HIGHEST: f64 = 4.0;
const COLOURS: [&str; 8] =
    ["#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b", "#17becf", "#7f7f7f"];

pub(crate) fn draw(report: &Report, file: &Path) -> Result<()> {
    let mut series: Vec<&str> = Vec::new();
    for cost in report.costs.iter().filter(|cost| cost.factor.is_some()) {
        if !series.contains(&cost.series) {
            series.push(cost.series);
        }
    }
    let mut svg = String::new();
    let height = HEIGHT * series.len() as f64;
    writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"10\">\n<rect width=\"100%\" height=\"100%\" \
         fill=\"white\"/>"
    )?;
    for (row, name) in series.into_iter().enumerate() {
        let of = report.costs.iter().filter(|cost| cost.series == name && cost.factor.is_some());
        writeln!(svg, "<g transform=\"translate({LEFT} {})\">", HEIGHT * row as f64 + TOP)?;
        panel(&mut svg, name, &of.collect::<Vec<_>>())?;
        writeln!(svg, "</g>")?;
    }
    writeln!(svg, "</svg>")?;
    let mut out = std::fs::File::create(file)?;
    Ok(out.write_all(svg.as_bytes())?)
}

fn panel(svg: &mut String, series: &str, costs: &[&Cost]) -> Result<()> {
    let points: Vec<u64> = costs.iter().map(|cost| cost.at).collect();
    let (least, most) = (points.iter().min(), points.iter().max());
    let log = |at: u64| (at.max(1) as f64).ln();
    let (least, most) = (least.copied().map_or(0.0, log), most.copied().map_or(1.0, log));
    let x = |at: u64| FIELD.0 * (log(at) - least) / (most - least).max(1e-9);
    let y = |factor: f64| {
        let power = factor.max(1e-9).log2().clamp(LOWEST, HIGHEST);
        FIELD.1 * (HIGHEST - power) / (HIGHEST - LOWEST)
    };
    writeln!(svg, "<text y=\"-16\" font-size=\"13\">{series}: factor of each unit's cost</text>")?;
    for power in LOWEST as i32..=HIGHEST as i32 {
        let factor = 2f64.powi(power);
        let (at, colour) = (y(factor), if power == 0 { "#000" } else { "#ddd" });
        writeln!(
            svg,
            "<path d=\"M0 {at:.1}H{}\" stroke=\"{colour}\"/><text x=\"-8\" y=\"{:.1}\" \
             text-anchor=\"end\">{factor}</text>",
            FIELD.0,
            at + 3.0
        )?;
    }
    let mut marks = points;
    marks.sort_unstable();
    marks.dedup();
    for at in marks {
        let below = FIELD.1 + 14.0;
        let x = x(at);
        writeln!(svg, "<text x=\"{x:.1}\" y=\"{below}\" text-anchor=\"middle\">{at}</text>")?;
    }
    let mut names: Vec<&str> = costs.iter().map(|cost| cost.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    for (number, name) in names.into_iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        // Where colours begin anew, lines are broken.
        let (broken, mark) =
            if number < COLOURS.len() { ("none", "") } else { ("5 3", " (broken)") };
        let line = costs.iter().filter(|cost| cost.name == name);
        let line: Vec<String> = line
            .map(|cost| format!("{:.1},{:.1}", x(cost.at), y(cost.factor.unwrap_or(1.0))))
            .collect();
        let (beside, down) = (FIELD.0 + 15.0, 12.0 * number as f64);
        writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" \
             stroke-dasharray=\"{broken}\"/>\
             <text x=\"{beside}\" y=\"{down}\" fill=\"{colour}\">{name}{mark}</text>",
            line.join(" ")
        )?;
    }
    Ok(())
}
