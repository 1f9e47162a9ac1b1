//! Pods that exist and do not become ready: what the scheduler, the kubelet and the container runtime say of them.

use k8s_openapi::api::core::v1::{
    ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, Pod, PodCondition,
};

use super::events;
use super::reason::{FleetPart, Hindrance, Reason, millis};
use super::said::{PREPARING, Said, condition, containers, image_field, memory, pull, user};
use crate::names::Component;
use crate::refused;
use crate::words::{short, tail};

/// A container that has run for so long and is not ready has a probe that fails, in milliseconds. Nodes and NATS are
/// ready within a few seconds of their start.
const UNREADY_MILLIS: u64 = 30_000;
/// A pod that failed tells of the present for so long, in milliseconds; its object may stay for days.
const FAILED_MILLIS: u64 = 120_000;
/// What hinders a pod; none if it is ready, ended well or goes.
pub(super) fn look(part: &FleetPart<'_>, pod: &Pod, now: u64) -> Option<Hindrance> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let Said(reason, words, remedy) = said(part, pod, now)?;
    let name = pod.metadata.name.clone().unwrap_or_default();
    Some(Hindrance { component: part.component, reason, pod: Some(name), words, remedy })
}

fn said(part: &FleetPart<'_>, pod: &Pod, now: u64) -> Option<Said> {
    let status = pod.status.as_ref()?;
    match status.phase.as_deref() {
        Some("Succeeded") => return None,
        Some("Failed") => return failed(pod, now),
        _ => {}
    }
    let ready = condition(pod, "Ready");
    if ready.is_some_and(|c| c.status == "True") {
        return None;
    }
    unscheduled(part.component, pod)
        .or_else(|| containers(pod).find_map(|one| container(part.component, one)))
        .or_else(|| events::prepared(part.component, pod, part.events, now))
        .or_else(|| lost(pod))
        .or_else(|| containers(pod).find_map(|one| unready(one, ready, now)))
}

/// A pod that a kubelet refused or evicted, as long as that tells of the present.
fn failed(pod: &Pod, now: u64) -> Option<Said> {
    let status = pod.status.as_ref()?;
    let conditions = status.conditions.iter().flatten();
    let changed = conditions.map(|c| millis(c.last_transition_time.as_ref())).max().unwrap_or_default();
    let since = changed.max(millis(pod.metadata.creation_timestamp.as_ref()));
    if now.saturating_sub(since) > FAILED_MILLIS {
        return None;
    }
    let words = short(status.message.as_deref().unwrap_or_default());
    let reason = status.reason.as_deref().unwrap_or_default();
    Some(match reason {
        refused::REASON => Said(
            Reason::SysctlForbidden,
            words,
            "list it in allowedUnsafeSysctls of the kubelets, or remove it from tuning.sysctls",
        ),
        "Evicted" => Said(
            Reason::Evicted,
            words,
            "the machine ran short of what is named: raise requests and limits in nodes.resources, or relieve the machine",
        ),
        // A machine that shuts down, or a pod of higher priority that takes the place, gives these reasons; the next
        // pod is under way.
        "Terminated" | "NodeShutdown" | "Preempting" | "" => return None,
        _ => Said(
            Reason::RejectedByMachine,
            format!("{}: {words}", short(reason)),
            "look at the machine, or keep the nodes on others with nodes.nodeSelector",
        ),
    })
}

fn unscheduled(component: Component, pod: &Pod) -> Option<Said> {
    let scheduled = condition(pod, "PodScheduled").filter(|c| c.status == "False")?;
    let message = scheduled.message.as_deref().unwrap_or_default();
    if scheduled.reason.as_deref() == Some("SchedulingGated") {
        return Some(Said(
            Reason::SchedulingGated,
            short(message),
            "whoever added the scheduling gate has to remove it",
        ));
    }
    // The words after this one say why evicting other pods would not help.
    let message = message.split(" preemption:").next().unwrap_or_default();
    Some(Said(Reason::Unschedulable, short(message), room(component, message)))
}

/// The remedy for what the scheduler misses.
fn room(component: Component, message: &str) -> &'static str {
    let says = |words: &str| message.contains(words);
    let nats = component == Component::Nats;
    if says("Insufficient") && nats {
        "lower backplane.resources, or add machines"
    } else if says("Insufficient") {
        "lower nodes.resources, or add machines"
    } else if says("node affinity/selector") || says("node selector") {
        "change nodes.nodeSelector or nodes.affinity, or label a machine so"
    } else if says("untolerated taint") {
        "add the taint to nodes.tolerations, or remove it from a machine"
    } else if says("anti-affinity") || says("pod affinity") || says("topology spread") {
        "change nodes.affinity or the topology spread, or add machines"
    } else if says("Too many pods") {
        "add machines, or allow more pods on them"
    } else if says("unschedulable") {
        "uncordon a machine, or add machines"
    } else if says("no nodes available") || says("0/0 nodes") {
        "the cluster has no machine: add one"
    } else {
        "add a machine that fits, or ask for less in nodes"
    }
}

