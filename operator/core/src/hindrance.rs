//! What keeps pods of a fleet from starting, in one word, one sentence and one remedy.
//!
//! Each part of Kubernetes tells of a refusal in another place: admission in a condition of the Deployment, the
//! scheduler and the kubelet in the pod's conditions and container states, the volume and network plugins in Events.
//! Here all of it becomes a [`Hindrance`], from recorded objects alone, for nodes and NATS alike.

mod admission;
mod ages;
mod events;
mod pod;
mod reason;
mod said;

use k8s_openapi::api::core::v1::Pod;

use crate::names::Component;

pub use ages::Ages;
pub use events::waits_for_machine;
pub use reason::{FleetPart, Hindrance, Reason};

/// Most hindrances that a status tells of; there is one sentence for each.
const MAX_TOLD: usize = 3;

/// What hinders these parts at `now` (milliseconds since 1970), in the order of [`Reason`], one of each reason and
/// component.
#[must_use]
pub fn find(parts: &[FleetPart<'_>], now: u64) -> Vec<Hindrance> {
    let mut all: Vec<_> = parts.iter().flat_map(|part| in_part(part, now)).collect();
    // NATS first: without it no node becomes ready.
    all.sort_by_key(|h| (h.reason, h.component != Component::Nats, h.pod.clone()));
    all.dedup_by_key(|h| (h.reason, h.component));
    all.truncate(MAX_TOLD);
    all
}

/// The sentences of all hindrances as one text.
#[must_use]
pub fn sentences(all: &[Hindrance]) -> String {
    all.iter().map(Hindrance::sentence).collect::<Vec<_>>().join(". Also: ")
}

fn in_part(part: &FleetPart<'_>, now: u64) -> Vec<Hindrance> {
    // A failed pod stays for long. Where all pods of the present template are there it tells of the past.
    let whole = part.deployment.is_some_and(admission::is_whole);
    let failed = |pod: &Pod| pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Failed");
    let pods = part.pods.iter().filter(|pod| !(whole && failed(pod)));
    let mut found: Vec<_> = pods.filter_map(|pod| pod::look(part, pod, now)).collect();
    let Some(deployment) = part.deployment else { return found };
    found.extend(admission::refused(part.component, deployment));
    if found.is_empty() {
        found.extend(admission::no_progress(part.component, deployment));
    }
    found
}

#[cfg(test)]
mod tests;
