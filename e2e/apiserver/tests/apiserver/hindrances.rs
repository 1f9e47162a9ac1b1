//! Refusals of admission, from a real API server and its controllers: each reason is known and has its remedy, and
//! the operator leaves out settings that it asked for by itself.
#![allow(clippy::unwrap_used, clippy::large_futures, reason = "test code outside of test functions")]

use std::collections::BTreeSet;

use crate::support::{cluster, namespace, nodes, shared, until, valid};
use apiserver::{ApiServer, Identity};
use crds::{ChannelClusterStatus, RefusedSysctls};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use operator::apply::{Trial, apply};
use operator_core::hindrance::{FleetPart, Hindrance, Reason, find};
use operator_core::names::Component;
use operator_core::refused;
use serde_json::{Value, json};

/// The hindrances of a fleet that is made now; with `both`, after both of its parts were refused.
async fn told(client: &Client, namespace: &str, more: &Value, both: bool) -> Vec<Hindrance> {
    let object = cluster(client, namespace, more).await;
    apply(&shared(client.clone()), &valid(&object), 2, Trial::New).await.unwrap();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    until("a hindrance", async || {
        let nodes = nodes(client, namespace).await.unwrap();
        let nats = deployments.get("chat-nats").await.unwrap();
        let part = |component, deployment| FleetPart {
            component,
            deployment: Some(deployment),
            pods: &[],
            events: &[],
        };
        let now = operator::clock::now();
        let found = find(&[part(Component::Node, &nodes), part(Component::Nats, &nats)], now);
        (found.len() > usize::from(both)).then_some(found)
    })
    .await
}

/// Makes an object of the core group.
async fn make(server: &ApiServer, namespace: &str, kind: &str, name: &str, spec: &Value) {
    let object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    server.kubectl(&["-n", namespace, "create", "-f", "-"], &object.to_string()).await.unwrap();
}

/// Waits until a pod in this namespace is refused: the server takes a moment to know a new policy.
async fn refusing(client: &Client, namespace: &str) {
    let pod = json!({
        "metadata": {"name": "probe"},
        "spec": {"containers": [{"name": "probe", "image": "probe:1", "resources": {"requests": {"memory": "64Mi"}}}]},
    });
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    until("a refusal", async || api.create(&dry, &pod).await.err()).await;
}

