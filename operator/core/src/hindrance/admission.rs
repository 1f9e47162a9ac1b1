//! Pods that cannot be made: what admission tells a ReplicaSet, which its Deployment repeats as condition
//! `ReplicaFailure` (`pkg/controller/deployment/progress.go` of Kubernetes).

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition};

use super::reason::{Hindrance, Reason};
use crate::names::Component;
use crate::user_ids;
use crate::words::{short, without_pod};

/// Words of a message, the reason that they mean, and the remedies for nodes and for NATS. The first row whose words
/// are in the message counts.
const TABLE: [(&[&str], Reason, &str, &str); 15] = [
    (
        &["must specify"],
        Reason::QuotaExceeded,
        "the quota wants what is named set: set it in nodes.resources, or make a LimitRange with defaults",
        "the quota wants what is named set: set it in backplane.resources, or make a LimitRange with defaults",
    ),
    (
        &["exceeded quota", "failed quota"],
        Reason::QuotaExceeded,
        "raise the ResourceQuota, or lower nodes.resources, nodes.min or nodes.max",
        "raise the ResourceQuota, or lower backplane.resources or what else the namespace uses",
    ),
    (
        &["violates PodSecurity"],
        Reason::PodSecurityViolated,
        "change what is named in the spec, or the namespace's labels pod-security.kubernetes.io/enforce and enforce-version",
        "change what is named in the spec, or the namespace's labels pod-security.kubernetes.io/enforce and enforce-version",
    ),
    (
        &["security context constraint"],
        Reason::PodSecurityViolated,
        "set nodes.userIds to Assigned, which asks for no ids, or let the service account use a constraint that allows ours",
        "set backplane.userIds to Assigned, which asks for no ids, or let the service account use a constraint that allows ours",
    ),
    (
        &["failed calling webhook", "failed to call webhook"],
        Reason::WebhookFailed,
        "start what serves the webhook, or remove its configuration",
        "start what serves the webhook, or remove its configuration",
    ),
    (
        &["denied the request", "ValidatingAdmissionPolicy"],
        Reason::PolicyDenied,
        "change what the policy names, or except these pods from it",
        "change what the policy names, or except these pods from it",
    ),
    (
        &["usage per Container", "usage per Pod", "limit to request ratio", "per PersistentVolumeClaim"],
        Reason::LimitRangeViolated,
        "bring nodes.resources within the LimitRange, or change it",
        "bring backplane.resources within the LimitRange, or change it",
    ),
    (
        &["no PriorityClass"],
        Reason::PodsForbidden,
        "create the PriorityClass, or name one that exists",
        "create the PriorityClass, or name one that exists",
    ),
    (
        &["serviceaccount", "service account"],
        Reason::PodsForbidden,
        "create the ServiceAccount, or name one that exists",
        "create the ServiceAccount, or name one that exists",
    ),
    (
        &["RuntimeClass"],
        Reason::PodsForbidden,
        "create the RuntimeClass, or name one that exists",
        "create the RuntimeClass, or name one that exists",
    ),
    (
        &["being terminated"],
        Reason::PodsForbidden,
        "the namespace is being deleted: use another one",
        "the namespace is being deleted: use another one",
    ),
    (
        &["node selector"],
        Reason::PodsForbidden,
        "the namespace has a node selector of its own: make nodes.nodeSelector agree with it",
        "the namespace has a node selector of its own: make nodes.nodeSelector agree with it",
    ),
    (
        &["is invalid"],
        Reason::PodsForbidden,
        "change what is named in the spec",
        "change what is named in the spec",
    ),
    (
        &["etcdserver", "context deadline exceeded", "connection refused"],
        Reason::PodsForbidden,
        "the API server is in trouble: look at it",
        "the API server is in trouble: look at it",
    ),
    (
        &["forbidden"],
        Reason::PodsForbidden,
        "whoever is named has to allow it",
        "whoever is named has to allow it",
    ),
];

/// What admission refuses, as the Deployment tells it.
pub(super) fn refused(component: Component, deployment: &Deployment) -> Option<Hindrance> {
    let failure = condition(deployment, "ReplicaFailure", "True")?;
    Some(by_message(component, failure.message.as_deref().unwrap_or_default()))
}

/// A Deployment that made no progress for its deadline, when nothing else tells why.
pub(super) fn no_progress(component: Component, deployment: &Deployment) -> Option<Hindrance> {
    let stuck = condition(deployment, "Progressing", "False")?;
    Some(Hindrance {
        component,
        reason: Reason::NoProgress,
        pod: None,
        words: short(stuck.message.as_deref().unwrap_or_default()),
        remedy: "look at the Events of its pods",
    })
}

/// Whether all pods that are asked for are available and of the present template.
pub(super) fn is_whole(deployment: &Deployment) -> bool {
    let Some(status) = &deployment.status else { return false };
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    status.observed_generation >= deployment.metadata.generation
        && status.available_replicas.unwrap_or_default() >= wanted
        && status.updated_replicas.unwrap_or_default() >= wanted
}

fn condition<'a>(deployment: &'a Deployment, kind: &str, status: &str) -> Option<&'a DeploymentCondition> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == kind && c.status == status)
}

/// The refusal with this text.
pub(super) fn by_message(component: Component, message: &str) -> Hindrance {
    let found = TABLE.iter().find(|(parts, ..)| parts.iter().any(|part| message.contains(part)));
    let (reason, remedy) = match found {
        Some((_, reason, _, remedy)) if component == Component::Nats => (*reason, *remedy),
        Some((_, reason, remedy, _)) => (*reason, *remedy),
        None => (Reason::PodsForbidden, "change what is named, here or there"),
    };
    let of_ids = matches!(reason, Reason::PodSecurityViolated | Reason::PolicyDenied);
    let remedy = if of_ids && user_ids::are_named(message) { other_ids(component) } else { remedy };
    Hindrance { component, reason, pod: None, words: short(without_pod(message)), remedy }
}

/// The remedy where a policy or a constraint speaks of user ids that the user chose; the operator leaves out its own
/// ids by itself.
const fn other_ids(component: Component) -> &'static str {
    match component {
        Component::Node => {
            "set runAsUser, runAsGroup and fsGroup in nodes.podSecurityContext to what is allowed, or nodes.userIds to \
             Assigned, which asks for none"
        }
        Component::Nats => {
            "set runAsUser, runAsGroup and fsGroup in backplane.podSecurityContext to what is allowed, or \
             backplane.userIds to Assigned, which asks for none"
        }
    }
}
