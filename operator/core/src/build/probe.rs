//! A pod that tries on one pool of machines whether its kubelet takes a fleet's unsafe sysctls.

use k8s_openapi::api::core::v1::{
    Affinity, Container, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec,
    ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::meta::owner;
use super::{deployment, shape};
use crate::names::NODE_CONTAINER;
use crate::sysctl_probes::{POOL_ANNOTATION, PROBE_LABEL, Pool, Wish, pod_name};
use crate::validate::ValidatedCluster;

/// Longest life of such a pod in seconds; the operator deletes it as soon as it has shown what it can.
const LONGEST_SECONDS: i64 = 300;

/// The pod that tries the sysctls of `cluster`, which has this wish, on `pool`. It goes where a node of the fleet may go and has the security context of
/// one, and it mounts nothing, so that it can be made before anything else of the fleet.
#[must_use]
pub fn probe(cluster: &ValidatedCluster, wish: &Wish<'_>, pool: &Pool) -> Pod {
    let PodSpec {
        security_context,
        node_selector,
        tolerations,
        affinity,
        image_pull_secrets,
        priority_class_name,
        runtime_class_name,
        ..
    } = deployment::pod_spec(cluster);
    let mut security = security_context.unwrap_or_default();
    security.sysctls = Some(deployment::sysctls(&cluster.pod.all_sysctls()));
    let key = wish.key();
    let mut annotations = cluster.pod.annotations.clone();
    annotations.insert(POOL_ANNOTATION.to_owned(), pool.name());
    let mut labels = cluster.pod.labels.clone();
    labels.extend(cluster.names.probe_labels());
    labels.insert(PROBE_LABEL.to_owned(), key.clone());
    Pod {
        metadata: ObjectMeta {
            name: Some(pod_name(&cluster.name, &key, pool)),
            namespace: Some(cluster.namespace.clone()),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![owner(cluster)]),
            ..Default::default()
        },
        spec: Some(PodSpec {
            // Rights to use sysctls may be a named account's; the nodes' own account is not there yet.
            service_account_name: cluster.pod.options.service_account_name.clone(),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            restart_policy: Some("Never".to_owned()),
            active_deadline_seconds: Some(LONGEST_SECONDS),
            termination_grace_period_seconds: Some(0),
            security_context: Some(security),
            affinity: on(pool, affinity),
            containers: vec![container(cluster)],
            node_selector,
            tolerations,
            image_pull_secrets,
            priority_class_name,
            runtime_class_name,
            ..Default::default()
        }),
        status: None,
    }
}

/// A container that says its version and ends.
fn container(cluster: &ValidatedCluster) -> Container {
    let amounts = |cpu: &str, memory: &str| {
        let amount = |(name, text): (&str, &str)| (name.to_owned(), Quantity(text.to_owned()));
        Some([("cpu", cpu), ("memory", memory)].map(amount).into())
    };
    Container {
        name: NODE_CONTAINER.to_owned(),
        image: Some(cluster.pod.image.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        args: Some(vec!["--version".to_owned()]),
        // Both are given, for namespaces whose quota asks for them.
        resources: Some(ResourceRequirements {
            requests: amounts("1m", "16Mi"),
            limits: amounts("100m", "64Mi"),
            ..Default::default()
        }),
        security_context: Some(shape::container_security(&cluster.pod.options)),
        ..Default::default()
    }
}

/// The affinity with the pool as a condition more.
fn on(pool: &Pool, affinity: Option<Affinity>) -> Option<Affinity> {
    let is = |key: &str, value: &str| NodeSelectorRequirement {
        key: key.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![value.to_owned()]),
    };
    let (by_label, by_field) = match pool {
        Pool::Labelled(key, value) => (Some(is(key, value)), None),
        Pool::Machine(name) => (None, Some(is("metadata.name", name))),
        Pool::Any => return affinity,
    };
    let mut affinity = affinity.unwrap_or_default();
    let nodes = affinity.node_affinity.get_or_insert_with(NodeAffinity::default);
    let required =
        nodes.required_during_scheduling_ignored_during_execution.get_or_insert_with(NodeSelector::default);
    // One of the terms has to hold, so the pool is a condition of each.
    if required.node_selector_terms.is_empty() {
        required.node_selector_terms.push(NodeSelectorTerm::default());
    }
    for term in &mut required.node_selector_terms {
        term.match_expressions.get_or_insert_default().extend(by_label.clone());
        term.match_fields.get_or_insert_default().extend(by_field.clone());
    }
    Some(affinity)
}