fn container(component: Component, one: &ContainerStatus) -> Option<Said> {
    let state = one.state.as_ref()?;
    if let Some(waiting) = &state.waiting
        && let Some(said) = waits(one, waiting, component)
    {
        return Some(said);
    }
    // Between two attempts, and in the moments in which the container runs, its last end counts.
    let last = one.last_state.as_ref().and_then(|last| last.terminated.as_ref());
    let ended = state.terminated.as_ref().or(last.filter(|_| !one.ready && one.restart_count > 0))?;
    (ended.exit_code != 0 || one.restart_count > 0).then(|| crashed(component, ended))
}

/// What a container waits for, if it waits for something that will not come by itself.
fn waits(one: &ContainerStatus, waiting: &ContainerStateWaiting, component: Component) -> Option<Said> {
    let reason = waiting.reason.as_deref().unwrap_or_default();
    let words = waiting.message.as_deref().unwrap_or_default();
    Some(match reason {
        reason if PREPARING.contains(&reason) || reason.is_empty() => return None,
        "CrashLoopBackOff" => {
            let last = one.last_state.as_ref()?.terminated.as_ref()?;
            crashed(component, last)
        }
        "InvalidImageName" => Said(Reason::InvalidImageName, image(one, words), image_field(component)),
        "ErrImageNeverPull" => Said(
            Reason::ImagePullFailed,
            image(one, words),
            "load the image on the machine, or let it be pulled",
        ),
        "ErrImagePull"
        | "ImagePullBackOff"
        | "ImageInspectError"
        | "RegistryUnavailable"
        | "SignatureValidationFailed" => Said(Reason::ImagePullFailed, image(one, words), pull(component)),
        "CreateContainerConfigError" if words.contains("runAsNonRoot") || words.contains("non-root") => {
            Said(Reason::ContainerConfigError, short(words), user(component))
        }
        "CreateContainerConfigError" => Said(
            Reason::ContainerConfigError,
            short(words),
            "create the Secret, ConfigMap or key that is named, or change what the spec asks of the container",
        ),
        _ if words.contains("OOM") => Said(Reason::OutOfMemory, short(words), memory(component)),
        _ => Said(
            Reason::ContainerStartFailed,
            format!("{}: {}", short(reason), short(words)),
            "look at the image and at the container runtime of the machine",
        ),
    })
}

/// The image and why it is not there. While the kubelet waits between two attempts it may say no more than that.
fn image(one: &ContainerStatus, words: &str) -> String {
    let image = short(&one.image);
    let why = words.strip_prefix("Back-off pulling image").and_then(|rest| rest.split_once("\": "));
    let why = why.map_or(words, |(_, why)| why);
    if why.is_empty() || why.starts_with("Back-off") { image } else { format!("{image}: {}", short(why)) }
}

fn crashed(component: Component, ended: &ContainerStateTerminated) -> Said {
    let reason = ended.reason.as_deref().unwrap_or_default();
    let last = ended.message.as_deref().filter(|text| !text.trim().is_empty());
    let code = format!("exit code {}", ended.exit_code);
    let words = match last {
        Some(last) => format!("{code}, {}", tail(last)),
        None => code,
    };
    match reason {
        "OOMKilled" => Said(Reason::OutOfMemory, words, memory(component)),
        "StartError" | "ContainerCannotRun" if last.is_some_and(|text| text.contains("OOM")) => {
            Said(Reason::OutOfMemory, words, memory(component))
        }
        "StartError" | "ContainerCannotRun" => Said(
            Reason::ContainerStartFailed,
            words,
            "look at the image and at the container runtime of the machine",
        ),
        _ => Said(Reason::CrashLoop, words, "look at its log with kubectl logs --previous"),
    }
}

/// A machine that does not answer. The node controller marks its pods as not ready and changes nothing else of them.
fn lost(pod: &Pod) -> Option<Said> {
    let containers = condition(pod, "ContainersReady").is_some_and(|c| c.status == "True");
    let ready = condition(pod, "Ready").is_some_and(|c| c.status == "False");
    let gates = pod.spec.as_ref().is_some_and(|spec| spec.readiness_gates.is_some());
    let machine = pod.spec.as_ref().and_then(|spec| spec.node_name.clone())?;
    (containers && ready && !gates).then(|| {
        Said(Reason::MachineLost, short(&machine), "look at that machine, or remove it from the cluster")
    })
}

fn unready(one: &ContainerStatus, ready: Option<&PodCondition>, now: u64) -> Option<Said> {
    let running = one.state.as_ref()?.running.as_ref()?;
    let since = millis(running.started_at.as_ref());
    let turned = ready.map_or(0, |c| millis(c.last_transition_time.as_ref()));
    let long = now.saturating_sub(since.max(turned)) >= UNREADY_MILLIS;
    (!one.ready && long).then(|| {
        Said(
            Reason::ProbeFailing,
            format!("container {} fails its probe", one.name),
            "look at its log, and at the Events of the pod",
        )
    })
}
