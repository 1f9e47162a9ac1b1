//! Helpers for what a pod and the Events about it tell, and remedies that both have.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};

use super::reason::Reason;
use crate::names::Component;

/// Reasons with which a kubelet lets a container wait while it prepares it; they are no problem by themselves.
pub(super) const PREPARING: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// What one pod says, and what to do.
pub(super) struct Said(pub(super) Reason, pub(super) String, pub(super) &'static str);

/// The containers of a pod, init containers first: while one of those fails the others wait.
pub(super) fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|s| s.init_container_statuses.as_ref());
    let main = status.and_then(|s| s.container_statuses.as_ref());
    init.into_iter().chain(main).flatten()
}

/// A condition of a pod by its type.
pub(super) fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == kind)
}

/// The remedy for an image that has no valid name.
pub(super) const fn image_field(component: Component) -> &'static str {
    match component {
        Component::Node => "write nodes.image as REGISTRY/NAME:TAG",
        Component::Nats => "write backplane.image as REGISTRY/NAME:TAG",
    }
}

/// The remedy for an image whose user is root or a name.
pub(super) const fn user(component: Component) -> &'static str {
    match component {
        Component::Node => {
            "set runAsUser in nodes.podSecurityContext to a number other than 0, or take an image whose user is one"
        }
        Component::Nats => {
            "set runAsUser in backplane.podSecurityContext to a number other than 0, or take an image whose user is one"
        }
    }
}

/// The remedy for an image that cannot be had.
pub(super) const fn pull(component: Component) -> &'static str {
    match component {
        Component::Node => {
            "correct nodes.image, push the image, or give the pods what their registry asks for (imagePullSecrets)"
        }
        Component::Nats => {
            "correct backplane.image, push the image, or give the pods what their registry asks for (imagePullSecrets)"
        }
    }
}

/// The remedy for a process that was killed for its memory.
pub(super) const fn memory(component: Component) -> &'static str {
    match component {
        Component::Node => "raise limits.memory in nodes.resources, or lower nodes.capacity.connections",
        Component::Nats => "raise limits.memory in backplane.resources",
    }
}
