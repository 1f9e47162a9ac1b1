//! Which Deployments of nodes are made, kept and removed, against an API server in memory.

use crate::support::{NODES, Server, UID, cluster, merge, nodes, valid};
use http::Method;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use operator::apply::{Trial, apply};
use operator::fetch::fetch;
use operator::observe;
use operator::ours::ApplyError;
use operator_core::build;
use operator_core::names::Names;
use operator_core::validate::{ValidatedCluster, validate};
use serde_json::{Value, json};

const FIRST: &str = "/apis/apps/v1/namespaces/default/deployments/chat-node";

fn none() -> Value {
    json!({})
}

/// A spec that asks for other pods.
fn other() -> Value {
    json!({"nodes": {"image": "node:2"}})
}

/// The only Deployment of a fleet, as a version that knew no templates made it, with what the API server added.
fn first(made_for: &ValidatedCluster) -> Value {
    let mut object = serde_json::to_value(build::first_deployment(made_for, 3)).unwrap();
    let labels = object["metadata"]["labels"].as_object_mut().unwrap();
    labels.remove("channelcluster.io/template").unwrap();
    let added = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"uid": "first", "resourceVersion": "7", "generation": 4},
        "spec": {"progressDeadlineSeconds": 600, "template": {"spec": {"dnsPolicy": "ClusterFirst"}}},
    });
    merge(&mut object, &added);
    object
}

/// Paths of the Deployments of nodes that were written, in order.
fn written(server: &Server) -> Vec<String> {
    let paths = server.writes().into_iter().map(|write| write.path);
    paths.filter(|path| path.contains("/deployments/chat-node")).collect()
}

fn template(object: &Value) -> &Value {
    &object["spec"]["template"]
}

fn revision(server: &Server, path: &str) -> Value {
    server.get(path)["metadata"]["annotations"]["channelcluster.io/revision"].clone()
}

#[tokio::test]
async fn the_only_deployment_of_before_goes_on_as_it_is_if_its_pods_are_as_wanted() {
    let server = Server::default();
    let mut shared = server.shared();
    let before = first(&valid(&none()));
    server.put(FIRST, before.clone());
    server.show(&mut shared);
    for trial in [Trial::Before, Trial::Known] {
        apply(&shared, &valid(&none()), 7, trial).await.unwrap();
        server.show(&mut shared);
    }
    assert!(written(&server).iter().all(|path| path == FIRST), "{:?}", written(&server));
    let now = server.get(FIRST);
    assert_eq!(now["spec"], before["spec"], "no pod is replaced, and none more is made");
    assert_eq!(now["metadata"]["labels"]["channelcluster.io/template"], valid(&none()).template);
    let all = observe::deployments(&shared.stores, "default", &Names::new("chat"), UID);
    assert_eq!((all.len(), all[0].view.current, all[0].view.replicas), (1, true, 3));

    // When other pods are asked for, they come into a Deployment of their own.
    apply(&shared, &valid(&other()), 7, Trial::New).await.unwrap();
    assert_eq!(server.get(&nodes(&valid(&other())))["spec"]["replicas"], 0);
    assert_eq!(server.get(FIRST)["spec"], before["spec"]);
    server.show(&mut shared);
    let all = observe::deployments(&shared.stores, "default", &Names::new("chat"), UID);
    let all: Vec<_> = all.iter().map(|seen| (seen.view.current, seen.view.replicas)).collect();
    assert_eq!(all, [(true, 0), (false, 3)]);

    // Then the first ones are wanted again.
    apply(&shared, &valid(&none()), 7, Trial::New).await.unwrap();
    assert_eq!(
        (revision(&server, FIRST), server.get(FIRST)["spec"].clone()),
        (json!("3"), before["spec"].clone())
    );
}

