//! A pod of a fleet, as it is kept: ten thousand of them take most of the memory, so of a pod that is well only
//! what the decisions see is kept.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use operator_core::names::{Component, Names};
use operator_core::pod::{PodView, has_ended};

use crate::shelf::Digest;

/// The keys of the labels that select the pods of a part of a fleet, in the order of [`Names::selector_labels`].
const SELECTING: [&str; 3] =
    ["app.kubernetes.io/component", "app.kubernetes.io/instance", "app.kubernetes.io/name"];

/// A part of one fleet: its namespace and the labels that select its pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part(Digest);

impl Part {
    /// The nodes or the NATS of a fleet.
    #[must_use]
    pub fn of(namespace: &str, names: &Names, component: Component) -> Self {
        Self::labelled(namespace, &names.selector_labels(component))
    }

    fn labelled(namespace: &str, labels: &BTreeMap<String, String>) -> Self {
        let [component, instance, name] = SELECTING.map(|key| labels.get(key).map_or("", String::as_str));
        Self(Digest::of(&[namespace, component, instance, name]))
    }
}

/// A pod of nodes or of NATS.
#[derive(Clone, Debug)]
pub struct KeptPod {
    /// What the decisions see, but for its Deployment and its endpoint.
    pub view: PodView,
    /// Its IP, once it has one.
    pub ip: Option<String>,
    /// The pod itself unless it is well: a pod that runs and is ready has nothing to tell.
    pub unwell: Option<Box<Pod>>,
    part: Part,
}

impl KeptPod {
    /// What is kept of a pod.
    #[must_use]
    pub fn of(pod: Pod) -> Self {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let view = PodView::of(&pod, "", None);
        Self {
            part: Part::labelled(namespace, pod.metadata.labels.as_ref().unwrap_or(&BTreeMap::new())),
            ip: pod.status.as_ref().and_then(|status| status.pod_ip.clone()).filter(|ip| !ip.is_empty()),
            unwell: (!is_well(&pod, &view)).then(|| Box::new(pod)),
            view,
        }
    }

    /// Whether its namespace and labels say that it is of this part of a fleet.
    #[must_use]
    pub fn is_of(&self, part: Part) -> bool {
        self.part == part
    }

    /// Whether it has ended for good.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.unwell.as_deref().is_some_and(has_ended)
    }
}

/// Whether it runs, is ready and stays: then no condition, container or annotation of it tells of any trouble.
fn is_well(pod: &Pod, view: &PodView) -> bool {
    let Some(status) = &pod.status else { return false };
    view.ready
        && !view.terminating
        && status.phase.as_deref() == Some("Running")
        && status.container_statuses.iter().flatten().all(|container| container.ready)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn kept(phase: &str, ready: &str, deleted: &Value) -> KeptPod {
        let labels = Names::new("chat").selector_labels(Component::Node);
        let meta = json!({"name": "a", "namespace": "n", "uid": "1", "labels": labels, "deletionTimestamp": deleted});
        let status =
            json!({"phase": phase, "podIP": "1.2.3.4", "conditions": [{"type": "Ready", "status": ready}]});
        KeptPod::of(serde_json::from_value(json!({"metadata": meta, "status": status})).unwrap())
    }

    #[test]
    fn of_a_pod_that_is_well_nothing_else_is_kept() {
        let well = kept("Running", "True", &Value::Null);
        assert!(well.unwell.is_none() && well.view.ready && !well.has_ended(), "{well:?}");
        assert_eq!(well.ip.as_deref(), Some("1.2.3.4"));
        for other in [
            kept("Running", "False", &Value::Null),
            kept("Pending", "False", &Value::Null),
            kept("Failed", "False", &Value::Null),
            kept("Running", "True", &json!("2026-01-01T00:00:00Z")),
        ] {
            assert!(other.unwell.is_some(), "{other:?}");
        }
        assert!(kept("Failed", "False", &Value::Null).has_ended());
    }

    #[test]
    fn a_pod_is_found_by_namespace_and_labels() {
        let (pod, chat) = (kept("Running", "True", &Value::Null), Names::new("chat"));
        assert!(pod.is_of(Part::of("n", &chat, Component::Node)));
        assert!(
            !pod.is_of(Part::of("m", &chat, Component::Node))
                && !pod.is_of(Part::of("n", &chat, Component::Nats))
        );
        assert!(!pod.is_of(Part::of("n", &Names::new("chatter"), Component::Node)));
        let keys: Vec<_> = chat.selector_labels(Component::Node).into_keys().collect();
        assert_eq!(keys, SELECTING, "all labels that select are compared");
    }
}
