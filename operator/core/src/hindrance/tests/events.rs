//! Faults of which only Events tell, or of which Events tell first.

use k8s_openapi::api::core::v1::Event;
use serde_json::json;

use super::super::{Reason, waits_for_machine};
use super::{NOW, of, pod, scheduled, waiting};
use crate::names::Component;

fn event(reason: &str, message: &str, last: &str) -> Event {
    let object = json!({
        "metadata": {"name": reason}, "involvedObject": {"uid": "u"}, "type": "Warning", "reason": reason,
        "message": message, "lastTimestamp": last,
    });
    serde_json::from_value(object).unwrap()
}

#[test]
fn what_only_events_tell_is_read_from_them() {
    let pod = pod(
        json!({"phase": "Pending", "conditions": [scheduled()], "containerStatuses": [{"name": "n", "image": "n", "imageID": "", "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}}]}),
    );
    assert!(waits_for_machine(&pod, NOW));
    assert!(!waits_for_machine(&pod, NOW - 59_500), "not at once");
    assert!(!waits_for_machine(&waiting("ErrImagePull", ""), NOW));
    let mount = "MountVolume.SetUp failed for volume \"nats\" : secret \"creds\" not found";
    let events = [
        event("FailedCreatePodSandBox", "plugin type=\"cni\" failed", "2026-01-01T00:00:10Z"),
        event("FailedMount", mount, "2026-01-01T00:00:20Z"),
    ];
    let found = of(Component::Node, std::slice::from_ref(&pod), &events);
    assert_eq!((found[0].reason, found[0].words.as_str()), (Reason::VolumeFailed, mount));
    let found = of(Component::Node, std::slice::from_ref(&pod), &events[..1]);
    assert_eq!(found[0].reason, Reason::SandboxFailed);
    let mut anothers = events[1].clone();
    anothers.involved_object.uid = Some("another".to_owned());
    assert_eq!(of(Component::Node, &[pod], &[anothers]), []);
}

#[test]
fn what_a_kubelet_says_in_an_event_first_is_read_there() {
    let pod = pod(json!({"phase": "Pending", "conditions": [scheduled()]}));
    let pull = "Failed to pull image \"nobody.invalid/nobody:1\": failed to resolve reference \"nobody.invalid/nobody:1\": \
        dial tcp: lookup nobody.invalid: no such host";
    for (message, reason, words) in [
        (pull, Reason::ImagePullFailed, "nobody.invalid/nobody:1: failed to resolve"),
        ("Error: secret \"creds\" not found", Reason::ContainerConfigError, "secret \"creds\""),
        (
            "Error: container has runAsNonRoot and image will run as root",
            Reason::ContainerConfigError,
            "runAsNonRoot",
        ),
        ("Error: container init was OOM-killed (memory limit too low?)", Reason::OutOfMemory, "OOM"),
        ("Error: failed to create containerd task: exec: no such file", Reason::ContainerStartFailed, "exec"),
    ] {
        let mut pulling = event("Pulling", "Pulling image", "2026-01-01T00:00:10Z");
        pulling.type_ = Some("Normal".to_owned());
        // The kubelet's own word comes beside it, in the same second and in any order.
        let word = event("Failed", "Error: ErrImagePull", "2026-01-01T00:00:10Z");
        let mut all = [word, event("Failed", message, "2026-01-01T00:00:10Z"), pulling];
        for _ in 0..all.len() {
            all.rotate_left(1);
            let found = of(Component::Nats, std::slice::from_ref(&pod), &all);
            assert_eq!(found.first().map(|h| h.reason), Some(reason), "{message}");
            assert!(found[0].words.contains(words), "{}", found[0].words);
        }
        all.iter_mut().filter(|e| e.reason.as_deref() == Some("Pulling")).for_each(|e| {
            e.last_timestamp = event("", "", "2026-01-01T00:00:20Z").last_timestamp;
        });
        assert_eq!(of(Component::Nats, std::slice::from_ref(&pod), &all), [], "it has come further since");
    }
    let name = event("InspectFailed", "Failed to apply default image tag \"A B\"", "2026-01-01T00:00:10Z");
    assert_eq!(of(Component::Node, &[pod], &[name])[0].reason, Reason::InvalidImageName);
}
