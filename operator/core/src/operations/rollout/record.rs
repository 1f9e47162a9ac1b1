//! What the status keeps of a rollout, and what is said of it.

use crds::{
    ChannelClusterStatus, MAX_STATUS_TEMPLATES, RolledBack, RolloutPaused, RolloutStatus, TemplateStatus,
};

use super::gate::Verdict;
use super::is_under_way;
use crate::observation::{DeploymentView, Observation};
use crate::operations::plan::Note;
use crate::view::{NodeSeen, count};
use crate::wishes::{PAUSE_ROLLOUT_ANNOTATION, UNDO_ROLLOUT_ANNOTATION};

/// Reason while `rollout.pause` is set.
const ASKED: &str = "PauseAsked";
/// The reasons of verdicts, each with whether it lasts until the spec changes.
const VERDICTS: [(&str, bool); 3] =
    [("HandshakesRefused", true), ("HandshakesSlow", true), ("NodesNotReady", false)];

/// What stopped the rollout under way before, if that lasts: it is about the same template and the spec that was reconciled
/// last. While a changed spec is not reconciled yet, any reason lasts: what was asked for before must not go on meanwhile.
pub(crate) fn lasting(seen: &Observation<'_>) -> Option<Verdict> {
    let before = seen.previous.rollout.as_ref()?;
    let paused = before.paused.as_ref()?;
    let (reason, lasts) = VERDICTS.into_iter().find(|(reason, _)| *reason == paused.reason)?;
    let same = before.deployments.first().map(|of| &of.name) == seen.current().map(|of| &of.name)
        && paused.generation == seen.generation
        && is_under_way(seen.deployments);
    let holds = same && (lasts || seen.generation != seen.asked.generation);
    holds.then(|| Verdict { reason, message: paused.message.clone(), lasts })
}

/// The record of a look.
pub(crate) fn status(seen: &Observation<'_>, nodes: &[NodeSeen], verdict: Option<&Verdict>) -> RolloutStatus {
    let shown = |of: &&DeploymentView| of.current || of.replicas > 0 || of.pods > 0;
    let deployments = seen.deployments.iter().filter(shown).take(MAX_STATUS_TEMPLATES);
    let deployments = deployments.map(|of| template(of, nodes)).collect();
    let rolled_back = rolled_back(seen, nodes, verdict);
    let paused = if rolled_back.is_some() { None } else { paused(seen, verdict) };
    RolloutStatus { deployments, paused, rolled_back }
}

/// How many nodes of a Deployment serve.
fn serving(of: &DeploymentView, nodes: &[NodeSeen]) -> usize {
    nodes.iter().filter(|node| node.serves() && node.pod.deployment == of.name).count()
}

fn template(of: &DeploymentView, nodes: &[NodeSeen]) -> TemplateStatus {
    TemplateStatus {
        name: of.name.clone(),
        template: (!of.template.is_empty()).then(|| of.template.clone()),
        image: of.image.clone(),
        replicas: of.replicas,
        ready: count(serving(of, nodes)),
    }
}

fn paused(seen: &Observation<'_>, verdict: Option<&Verdict>) -> Option<RolloutPaused> {
    if let Some(Verdict { reason, message, .. }) = verdict {
        // The nodes are those of the spec that was reconciled.
        let generation = seen.generation;
        return Some(RolloutPaused { reason: (*reason).to_owned(), message: message.clone(), generation });
    }
    let generation = seen.asked.generation;
    let by = if seen.asked.wishes.pause_rollout {
        format!("the annotation {PAUSE_ROLLOUT_ANNOTATION}")
    } else {
        "rollout.pause".to_owned()
    };
    (seen.pauses_rollout() && is_under_way(seen.deployments)).then(|| RolloutPaused {
        reason: ASKED.to_owned(),
        message: format!("{by} is set: no node is added or emptied for the rollout"),
        generation,
    })
}

/// The template that is given up, now or before. The fleet goes back to the newest one that has nodes which serve.
fn rolled_back(seen: &Observation<'_>, nodes: &[NodeSeen], verdict: Option<&Verdict>) -> Option<RolledBack> {
    let (valid, current) = (seen.valid?, seen.current()?);
    let before = seen.previous.rollout.as_ref().and_then(|rollout| rollout.rolled_back.as_ref());
    let undone = seen.asked.wishes.undo.as_ref();
    if let Some(before) = before
        && !(before.asked && undone != Some(&before.from))
        && (valid.given_up.as_ref() == Some(&before.from) || valid.template == before.from)
    {
        return Some(before.clone());
    }
    let undone = undone == Some(&current.template);
    let verdict = verdict.filter(|_| valid.rollout.auto_rollback.unwrap_or_default());
    let why = match verdict {
        _ if undone => format!("the annotation {UNDO_ROLLOUT_ANNOTATION} asks for it"),
        Some(verdict) => verdict.message.clone(),
        None => return None,
    };
    let others = seen.deployments.iter().filter(|of| !of.current && !of.template.is_empty());
    // A person may ask for one without nodes.
    let may = others.filter(|of| undone || serving(of, nodes) > 0);
    let to = may.max_by_key(|of| (serving(of, nodes) > 0, of.revision))?;
    let (from, to_name) = (&current.name, &to.name);
    let message = format!("went back from {from} to {to_name}, until the spec asks for other pods: {why}");
    (current.template == valid.template).then(|| RolledBack {
        from: current.template.clone(),
        to: to.template.clone(),
        message,
        asked: undone,
    })
}

