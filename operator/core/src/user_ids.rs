//! User and group ids that admission refuses, and how the operator goes on without them.
//!
//! By default the operator asks for 65532 without the user having said so. Where the cluster assigns ids by
//! namespace, as OpenShift's security context constraints do, or a policy allows only other ids, no pod would ever be
//! made. So the refusal is recorded in the status, where any later leader finds it, and the ids are left out of the
//! pods from then on, as with `userIds: Assigned`. When the user sets `userIds`, to either value, the record ends.
//! Pods that serve keep their ids, since leaving them out would replace each of them, unless they are being replaced
//! anyway.

use crds::{ChannelCluster, RefusedIds, RefusedUserIds};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::PodSecurityContext;

use crate::asked::Asked;
use crate::names::{Component, NONROOT};
use crate::words::{short, without_pod};

/// Reason of the condition and of the Event.
pub const REASON: &str = "UserIdsRefused";
/// The fields that the operator sets by itself.
const FIELDS: [&str; 3] = ["runasuser", "runasgroup", "fsgroup"];
/// Words about ids that name no field.
const WORDS: [&str; 5] = ["65532", "user id", "group id", "userid", "groupid"];

/// A refusal of pods, or of the Deployment that would make them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The words of the refusal.
    pub words: String,
    /// Whether pods serve that have the ids and would be replaced without them.
    pub serving: bool,
}

/// Whether a message names user or group ids.
pub(crate) fn are_named(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    FIELDS.iter().chain(&WORDS).any(|word| message.contains(word))
}

/// Whether pods of this part are made without ids since they were refused.
#[must_use]
pub fn left_out(cluster: &ChannelCluster, component: Component) -> bool {
    let recorded = cluster.status.as_ref().and_then(|status| status.refused_user_ids.as_ref());
    let recorded = recorded.and_then(|recorded| part(recorded, component));
    let asked = match component {
        Component::Node => &cluster.spec.nodes.pod,
        Component::Nats => &cluster.spec.backplane.pod,
    };
    asked.user_ids.is_none() && recorded.is_some_and(|recorded| recorded.left_out)
}

/// The refusal of ids that the pods of one part of the fleet, made by `deployment`, ask for. The controllers say it
/// in the Deployment's status, or the API server says it about the Deployment itself in `refused`, the words of an
/// apply that failed. `recorded` is what was refused before.
#[must_use]
pub fn refusal(
    asked: &Asked<'_>,
    recorded: Option<&RefusedUserIds>,
    component: Component,
    deployment: Option<&Deployment>,
    refused: Option<&str>,
) -> Option<Refusal> {
    let options = asked.pods(component);
    let name = match component {
        Component::Node => asked.names.first_deployment(),
        Component::Nats => asked.names.nats(),
    };
    let left_out = recorded.and_then(|recorded| part(recorded, component)).is_some_and(|ids| ids.left_out);
    let serving = deployment.is_some_and(serves);
    let blamed = |message: &str| blames_ours(message, options.pod_security_context.as_ref());
    let about = refused.and_then(|words| about(words, &name)).filter(|words| blamed(words));
    if let Some(words) = about
        && options.user_ids.is_none()
        && !left_out
    {
        return Some(Refusal { words: short(words), serving });
    }
    let deployment = deployment.filter(|live| asks(live))?;
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    let failure = conditions.iter().find(|c| c.type_ == "ReplicaFailure" && c.status == "True")?;
    let words = failure.message.as_deref().filter(|words| blamed(words))?;
    Some(Refusal { words: short(without_pod(words)), serving })
}

