//! Machines that are about to go, as the Nodes of Kubernetes and evictions from them say.
//!
//! | what is seen | what it means |
//! |---|---|
//! | a taint of [`GOING`], or one with the effect NoExecute, that the pod does not tolerate for good | the machine goes |
//! | a condition of [`NOTICES`] that is True, a kubelet that says that its machine shuts down | it goes soon |
//! | not ready for [`LOST_MILLIS`], while most machines are ready | it goes |
//! | a cordon, and a node of the fleet that was evicted from it | somebody drains it: it goes |
//! | a cordon alone, a taint of [`MAY_GO`] | it may go: its nodes go first where fewer are wanted |
//!
//! A pod that tolerates a taint might be replaced on the very same machine, so such a taint says nothing about it.

use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint, Toleration};

/// Taints of machines that are about to go, by whom; a key that ends with `/` stands for all keys that begin with it. The words
/// are those of the projects named, except the last key, which is for people.
pub const GOING: [(&str, Haste); 9] = [
    ("ToBeDeletedByClusterAutoscaler", Haste::Normal),
    ("karpenter.sh/disrupted", Haste::Normal),
    ("karpenter.sh/disruption", Haste::Normal), // Karpenter before 1.0
    ("aws-node-termination-handler/spot-itn", Haste::Soon),
    ("aws-node-termination-handler/", Haste::Normal),
    ("cloud.google.com/impending-node-termination", Haste::Soon),
    ("cloudprovider.azure.microsoft.com/draining", Haste::Soon),
    ("node.cloudprovider.kubernetes.io/shutdown", Haste::Soon),
    (DRAIN_TAINT, Haste::Normal),
];
/// The taint by which a person lets a machine be emptied of nodes before it is drained.
pub const DRAIN_TAINT: &str = "channelcluster.io/drain";
/// Conditions of a Node that announce its end: scheduled events of Azure, as node-problem-detector tells them there.
pub const NOTICES: [&str; 4] =
    ["PreemptScheduled", "TerminateScheduled", "RedeployScheduled", "RebootScheduled"];
/// Taints of machines that may go: the cluster autoscaler's candidates.
pub const MAY_GO: [&str; 1] = ["DeletionCandidateOfClusterAutoscaler"];
/// A machine that has not been ready for so long counts as one that goes, in milliseconds: Kubernetes waits 40 s before it calls
/// it so, and evicts pods 300 s later.
pub const LOST_MILLIS: u64 = 60_000;
/// Where more machines than these percent are not ready, the fault is rather between them and the control plane, and none of
/// them counts as lost. Kubernetes evicts nothing then (`--unhealthy-zone-threshold`).
const MANY_LOST_PERCENT: usize = 55;
/// Keys of the taints by which Kubernetes says that a machine is not ready; [`LOST_MILLIS`] is about that.
const NOT_READY: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
/// What a kubelet says of a machine that shuts down (`pkg/kubelet/nodeshutdown`).
const SHUTS_DOWN: &str = "node is shutting down";

/// How much time a machine leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// Evictions are asked for, and a disruption budget holds them for minutes.
    Normal,
    /// It is gone within two minutes or less.
    Soon,
}

/// What becomes of a pod's machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// It is not known: machines are not seen, or the pod has none.
    #[default]
    Unknown,
    /// It stays.
    Stays,
    /// It may go.
    MayGo,
    /// It is about to go.
    Goes(Doom),
}

/// Why a machine is about to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doom {
    /// What says so: a part of a sentence with the machine's name and without figures.
    pub why: String,
    /// How much time there is.
    pub haste: Haste,
}

/// What is read of a Node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MachineView {
    /// Whether nothing more is scheduled on it.
    pub cordoned: bool,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// Since when it has not been ready, in milliseconds since 1970; none while it is.
    pub lost_since: Option<u64>,
    /// What it says of its end: a condition, or that it shuts down.
    pub notice: Option<String>,
}

impl MachineView {
    /// Reads a Node.
    #[must_use]
    pub fn of(node: &Node) -> Self {
        let spec = node.spec.as_ref();
        let conditions = || node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let ready = conditions().find(|condition| condition.type_ == "Ready");
        let announced = conditions().find(|condition| is_notice(condition));
        let ends = ready.is_some_and(|ready| {
            ready.status != "True" && ready.message.as_ref().is_some_and(|said| said.contains(SHUTS_DOWN))
        });
        let since = |condition: &NodeCondition| {
            let at = condition.last_transition_time.as_ref().map_or(0, |time| time.0.as_millisecond());
            u64::try_from(at).unwrap_or_default()
        };
        Self {
            cordoned: spec.and_then(|spec| spec.unschedulable).unwrap_or_default(),
            taints: spec.and_then(|spec| spec.taints.clone()).unwrap_or_default(),
            lost_since: ready.filter(|ready| ready.status != "True").map(since),
            notice: match announced {
                Some(condition) => Some(format!("has the condition {}", condition.type_)),
                None => ends.then(|| "shuts down".to_owned()),
            },
        }
    }

