//! Observations as a real cluster of Kubernetes 1.34 shows them, each with what is made of it.
#![allow(clippy::needless_pass_by_value, reason = "json!() makes values")]

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Pod};
use serde_json::{Value, json};

use super::admission::by_message;
use super::{FleetPart, Hindrance, Reason, find, sentences};
use crate::names::Component;

mod events;

/// 2026-01-01T00:01:00Z, a minute after everything in the recorded objects.
const NOW: u64 = 1_767_225_660_000;
const THEN: &str = "2026-01-01T00:00:00Z";

fn pod(status: Value) -> Pod {
    let object = json!({
        "metadata": {"name": "chat-node-5d4f-abcde", "uid": "u", "creationTimestamp": THEN},
        "spec": {"containers": [], "nodeName": "worker-1"}, "status": status,
    });
    serde_json::from_value(object).unwrap()
}

fn scheduled() -> Value {
    json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": THEN})
}

fn unready() -> Value {
    json!({"type": "Ready", "status": "False", "lastTransitionTime": THEN})
}

/// A pod with one container in this state, and how it ended before.
fn running(state: Value, last: Value, restarts: u32) -> Pod {
    let container = json!({
        "name": "channel-node", "image": "example.org/node:1", "imageID": "", "ready": false, "restartCount": restarts,
        "state": state, "lastState": last,
    });
    pod(json!({"phase": "Running", "conditions": [scheduled(), unready()], "containerStatuses": [container]}))
}

fn waiting(reason: &str, message: &str) -> Pod {
    running(json!({"waiting": {"reason": reason, "message": message}}), json!({}), 0)
}

fn ended(reason: &str, code: i32, message: &str) -> Value {
    json!({"terminated": {"reason": reason, "exitCode": code, "message": message}})
}

fn unscheduled(message: &str) -> Pod {
    let condition =
        json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message});
    pod(json!({"phase": "Pending", "conditions": [condition]}))
}

fn failed(reason: &str, message: &str) -> Pod {
    pod(json!({"phase": "Failed", "reason": reason, "message": message}))
}

fn of(component: Component, pods: &[Pod], events: &[Event]) -> Vec<Hindrance> {
    let pods: Vec<_> = pods.iter().collect();
    find(&[FleetPart { component, deployment: None, pods: &pods, events }], NOW)
}

