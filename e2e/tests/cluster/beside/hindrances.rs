//! Pods cannot start on a real cluster: Ready, REASON and an Event say why, with a remedy, and no longer say it once
//! it is solved.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::fleet::{Fleet, eventually};
use e2e::report::record;
use e2e::scaling::{node_image, operator_image};
use serde_json::{Value, json};

/// Most time from when the kubelet first tells the fault until our status does.
const MOST_AFTER_KUBELET: Duration = Duration::from_secs(10);

/// A spec with `nodes` and `more` in it.
fn spec(nodes: &str, more: &str) -> String {
    format!(
        "{{targetConnections: 2000, rooms: {{maxMembers: 150}}, auth: {{anonymous: true}}, nodes: {{min: 2, max: 4, \
         capacity: {{connections: 2000, writesPerSecond: 5000}}{nodes}}}{more}}}"
    )
}

/// Reason and message of Ready.
fn ready(fleet: &Fleet) -> anyhow::Result<(String, String)> {
    let object = fleet.object()?;
    let conditions = object["status"]["conditions"].as_array().context("no conditions yet")?;
    let found = conditions.iter().find(|c| c["type"] == "Ready").context("no Ready yet")?;
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    Ok((text("reason"), text("message")))
}

/// Whether a kubelet has said that it cannot start a container, in an Event or in the container's state.
fn kubelet_failed(fleet: &Fleet) -> anyhow::Result<bool> {
    let list = |what| fleet.instance.kubectl_json(["-n", &fleet.namespace, "get", what]);
    let events = list("events")?;
    let failed = |e: &Value| e["reason"] == "Failed" && e["involvedObject"]["kind"] == "Pod";
    if events["items"].as_array().context("no list")?.iter().any(failed) {
        return Ok(true);
    }
    let pods = list("pods")?;
    let statuses = pods["items"].as_array().context("no list")?.iter();
    let mut waiting = statuses
        .flat_map(|pod| pod["status"]["containerStatuses"].as_array().into_iter().flatten())
        .filter_map(|one| one["state"]["waiting"]["reason"].as_str());
    Ok(waiting.any(|reason| reason.starts_with("Err") || reason.starts_with("ImagePull")))
}

/// Makes a fleet that cannot start in a namespace that `before` has prepared, and waits until its status says why;
/// returns it.
fn says(test: &str, before: impl FnOnce(&Fleet), bad: &str, reason: &str, words: &[&str]) -> Fleet {
    let fleet = Fleet::create(test, &spec("", ", paused: true")).unwrap();
    before(&fleet);
    fleet.apply_spec(bad).unwrap();
    let mut heard = None;
    let (message, elapsed) = eventually(&format!("Ready says {reason}"), || {
        if heard.is_none() && kubelet_failed(&fleet)? {
            heard = Some(Instant::now());
        }
        let (said, message) = ready(&fleet)?;
        ensure!(said == reason, "{said}: {message}");
        Ok(Some(message))
    })
    .unwrap();
    record("hindrances", &format!("{test}_said"), elapsed.as_secs_f64()).unwrap();
    if let Some(after) = heard.map(|heard| heard.elapsed()) {
        // The operator cannot say it before the kubelet has.
        record("hindrances", &format!("{test}_kubelet_to_said"), after.as_secs_f64()).unwrap();
        assert!(after < MOST_AFTER_KUBELET, "{after:?} after the kubelet said so");
    }
    for part in words {
        assert!(message.contains(part), "no {part:?} in {message}");
    }
    assert_eq!(fleet.object().unwrap()["status"]["reason"], reason);
    eventually("an Event says so", || {
        let list = fleet.instance.kubectl_json(["-n", &fleet.namespace, "get", "events"])?;
        let events = list["items"].as_array().context("no list")?;
        let ours = |e: &&Value| e["reason"] == reason && e["involvedObject"]["kind"] == "ChannelCluster";
        Ok(events.iter().find(ours).map(|_| ()))
    })
    .unwrap();
    fleet
}

/// Waits until the fleet is ready and its status no longer names the hindrance.
fn is_solved(fleet: &Fleet, test: &str) {
    let (_, elapsed) = eventually("the fleet is ready", || {
        let (said, message) = ready(fleet)?;
        ensure!(said == "Serving" && !message.contains("but"), "{said}: {message}");
        let (stalled, why) = fleet.condition("Stalled")?;
        ensure!(stalled == "False", "{why}");
        Ok(Some(()))
    })
    .unwrap();
    record("hindrances", &format!("{test}_solved"), elapsed.as_secs_f64()).unwrap();
}

fn nothing(_: &Fleet) {}

#[test]
fn an_image_that_does_not_exist_is_said_and_solved() {
    let bad = spec(", image: 'nobody.invalid/nobody:1'", "");
    let fleet = says("image", nothing, &bad, "ImagePullFailed", &["nobody.invalid/nobody:1", "nodes.image"]);
    fleet.apply_spec(&spec("", "")).unwrap();
    // The fleet keeps the image that it was made with, so another one has to be named.
    let image = node_image(&fleet.instance).unwrap();
    fleet.apply_spec(&spec(&format!(", image: '{image}'"), "")).unwrap();
    is_solved(&fleet, "image");
}

#[test]
fn what_fits_on_no_machine_is_said_and_solved() {
    let bad = spec(", resources: {requests: {cpu: '100'}}", "");
    let fleet = says("cpu", nothing, &bad, "Unschedulable", &["Insufficient cpu", "nodes.resources"]);
    fleet.apply_spec(&spec("", "")).unwrap();
    is_solved(&fleet, "cpu");
    let bad = spec(", nodeSelector: {nobody: here}", "");
    says("selector", nothing, &bad, "Unschedulable", &["didn't match", "nodes.nodeSelector"]);
}

