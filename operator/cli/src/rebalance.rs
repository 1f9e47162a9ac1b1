//! `rebalance`: one round of moving clients, now.

use std::io::Write;

use anyhow::Result;
use k8s_openapi::jiff::Timestamp;
use operator_core::wishes::{PATIENCE_MILLIS, REBALANCE_ANNOTATION};

use crate::args::Rebalance;
use crate::change;
use crate::connect::Place;
use crate::{FINE, fleet};

/// Runs the command; gives the exit code.
///
/// # Errors
/// When the ChannelCluster is not there, or may not be changed.
pub async fn run(place: &Place, wanted: &Rebalance, now: u64, out: &mut dyn Write) -> Result<u8> {
    let name = &wanted.name;
    let fleet = Box::pin(fleet::get(place, name)).await?;
    // To the second, as the operator notes what it answered.
    let seconds = i64::try_from(now / 1_000).unwrap_or_default();
    let time = Timestamp::from_second(seconds).unwrap_or_default().to_string();
    let minutes = PATIENCE_MILLIS / 60_000;
    let (value, sentence) = if wanted.stop {
        (None, format!("No rebalance of {name} is asked for any more. rebalance.mode alone decides now."))
    } else {
        let sentence = format!(
            "{name} is to move clients from nodes that have too much to others, once. It begins within {minutes} minutes or not \
             at all; kubectl channels status {name} shows it. kubectl channels rebalance {name} --stop ends it."
        );
        (Some(time), sentence)
    };
    let mut sentences = vec![sentence];
    sentences.extend(fleet.nothing_is_done());
    let annotations = [(REBALANCE_ANNOTATION, value)].into();
    Box::pin(change::fleet(place, name, annotations, sentences)).await?.write(wanted.form, out)?;
    Ok(FINE)
}
