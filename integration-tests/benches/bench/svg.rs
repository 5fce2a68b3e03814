//! A line chart as an SVG file: two axes with units, a grid, lines with points, a legend. Strokes and
//! text are of a middle grey and saturated colours, so that it reads on light and on dark ground.

use std::fmt::Write;

/// How an axis divides its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// From 0.
    Linear,
    /// Powers of ten.
    Log10,
}

/// Where a line goes along the x axis is by number of the tick: 0, 1, 2…
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    /// (position among the ticks, value)
    pub(crate) points: Vec<(usize, f64)>,
    /// Dashed: a limit, not a result.
    pub(crate) is_limit: bool,
}

#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) x_label: String,
    pub(crate) x_ticks: Vec<String>,
    pub(crate) y_label: String,
    pub(crate) y_scale: Scale,
    pub(crate) lines: Vec<Line>,
}

const WIDTH: f64 = 860.0;
const LEFT: f64 = 84.0;
const TOP: f64 = 48.0;
const PLOT_WIDTH: f64 = WIDTH - LEFT - 24.0;
const PLOT_HEIGHT: f64 = 340.0;
const LEGEND_LINE: f64 = 20.0;
const INK: &str = "#808080";
/// Told apart also by who sees few colours (after Okabe and Ito, without yellow and black).
const COLOURS: [&str; 7] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1"];

/// The y axis: its end and its ticks.
struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    ticks: Vec<f64>,
}

impl Axis {
    fn new(scale: Scale, values: &[f64]) -> Self {
        let most = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let least = values.iter().copied().fold(most, f64::min);
        match scale {
            Scale::Linear => {
                let step = step(most / 5.0);
                let count = (most / step).ceil() as i32;
                let ticks = (0..=count).map(|tick| f64::from(tick) * step).collect();
                Self { scale, low: 0.0, high: f64::from(count) * step, ticks }
            }
            Scale::Log10 => {
                let (low, high) = (least.log10().floor() as i32, most.log10().ceil() as i32);
                let high = high.max(low + 1);
                let ticks = (low..=high).map(|power| 10f64.powi(power)).collect();
                Self { scale, low: f64::from(low), high: f64::from(high), ticks }
            }
        }
    }

    fn y(&self, value: f64) -> f64 {
        let at = match self.scale {
            Scale::Linear => value,
            Scale::Log10 => value.log10(),
        };
        TOP + PLOT_HEIGHT * (1.0 - (at - self.low) / (self.high - self.low))
    }
}

/// The next of 1, 2, 5, 10, 20… that is not below `wanted`.
fn step(wanted: f64) -> f64 {
    let power = 10f64.powf(wanted.log10().floor());
    let found = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= wanted);
    found.unwrap_or(10.0) * power
}

/// A number as an axis shows it.
fn tick_text(value: f64) -> String {
    let trimmed = |value: f64, unit: &str| {
        let text = format!("{value:.1}");
        format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
    };
    match value {
        value if value >= 1e6 => trimmed(value / 1e6, " M"),
        value if value >= 1e4 => trimmed(value / 1e3, " k"),
        value => trimmed(value, ""),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

impl Chart {
    /// The file's text.
    pub(crate) fn svg(&self) -> String {
        let values: Vec<f64> = self
            .lines
            .iter()
            .flat_map(|line| line.points.iter().map(|(_, value)| *value))
            .collect();
        let axis = Axis::new(self.y_scale, &values);
        let legend_top = TOP + PLOT_HEIGHT + 66.0;
        let height = legend_top + LEGEND_LINE * self.lines.len() as f64 + 8.0;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
             viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\" fill=\"{INK}\">\n"
        );
        let middle = LEFT + PLOT_WIDTH / 2.0;
        text(&mut out, middle, 24.0, "middle", &self.title, " font-size=\"16\"");
        self.draw_axes(&mut out, &axis);
        for (number, line) in self.lines.iter().enumerate() {
            self.draw_line(&mut out, &axis, number, line);
            let y = legend_top + LEGEND_LINE * number as f64;
            draw_legend(&mut out, y, number, line);
        }
        out.push_str("</svg>\n");
        out
    }

    fn x(&self, position: usize) -> f64 {
        let last = self.x_ticks.len().max(2) - 1;
        LEFT + PLOT_WIDTH * (position as f64 + 0.25) / (last as f64 + 0.5)
    }

    fn draw_axes(&self, out: &mut String, axis: &Axis) {
        let (right, bottom) = (LEFT + PLOT_WIDTH, TOP + PLOT_HEIGHT);
        for tick in &axis.ticks {
            let y = axis.y(*tick);
            segment(out, (LEFT, y), (right, y), " stroke-opacity=\"0.3\"");
            text(out, LEFT - 8.0, y + 4.5, "end", &tick_text(*tick), "");
        }
        segment(out, (LEFT, TOP), (LEFT, bottom), "");
        segment(out, (LEFT, bottom), (right, bottom), "");
        for (position, tick) in self.x_ticks.iter().enumerate() {
            let x = self.x(position);
            segment(out, (x, bottom), (x, bottom + 5.0), "");
            text(out, x, bottom + 20.0, "middle", tick, "");
        }
        text(out, LEFT + PLOT_WIDTH / 2.0, bottom + 42.0, "middle", &self.x_label, "");
        let y = TOP + PLOT_HEIGHT / 2.0;
        let turned = format!(" transform=\"rotate(-90 18 {y})\"");
        text(out, 18.0, y, "middle", &self.y_label, &turned);
    }

    fn draw_line(&self, out: &mut String, axis: &Axis, number: usize, line: &Line) {
        let colour = COLOURS[number % COLOURS.len()];
        let at = |(position, value): &(usize, f64)| (self.x(*position), axis.y(*value));
        let points: Vec<String> =
            line.points.iter().map(at).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{}/>",
            points.join(" "),
            dashes(line)
        );
        for (x, y) in line.points.iter().map(at) {
            let _ =
                writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>");
        }
    }
}

fn dashes(line: &Line) -> &'static str {
    if line.is_limit { " stroke-dasharray=\"7 4\"" } else { "" }
}

fn draw_legend(out: &mut String, y: f64, number: usize, line: &Line) {
    let colour = COLOURS[number % COLOURS.len()];
    let _ = writeln!(
        out,
        "<line x1=\"{LEFT}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" stroke=\"{colour}\" \
         stroke-width=\"2\"{}/>",
        LEFT + 34.0,
        dashes(line)
    );
    text(out, LEFT + 42.0, y + 4.5, "start", &line.name, "");
}

fn segment(out: &mut String, from: (f64, f64), to: (f64, f64), more: &str) {
    let _ = writeln!(
        out,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{INK}\"{more}/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, text: &str, more: &str) {
    let text = escape(text);
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\"{more}>{text}</text>"
    );
}
