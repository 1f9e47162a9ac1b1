//! Settings of the manifest about pods beyond a node's needs: the managed NATS' own shape, environments, and images
//! that the cluster's administrator allows.

use std::collections::BTreeMap;

use crds::{ChannelClusterSpec, PodOptions, RESERVED_ENV};
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::context::{OperatorEnv, Problem, not_ours};
use super::value::NatsPod;

/// The pods of the managed NATS. Before `backplane` had fields for it, NATS went to the machines and tolerated the
/// taints of the nodes; without those fields it still does.
pub(super) fn nats(spec: &ChannelClusterSpec, problems: &mut Vec<Problem>) -> NatsPod {
    let (own, nodes) = (&spec.backplane, &spec.nodes);
    let own_keys = |map: &Option<BTreeMap<String, String>>, field: &str, problems: &mut Vec<Problem>| {
        map.as_ref().map(|map| not_ours(map, field, problems)).unwrap_or_default()
    };
    check_env(&nodes.pod, "nodes.env", problems);
    check_env(&own.pod, "backplane.env", problems);
    NatsPod {
        resources: own.resources.clone().unwrap_or_else(default_resources),
        node_selector: own.node_selector.as_ref().unwrap_or(&nodes.node_selector).clone(),
        tolerations: own.tolerations.as_ref().unwrap_or(&nodes.tolerations).clone(),
        affinity: own.affinity.clone(),
        labels: own_keys(&own.pod_labels, "backplane.podLabels", problems),
        annotations: own_keys(&own.pod_annotations, "backplane.podAnnotations", problems),
        options: own.pod.clone(),
    }
}

/// A server without storage for a small fleet; no limits, because a NATS that is killed costs messages.
fn default_resources() -> ResourceRequirements {
    let amount = |text: &str| Quantity(text.to_owned());
    let requests = [("cpu".to_owned(), amount("50m")), ("memory".to_owned(), amount("64Mi"))];
    ResourceRequirements { requests: Some(BTreeMap::from(requests)), ..Default::default() }
}

/// Refuses variables that the operator sets: with another value in one a node would take itself for another node.
fn check_env(options: &PodOptions, field: &str, problems: &mut Vec<Problem>) {
    for variable in options.env.iter().flatten().filter(|v| RESERVED_ENV.contains(&v.name.as_str())) {
        problems.push(Problem::new(
            "ReservedKey",
            format!(
                "{field} must not set {}, which the operator sets itself: choose another name",
                variable.name
            ),
        ));
    }
}

/// The image that pods get: the one that the manifest names, else the one that they have, else the operator's own. An
/// image that is not allowed is refused if the manifest names it, and replaced if pods have it.
pub(super) fn image(
    wanted: Option<&String>,
    kept: Option<&String>,
    own: &str,
    env: &OperatorEnv,
    field: &str,
    problems: &mut Vec<Problem>,
) -> String {
    if let Some(wanted) = wanted {
        if !is_allowed(wanted, own, &env.allowed_images) {
            problems.push(Problem::new(
                "ImageNotAllowed",
                format!(
                    "{field} {wanted:?} is none of the images that this operator may run: choose one that matches {}, leave \
                     it out, or have allowedImages of the operator's chart changed",
                    env.allowed_images.join(", ")
                ),
            ));
        }
        return wanted.clone();
    }
    kept.filter(|kept| is_allowed(kept, own, &env.allowed_images))
        .map_or_else(|| own.to_owned(), Clone::clone)
}

/// Whether an image matches one of the patterns, an exact text or a beginning followed by `*`; none means all. The
/// operator's own repository is always allowed, so that an upgrade restarts nothing.
fn is_allowed(image: &str, own: &str, patterns: &[String]) -> bool {
    let matches = |pattern: &String| match pattern.strip_suffix('*') {
        Some(beginning) => image.starts_with(beginning),
        None => image == pattern,
    };
    patterns.is_empty() || repository(image) == repository(own) || patterns.iter().any(matches)
}

/// An image without its tag and digest. A colon before the last slash is that of a registry's port.
fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or(image);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::{is_allowed, repository};

    #[test]
    fn an_image_is_allowed_by_text_by_beginning_or_as_the_operators_own() {
        let patterns = ["registry.example/rt/*".to_owned(), "node:2".to_owned()];
        for good in ["registry.example/rt/node:1", "node:2", "own:5000/node:old", "own:5000/node@sha256:ab"] {
            assert!(is_allowed(good, "own:5000/node:new", &patterns), "{good}");
        }
        for bad in ["registry.example/rt", "registry.example.evil/rt/x", "node:22", "own:5000/node2:x", "own"]
        {
            assert!(!is_allowed(bad, "own:5000/node:new", &patterns), "{bad}");
        }
        assert!(is_allowed("anything", "own", &[]));
        assert_eq!(repository("host:5000/a/b"), "host:5000/a/b");
    }
}
