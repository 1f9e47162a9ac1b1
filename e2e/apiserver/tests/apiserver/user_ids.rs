//! A real admission policy refuses the user ids of pods: the operator, as a program, leaves out the ids that it asked
//! for by itself, says so, and stays without them when the policy is gone.
#![allow(clippy::unwrap_used, clippy::large_futures, reason = "test code outside of test functions")]

use std::time::Instant;

use crate::support::{cluster, nodes, operator, until};
use apiserver::{ApiServer, Identity};
use crds::{ChannelCluster, ChannelClusterStatus};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, PodSecurityContext};
use kube::Client;
use kube::api::{Api, ListParams};
use serde_json::json;

/// Stands for the name of the Deployment of the nodes.
const NODES: &str = "nodes";

/// Makes the server refuse objects of `resource` in the namespace `here` whose pods ask for another user than the
/// namespace's, and waits until it does. `pod` is the path to a pod's spec.
async fn forbid(server: &ApiServer, here: &str, group: &str, resource: &str, pod: &str) {
    let context = format!("{pod}.securityContext");
    let fine = format!("!has({context}) || !has({context}.runAsUser) || {context}.runAsUser >= 1000660000");
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": here},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": [resource],
            }]},
            "validations": [{"expression": fine, "message": "runAsUser must be at least 1000660000"}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": here},
        "spec": {
            "policyName": here, "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": here}}},
        },
    });
    for object in [policy, binding] {
        server.kubectl(&["apply", "-f", "-"], &object.to_string()).await.unwrap();
    }
    let spec =
        json!({"containers": [{"name": "a", "image": "a:1"}], "securityContext": {"runAsUser": 65_532}});
    let probe = match resource {
        "pods" => json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": spec}),
        _ => json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "probe"}, "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": spec},
        }}),
    };
    let args = ["-n", here, "create", "--dry-run=server", "-f", "-"];
    until("a refusal", async || server.kubectl(&args, &probe.to_string()).await.err()).await;
}

async fn status(client: &Client, here: &str) -> Option<ChannelClusterStatus> {
    Api::<ChannelCluster>::namespaced(client.clone(), here).get("chat").await.unwrap().status
}

async fn context(client: &Client, here: &str, name: &str) -> Option<PodSecurityContext> {
    let api = Api::<Deployment>::namespaced(client.clone(), here);
    let live = if name == NODES { nodes(client, here).await? } else { api.get_opt(name).await.unwrap()? };
    live.spec?.template.spec?.security_context
}

/// Waits until pods of both parts are there, and gives the TuningApplied condition that says why.
async fn comes_up(client: &Client, here: &str) -> String {
    let started = Instant::now();
    let pods: Api<Pod> = Api::namespaced(client.clone(), here);
    until("pods of both parts", async || {
        let mut made = 0;
        for component in ["node", "nats"] {
            let ours = ListParams::default().labels(&format!("app.kubernetes.io/component={component}"));
            made += usize::from(!pods.list(&ours).await.unwrap().items.is_empty());
        }
        (made == 2).then_some(())
    })
    .await;
    println!("{here}: pods after {} ms", started.elapsed().as_millis());
    until("both parts are recorded", async || {
        let status = status(client, here).await?;
        let refused = status.refused_user_ids?;
        if !(refused.nodes?.left_out && refused.backplane?.left_out) {
            return None;
        }
        let tuning = status.conditions.into_iter().find(|c| c.type_ == "TuningApplied")?;
        (tuning.reason == "UserIdsRefused").then_some(tuning.message)
    })
    .await
}

#[tokio::test]
async fn ids_that_a_policy_refuses_are_left_out_by_themselves() {
    let mut server = ApiServer::start().await.unwrap();
    server.start_controllers().unwrap();
    let client = server.client(Identity::Admin).unwrap();
    let _operator = operator(&server).await;

    let deny_pods = server.namespace("pods").await.unwrap();
    forbid(&server, &deny_pods, "", "pods", "object.spec").await;
    let deny_deployments = server.namespace("deployments").await.unwrap();
    forbid(&server, &deny_deployments, "apps", "deployments", "object.spec.template.spec").await;
    for here in [&deny_pods, &deny_deployments] {
        cluster(&client, here, &json!({})).await;
        let message = comes_up(&client, here).await;
        assert!(message.contains("runAsUser must be at least 1000660000"), "{message}");
        assert!(message.contains("nodes.userIds") && message.contains("backplane.userIds"), "{message}");
        for name in [NODES, "chat-nats"] {
            let context = context(&client, here, name).await.unwrap();
            assert_eq!((context.run_as_user, context.run_as_group, context.fs_group), (None, None, None));
            assert_eq!(context.run_as_non_root, Some(true), "it still holds");
        }
        let events = server.kubectl(&["-n", here, "get", "events"], "").await.unwrap();
        assert!(events.contains("UserIdsRefused"), "{events}");
    }

    // When ids are allowed later nothing changes by itself; otherwise each change of a policy would replace a fleet.
    let binding = ["delete", "validatingadmissionpolicybinding", &deny_pods];
    server.kubectl(&binding, "").await.unwrap();
    let fixed = json!({"backplane": {"userIds": "Fixed"}});
    cluster(&client, &deny_pods, &fixed).await;
    until("NATS asks again, as the user says", async || {
        context(&client, &deny_pods, "chat-nats").await.filter(|c| c.run_as_user == Some(65_532))
    })
    .await;
    assert_eq!(context(&client, &deny_pods, NODES).await.unwrap().run_as_user, None, "remembered");
    let refused = until("only the nodes are recorded", async || {
        status(&client, &deny_pods).await?.refused_user_ids.filter(|refused| refused.backplane.is_none())
    })
    .await;
    assert!(refused.nodes.unwrap().left_out);
}