/// A pod, and the reason, words and remedy that are told of it.
#[allow(clippy::too_many_lines, reason = "a table")]
fn pods() -> Vec<(Pod, Reason, &'static str, &'static str)> {
    let backoff = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}});
    let now_running = json!({"running": {"startedAt": "2026-01-01T00:00:59Z"}});
    vec![
        (
            unscheduled(
                "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.",
            ),
            Reason::Unschedulable,
            "0/2 nodes are available: 2 Insufficient cpu.",
            "lower nodes.resources",
        ),
        (
            unscheduled("0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."),
            Reason::Unschedulable,
            "didn't match",
            "nodes.nodeSelector",
        ),
        (
            unscheduled("0/1 nodes are available: 1 node(s) had untolerated taint {dedicated: db}."),
            Reason::Unschedulable,
            "dedicated",
            "nodes.tolerations",
        ),
        (
            unscheduled("0/1 nodes are available: persistentvolumeclaim \"x\" not found."),
            Reason::Unschedulable,
            "persistentvolumeclaim",
            "machine",
        ),
        (
            unscheduled("no nodes available to schedule pods"),
            Reason::Unschedulable,
            "no nodes available",
            "no machine",
        ),
        (
            waiting("ErrImagePull", "failed to pull and unpack image \"example.org/node:1\": not found"),
            Reason::ImagePullFailed,
            "example.org/node:1: failed to pull",
            "nodes.image",
        ),
        (
            waiting(
                "ImagePullBackOff",
                "Back-off pulling image \"example.org/node:1\": ErrImagePull: failed to pull and unpack image: not found",
            ),
            Reason::ImagePullFailed,
            "ErrImagePull: failed",
            "imagePullSecrets",
        ),
        (
            waiting("ImagePullBackOff", "Back-off pulling image \"example.org/node:1\""),
            Reason::ImagePullFailed,
            "example.org/node:1",
            "nodes.image",
        ),
        (
            waiting(
                "ErrImageNeverPull",
                "Container image \"example.org/node:1\" is not present with pull policy of Never",
            ),
            Reason::ImagePullFailed,
            "not present",
            "load the image",
        ),
        (
            waiting(
                "InvalidImageName",
                "Failed to apply default image tag \"A B\": couldn't parse image name",
            ),
            Reason::InvalidImageName,
            "couldn't parse",
            "nodes.image",
        ),
        (
            waiting("CreateContainerConfigError", "secret \"chat-node\" not found"),
            Reason::ContainerConfigError,
            "secret \"chat-node\" not found",
            "create the Secret",
        ),
        (
            waiting(
                "CreateContainerConfigError",
                "container has runAsNonRoot and image will run as root (pod: \"x\", container: channel-node)",
            ),
            Reason::ContainerConfigError,
            "runAsNonRoot",
            "runAsUser in nodes.podSecurityContext",
        ),
        (
            waiting("CreateContainerError", "failed to reserve container name"),
            Reason::ContainerStartFailed,
            "CreateContainerError",
            "runtime",
        ),
        (
            waiting("RunContainerError", "failed to create containerd task: exec: \"/nope\": no such file"),
            Reason::ContainerStartFailed,
            "no such file",
            "image",
        ),
        (
            waiting(
                "RunContainerError",
                "runc create failed: container init was OOM-killed (memory limit too low?)",
            ),
            Reason::OutOfMemory,
            "OOM",
            "limits.memory",
        ),
        (
            running(backoff.clone(), ended("Error", 64, "config: \"x\" is no path"), 3),
            Reason::CrashLoop,
            "exit code 64, config: \"x\" is no path",
            "--previous",
        ),
        (
            running(backoff.clone(), ended("OOMKilled", 137, ""), 3),
            Reason::OutOfMemory,
            "exit code 137",
            "limits.memory",
        ),
        (
            running(now_running, ended("Error", 1, "password=hunter2"), 1),
            Reason::CrashLoop,
            "exit code 1, password=[hidden]",
            "log",
        ),
        (
            running(ended("StartError", 128, "runc: container init was OOM-killed"), json!({}), 1),
            Reason::OutOfMemory,
            "OOM",
            "limits.memory",
        ),
        (running(ended("Error", 2, "panic"), json!({}), 0), Reason::CrashLoop, "panic", "log"),
        (
            running(json!({"running": {"startedAt": THEN}}), json!({}), 0),
            Reason::ProbeFailing,
            "container channel-node fails its probe",
            "Events",
        ),
        (
            failed(
                "SysctlForbidden",
                "Pod was rejected: forbidden sysctl: \"net.core.somaxconn\" not allowlisted",
            ),
            Reason::SysctlForbidden,
            "somaxconn",
            "allowedUnsafeSysctls",
        ),
        (
            failed("Evicted", "The node was low on resource: memory."),
            Reason::Evicted,
            "low on resource",
            "nodes.resources",
        ),
        (
            failed("OutOfcpu", "Pod was rejected: Node didn't have enough resource: cpu"),
            Reason::RejectedByMachine,
            "OutOfcpu",
            "machine",
        ),
        (
            pod(
                json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "Scheduling is blocked due to non-empty scheduling gates"}]}),
            ),
            Reason::SchedulingGated,
            "gates",
            "remove it",
        ),
        (
            pod(
                json!({"phase": "Running", "conditions": [scheduled(), unready(), {"type": "ContainersReady", "status": "True"}]}),
            ),
            Reason::MachineLost,
            "worker-1",
            "machine",
        ),
        (
            pod(
                json!({"phase": "Pending", "conditions": [scheduled()], "initContainerStatuses": [{"name": "mesh", "image": "mesh:1", "imageID": "", "ready": false, "restartCount": 2, "state": backoff, "lastState": ended("Error", 1, "no route")}], "containerStatuses": [{"name": "channel-node", "image": "n", "imageID": "", "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "PodInitializing"}}}]}),
            ),
            Reason::CrashLoop,
            "no route",
            "log",
        ),
    ]
}

#[test]
fn each_pod_says_what_hinders_it() {
    for (pod, reason, words, remedy) in pods() {
        let found = of(Component::Node, std::slice::from_ref(&pod), &[]);
        assert_eq!(found.len(), 1, "{pod:?}");
        let sentence = found[0].sentence();
        assert_eq!(found[0].reason, reason, "{sentence}");
        assert!(found[0].words.contains(words), "{words:?} in {sentence}");
        assert!(found[0].remedy.contains(remedy), "{remedy:?} in {sentence}");
        assert!(!sentence.contains("hunter2") && sentence.contains("chat-node-5d4f-abcde"), "{sentence}");
        let nats = of(Component::Nats, &[pod], &[]);
        assert!(nats[0].sentence().starts_with("the NATS pod"), "{}", nats[0].sentence());
        assert!(
            !nats[0].remedy.contains("nodes.resources") || reason == Reason::Evicted,
            "{}",
            nats[0].remedy
        );
    }
}

#[test]
fn pods_that_are_well_start_or_go_hinder_nothing() {
    let young = json!({"running": {"startedAt": "2026-01-01T00:00:50Z"}});
    let mut fresh = running(young, json!({}), 0);
    let mut leaves = waiting("ErrImagePull", "gone");
    leaves.metadata.deletion_timestamp = serde_json::from_value(json!(THEN)).unwrap();
    let old = {
        let mut old = failed("Evicted", "yesterday");
        old.metadata.creation_timestamp = serde_json::from_value(json!("2025-12-31T00:00:00Z")).unwrap();
        old
    };
    let ready = json!({"type": "Ready", "status": "True"});
    let well = [
        fresh.clone(),
        leaves,
        old,
        pod(json!({"phase": "Running", "conditions": [ready]})),
        pod(json!({"phase": "Succeeded"})),
        pod(json!({})),
        waiting("ContainerCreating", ""),
        failed("Terminated", "Pod was terminated in response to imminent node shutdown."),
    ];
    for pod in well {
        assert_eq!(of(Component::Node, std::slice::from_ref(&pod), &[]), [], "{pod:?}");
    }
    // A node that has served for long and turns unready is given the same time.
    fresh.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0].state =
        serde_json::from_value(json!({"running": {"startedAt": THEN}})).unwrap();
    fresh.status.as_mut().unwrap().conditions.as_mut().unwrap()[1].last_transition_time =
        serde_json::from_value(json!("2026-01-01T00:00:50Z")).unwrap();
    assert_eq!(of(Component::Node, &[fresh], &[]), []);
}

/// What admission says, and what is made of it.
const REFUSALS: [(&str, Reason, &str, &str); 12] = [
    (
        "pods \"chat-nats-7b9-x\" is forbidden: failed quota: q: must specify limits.cpu for: nats-server; limits.memory for: nats-server",
        Reason::QuotaExceeded,
        "failed quota: q: must specify limits.cpu",
        "backplane.resources",
    ),
    (
        "pods \"chat-node-7b9-x\" is forbidden: exceeded quota: q, requested: requests.cpu=1, used: requests.cpu=1, limited: requests.cpu=1",
        Reason::QuotaExceeded,
        "exceeded quota: q",
        "raise the ResourceQuota",
    ),
    (
        "pods \"chat-node-7b9-x\" is forbidden: violates PodSecurity \"baseline:v1.28\": forbidden sysctls (net.ipv4.tcp_fin_timeout, net.ipv4.tcp_rmem)",
        Reason::PodSecurityViolated,
        "forbidden sysctls",
        "pod-security.kubernetes.io/enforce",
    ),
    (
        "pods \"chat-node-7b9-\" is forbidden: unable to validate against any security context constraint: [provider \"restricted-v2\": .containers[0].runAsUser: Invalid value: 65532: must be in the ranges: [1000680000, 1000689999]]",
        Reason::PodSecurityViolated,
        "must be in the ranges",
        "nodes.userIds to Assigned",
    ),
    (
        "admission webhook \"policy.example.org\" denied the request: images must come from example.org",
        Reason::PolicyDenied,
        "images must come",
        "policy",
    ),
    (
        "pods \"x\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no",
        Reason::PolicyDenied,
        "binding",
        "policy",
    ),
    (
        "Internal error occurred: failed calling webhook \"w.example.org\": failed to call webhook: Post \"https://w.default.svc:443/?timeout=10s\": dial tcp: connection refused",
        Reason::WebhookFailed,
        "w.example.org",
        "webhook",
    ),
    (
        "pods \"x\" is forbidden: maximum cpu usage per Container is 500m, but limit is 1",
        Reason::LimitRangeViolated,
        "500m",
        "LimitRange",
    ),
    (
        "pods \"x\" is forbidden: no PriorityClass with name high was found",
        Reason::PodsForbidden,
        "high",
        "PriorityClass",
    ),
    (
        "pods \"x\" is forbidden: error looking up service account default/x: serviceaccount \"x\" not found",
        Reason::PodsForbidden,
        "looking up",
        "ServiceAccount",
    ),
    (
        "Pod \"x\" is invalid: spec.containers[0].resources.requests: Invalid value: \"1\": must be less than or equal to cpu limit of 500m",
        Reason::PodsForbidden,
        "must be less",
        "spec",
    ),
    ("something never heard of", Reason::PodsForbidden, "never heard of", "named"),
];

#[test]
fn each_refusal_has_a_reason_and_a_remedy() {
    for (message, reason, words, remedy) in REFUSALS {
        let component = if message.contains("nats") { Component::Nats } else { Component::Node };
        let found = by_message(component, message);
        let sentence = found.sentence();
        assert_eq!(found.reason, reason, "{sentence}");
        assert!(found.words.contains(words) && found.remedy.contains(remedy), "{sentence}");
        assert!(!found.words.contains("7b9"), "the name of the pod changes with each attempt: {sentence}");
    }
}

fn deployment(condition: Value) -> Deployment {
    serde_json::from_value(json!({"metadata": {"name": "chat-node"}, "status": {"conditions": [condition]}}))
        .unwrap()
}

fn part(deployment: &Deployment) -> FleetPart<'_> {
    FleetPart { component: Component::Node, deployment: Some(deployment), pods: &[], events: &[] }
}

