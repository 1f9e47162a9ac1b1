//! A pod that tries sysctls, as it is seen.

use k8s_openapi::api::core::v1::{Pod, PodCondition};

use crate::hash::short_hash;
use crate::pod::{PodView, has_ended};
use crate::refused;

/// Label of such a pod with the [`key`] of what it tries.
pub const PROBE_LABEL: &str = "channelcluster.io/sysctl-probe";
/// Annotation of such a pod with the name of its pool.
pub(crate) const POOL_ANNOTATION: &str = "channelcluster.io/pool";

/// What a probe tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing yet, for this reason.
    Waits(String),
    /// No machine of its pool takes it, in the scheduler's words.
    Unplaced(String),
    /// Its kubelet gave it a network, so the sysctls are set.
    Taken,
    /// Its kubelet or admission refuses the sysctls, in their words.
    Forbidden(String),
    /// It ended before it told anything, for this reason: another one is to be made.
    Ended(String),
}

/// A probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbePod {
    /// Its name; none when it could not be made.
    pub name: Option<String>,
    /// Name of the pool that it is for.
    pub pool: String,
    /// What it tries.
    pub key: String,
    /// When it was made, in milliseconds by the API server's clock.
    pub created: u64,
    /// What it tells.
    pub answer: Answer,
}

/// What identifies sysctls that are tried together.
#[must_use]
pub fn key(tuning: &str, names: &[String]) -> String {
    short_hash(format!("{tuning} {}", names.join(" ")).as_bytes())
}

impl ProbePod {
    /// Reads a pod; none when it is no probe, or goes already.
    #[must_use]
    pub fn of(pod: &Pod) -> Option<Self> {
        let meta = &pod.metadata;
        if meta.deletion_timestamp.is_some() {
            return None;
        }
        let pool = meta.annotations.as_ref()?.get(POOL_ANNOTATION)?.clone();
        let key = meta.labels.as_ref()?.get(PROBE_LABEL)?.clone();
        let created = PodView::of(pod, "", None).created;
        Some(Self { name: meta.name.clone(), pool, key, created, answer: answer(pod) })
    }

    /// One that tries these sysctls and could not be made, with the API server's words.
    #[must_use]
    pub fn refused(pool: String, key: String, names: &[String], words: &str, now: u64) -> Self {
        let words = words.to_owned();
        // Pod Security admission and policies name the sysctl; a quota or a webhook that is away does not, though they may name the
        // pod.
        let about =
            words.contains("forbidden sysctl") || names.iter().any(|name| words.contains(name.as_str()));
        let answer = if about { Answer::Forbidden(words) } else { Answer::Waits(words) };
        Self { name: None, pool, key, created: now, answer }
    }
}

fn answer(pod: &Pod) -> Answer {
    if let Some(rejected) = refused::by_kubelet(pod, None) {
        return Answer::Forbidden(rejected.message);
    }
    let Some(status) = &pod.status else { return Answer::Waits(String::new()) };
    // The kubelet sets the sysctls of a pod when it makes its network, before any container starts.
    if status.pod_ip.as_ref().is_some_and(|ip| !ip.is_empty()) {
        return Answer::Taken;
    }
    if has_ended(pod) {
        return Answer::Ended(status.reason.clone().or_else(|| status.message.clone()).unwrap_or_default());
    }
    let conditions = || status.conditions.iter().flatten();
    let unplaced =
        |condition: &&PodCondition| condition.type_ == "PodScheduled" && condition.status == "False";
    if let Some(condition) = conditions().find(unplaced) {
        return Answer::Unplaced(condition.message.clone().unwrap_or_default());
    }
    let waiting = status
        .container_statuses
        .iter()
        .flatten()
        .find_map(|container| container.state.as_ref()?.waiting.as_ref()?.reason.clone());
    Answer::Waits(
        waiting.or_else(|| status.message.clone()).or_else(|| status.phase.clone()).unwrap_or_default(),
    )
}
