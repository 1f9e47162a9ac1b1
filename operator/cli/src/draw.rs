//! Charts in a terminal: load and nodes over time as rows of characters.

use std::fmt::Write;

/// Rows of the chart of nodes.
const ROWS: usize = 12;
/// Columns of a chart: it fits beside the scale into 80.
const COLUMNS: usize = 70;
/// Heights of a column of one row.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// The load, below its height.
const LOAD: char = '░';
/// The nodes, at their height.
const NODES: char = '━';

/// A moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moment {
    /// Load as nodes' worth at the target.
    pub need: f64,
    /// Nodes.
    pub nodes: f64,
    /// Overload in percent.
    pub overload: f64,
}

/// The load as an area, the nodes as a line, and the overload as a row below; nothing without moments.
#[must_use]
pub fn chart(moments: &[Moment]) -> String {
    let columns: Vec<_> = columns(moments);
    let most = columns.iter().map(|m| m.need.max(m.nodes)).fold(1.0, f64::max);
    let mut out = String::new();
    for row in (1..=ROWS).rev() {
        // A row stands for what is above the row below it, up to its own height.
        let height = |value: f64| (value / most * as_f64(ROWS)).ceil();
        let scale = if row == ROWS { format!("{most:.0}") } else { String::new() };
        let cells: String = columns
            .iter()
            .map(|m| match as_f64(row) {
                at if at.total_cmp(&height(m.nodes)).is_eq() => NODES,
                at if at <= height(m.need) => LOAD,
                _ => ' ',
            })
            .collect();
        writeln!(out, "{scale:>7} |{}", cells.trim_end()).ok();
    }
    if columns.is_empty() {
        return String::new();
    }
    writeln!(out, "{:>7} +{}", "0", "-".repeat(columns.len())).ok();
    let worst = columns.iter().map(|m| m.overload).fold(0.0, f64::max);
    let cells: String = columns.iter().map(|m| level(m.overload, worst)).collect();
    writeln!(out, "overload {}", cells.trim_end()).ok();
    writeln!(out, "{LOAD} load in nodes' worth, {NODES} nodes; overload up to {worst:.1} % of the writes")
        .ok();
    out
}

/// As many moments as there are columns: of each part the highest load and overload, and the last node count.
fn columns(moments: &[Moment]) -> Vec<Moment> {
    let each = moments.len().div_ceil(COLUMNS).max(1);
    let highest = |part: &[Moment]| {
        part.iter().fold(Moment::default(), |most, m| Moment {
            need: most.need.max(m.need),
            nodes: m.nodes,
            overload: most.overload.max(m.overload),
        })
    };
    moments.chunks(each).map(highest).collect()
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a level is between 0 and 7")]
fn level(value: f64, most: f64) -> char {
    if value <= 0.0 || most <= 0.0 {
        return ' ';
    }
    let level = (value / most * 7.0).round().clamp(0.0, 7.0) as usize;
    LEVELS.get(level).copied().unwrap_or('█')
}

#[allow(clippy::cast_precision_loss, reason = "a few rows")]
fn as_f64(rows: usize) -> f64 {
    rows as f64
}