    /// What becomes of the machine of this name, for a pod that tolerates these taints. `drained` says that a node of the fleet was
    /// evicted from it, `many_lost` whether so many machines are not ready that none counts as lost.
    #[must_use]
    pub fn fate(
        &self,
        name: &str,
        tolerations: &[Toleration],
        drained: bool,
        many_lost: impl Fn() -> bool,
        now: u64,
    ) -> Fate {
        let goes = |what: &str, haste| Fate::Goes(Doom { why: format!("machine {name} {what}"), haste });
        if let Some(notice) = &self.notice {
            return goes(notice, Haste::Soon);
        }
        let counts = |taint: &&Taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint));
        let tainted = self.taints.iter().filter(counts).filter_map(|taint| Some((taint, haste(taint)?)));
        let most = tainted.max_by_key(|(_, haste)| *haste == Haste::Soon);
        if let Some((taint, haste)) = most {
            return goes(&format!("has the taint {}:{}", taint.key, taint.effect), haste);
        }
        let lost = self.lost_since.is_some_and(|since| now.saturating_sub(since) >= LOST_MILLIS);
        if lost && !many_lost() {
            return goes("is not ready", Haste::Normal);
        }
        if self.cordoned && drained {
            return goes("is cordoned and its pods are evicted", Haste::Normal);
        }
        let candidate = |taint: &Taint| MAY_GO.contains(&taint.key.as_str());
        if self.cordoned || self.taints.iter().any(candidate) { Fate::MayGo } else { Fate::Stays }
    }
}

fn is_notice(condition: &NodeCondition) -> bool {
    condition.status == "True" && NOTICES.contains(&condition.type_.as_str())
}

/// Whether a condition of a Node of this type is read here.
#[must_use]
pub fn is_read(condition: &str) -> bool {
    condition == "Ready" || NOTICES.contains(&condition)
}

/// Whether so many of all machines are not ready that the fault is hardly theirs.
#[must_use]
pub const fn many_lost(lost: usize, all: usize) -> bool {
    lost * 100 > all * MANY_LOST_PERCENT
}

/// How much time a taint leaves; none for a taint that says nothing of the machine's end.
fn haste(taint: &Taint) -> Option<Haste> {
    let is = |known: &str| taint.key == known || (known.ends_with('/') && taint.key.starts_with(known));
    let known = GOING.iter().find(|(key, _)| is(key)).map(|(_, haste)| *haste);
    let evicts = taint.effect == "NoExecute" && !NOT_READY.contains(&taint.key.as_str());
    known.or_else(|| evicts.then_some(Haste::Soon))
}

/// Whether a toleration lets a pod stay beside a taint for good (`ToleratesTaint` of k8s.io/api/core/v1).
fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let empty = |text: &Option<String>| text.as_ref().is_none_or(String::is_empty);
    let effect = empty(&toleration.effect) || toleration.effect.as_ref() == Some(&taint.effect);
    let key = toleration.key.as_ref() == Some(&taint.key);
    let value = match toleration.operator.as_deref() {
        Some("Exists") => return for_good(toleration) && effect && (empty(&toleration.key) || key),
        None | Some("" | "Equal") => {
            toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
        }
        Some(_) => false,
    };
    for_good(toleration) && effect && key && value
}

