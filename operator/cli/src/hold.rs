//! `hold` and `release`: the node count of a fleet stays, in one direction or both, while a person looks.

use std::io::Write;

use anyhow::Result;
use operator_core::holds::{PAUSE_SCALE_IN_ANNOTATION, PAUSE_SCALE_OUT_ANNOTATION};

use crate::FINE;
use crate::args::{Hold, Release};
use crate::change::{self, Annotations};
use crate::connect::Place;

/// Runs `hold`; gives the exit code.
///
/// # Errors
/// When the ChannelCluster is not there, or may not be changed.
pub async fn hold(place: &Place, wanted: &Hold, out: &mut dyn Write) -> Result<u8> {
    let both = wanted.scale_in == wanted.scale_out;
    let held = |asked: bool| (asked || both).then(|| "true".to_owned());
    let directions = match (wanted.scale_in, wanted.scale_out) {
        (true, false) => "does not shrink",
        (false, true) => "does not grow",
        _ => "neither shrinks nor grows",
    };
    let name = &wanted.name;
    let sentence = format!(
        "{name} {directions} by its load any more. nodes.min, nodes.max and targetConnections still count, and a drain that \
         is under way goes on. kubectl channels release {name} ends it."
    );
    let annotations = both_of(held(wanted.scale_in), held(wanted.scale_out));
    Box::pin(change::fleet(place, name, annotations, vec![sentence])).await?.write(wanted.form, out)?;
    Ok(FINE)
}

/// Runs `release`; gives the exit code.
///
/// # Errors
/// As [`hold`].
pub async fn release(place: &Place, wanted: &Release, out: &mut dyn Write) -> Result<u8> {
    let sentence = format!("{} follows its load again.", wanted.name);
    let done = Box::pin(change::fleet(place, &wanted.name, both_of(None, None), vec![sentence])).await?;
    done.write(wanted.form, out)?;
    Ok(FINE)
}

fn both_of(scale_in: Option<String>, scale_out: Option<String>) -> Annotations {
    [(PAUSE_SCALE_IN_ANNOTATION, scale_in), (PAUSE_SCALE_OUT_ANNOTATION, scale_out)].into()
}