#[test]
fn a_deployment_says_what_its_replica_set_was_told() {
    let failure = |status: &str| {
        deployment(
            json!({"type": "ReplicaFailure", "status": status, "reason": "FailedCreate", "message": REFUSALS[1].0}),
        )
    };
    assert_eq!(find(&[part(&failure("True"))], NOW)[0].reason, Reason::QuotaExceeded);
    assert_eq!(find(&[part(&failure("False"))], NOW), []);
    let stuck = deployment(
        json!({"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "ReplicaSet \"x\" has timed out progressing."}),
    );
    assert_eq!(find(&[part(&stuck)], NOW)[0].reason, Reason::NoProgress);
    let pods = [&waiting("InvalidImageName", "A B")];
    let known = FleetPart { pods: &pods, ..part(&stuck) };
    assert_eq!(find(&[known], NOW)[0].reason, Reason::InvalidImageName, "it says why");
}

#[test]
fn a_pod_that_failed_tells_nothing_once_the_others_are_there() {
    let pods = [&failed("Evicted", "The node was low on resource: memory.")];
    let deployment = |available: i32| -> Deployment {
        let status = json!({"availableReplicas": available, "updatedReplicas": 2});
        serde_json::from_value(json!({"metadata": {}, "spec": {"replicas": 2, "selector": {}, "template": {}}, "status": status}))
            .unwrap()
    };
    let (one, two) = (deployment(1), deployment(2));
    assert_eq!(find(&[FleetPart { pods: &pods, ..part(&one) }], NOW)[0].reason, Reason::Evicted);
    assert_eq!(find(&[FleetPart { pods: &pods, ..part(&two) }], NOW), []);
}

#[test]
fn many_pods_say_each_thing_once_and_nats_first() {
    let pods: Vec<_> = (0..50).map(|_| waiting("ErrImagePull", "not found")).collect();
    let pods: Vec<_> = pods.iter().collect();
    let part = |component| FleetPart { component, deployment: None, pods: &pods, events: &[] };
    let found = find(&[part(Component::Node), part(Component::Nats)], NOW);
    let seen: Vec<_> = found.iter().map(|h| (h.component, h.reason)).collect();
    let pull = Reason::ImagePullFailed;
    assert_eq!(seen, [(Component::Nats, pull), (Component::Node, pull)]);
    assert_eq!(sentences(&found).matches("does not get its image").count(), 2);
}

#[test]
fn reasons_are_read_back_from_their_words() {
    for reason in Reason::ALL {
        assert_eq!(Reason::parse(reason.as_str()), Some(reason));
    }
    assert_eq!(Reason::parse("NodesNotReady"), None);
    assert!(Reason::ALL.is_sorted());
}