fn for_good(toleration: &Toleration) -> bool {
    toleration.toleration_seconds.is_none()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn node(spec: &Value, conditions: &Value) -> MachineView {
        let node = json!({"metadata": {"name": "m"}, "spec": spec, "status": {"conditions": conditions}});
        MachineView::of(&serde_json::from_value(node).unwrap())
    }

    fn ready() -> Value {
        json!([{"type": "Ready", "status": "True"}])
    }

    fn tainted(key: &str, effect: &str) -> MachineView {
        node(&json!({"taints": [{"key": key, "value": "v", "effect": effect}]}), &ready())
    }

    fn tolerates(tolerations: Value) -> Vec<Toleration> {
        serde_json::from_value(tolerations).unwrap()
    }

    fn fate(machine: &MachineView, tolerations: &[Toleration]) -> Fate {
        machine.fate("m", tolerations, false, || false, NOW)
    }

    fn goes(fate: &Fate) -> Option<(&str, Haste)> {
        match fate {
            Fate::Goes(doom) => Some((&doom.why, doom.haste)),
            _ => None,
        }
    }

    #[test]
    fn known_taints_and_all_that_evict_say_that_a_machine_goes() {
        let own = tolerates(json!([]));
        for (key, effect, haste) in [
            ("ToBeDeletedByClusterAutoscaler", "NoSchedule", Haste::Normal),
            ("karpenter.sh/disrupted", "NoSchedule", Haste::Normal),
            ("aws-node-termination-handler/asg-lifecycle-termination", "NoSchedule", Haste::Normal),
            ("aws-node-termination-handler/spot-itn", "NoSchedule", Haste::Soon),
            ("cloud.google.com/impending-node-termination", "NoSchedule", Haste::Soon),
            ("node.kubernetes.io/out-of-service", "NoExecute", Haste::Soon),
            ("anybodys/key", "NoExecute", Haste::Soon),
            (DRAIN_TAINT, "PreferNoSchedule", Haste::Normal),
        ] {
            let seen = fate(&tainted(key, effect), &own);
            let said = format!("machine m has the taint {key}:{effect}");
            assert_eq!(goes(&seen), Some((said.as_str(), haste)), "{key}");
        }
        for (key, effect) in [
            ("anybodys/key", "NoSchedule"),
            ("node.kubernetes.io/memory-pressure", "NoSchedule"),
            ("node.kubernetes.io/unreachable", "NoExecute"),
        ] {
            assert_eq!(fate(&tainted(key, effect), &own), Fate::Stays, "{key}");
        }
        let candidate = tainted("DeletionCandidateOfClusterAutoscaler", "PreferNoSchedule");
        assert_eq!(fate(&candidate, &own), Fate::MayGo);
    }

    #[test]
    fn a_taint_that_is_tolerated_for_good_says_nothing() {
        let machine = tainted("k", "NoExecute");
        for (tolerations, stays) in [
            (json!([{"operator": "Exists"}]), true),
            (json!([{"key": "k", "operator": "Exists", "effect": "NoExecute"}]), true),
            (json!([{"key": "k", "value": "v"}]), true),
            (
                json!([{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}]),
                false,
            ),
            (json!([{"key": "k", "operator": "Exists", "effect": "NoSchedule"}]), false),
            (json!([{"key": "k", "value": "other"}]), false),
            (json!([{"key": "other", "operator": "Exists"}]), false),
            (json!([{"key": "k", "operator": "Gt", "value": "v"}]), false),
        ] {
            let seen = fate(&machine, &tolerates(tolerations.clone()));
            assert_eq!(seen == Fate::Stays, stays, "{tolerations}: {seen:?}");
        }
    }

    #[test]
    fn a_machine_that_is_not_ready_is_lost_after_a_minute_unless_most_are() {
        let at = |ago: u64| {
            let since = crate::timestamp::time(NOW - ago);
            json!([{"type": "Ready", "status": "Unknown", "lastTransitionTime": since}])
        };
        let (lost, flaps) = (node(&json!({}), &at(LOST_MILLIS)), node(&json!({}), &at(LOST_MILLIS - 1_000)));
        let own = tolerates(json!([]));
        assert_eq!(goes(&fate(&lost, &own)), Some(("machine m is not ready", Haste::Normal)));
        assert_eq!(fate(&flaps, &own), Fate::Stays);
        assert_eq!(lost.fate("m", &own, false, || true, NOW), Fate::Stays);
        assert!(!many_lost(1, 2) && many_lost(1, 1) && many_lost(6, 10) && !many_lost(5, 10));
        let ends = json!([{"type": "Ready", "status": "False", "message": "[node is shutting down]"}]);
        assert_eq!(goes(&fate(&node(&json!({}), &ends), &own)), Some(("machine m shuts down", Haste::Soon)));
        let notice =
            json!([{"type": "Ready", "status": "True"}, {"type": "PreemptScheduled", "status": "True"}]);
        let seen = fate(&node(&json!({}), &notice), &own);
        assert_eq!(goes(&seen), Some(("machine m has the condition PreemptScheduled", Haste::Soon)));
        let quiet = json!([{"type": "PreemptScheduled", "status": "False"}]);
        assert_eq!(fate(&node(&json!({}), &quiet), &own), Fate::Stays);
    }
}
