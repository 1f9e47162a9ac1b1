//! `top`: the nodes of a fleet with their figures, again and again.

use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use crds::NodeStatus;

use crate::args::{Sort, Top};
use crate::connect::Place;
use crate::fleet;
use crate::status::{Story, node_table, nothing};
use crate::words::{count, percent};
use crate::{FINE, output};

/// Goes to the upper left corner and clears the screen (ECMA-48: CUP, ED).
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Runs the command: once, or until the process is ended. On a terminal each look clears the last one.
///
/// # Errors
/// When the fleets cannot be read, or the text cannot be written.
pub async fn run(place: &Place, wanted: &Top, terminal: bool, out: &mut dyn Write) -> Result<u8> {
    loop {
        let fleets = Box::pin(fleet::wanted(place, wanted.name.as_deref(), wanted.all_namespaces)).await?;
        let mut stories: Vec<_> = fleets.iter().map(Story::of).collect();
        for story in &mut stories {
            sort(&mut story.nodes, wanted.sort);
        }
        if let Some(format) = wanted.form.output {
            output::write(&stories, format, out)?;
            return Ok(FINE);
        }
        // The screen is written at once, so that it does not flicker.
        let mut screen = Vec::new();
        if terminal && !wanted.once {
            write!(screen, "{CLEAR}")?;
        }
        if stories.is_empty() {
            writeln!(screen, "{}", nothing(place, wanted.all_namespaces))?;
        }
        for (at, story) in stories.iter().enumerate() {
            if at > 0 {
                writeln!(screen)?;
            }
            let totals = &story.totals;
            writeln!(screen, "{}", story.headline())?;
            writeln!(
                screen,
                "{} connections, {} writes/s, {} of capacity",
                count(totals.connections),
                count(totals.writes_per_second),
                percent(totals.utilization_percent)
            )?;
            node_table(&story.nodes).write(&mut screen, 2)?;
        }
        out.write_all(&screen)?;
        out.flush()?;
        if wanted.once {
            return Ok(FINE);
        }
        tokio::time::sleep(Duration::from_secs(wanted.interval)).await;
    }
}

/// Sorts nodes; those whose figure is not known come first, because nobody knows that it is low.
fn sort(nodes: &mut [NodeStatus], order: Sort) {
    let known = |figure: Option<i64>| std::cmp::Reverse(figure.unwrap_or(i64::MAX));
    match order {
        Sort::Name => nodes.sort_by(|a, b| a.name.cmp(&b.name)),
        Sort::Connections => nodes.sort_by_key(|node| known(node.connections)),
        Sort::Writes => nodes.sort_by_key(|node| known(node.writes_per_second)),
        Sort::Busy => nodes.sort_by_key(|node| known(node.utilization_percent.map(i64::from))),
    }
}