#[tokio::test]
async fn the_only_deployment_of_before_is_left_behind_if_its_pods_are_not_as_wanted() {
    let server = Server::default();
    let mut shared = server.shared();
    let before = first(&valid(&other()));
    server.put(FIRST, before.clone());
    server.show(&mut shared);
    for trial in [Trial::Before, Trial::Known] {
        apply(&shared, &valid(&none()), 7, trial).await.unwrap();
        server.show(&mut shared);
    }
    assert_eq!(server.get(FIRST), before);
    assert_eq!(server.get(&NODES)["spec"]["replicas"], 0, "they come as the old ones go");
}

#[tokio::test]
async fn no_second_deployment_is_made_while_it_is_not_known_which_pods_the_first_one_has() {
    let server = Server::default();
    let mut shared = server.shared();
    server.put(FIRST, first(&valid(&none())));
    server.show(&mut shared);
    server.refuse(FIRST);
    for trial in [Trial::New, Trial::Before, Trial::Known] {
        let refused = apply(&shared, &valid(&none()), 7, trial).await;
        assert!(matches!(refused, Err(ApplyError::Refused(_))), "{trial:?}: {refused:?}");
    }
    assert_eq!(written(&server), [""; 0]);
}

#[tokio::test]
async fn the_only_deployment_of_a_cluster_of_this_name_that_is_gone_goes_on_as_it_is() {
    for owners in
        [json!([]), json!([OwnerReference { uid: "gone".to_owned(), ..build::owner(&valid(&none())) }])]
    {
        let server = Server::default();
        let shared = server.shared();
        let mut before = first(&valid(&none()));
        before["metadata"]["ownerReferences"] = owners;
        server.put(FIRST, before.clone());
        apply(&shared, &valid(&none()), 7, Trial::New).await.unwrap();
        assert!(written(&server).iter().all(|path| path == FIRST), "{:?}", written(&server));
        let now = server.get(FIRST);
        assert_eq!(
            (&now["spec"], &now["metadata"]["ownerReferences"][0]["uid"]),
            (&before["spec"], &json!(UID))
        );
    }
}

#[tokio::test]
async fn another_version_of_the_operator_writes_no_template_again() {
    let server = Server::default();
    let mut shared = server.shared();
    apply(&shared, &valid(&none()), 3, Trial::New).await.unwrap();
    // An earlier version wrote the template of the same spec otherwise, and noted that.
    let mut old = server.get(&NODES);
    old["spec"]["template"]["spec"]["containers"][0]["args"] = json!(["--as-before"]);
    let noted = template(&old).to_string();
    old["metadata"]["annotations"]["channelcluster.io/made-with"] = json!(noted);
    server.put(&NODES, old.clone());
    server.show(&mut shared);
    for trial in [Trial::Before, Trial::Known, Trial::Known] {
        apply(&shared, &valid(&none()), 3, trial).await.unwrap();
        assert_eq!(template(&server.get(&NODES)), template(&old), "{trial:?}");
        server.show(&mut shared);
    }
    assert_eq!(written(&server).iter().collect::<std::collections::BTreeSet<_>>().len(), 1);

    // Somebody else changes it: it comes back as it was made.
    let drift = json!({"template": {"spec": {"containers": [{"name": "x"}]}}});
    server.edit(&NODES, &json!({"metadata": {"generation": 9}, "spec": drift}));
    server.show(&mut shared);
    apply(&shared, &valid(&none()), 3, Trial::Before).await.unwrap();
    assert_eq!(template(&server.get(&NODES)), template(&old));

    // Somebody else writes the note: it is no longer one of the operator's.
    let mut forged = server.get(&NODES);
    forged["metadata"]["annotations"]["channelcluster.io/made-with"] = json!("{\"spec\": {}}");
    let records = forged["metadata"]["managedFields"].as_array_mut().unwrap();
    let own = records.iter_mut().find(|record| record["manager"] == "channel-operator").unwrap();
    own["fieldsV1"]["f:metadata"]["f:annotations"]
        .as_object_mut()
        .unwrap()
        .remove("f:channelcluster.io/made-with")
        .unwrap();
    server.put(&NODES, forged);
    server.show(&mut shared);
    apply(&shared, &valid(&none()), 3, Trial::Before).await.unwrap();
    let now = server.get(&NODES);
    let args = &template(&now)["spec"]["containers"][0]["args"];
    assert!(args.to_string().contains("--config"), "{args}");
}

