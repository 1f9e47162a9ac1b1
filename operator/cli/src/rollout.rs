//! `rollout`: how the replacement of nodes by others of another template stands, and what a person may say to it.

use std::io::Write;

use anyhow::{Result, bail};
use crds::{RolledBack, RolloutPaused, TemplateStatus};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::ListParams;
use operator_core::names::{CLUSTER_LABEL, Names};
use operator_core::templates::{self, Made};
use operator_core::wishes::{PAUSE_ROLLOUT_ANNOTATION, UNDO_ROLLOUT_ANNOTATION};
use serde::Serialize;

use crate::args::{OfRollout, RolloutCommand};
use crate::change::{self, Annotations};
use crate::connect::{Place, failed};
use crate::fleet::{self, Fleet};
use crate::table::Table;
use crate::{FINE, FOUND, output};

/// Reason of a rollout that was paused by the spec or by an annotation.
const ASKED: &str = "PauseAsked";

/// How a rollout stands.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The namespace.
    pub namespace: String,
    /// The ChannelCluster.
    pub name: String,
    /// Whether nodes of several templates are there.
    pub under_way: bool,
    /// The Deployments of nodes, the current one first.
    pub deployments: Vec<TemplateStatus>,
    /// Why it does not go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<RolloutPaused>,
    /// The template that was given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<RolledBack>,
    /// Sentences about it.
    pub sentences: Vec<String>,
}

/// Runs the command; gives the exit code.
///
/// # Errors
/// When the ChannelCluster is not there or may not be changed, and when there is nothing to go back to.
pub async fn run(place: &Place, wanted: &RolloutCommand, out: &mut dyn Write) -> Result<u8> {
    match wanted {
        RolloutCommand::Status(of) => Box::pin(status(place, of, out)).await,
        RolloutCommand::Pause(of) => Box::pin(pause(place, of, out)).await,
        RolloutCommand::Resume(of) => Box::pin(resume(place, of, out)).await,
        RolloutCommand::Undo(of) => Box::pin(undo(place, of, out)).await,
    }
}

async fn status(place: &Place, of: &OfRollout, out: &mut dyn Write) -> Result<u8> {
    let state = State::of(&Box::pin(fleet::get(place, &of.name)).await?);
    match of.form.output {
        Some(format) => output::write(&state, format, out)?,
        None => state.write(out)?,
    }
    Ok(if state.is_wrong() { FOUND } else { FINE })
}

async fn pause(place: &Place, of: &OfRollout, out: &mut dyn Write) -> Result<u8> {
    let name = &of.name;
    let fleet = Box::pin(fleet::get(place, name)).await?;
    let mut sentences = vec![format!(
        "No node of {name} is added or emptied for a rollout any more, and nodes that close their connections go on. kubectl \
         channels rollout resume {name} ends it."
    )];
    sentences.extend(fleet.nothing_is_done());
    let annotations = [(PAUSE_ROLLOUT_ANNOTATION, Some("true".to_owned()))].into();
    Box::pin(change::fleet(place, name, annotations, sentences)).await?.write(of.form, out)?;
    Ok(FINE)
}

async fn resume(place: &Place, of: &OfRollout, out: &mut dyn Write) -> Result<u8> {
    let name = &of.name;
    let fleet = Box::pin(fleet::get(place, name)).await?;
    let state = State::of(&fleet);
    let mut sentences = vec![format!("What kubectl channels said to the rollout of {name} is taken back.")];
    if is_paused_by_spec(&fleet) {
        sentences.push("rollout.pause of the spec is set: it goes on once that is not.".to_owned());
    }
    if let Some(paused) = state.paused.filter(|paused| paused.reason != ASKED) {
        let RolloutPaused { reason, message, .. } = paused;
        sentences.push(format!(
            "It stopped by itself ({reason}: {message}): a change of the spec lets it try again."
        ));
    }
    if let Some(back) = state.rolled_back.filter(|back| !back.asked) {
        sentences.push(format!("It {}.", back.message));
    }
    sentences.extend(fleet.nothing_is_done());
    let annotations: Annotations = [(PAUSE_ROLLOUT_ANNOTATION, None), (UNDO_ROLLOUT_ANNOTATION, None)].into();
    Box::pin(change::fleet(place, name, annotations, sentences)).await?.write(of.form, out)?;
    Ok(FINE)
}