#[test]
fn a_process_that_ends_again_and_again_is_said_with_its_last_words() {
    let fleet = Fleet::create("crash-image", &spec("", ", paused: true")).unwrap();
    let image = operator_image(&fleet.instance).unwrap();
    drop(fleet);
    let bad = spec(&format!(", image: '{image}'"), "");
    says("crash", nothing, &bad, "CrashLoop", &["exit code", "unexpected argument", "--previous"]);
}

#[test]
fn too_little_memory_is_said() {
    let bad = spec(", resources: {requests: {memory: 6Mi}, limits: {memory: 6Mi}}", "");
    says("memory", nothing, &bad, "OutOfMemory", &["limits.memory", "nodes.resources"]);
}

#[test]
fn what_hinders_nats_is_said() {
    let bad = spec("", ", backplane: {type: Managed, image: 'nobody.invalid/nats:1'}");
    says("nats", nothing, &bad, "ImagePullFailed", &["the NATS pod", "backplane.image"]);
}

#[test]
fn a_quota_is_said_and_solved() {
    let quota = |fleet: &Fleet| {
        fleet.kubectl(&["create", "quota", "none", "--hard=pods=0"]).unwrap();
    };
    let words = ["exceeded quota: none", "raise the ResourceQuota"];
    let fleet = says("quota", quota, &spec("", ""), "QuotaExceeded", &words);
    fleet.kubectl(&["delete", "quota", "none"]).unwrap();
    // The ReplicaSet waits ever longer between its attempts; a change of the template ends that.
    fleet.apply_spec(&spec(", podLabels: {try: again}", "")).unwrap();
    eventually("something is made", || Ok((!fleet.node_pods()?.is_empty()).then_some(()))).unwrap();
}

#[test]
fn pods_come_up_under_an_early_version_of_pod_security() {
    let fleet = Fleet::create("pod-security", &spec("", ", paused: true")).unwrap();
    let labels =
        ["pod-security.kubernetes.io/enforce=restricted", "pod-security.kubernetes.io/enforce-version=v1.28"];
    let label = ["label", "namespace", &fleet.namespace, labels[0], labels[1]];
    fleet.instance.kubectl(label).unwrap();
    fleet.apply_spec(&spec("", "")).unwrap();
    is_solved(&fleet, "pod_security");
    let (status, message) = fleet.condition("TuningApplied").unwrap();
    assert!(status == "False" && message.contains("Pod Security admission refuses"), "{message}");
}

/// A policy on the pods of one namespace; it is deleted when the value is dropped.
struct Policy<'a>(&'a Fleet);

impl Policy<'_> {
    const KINDS: &'static str = "validatingadmissionpolicy,validatingadmissionpolicybinding";

    /// Makes the server refuse pods in the namespace of `fleet` that ask for a user id below 1000660000.
    fn on_user_ids(fleet: &Fleet) -> Policy<'_> {
        let name = fleet.namespace.as_str();
        let fine = "!has(object.spec.securityContext.runAsUser) || object.spec.securityContext.runAsUser >= 1000660000";
        let pods = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]});
        let policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail", "matchConstraints": {"resourceRules": [pods]},
                "validations": [{"expression": fine, "message": "runAsUser must be at least 1000660000"}],
            },
        });
        let here = json!({"matchLabels": {"kubernetes.io/metadata.name": name}});
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {
                "policyName": name, "validationActions": ["Deny"], "matchResources": {"namespaceSelector": here},
            },
        });
        let made = Policy(fleet);
        for object in [policy, binding] {
            fleet.instance.apply(&object.to_string()).unwrap();
        }
        let probe = ["run", "probe", "--image=a:1", "--dry-run=server"];
        let ids = r#"--overrides={"spec": {"securityContext": {"runAsUser": 65532}}}"#;
        eventually("the policy refuses", || {
            let tried = fleet.kubectl(&[&probe[..], &[ids]].concat());
            Ok(tried.err().filter(|error| format!("{error:#}").contains("1000660000")))
        })
        .unwrap();
        made
    }
}

impl Drop for Policy<'_> {
    fn drop(&mut self) {
        let delete = ["delete", Self::KINDS, &self.0.namespace, "--ignore-not-found"];
        if let Err(error) = self.0.instance.kubectl(delete) {
            say::err!("the policy stays behind: {error:#}");
        }
    }
}

#[test]
fn pods_come_up_without_the_user_ids_that_a_policy_refuses() {
    let fleet = Fleet::create("user-ids", &spec("", ", paused: true")).unwrap();
    let _policy = Policy::on_user_ids(&fleet);
    fleet.apply_spec(&spec("", "")).unwrap();
    is_solved(&fleet, "user_ids");
    let (status, message) = fleet.condition("TuningApplied").unwrap();
    assert!(status == "False" && message.contains("nodes.userIds"), "{message}");
    let refused = &fleet.object().unwrap()["status"]["refusedUserIds"];
    for part in ["nodes", "backplane"] {
        assert_eq!(refused[part]["leftOut"], true, "{refused}");
    }
    // The pod runs as the user of the image, which is a number, so runAsNonRoot is satisfied.
    let pods = fleet.instance.kubectl_json(["-n", &fleet.namespace, "get", "pods"]).unwrap();
    for pod in pods["items"].as_array().unwrap() {
        let context = &pod["spec"]["securityContext"];
        assert!(context["runAsUser"].is_null() && context["runAsNonRoot"] == true, "{context}");
    }
}
