//! Line plots as inline SVG, in the colours of the page.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 34.0;
/// How much higher than the highest point an axis is.
const HEADROOM: f64 = 1.08;
/// Width of a name in the legend.
const LEGEND: f64 = 110.0;
/// About how many labels an axis has.
const LABELS: usize = 5;
/// Most points of a line; of more points, the highest of each run of neighbours is drawn.
const MAX_POINTS: usize = 720;

/// One line: a name and its points.
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

/// A plot with a title and named axes.
pub(super) struct Plot {
    pub(super) title: &'static str,
    pub(super) x: &'static str,
    pub(super) y: &'static str,
    pub(super) lines: Vec<Line>,
    /// Labels of the x axis by position; empty makes them from the numbers.
    pub(super) x_labels: Vec<(f64, String)>,
    /// Whether the y axis is logarithmic.
    pub(super) logarithmic: bool,
}

impl Plot {
    /// The plot as a figure; empty when it has no points.
    pub(super) fn svg(&self) -> String {
        if self.lines.iter().map(|line| line.points.len()).sum::<usize>() < 2 {
            return String::new();
        }
        let frame = Frame::new(self);
        let title = self.title;
        let mut out = format!(
            "<figure><figcaption>{title} <small>{}</small></figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             role=\"img\" aria-label=\"{title}\">",
            self.y
        );
        self.axes(&mut out, &frame);
        for (index, line) in self.lines.iter().enumerate() {
            let mut path = String::new();
            for (x, y) in thin(&line.points) {
                let word = if path.is_empty() { 'M' } else { 'L' };
                push(&mut path, format_args!("{word}{:.1} {:.1}", frame.x(x), frame.y(frame.scale(y))));
            }
            let at = LEFT + 8.0 + LEGEND * index as f64;
            push(
                &mut out,
                format_args!(
                    "<path class=\"line c{index}\" d=\"{path}\"/><text class=\"c{index}\" x=\"{at}\" y=\"{}\">{}</text>",
                    HEIGHT - 3.0,
                    line.name
                ),
            );
        }
        out + "</svg></figure>\n"
    }

    fn axes(&self, out: &mut String, frame: &Frame) {
        for y in ticks(frame.y0, frame.y1, self.logarithmic) {
            let (at, label) = (frame.y(y), number(if self.logarithmic { 10f64.powf(y) } else { y }));
            push(
                out,
                format_args!(
                    "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                     <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                    WIDTH - RIGHT,
                    LEFT - 6.0,
                    at + 4.0
                ),
            );
        }
        let own = || ticks(frame.x0, frame.x1, false).into_iter().map(|x| (x, number(x))).collect();
        let labels: Vec<(f64, String)> = if self.x_labels.is_empty() { own() } else { self.x_labels.clone() };
        for (x, label) in labels {
            push(
                out,
                format_args!(
                    "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
                    frame.x(x),
                    HEIGHT - BOTTOM + 16.0
                ),
            );
        }
        push(
            out,
            format_args!(
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                HEIGHT - 3.0,
                self.x
            ),
        );
    }
}

/// Turns numbers into places in the picture.
struct Frame {
    x0: f64,
    x1: f64,
    y0: f64,
    y1: f64,
    /// The smallest number above 0, on a logarithmic axis.
    floor: Option<f64>,
}

impl Frame {
    fn new(plot: &Plot) -> Frame {
        let points = || plot.lines.iter().flat_map(|line| &line.points);
        let (x0, x1) = bounds(points().map(|point| point.0));
        let lowest = points().map(|point| point.1).filter(|y| *y > 0.0).reduce(f64::min).unwrap_or(1e-3);
        let mut frame = Frame { x0, x1, y0: 0.0, y1: 1.0, floor: plot.logarithmic.then_some(lowest) };
        let (low, high) = bounds(points().map(|point| frame.scale(point.1)));
        (frame.y0, frame.y1) = if plot.logarithmic {
            (low.floor(), high.ceil().max(low.floor() + 1.0))
        } else {
            (low.min(0.0), high * HEADROOM)
        };
        frame
    }

    fn scale(&self, y: f64) -> f64 {
        self.floor.map_or(y, |floor| y.max(floor).log10())
    }

    fn x(&self, x: f64) -> f64 {
        LEFT + (x - self.x0) / (self.x1 - self.x0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, y: f64) -> f64 {
        HEIGHT - BOTTOM - (y - self.y0) / (self.y1 - self.y0) * (HEIGHT - TOP - BOTTOM)
    }
}

/// Appends formatted text.
pub(super) fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok());
}

fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low < high { (low, high) } else { (low, low + 1.0) }
}

/// Round values of an axis.
fn ticks(low: f64, high: f64, whole: bool) -> Vec<f64> {
    let rough = (high - low) / LABELS as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|step| *step >= rough);
    let mut step = step.unwrap_or(rough);
    if whole {
        step = step.ceil();
    }
    let first = (low / step).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last).map(|k| k as f64 * step).collect()
}

/// A number with a unit prefix.
pub(super) fn number(value: f64) -> String {
    let (scaled, prefix) = match value.abs() {
        v if v >= 1e9 => (value / 1e9, "G"),
        v if v >= 1e6 => (value / 1e6, "M"),
        v if v >= 1e3 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = if scaled.abs() >= 100.0 || scaled == scaled.round() {
        0
    } else if scaled.abs() < 0.1 {
        3
    } else {
        2
    };
    format!("{scaled:.digits$}{prefix}")
}

/// At most [`MAX_POINTS`] points: of each run of neighbours the highest.
fn thin(points: &[(f64, f64)]) -> impl Iterator<Item = (f64, f64)> {
    let run = points.len().div_ceil(MAX_POINTS).max(1);
    points.chunks(run).filter_map(|chunk| chunk.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_numbers() {
        assert_eq!(ticks(0.0, 10.0, false), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(-2.0, 2.0, true), [-2.0, -1.0, 0.0, 1.0, 2.0]);
        assert_eq!(ticks(0.0, 1_670_000.0, false).len(), 4);
        let labels = [0.0, 0.05, 1.5, 250.0, 1_670_000.0, 20_000.0].map(number);
        assert_eq!(labels, ["0", "0.050", "1.50", "250", "1.67M", "20k"]);
    }

    #[test]
    fn a_plot_is_one_figure_and_none_without_points() {
        let plot = |points, logarithmic| Plot {
            title: "Title",
            x: "s",
            y: "ms",
            lines: vec![Line { name: "p99", points }],
            x_labels: Vec::new(),
            logarithmic,
        };
        assert_eq!(plot(vec![(0.0, 1.0)], false).svg(), "");
        for logarithmic in [false, true] {
            let many: Vec<_> = (0..5000).map(|i| (f64::from(i), f64::from(i % 7))).collect();
            let svg = plot(many, logarithmic).svg();
            assert!(svg.starts_with("<figure>") && svg.ends_with("</figure>\n"), "{svg}");
            assert!(svg.matches('L').count() <= MAX_POINTS && !svg.contains("NaN"), "{svg}");
        }
        assert!(!plot(vec![(0.0, 0.0), (1.0, 0.0)], true).svg().contains("NaN"));
    }
}
