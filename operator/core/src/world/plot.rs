//! Plots of runs as SVG: the need and the nodes of each controller above, the overload below.

use std::fmt::Write;

use super::Run;

/// Size of a plot and of its parts, in pixels.
const WIDTH: f64 = 760.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 28.0;
const NODES: f64 = 190.0;
const GAP: f64 = 22.0;
const OVERLOAD: f64 = 60.0;
const BOTTOM: f64 = 26.0;
/// Colours of the controllers, which are told apart by people who see few colours (Okabe, Ito).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#cc79a7", "#e69f00", "#009e73", "#56b4e9", "#999999"];

/// An SVG of some runs of one trace. The need is grey.
#[must_use]
pub fn svg(title: &str, runs: &[&Run]) -> String {
    let points = || runs.iter().flat_map(|run| &run.points);
    let seconds = points().map(|p| p.second).max().unwrap_or(1).max(1);
    let most = points().map(|p| p.need.max(f64::from(p.nodes))).fold(1.0, f64::max) * 1.05;
    let worst = points().map(|p| p.overload_percent).fold(1.0, f64::max);
    let height = TOP + NODES + GAP + OVERLOAD + BOTTOM;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"14\" font-size=\"13\">{title}</text>\n"
    );
    let below = TOP + NODES + GAP;
    frame(&mut out, TOP, NODES, most, "nodes", 0);
    frame(&mut out, below, OVERLOAD, worst, "overload %", usize::from(worst < 10.0));
    hours(&mut out, seconds, height);
    let x = |second: u32| LEFT + f64::from(second) / f64::from(seconds) * (WIDTH - LEFT - RIGHT);
    if let Some(run) = runs.first() {
        let needs: Vec<_> =
            run.points.iter().map(|p| (x(p.second), TOP + NODES * (1.0 - p.need / most))).collect();
        let end = TOP + NODES;
        let area: String = needs.iter().map(|(x, y)| format!(" {x:.0},{y:.1}")).collect();
        let (first, last) = (LEFT, WIDTH - RIGHT);
        writeln!(out, "<polygon points=\"{first:.0},{end}{area} {last:.0},{end}\" fill=\"#dddddd\"/>").ok();
    }
    for (index, run) in runs.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let nodes = run.points.iter().map(|p| (x(p.second), TOP + NODES * (1.0 - f64::from(p.nodes) / most)));
        stairs(&mut out, nodes, colour);
        let overload =
            run.points.iter().map(|p| (x(p.second), below + OVERLOAD * (1.0 - p.overload_percent / worst)));
        stairs(&mut out, overload, colour);
        let at = LEFT + 200.0 + 130.0 * index as f64;
        let name = run.controller.name();
        writeln!(out, "<text x=\"{at}\" y=\"14\" fill=\"{colour}\">{name}</text>").ok();
    }
    out.push_str("</svg>\n");
    out
}

/// A box with its largest figure and its name.
fn frame(out: &mut String, top: f64, height: f64, most: f64, name: &str, digits: usize) {
    let (width, label, low, high) = (WIDTH - LEFT - RIGHT, LEFT - 4.0, top + height, top + 10.0);
    writeln!(
        out,
        "<rect x=\"{LEFT}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" fill=\"none\" stroke=\"#888888\"/>\n\
         <text x=\"{label}\" y=\"{high}\" text-anchor=\"end\">{most:.digits$}</text>\n\
         <text x=\"{label}\" y=\"{low}\" text-anchor=\"end\">0</text>\n\
         <text x=\"{LEFT}\" y=\"{}\" fill=\"#555555\">{name}</text>",
        top - 4.0
    ).ok();
}

/// The times below.
fn hours(out: &mut String, seconds: u32, height: f64) {
    let (unit, name) = if seconds > 14_400 { (3_600.0, "h") } else { (60.0, "min") };
    let whole = f64::from(seconds) / unit;
    let step = (whole / 8.0).ceil().max(1.0);
    let mut at = 0.0;
    while at <= whole {
        let x = LEFT + at / whole * (WIDTH - LEFT - RIGHT);
        writeln!(
            out,
            "<text x=\"{x:.0}\" y=\"{}\" text-anchor=\"middle\">{at:.0} {name}</text>",
            height - 8.0
        )
        .ok();
        at += step;
    }
}

/// A line that goes level and upright, with a point only where the figure changes.
fn stairs(out: &mut String, points: impl Iterator<Item = (f64, f64)>, colour: &str) {
    let (mut path, mut last, mut end) = (String::new(), None::<i64>, 0.0);
    for (x, y) in points {
        let tenth = (y * 10.0).round() as i64;
        match last {
            None => {
                write!(path, "M{x:.0} {y:.1}").ok();
            }
            Some(before) if before != tenth => {
                write!(path, "H{x:.0}V{y:.1}").ok();
            }
            Some(_) => {}
        }
        (last, end) = (Some(tenth), x);
    }
    writeln!(out, "<path d=\"{path}H{end:.0}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.2\"/>")
        .ok();
}
