//! How objects are cut down when they are seen, before the next page of a list comes. **A field that is cut here reads as absent
//! everywhere.**

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Toleration};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use operator_core::names::MADE_WITH_ANNOTATION;

use crate::pending::Guarded;

/// Whether a label or an annotation is set by the operator or by a controller that works with its objects.
fn known_key(key: &str) -> bool {
    let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
    prefix == crds::GROUP
        || prefix == "kubernetes.io"
        || prefix.ends_with(".kubernetes.io")
        || key == "pod-template-hash"
}

fn meta(meta: &mut ObjectMeta) {
    meta.managed_fields = None;
    for map in [&mut meta.labels, &mut meta.annotations].into_iter().flatten() {
        let read = |key: &str| {
            key != "kubectl.kubernetes.io/last-applied-configuration" && key != MADE_WITH_ANNOTATION
        };
        map.retain(|key, _| known_key(key) && read(key));
    }
}

/// Drops what is long and not read here: each loop knows the status that it wrote itself, and a reconcile reads the condition
/// Stalled alone.
pub(crate) fn cluster(cluster: &mut Guarded) {
    cluster.meta_mut().managed_fields = None;
    if let Some(status) = cluster.0.as_mut().ok().and_then(|cluster| cluster.status.as_mut()) {
        (status.nodes, status.decisions, status.totals) = (Vec::new(), Vec::new(), None);
        status.conditions.retain(|condition| condition.type_ == "Stalled");
        status.conditions.shrink_to_fit();
    }
}

/// Keeps the count, the image of the first container, what the pods were made for, their sysctls, and the status.
pub(crate) fn deployment(deployment: &mut Deployment) {
    meta(&mut deployment.metadata);
    let Some(spec) = &mut deployment.spec else { return };
    spec.selector = Default::default();
    spec.template.metadata = None;
    let Some(pod) = spec.template.spec.take() else { return };
    let mut kept = PodSpec { security_context: pod.security_context, ..PodSpec::default() };
    if let Some(container) = pod.containers.into_iter().next() {
        kept.containers.push(Container {
            name: container.name,
            image: container.image,
            ..Default::default()
        });
    }
    spec.template.spec = Some(kept);
}

/// Keeps the machine, the sysctls, the readiness gates, what the pod tolerates by itself, and the status, which only the kubelet
/// and the control plane write.
pub(crate) fn pod(pod: &mut Pod) {
    meta(&mut pod.metadata);
    let Some(spec) = pod.spec.take() else { return };
    // Kubernetes adds the same two to each pod, for some minutes on a machine that is not ready.
    let own = |toleration: &Toleration| {
        toleration.effect.as_deref() != Some("NoExecute") || toleration.toleration_seconds.is_none()
    };
    let tolerations = spec.tolerations.map(|all| all.into_iter().filter(own).collect::<Vec<_>>());
    let kept = PodSpec {
        tolerations: tolerations.filter(|all| !all.is_empty()),
        node_name: spec.node_name,
        readiness_gates: spec.readiness_gates,
        security_context: spec.security_context,
        ..PodSpec::default()
    };
    pod.spec = Some(kept);
}

/// Keeps which pod each endpoint is, whether it is ready, and the Service.
pub(crate) fn slice(slice: &mut EndpointSlice) {
    meta(&mut slice.metadata);
    for endpoint in &mut slice.endpoints {
        let (conditions, target_ref) = (endpoint.conditions.take(), endpoint.target_ref.take());
        *endpoint = Endpoint { conditions, target_ref, ..Endpoint::default() };
    }
}

/// Keeps whose it is and which generation, of an object of which nothing else is read.
pub(crate) fn unread(object: &mut impl Resource) {
    let meta = object.meta_mut();
    (meta.managed_fields, meta.labels, meta.annotations) = (None, None, None);
}