/// The record to keep; `refusal` gives the present refusal.
#[must_use]
pub fn step(
    asked: &Asked<'_>,
    previous: Option<&RefusedUserIds>,
    refusal: impl Fn(Component) -> Option<Refusal>,
) -> Option<RefusedUserIds> {
    let next = |component| {
        if asked.pods(component).user_ids.is_some() {
            return None;
        }
        let before = previous.and_then(|previous| part(previous, component));
        match (refusal(component), before) {
            (_, Some(before)) if before.left_out => Some(before.clone()),
            (Some(now), before) => {
                // The words of the first refusal stay for as long as any lasts, so that the status is not written
                // anew each time.
                let message = before.map_or(now.words, |before| before.message.clone());
                Some(RefusedIds { left_out: !now.serving, message })
            }
            (None, _) => None,
        }
    };
    let next = RefusedUserIds { nodes: next(Component::Node), backplane: next(Component::Nats) };
    (next != RefusedUserIds::default()).then_some(next)
}

/// One sentence with the remedy for each part of the fleet.
#[must_use]
pub fn sentence(refused: &RefusedUserIds) -> Option<String> {
    let parts = [("nodes", "node", &refused.nodes), ("backplane", "NATS", &refused.backplane)];
    let told = parts.into_iter().filter_map(|(field, pods, refused)| {
        let refused = refused.as_ref()?;
        let words = &refused.message;
        Some(if refused.left_out {
            format!(
                "admission refuses the user ids that the operator asks for ({words}): the {pods} pods are made without \
                 them; set {field}.userIds to Assigned to keep it so, to Fixed to have them asked for again, or \
                 {field}.podSecurityContext to ids that are allowed"
            )
        } else {
            format!(
                "admission refuses the user ids that the operator asks for ({words}): the {pods} pods that serve keep \
                 them, and no further one can be made; set {field}.userIds to Assigned, which replaces them one by one"
            )
        })
    });
    let told: Vec<_> = told.collect();
    (!told.is_empty()).then(|| told.join(". Also: "))
}

const fn part(refused: &RefusedUserIds, component: Component) -> Option<&RefusedIds> {
    match component {
        Component::Node => refused.nodes.as_ref(),
        Component::Nats => refused.backplane.as_ref(),
    }
}

/// Whether a refusal is about an id of ours: it names a field that the user did not set, or none at all.
fn blames_ours(message: &str, own: Option<&PodSecurityContext>) -> bool {
    let users = [
        own.is_some_and(|own| own.run_as_user.is_some()),
        own.is_some_and(|own| own.run_as_group.is_some()),
        own.is_some_and(|own| own.fs_group.is_some()),
    ];
    let lower = message.to_ascii_lowercase();
    let named: Vec<_> = FIELDS.iter().zip(users).filter(|(field, _)| lower.contains(*field)).collect();
    if named.is_empty() {
        return are_named(message) && users.contains(&false);
    }
    named.iter().any(|(_, users)| !users)
}

/// Whether the pods of a Deployment are to have an id of ours.
fn asks(deployment: &Deployment) -> bool {
    let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let Some(context) = pod.and_then(|pod| pod.security_context.as_ref()) else { return false };
    [context.run_as_user, context.run_as_group, context.fs_group].contains(&Some(NONROOT))
}

/// Whether pods are available and none is being replaced.
fn serves(deployment: &Deployment) -> bool {
    let Some(status) = &deployment.status else { return false };
    let updated = status.updated_replicas.unwrap_or_default() >= status.replicas.unwrap_or_default();
    asks(deployment) && updated && status.available_replicas.unwrap_or_default() > 0
}

/// The API server's words about the Deployment with this name, or with one of the names that begin so and end with the
/// hash of a template.
fn about<'a>(refused: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = refused.split_once(&format!("Deployment {name}"))?;
    let (hash, rest) = rest.split_once(": ")?;
    let is_hash = |hash: &str| !hash.is_empty() && hash.bytes().all(|b| b.is_ascii_hexdigit());
    if !hash.is_empty() && !hash.strip_prefix('-').is_some_and(is_hash) {
        return None;
    }
    Some(rest.split("; the API server refuses ").next().unwrap_or(rest))
}

#[cfg(test)]
mod tests;
