//! Sysctls that a kubelet refused, and how the operator goes on without them.
//!
//! No API tells which sysctls a kubelet allows, and the scheduler does not know either: the pod fails with reason
//! `SysctlForbidden` and its ReplicaSet makes the next one at once, without end (kubernetes/kubernetes #72593). So a
//! refused sysctl is recorded in the status, where any later leader finds it, and left out of the pods from then on.
//! It is asked for again when `spec.tuning` changes. A sysctl that a serving node has stays: leaving it out would
//! replace that node.

use std::collections::BTreeSet;

use crds::{ChannelCluster, RefusedSysctls, Tuning};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;

use crate::hash::short_hash;
use crate::pod::PodView;
use crate::templates::Made;
use crate::timestamp::time;
use crate::tuning;

/// Reason of the pods, of the condition and of the Event.
pub const REASON: &str = "SysctlForbidden";
/// Most characters of a kubelet's words in the status.
const MAX_WORDS: usize = 160;

/// A pod that a kubelet rejected for a sysctl.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rejected {
    /// When it was made, in milliseconds by the API server's clock.
    pub created: u64,
    /// Hash of the template that it was made from, if that is known.
    pub template: Option<String>,
    /// What the kubelet said.
    pub message: String,
    /// Sysctls that it asked for.
    pub sysctls: Vec<String>,
}

/// A text that identifies a `spec.tuning`.
#[must_use]
pub fn key(tuning: &Tuning) -> String {
    short_hash(&serde_json::to_vec(tuning).unwrap_or_default())
}

/// Sysctls that the pods of this ChannelCluster are made without.
#[must_use]
pub fn left_out(cluster: &ChannelCluster) -> BTreeSet<String> {
    let recorded = cluster.status.as_ref().and_then(|status| status.refused_sysctls.as_ref());
    recorded
        .filter(|recorded| recorded.tuning == key(&cluster.spec.tuning))
        .map(|recorded| recorded.left_out.iter().cloned().collect())
        .unwrap_or_default()
}

/// The refusals to record. `tuning` is the [`key`] of the spec and `template` the hash of the template of
/// the pods that are made for it now; `serving` are the sysctls of the pods that are ready.
///
/// Rejected pods stay for long. Pods of another template do not count, nor do pods that were made before the spec was
/// last changed.
#[must_use]
pub fn step(
    previous: Option<&RefusedSysctls>,
    tuning: &str,
    template: &str,
    rejected: &[Rejected],
    serving: &BTreeSet<String>,
) -> Option<RefusedSysctls> {
    let mut next = match previous {
        Some(same) if same.tuning == tuning => same.clone(),
        Some(other) => {
            let newest = rejected.iter().map(|pod| pod.created).max().map(time);
            RefusedSysctls {
                tuning: tuning.to_owned(),
                after: newest.or_else(|| other.after.clone()),
                ..RefusedSysctls::default()
            }
        }
        None => RefusedSysctls { tuning: tuning.to_owned(), ..RefusedSysctls::default() },
    };
    for pod in rejected {
        let old = next.after.as_ref().is_some_and(|after| time(pod.created) <= *after);
        if old || pod.template.as_deref() != Some(template) {
            continue;
        }
        for name in blamed(pod) {
            if !next.names.contains(name) {
                next.names.push(name.clone());
                next.message = pod.message.chars().take(MAX_WORDS).collect();
            }
            if !next.left_out.contains(name) && !serving.contains(name) {
                next.left_out.push(name.clone());
            }
        }
    }
    (previous.is_some() || !next.names.is_empty()).then_some(next)
}

/// The rejection of a pod by a kubelet for a sysctl; none of a pod that was not rejected so. `template` is the hash of
/// the template of its Deployment.
#[must_use]
pub fn by_kubelet(pod: &Pod, template: Option<&str>) -> Option<Rejected> {
    let status = pod.status.as_ref()?;
    if status.phase.as_deref() != Some("Failed") || status.reason.as_deref() != Some(REASON) {
        return None;
    }
    let view = PodView::of(pod, "", None);
    Some(Rejected {
        created: view.created,
        template: template.map(str::to_owned),
        message: status.message.clone().unwrap_or_default(),
        sysctls: view.sysctls,
    })
}

/// Pods that admission refuses for a sysctl, as their Deployment tells it. The refusal comes from Pod Security
/// admission, whose lists of safe sysctls grow with the version that a namespace names, or from a policy of the
/// cluster's own.
#[must_use]
pub fn by_admission(deployment: &Deployment) -> Option<Rejected> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    let failure = conditions.iter().find(|c| c.type_ == "ReplicaFailure" && c.status == "True")?;
    let message = failure.message.clone().filter(|text| text.contains("sysctl"))?;
    let template = &deployment.spec.as_ref()?.template;
    let security = template.spec.as_ref()?.security_context.as_ref()?;
    let told = failure.last_update_time.as_ref().or(failure.last_transition_time.as_ref());
    Some(Rejected {
        created: told.map_or(0, |t| u64::try_from(t.0.as_millisecond()).unwrap_or_default()),
        template: Made::of(&deployment.metadata).template,
        sysctls: security.sysctls.iter().flatten().map(|sysctl| sysctl.name.clone()).collect(),
        message,
    })
}

/// The sysctls that the refusal names; all of them when it names none, so that the refusals come to an end. When it
/// names only sysctls that the pods do not have, its words are about an older template.
fn blamed(pod: &Rejected) -> Vec<&String> {
    let parts = pod.message.split(|c: char| !(c.is_ascii_alphanumeric() || "._-/".contains(c)));
    let words: BTreeSet<_> = parts.map(|word| word.trim_matches('.').replace('/', ".")).collect();
    let named: Vec<_> = pod.sysctls.iter().filter(|name| words.contains(*name)).collect();
    let of_another = words.iter().any(|word| tuning::is_namespaced(word));
    if named.is_empty() && !of_another { pod.sysctls.iter().collect() } else { named }
}

/// The part of Kubernetes that refuses, and what would make it allow the sysctl.
fn refuser(words: &str) -> (&'static str, &'static str) {
    if words.contains("PodSecurity") {
        (
            "Pod Security admission",
            "relax the namespace's labels pod-security.kubernetes.io/enforce and enforce-version",
        )
    } else if words.contains("denied") || words.contains("constraint") {
        ("an admission policy", "except these pods from it")
    } else {
        ("a kubelet", "list it in allowedUnsafeSysctls of the kubelets")
    }
}

/// One sentence with the remedy; none when nothing was refused.
#[must_use]
pub fn sentence(refused: &RefusedSysctls) -> Option<String> {
    if refused.names.is_empty() {
        return None;
    }
    let kept: Vec<_> = refused.names.iter().filter(|name| !refused.left_out.contains(name)).collect();
    let names = refused.names.join(", ");
    let words = &refused.message;
    let (who, allow) = refuser(words);
    let remedy = format!(
        "{allow} and change spec.tuning to have it asked for again, or remove it from tuning.sysctls"
    );
    Some(if kept.is_empty() {
        format!("{who} refuses {names} ({words}): nodes are made without it; {remedy}")
    } else {
        format!(
            "{who} refuses {names} ({words}): it stays where serving nodes have it; {remedy}, or keep the nodes on \
             other machines with nodes.nodeSelector"
        )
    })
}

#[cfg(test)]
mod tests;