#[tokio::test]
async fn quota_limits_and_webhooks_are_said_with_their_remedy() {
    let mut server = ApiServer::start().await.unwrap();
    server.start_controllers().unwrap();
    let client = server.client(Identity::Admin).unwrap();

    let here = server.namespace("quota-limits").await.unwrap();
    let quota = json!({"hard": {"limits.cpu": "4", "limits.memory": "4Gi"}});
    make(&server, &here, "ResourceQuota", "q", &quota).await;
    refusing(&client, &here).await;
    let resources = json!({"nodes": {"resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}});
    let found = told(&client, &here, &resources, false).await;
    assert_eq!((found[0].component, found[0].reason), (Component::Nats, Reason::QuotaExceeded), "{found:?}");
    assert!(found[0].words.contains("must specify limits.cpu"), "{found:?}");
    assert!(found[0].remedy.contains("backplane.resources"), "{found:?}");

    let here = server.namespace("quota").await.unwrap();
    make(&server, &here, "ResourceQuota", "q", &json!({"hard": {"pods": "0"}})).await;
    refusing(&client, &here).await;
    let found = told(&client, &here, &json!({}), true).await;
    let reasons: Vec<_> = found.iter().map(|h| h.reason).collect();
    assert_eq!(reasons, [Reason::QuotaExceeded; 2], "{found:?}");
    assert!(found[0].words.starts_with("exceeded quota: q"), "the pod's name changes: {found:?}");

    let here = server.namespace("limits").await.unwrap();
    let limits = json!({"limits": [{"type": "Container", "min": {"memory": "1Gi"}}]});
    make(&server, &here, "LimitRange", "l", &limits).await;
    refusing(&client, &here).await;
    let found = told(&client, &here, &json!({}), true).await;
    assert_eq!(found[0].reason, Reason::LimitRangeViolated, "{found:?}");

    let here = server.namespace("webhook").await.unwrap();
    let hook = json!({"metadata": {"name": here}, "webhooks": [{
        "name": "nobody.example.org", "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 1,
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": here}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
    }]});
    let hooks: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    hooks.create(&PostParams::default(), &serde_json::from_value(hook).unwrap()).await.unwrap();
    refusing(&client, &here).await;
    let found = told(&client, &here, &json!({}), true).await;
    assert_eq!(found[0].reason, Reason::WebhookFailed, "{found:?}");
    assert!(found[0].words.contains("nobody.example.org"), "{found:?}");
}

/// Runs a fleet in a namespace that enforces a policy. As the operator does, leaves out what is refused until the
/// pods are made, and gives what was left out.
async fn settled(client: &Client, here: &str, story: &str) -> Vec<String> {
    let mut object = cluster(client, here, &json!({})).await;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), here);
    let pods: Api<Pod> = Api::namespaced(client.clone(), here);
    let mut recorded: Option<RefusedSysctls> = None;
    let shared = shared(client.clone());
    until(story, async || {
        apply(&shared, &valid(&object), 2, Trial::Known).await.unwrap();
        // No pod becomes ready here, so the rollout stays at its first new pod.
        let mut made = 0;
        for component in ["node", "nats"] {
            let ours = ListParams::default().labels(&format!("app.kubernetes.io/component={component}"));
            made += usize::from(!pods.list(&ours).await.unwrap().items.is_empty());
        }
        if made == 2 {
            return Some(());
        }
        let nodes = nodes(client, here).await.unwrap();
        // Here runs no loop that adds nodes.
        let count = json!({"spec": {"replicas": 2}});
        deployments.patch(&nodes.name_any(), &PatchParams::default(), &Patch::Merge(count)).await.unwrap();
        if let Some(rejected) = refused::by_admission(&nodes) {
            let key = refused::key(&object.spec.tuning);
            let hash = valid(&object).template;
            recorded = refused::step(recorded.as_ref(), &key, &hash, &[rejected], &BTreeSet::new());
            object.status = Some(ChannelClusterStatus {
                refused_sysctls: recorded.clone(),
                ..ChannelClusterStatus::default()
            });
        }
        None
    })
    .await;
    recorded.map(|recorded| recorded.left_out).unwrap_or_default()
}

#[tokio::test]
async fn pods_meet_every_level_and_version_of_pod_security_in_the_end() {
    let mut server = ApiServer::start().await.unwrap();
    server.start_controllers().unwrap();
    let client = server.client(Identity::Admin).unwrap();
    for level in ["privileged", "baseline", "restricted"] {
        for (version, refuses) in [
            ("latest", &[][..]),
            ("v1.34", &[]),
            ("v1.31", &["net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"]),
            ("v1.28", &["net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_rmem"]),
            ("v1.24", &["net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_rmem"]),
            ("v1.0", &["net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_rmem"]),
        ] {
            let labels = json!({
                "pod-security.kubernetes.io/enforce": level, "pod-security.kubernetes.io/enforce-version": version,
            });
            let here = namespace(&server, "level", labels).await;
            let story = format!("{level}:{version}");
            let left_out = settled(&client, &here, &story).await;
            let refuses = if level == "privileged" { &[][..] } else { refuses };
            assert_eq!(left_out.is_empty(), refuses.is_empty(), "{story}: {left_out:?}");
            assert!(
                refuses.iter().all(|name| left_out.iter().any(|out| out == name)),
                "{story}: {left_out:?}"
            );
            assert!(
                !left_out.iter().any(|name| name == "net.ipv4.ip_local_port_range"),
                "{story}: always allowed"
            );
        }
    }
}