async fn undo(place: &Place, of: &OfRollout, out: &mut dyn Write) -> Result<u8> {
    let name = &of.name;
    let fleet = Box::pin(fleet::get(place, name)).await?;
    let rollout = fleet.status.as_ref().and_then(|status| status.rollout.clone()).unwrap_or_default();
    if let Some(back) = rollout.rolled_back {
        bail!("{name} {}", back.message);
    }
    let made = Box::pin(deployments(place, name)).await?;
    let Some(current) = templates::current(&made) else {
        bail!("{name} has no nodes yet: there is nothing to go back from");
    };
    let others = made.iter().filter(|of| of.name != current.name && of.template.is_some());
    let (Some(given_up), Some(before)) = (&current.template, others.max_by_key(|of| of.rank())) else {
        bail!(
            "{name} has no template to go back to: the operator keeps those of the last {} Deployments; change the spec instead",
            templates::KEPT
        );
    };
    let mut sentences = vec![format!(
        "{name} goes back from {} to {}, until the spec asks for other pods. kubectl channels rollout resume {name} takes it back.",
        current.name, before.name
    )];
    if is_paused_by_spec(&fleet) {
        sentences.push("rollout.pause of the spec is set: it goes back once that is not.".to_owned());
    }
    sentences.extend(fleet.nothing_is_done());
    let annotations =
        [(UNDO_ROLLOUT_ANNOTATION, Some(given_up.clone())), (PAUSE_ROLLOUT_ANNOTATION, None)].into();
    Box::pin(change::fleet(place, name, annotations, sentences)).await?.write(of.form, out)?;
    Ok(FINE)
}

/// The Deployments of a fleet's nodes, those without nodes that are kept among them.
async fn deployments(place: &Place, name: &str) -> Result<Vec<Made>> {
    let api: Api<Deployment> = Api::namespaced(place.client.clone(), &place.namespace);
    let params = ListParams::default().labels(&format!("{CLUSTER_LABEL}={name}"));
    let what = format!("Deployments in namespace {:?}", place.namespace);
    let listed = api.list_metadata(&params).await.map_err(|error| failed("list", &what, error))?;
    let names = Names::new(name);
    let made = listed.items.iter().map(|object| Made::of(&object.metadata));
    Ok(made.filter(|made| made.is_named(&names)).collect())
}

fn is_paused_by_spec(fleet: &Fleet) -> bool {
    fleet.spec["rollout"]["pause"].as_bool().unwrap_or_default()
}

impl State {
    /// Of a fleet.
    #[must_use]
    pub fn of(fleet: &Fleet) -> Self {
        let rollout = fleet.status.as_ref().and_then(|status| status.rollout.clone()).unwrap_or_default();
        let under_way = rollout.deployments.len() > 1;
        let mut sentences = Vec::new();
        match &rollout.deployments[..] {
            [] => sentences.push(format!("{} has no nodes that the operator tells of.", fleet.name)),
            [only] => sentences.push(format!("All nodes of {} are made by {}.", fleet.name, only.name)),
            [current, others @ ..] => {
                let left: i32 = others.iter().map(|of| of.replicas).sum();
                sentences.push(format!(
                    "Nodes of {} come to be made by {}: {} of its {} nodes are ready, and {left} others are left.",
                    fleet.name, current.name, current.ready, current.replicas
                ));
            }
        }
        sentences.extend(
            rollout.paused.iter().map(|paused| format!("Paused ({}): {}", paused.reason, paused.message)),
        );
        sentences.extend(rollout.rolled_back.iter().map(|back| format!("Rolled back: {}", back.message)));
        Self {
            namespace: fleet.namespace.clone(),
            name: fleet.name.clone(),
            under_way,
            deployments: rollout.deployments,
            paused: rollout.paused,
            rolled_back: rollout.rolled_back,
            sentences,
        }
    }

    /// Whether it stopped or went back though nobody asked for that.
    fn is_wrong(&self) -> bool {
        let stopped = self.paused.as_ref().is_some_and(|paused| paused.reason != ASKED);
        stopped || self.rolled_back.as_ref().is_some_and(|back| !back.asked)
    }

    fn write(&self, out: &mut dyn Write) -> Result<()> {
        for sentence in &self.sentences {
            writeln!(out, "{sentence}")?;
        }
        if !self.deployments.is_empty() {
            writeln!(out)?;
            let mut table = Table::new(&["DEPLOYMENT", "TEMPLATE", "READY", "NODES", "IMAGE"]);
            for of in &self.deployments {
                let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
                let (ready, replicas) = (of.ready.to_string(), of.replicas.to_string());
                table.row([of.name.clone(), dash(&of.template), ready, replicas, dash(&of.image)]);
            }
            table.write(out, 0)?;
        }
        Ok(())
    }
}