/// What is said once when a rollout begins, stops, goes back or ends.
pub(crate) fn sayings(previous: &ChannelClusterStatus, next: &ChannelClusterStatus) -> Vec<Note> {
    let rollout = |status: &ChannelClusterStatus| status.rollout.clone().unwrap_or_default();
    let (before, now) = (rollout(previous), rollout(next));
    let say =
        |warning, reason, action: &'static str, message: String| Note { action, reason, message, warning };
    let mut said = Vec::new();
    let (first_before, first) = (before.deployments.first(), now.deployments.first());
    if let (Some(from), Some(to)) = (first_before, first)
        && from.name != to.name
    {
        let message = format!("nodes are made by {} now, and those of {} are replaced", to.name, from.name);
        said.push(say(false, "RolloutStarted", "Replace", message));
    }
    if let Some(back) = now.rolled_back.as_ref().filter(|back| before.rolled_back.as_ref() != Some(back)) {
        said.push(say(true, "RolledBack", "GoBack", back.message.clone()));
    }
    let reason = |status: &RolloutStatus| status.paused.as_ref().map(|paused| paused.reason.clone());
    if let Some(paused) = now.paused.as_ref().filter(|_| reason(&before) != reason(&now)) {
        let message = format!("{}: {}", paused.reason, paused.message);
        said.push(say(paused.reason != ASKED, "RolloutPaused", "Pause", message));
    }
    let several = |status: &RolloutStatus| status.deployments.len() > 1;
    if several(&before) && !several(&now) {
        let name = first.map(|first| first.name.clone()).unwrap_or_default();
        said.push(say(false, "RolloutDone", "Replace", format!("all nodes are made by {name}")));
    }
    said
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use crds::{ChannelCluster, ChannelClusterStatus};

    use super::{RolledBack, status};
    use crate::asked::Asked;
    use crate::fixtures::{cluster, env};
    use crate::observation::{DeploymentView, Observation};
    use crate::validate::{Fetched, validate};
    use crate::view::Outcome;
    use crate::wishes::UNDO_ROLLOUT_ANNOTATION;

    const SPEC: &str = "{targetConnections: 1000, rooms: {maxMembers: 150}, auth: {anonymous: true}}";

    fn of(name: &str, template: &str, revision: u64, current: bool) -> DeploymentView {
        let (name, template) = (name.to_owned(), template.to_owned());
        DeploymentView { name, template, revision, current, replicas: 2, ..DeploymentView::default() }
    }

    /// What is recorded of a look.
    fn back(cluster: &ChannelCluster, deployments: &[DeploymentView]) -> Option<RolledBack> {
        let valid = validate(cluster, &env(), &Fetched::default()).expect("valid");
        let seen = Observation {
            now: 1_000_000,
            asked: &Asked::of(cluster),
            generation: 1,
            outcome: &Outcome::Applied,
            valid: Some(&valid),
            previous: &cluster.status.clone().unwrap_or_default(),
            deployments,
            node_deployment: None,
            nats_deployment: None,
            pods: &[],
            series: &HashMap::new(),
            rejected: &[],
            figures: None,
            hindrances: &[],
            contest: None,
            probing: Default::default(),
        };
        status(&seen, &[], None).rolled_back
    }

    #[test]
    fn a_person_gives_a_template_up_and_takes_that_back() {
        let mut chat = cluster(SPEC);
        let new = validate(&chat, &env(), &Fetched::default()).expect("valid").template;
        let before = [of("chat-node-new", &new, 2, true), of("chat-node-old", "old", 1, false)];
        let undo = |chat: &mut ChannelCluster, template: &str| {
            let all = chat.metadata.annotations.get_or_insert_default();
            all.insert(UNDO_ROLLOUT_ANNOTATION.to_owned(), template.to_owned());
        };
        assert_eq!(back(&chat, &before), None);
        undo(&mut chat, "another");
        assert_eq!(back(&chat, &before), None, "what is current was never given up");
        undo(&mut chat, &new);
        let gone = back(&chat, &before).expect("given up");
        assert_eq!((&*gone.from, &*gone.to, gone.asked), (&*new, "old", true));
        assert!(gone.message.contains(UNDO_ROLLOUT_ANNOTATION), "{}", gone.message);
        assert_eq!(back(&chat, &before[..1]), None, "there is nothing to go back to");

        // It lasts, and the template is made from the one of before.
        let rollout =
            crds::RolloutStatus { rolled_back: Some(gone.clone()), ..crds::RolloutStatus::default() };
        chat.status =
            Some(ChannelClusterStatus { rollout: Some(rollout), ..ChannelClusterStatus::default() });
        let after = [of("chat-node-old", "old", 3, true), of("chat-node-new", &new, 2, false)];
        assert_eq!(validate(&chat, &env(), &Fetched::default()).expect("valid").template, "old");
        assert_eq!(back(&chat, &after), Some(gone));
        chat.metadata.annotations = None;
        assert_eq!(back(&chat, &after), None, "it is taken back");
    }
}
