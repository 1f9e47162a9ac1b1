//! Events about pods that have a machine and no container yet. Nothing but Events tells of volumes, the sandbox and
//! the network. Of an image or a container the kubelet tells in an Event at once, and in the container's state when
//! it looks at the pod again: mostly within a second, at the latest after 15 s (`backOffPeriod` in
//! `pkg/kubelet/kubelet.go` of Kubernetes, and its jitter).

use k8s_openapi::api::core::v1::{Event, Pod};

use super::reason::{Reason, millis};
use super::said::{PREPARING, Said, condition, containers, image_field, memory, pull, user};
use crate::names::Component;
use crate::words::short;

/// The Events of a pod are read once it has had a machine, and no container yet, for so long, in milliseconds.
const CREATING_MILLIS: u64 = 1_000;
/// Steps of a kubelet. Each of them means that the kubelet is past what it warned of before.
const STEPS: [&str; 4] = ["Pulling", "Pulled", "Created", "Started"];

/// Whether a pod has a machine and waits there for its volumes, its network, its image or its container.
#[must_use]
pub fn waits_for_machine(pod: &Pod, now: u64) -> bool {
    let scheduled = condition(pod, "PodScheduled").filter(|c| c.status == "True");
    let Some(scheduled) = scheduled else { return false };
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    let long = now.saturating_sub(millis(scheduled.last_transition_time.as_ref())) >= CREATING_MILLIS;
    let preparing = containers(pod).all(|one| {
        let waiting = one.state.as_ref().and_then(|state| state.waiting.as_ref());
        waiting.is_some_and(|w| PREPARING.contains(&w.reason.as_deref().unwrap_or_default()))
    });
    phase == Some("Pending") && long && preparing && pod.metadata.deletion_timestamp.is_none()
}

/// The last warning about a pod that waits on its machine, if the kubelet has come no further since.
pub(super) fn prepared(component: Component, pod: &Pod, events: &[Event], now: u64) -> Option<Said> {
    if !waits_for_machine(pod, now) {
        return None;
    }
    let about = events.iter().filter(|event| event.involved_object.uid == pod.metadata.uid);
    let told = about.filter_map(|event| {
        let said = warned(component, event);
        let step = STEPS.contains(&event.reason.as_deref().unwrap_or_default());
        // Times have whole seconds: when a step and a warning have the same second, the step counts as the first.
        (step || said.is_some()).then(|| ((at(event), said.is_some()), said))
    });
    told.max_by_key(|(when, _)| *when).and_then(|(_, said)| said)
}

/// What a warning means.
fn warned(component: Component, event: &Event) -> Option<Said> {
    if event.type_.as_deref() != Some("Warning") {
        return None;
    }
    let message = event.message.as_deref().unwrap_or_default();
    Some(match event.reason.as_deref()? {
        "FailedMount" | "FailedAttachVolume" | "FailedMapVolume" => Said(
            Reason::VolumeFailed,
            short(message),
            "create the Secret or ConfigMap that is named, or look at the volume",
        ),
        "FailedCreatePodSandBox" | "FailedCreatePodContainer" | "NetworkNotReady" | "FailedSync" => Said(
            Reason::SandboxFailed,
            short(message),
            "look at the network plugin and the container runtime of the machine",
        ),
        "InspectFailed" if message.contains("default image tag") => {
            Said(Reason::InvalidImageName, short(message), image_field(component))
        }
        "InspectFailed" => Said(Reason::ImagePullFailed, short(message), pull(component)),
        "ErrImageNeverPull" => Said(
            Reason::ImagePullFailed,
            short(message),
            "load the image on the machine, or let it be pulled",
        ),
        "Failed" => return failed(component, message),
        _ => return None,
    })
}

/// What a kubelet means by an Event `Failed` (`pkg/kubelet/images/image_manager.go` and `kuberuntime_container.go`).
/// Some of these Events only repeat the word that the container's state will have.
fn failed(component: Component, message: &str) -> Option<Said> {
    if let Some(rest) = message.strip_prefix("Failed to pull image ") {
        let (image, why) = rest.split_once(": ").unwrap_or((rest, ""));
        let image = short(image.trim_matches('"'));
        return Some(Said(Reason::ImagePullFailed, format!("{image}: {}", short(why)), pull(component)));
    }
    let words = message.strip_prefix("Error: ").unwrap_or(message);
    if !words.contains(' ') {
        return None;
    }
    Some(if words.contains("OOM") {
        Said(Reason::OutOfMemory, short(words), memory(component))
    } else if words.contains("runAsNonRoot") || words.contains("non-root") {
        Said(Reason::ContainerConfigError, short(words), user(component))
    } else if words.contains("not found") || words.contains("couldn't find") {
        Said(
            Reason::ContainerConfigError,
            short(words),
            "create the Secret, ConfigMap or key that is named, or change what the spec asks of the container",
        )
    } else {
        Said(
            Reason::ContainerStartFailed,
            short(words),
            "look at the image and at the container runtime of the machine",
        )
    })
}

/// When an Event was last seen.
fn at(event: &Event) -> u64 {
    let series = event.series.as_ref().and_then(|s| s.last_observed_time.as_ref());
    let micro = series.or(event.event_time.as_ref());
    let micro = micro.map_or(0, |t| u64::try_from(t.0.as_millisecond()).unwrap_or_default());
    micro.max(millis(event.last_timestamp.as_ref()))
}