#[tokio::test]
async fn a_newer_node_image_of_the_operators_reaches_no_fleet_by_itself() {
    let server = Server::default();
    let mut shared = server.shared();
    apply(&shared, &valid(&none()), 3, Trial::New).await.unwrap();
    server.show(&mut shared);
    let mut env = crate::support::env();
    env.node_image = "node:9".to_owned();
    let fetched = fetch(&shared, &cluster(&none())).await.unwrap();
    let now = validate(&cluster(&none()), &env, &fetched).unwrap();
    assert_eq!((now.template, now.pod.newer_image.as_deref()), (valid(&none()).template, Some("node:9")));
}

#[tokio::test]
async fn deployments_without_nodes_go_but_for_the_last_few() {
    let server = Server::default();
    let mut shared = server.shared();
    let specs: Vec<_> = (1..=6).map(|n| json!({"nodes": {"image": format!("node:{n}")}})).collect();
    for spec in &specs {
        apply(&shared, &valid(spec), 3, Trial::New).await.unwrap();
    }
    let paths: Vec<_> = specs.iter().map(|spec| nodes(&valid(spec))).collect();
    let last = valid(&specs[5]);
    // The first has nodes still, and one that is not ours looks like one of them.
    for (number, path) in paths.iter().enumerate() {
        let uid = format!("uid-{number}");
        server.edit(path, &json!({"metadata": {"uid": uid}, "spec": {"replicas": i32::from(number == 0)}}));
    }
    let mut foreign = server.get(&paths[1]);
    let owner = OwnerReference { uid: "another".to_owned(), ..build::owner(&last) };
    foreign["metadata"]["ownerReferences"] = json!([owner]);
    server.put(&paths[1], foreign);
    server.show(&mut shared);
    let deleted = || {
        let all = server.writes().into_iter().filter(|write| write.method == Method::DELETE);
        all.map(|write| (write.path, write.body["preconditions"]["uid"].clone())).collect::<Vec<_>>()
    };
    apply(&shared, &last, 3, Trial::Known).await.unwrap();
    assert_eq!(deleted(), []);
    // Its nodes are gone.
    server.edit(&paths[0], &json!({"spec": {"replicas": 0}, "status": {"replicas": 1}}));
    server.show(&mut shared);
    apply(&shared, &last, 3, Trial::Known).await.unwrap();
    assert_eq!(deleted(), [], "one of its pods is there still");
    server.edit(&paths[0], &json!({"status": {"replicas": 0}}));
    server.show(&mut shared);
    apply(&shared, &last, 3, Trial::Known).await.unwrap();
    assert_eq!(deleted(), [(paths[0].clone(), json!("uid-0"))]);
}

#[tokio::test]
async fn deployments_of_a_cluster_of_this_name_that_is_gone_are_taken_over() {
    let server = Server::default();
    let shared = server.shared();
    for spec in [none(), other()] {
        apply(&shared, &valid(&spec), 3, Trial::New).await.unwrap();
    }
    let paths = [NODES.clone(), nodes(&valid(&other()))];
    for path in &paths {
        server.edit(path, &json!({"metadata": {"ownerReferences": [], "uid": path}}));
    }
    apply(&shared, &valid(&other()), 3, Trial::New).await.unwrap();
    for path in &paths {
        assert_eq!(server.get(path)["metadata"]["ownerReferences"][0]["uid"], UID, "{path}");
    }
    assert_eq!(revision(&server, &paths[1]), "2", "it is the current one still");
}
