use crds::{ChannelCluster, ChannelClusterStatus, RefusedUserIds};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::PodSecurityContext;
use serde_json::json;

use super::{left_out, refusal, sentence, step};
use crate::asked::Asked;
use crate::build::bundle;
use crate::fixtures::{cluster, env};
use crate::names::Component::{self, Nats, Node};
use crate::validate::{Fetched, validate};

const SPEC: &str = "{targetConnections: 100, rooms: {maxMembers: 10}, \
    nodes: {capacity: {connections: 100, writesPerSecond: 100}}, backplane: {type: Managed}, auth: {anonymous: true}}";
/// The words of OpenShift's admission plugin.
const CONSTRAINT: &str = "pods \"chat-node-7b9-\" is forbidden: unable to validate against any security context constraint: \
    [provider \"anyuid\": Forbidden: not usable by user or serviceaccount, provider restricted-v2: .spec.securityContext.fsGroup: \
    Invalid value: []int64{65532}: 65532 is not an allowed group, provider restricted-v2: .containers[0].runAsUser: Invalid \
    value: 65532: must be in the ranges: [1000660000, 1000669999]]";
const POLICY: &str = "pods \"chat-node-7b9-x\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: runAsUser is 1000 to 2000";

/// A spec with more of `nodes` in it.
fn with(more: &str) -> ChannelCluster {
    cluster(&SPEC.replace("nodes: {", &format!("nodes: {{{more}, ")))
}

fn deployments(cluster: &ChannelCluster) -> (Deployment, Deployment) {
    let made = bundle(&validate(cluster, &env(), &Fetched::default()).unwrap(), 2);
    (made.deployment, made.nats.unwrap().deployment)
}

/// A node Deployment about whose pods `message` is said; `status` are its counts.
fn refusing(cluster: &ChannelCluster, message: &str, mut status: serde_json::Value) -> Deployment {
    let (mut nodes, _) = deployments(cluster);
    status["conditions"] = json!([{"type": "ReplicaFailure", "status": "True", "message": message}]);
    nodes.status = serde_json::from_value(status).unwrap();
    nodes
}

fn recorded(cluster: &ChannelCluster, message: &str, status: serde_json::Value) -> Option<RefusedUserIds> {
    let nodes = refusing(cluster, message, status);
    let previous = cluster.status.as_ref().and_then(|status| status.refused_user_ids.as_ref());
    let asked = Asked::of(cluster);
    step(&asked, previous, |part| match part {
        Node => refusal(&asked, previous, part, Some(&nodes), None),
        Nats => None,
    })
}

fn remember(cluster: &mut ChannelCluster, refused: Option<RefusedUserIds>) {
    cluster.status =
        Some(ChannelClusterStatus { refused_user_ids: refused, ..ChannelClusterStatus::default() });
}

fn context(deployment: &Deployment) -> PodSecurityContext {
    deployment.spec.clone().unwrap().template.spec.unwrap().security_context.unwrap()
}

#[test]
fn refused_ids_are_left_out_as_if_the_user_had_said_so() {
    for words in [CONSTRAINT, POLICY] {
        let mut plain = cluster(SPEC);
        assert_eq!(context(&deployments(&plain).0).run_as_user, Some(65_532));
        let refused = recorded(&plain, words, json!({}));
        let said = sentence(refused.as_ref().unwrap()).unwrap();
        assert!(
            said.contains("the node pods are made without them") && said.contains("nodes.userIds"),
            "{said}"
        );
        assert!(!said.contains("7b9"), "the name of the pod changes with each attempt: {said}");
        remember(&mut plain, refused);
        let (nodes, nats) = deployments(&plain);
        assert_eq!(nodes.spec, deployments(&with("userIds: Assigned")).0.spec);
        assert_eq!(context(&nodes).run_as_non_root, Some(true), "it still holds");
        assert_eq!(context(&nats).run_as_user, Some(65_532), "nobody refused those");
    }
}

#[test]
fn it_is_remembered_until_the_user_says_whose_ids_they_are() {
    let mut plain = cluster(SPEC);
    let refused = recorded(&plain, POLICY, json!({}));
    remember(&mut plain, refused.clone());
    assert_eq!(recorded(&plain, POLICY, json!({})), refused, "the condition stays for a moment");
    assert_eq!(recorded(&plain, "quota", json!({"availableReplicas": 2})), refused, "no flapping");
    for word in ["Fixed", "Assigned"] {
        let mut said = with(&format!("userIds: {word}"));
        remember(&mut said, refused.clone());
        assert!(!left_out(&said, Node));
        assert_eq!(recorded(&said, POLICY, json!({})), None, "{word} is the user's word");
    }
}

#[test]
fn only_ids_that_nobody_but_the_operator_asked_for_are_blamed() {
    let own = with("podSecurityContext: {runAsUser: 7}");
    assert_eq!(recorded(&own, POLICY, json!({})), None, "the user's");
    assert!(recorded(&own, CONSTRAINT, json!({})).is_some(), "fsGroup is ours");
    let all = with("podSecurityContext: {runAsUser: 7, runAsGroup: 7, fsGroup: 7}");
    for (of, words) in [
        (&all, "denied the request: user ids are 1000 to 2000"),
        (&cluster(SPEC), "exceeded quota: q"),
        (&cluster(SPEC), "violates PodSecurity \"restricted:latest\": runAsNonRoot != true"),
    ] {
        assert_eq!(recorded(of, words, json!({})), None, "{words}");
    }
}

#[test]
fn serving_nodes_keep_theirs_unless_they_are_being_replaced() {
    let plain = cluster(SPEC);
    let serving =
        recorded(&plain, POLICY, json!({"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}));
    let said = sentence(serving.as_ref().unwrap()).unwrap();
    assert!(!serving.as_ref().unwrap().nodes.as_ref().unwrap().left_out);
    assert!(said.contains("no further one can be made") && said.contains("userIds to Assigned"), "{said}");
    let mut kept = plain.clone();
    remember(&mut kept, serving);
    assert_eq!(context(&deployments(&kept).0).run_as_user, Some(65_532));
    assert_eq!(recorded(&kept, "exceeded quota: q", json!({})), None, "nothing refuses any more");
    let rolling = json!({"replicas": 2, "updatedReplicas": 0, "availableReplicas": 2});
    assert!(recorded(&kept, POLICY, rolling).unwrap().nodes.unwrap().left_out);
}

#[test]
fn a_policy_on_deployments_counts_as_well() {
    let plain = cluster(SPEC);
    let words = "the API server refuses Deployment chat-nats: admission webhook \"p\" denied the request: runAsUser; the API \
        server refuses Deployment chat-node: quota";
    let asked = Asked::of(&plain);
    let of = |part: Component| refusal(&asked, None, part, None, Some(words));
    assert_eq!(of(Node), None, "the words of another");
    let refused = step(&asked, None, |part| if part == Nats { of(part) } else { None }).unwrap();
    assert!(refused.nodes.is_none() && refused.backplane.as_ref().unwrap().left_out);
    assert!(sentence(&refused).unwrap().contains("backplane.userIds"));
    let mut plain = plain;
    remember(&mut plain, Some(refused));
    assert_eq!(context(&deployments(&plain).1).run_as_user, None);
    assert_eq!(context(&deployments(&plain).0).run_as_user, Some(65_532));
}
