use std::collections::BTreeSet;

use crds::{ChannelCluster, ChannelClusterStatus, RefusedSysctls};

use super::{Rejected, key, left_out, sentence, step};
use crate::build::bundle;
use crate::fixtures::{cluster, env};
use crate::validate::{Fetched, validate};

const SOMAXCONN: &str = "net.core.somaxconn";
const SPEC: &str = "{targetConnections: 100, rooms: {maxMembers: 10}, nodes: {capacity: {connections: 100, writesPerSecond: 100}}, \
    auth: {anonymous: true}, tuning: {profile: None, sysctls: {net.core.somaxconn: '4096', net.ipv4.tcp_fin_timeout: '15'}}}";

fn rejected(created: u64, hash: &str) -> Rejected {
    Rejected {
        created,
        template: Some(hash.to_owned()),
        message: format!("Pod was rejected: forbidden sysctl: \"{SOMAXCONN}\" not allowlisted"),
        sysctls: vec![SOMAXCONN.to_owned(), "net.ipv4.tcp_fin_timeout".to_owned()],
    }
}

/// A fleet of before sysctls were tried: its pods ask for the unsafe one already.
fn asked_for() -> Fetched {
    Fetched { sysctls: BTreeSet::from([SOMAXCONN.to_owned()]), ..Fetched::default() }
}

fn nobody() -> BTreeSet<String> {
    BTreeSet::new()
}

#[test]
fn only_what_the_kubelet_names_is_left_out() {
    let found = step(None, "k", "h", &[rejected(5_000, "h"), rejected(6_000, "h")], &nobody()).unwrap();
    assert_eq!(
        (&found.names[..], &found.left_out[..]),
        (&[SOMAXCONN.to_owned()][..], &[SOMAXCONN.to_owned()][..])
    );
    let said = sentence(&found).unwrap();
    assert!(said.contains("refuses net.core.somaxconn") && said.contains("allowedUnsafeSysctls"), "{said}");
    assert_eq!(step(Some(&found), "k", "h2", &[rejected(5_000, "h")], &nobody()), Some(found), "remembered");
}

#[test]
fn without_a_name_all_of_the_pods_sysctls_are_left_out() {
    let silent = Rejected { message: "forbidden".to_owned(), ..rejected(5_000, "h") };
    assert_eq!(step(None, "k", "h", &[silent], &nobody()).unwrap().left_out.len(), 2);
}

#[test]
fn pods_of_another_template_do_not_count() {
    assert_eq!(step(None, "k", "new", &[rejected(5_000, "old")], &nobody()), None);
}

#[test]
fn a_sysctl_of_a_serving_node_stays_and_is_said() {
    let serving = BTreeSet::from([SOMAXCONN.to_owned()]);
    let found = step(None, "k", "h", &[rejected(5_000, "h")], &serving).unwrap();
    assert!(found.left_out.is_empty());
    assert!(sentence(&found).unwrap().contains("nodes.nodeSelector"));
}

#[test]
fn it_is_asked_for_again_when_tuning_changes_and_old_pods_do_not_count_then() {
    let old = [rejected(5_000, "h")];
    let first = step(None, "a", "h", &old, &nobody()).unwrap();
    let other = step(Some(&first), "b", "other", &old, &nobody()).unwrap();
    assert!(other.names.is_empty() && sentence(&other).is_none());
    let back = step(Some(&other), "a", "h", &old, &nobody()).unwrap();
    assert!(back.names.is_empty(), "the pod is from before");
    let again =
        step(Some(&back), "a", "h", &[rejected(5_000, "h"), rejected(7_000, "h")], &nobody()).unwrap();
    assert_eq!(again.left_out, [SOMAXCONN]);
}

#[test]
fn the_pods_are_as_if_it_had_never_been_asked_for() {
    let mut asked = cluster(SPEC);
    let plain = cluster(&SPEC.replace("net.core.somaxconn: '4096', ", ""));
    let built = |cluster: &ChannelCluster| {
        bundle(&validate(cluster, &env(), &asked_for()).unwrap(), 2).deployment.spec
    };
    assert_ne!(built(&asked), built(&plain));
    let tuning = key(&asked.spec.tuning);
    let refused =
        RefusedSysctls { tuning, left_out: vec![SOMAXCONN.to_owned()], ..RefusedSysctls::default() };
    asked.status =
        Some(ChannelClusterStatus { refused_sysctls: Some(refused), ..ChannelClusterStatus::default() });
    assert_eq!(built(&asked), built(&plain), "a fleet that served before goes back to the pods that it has");
    asked.spec.tuning.nofile = Some(2_000);
    assert!(left_out(&asked).is_empty(), "another tuning is asked for in full");
}

/// What Pod Security admission of Kubernetes 1.34 says through the Deployment.
const POD_SECURITY: &str = "pods \"chat-node-7b9-x\" is forbidden: violates PodSecurity \"baseline:v1.28\": forbidden sysctls (net.core.somaxconn, net.ipv4.tcp_fin_timeout)";

fn refusing(message: &str) -> k8s_openapi::api::apps::v1::Deployment {
    let valid = validate(&cluster(SPEC), &env(), &asked_for()).unwrap();
    let mut deployment = bundle(&valid, 2).deployment;
    let status = serde_json::json!({"conditions": [{
        "type": "ReplicaFailure", "status": "True", "message": message, "lastUpdateTime": "2026-01-01T00:00:00Z",
    }]});
    deployment.status = serde_json::from_value(status).unwrap();
    deployment
}

#[test]
fn what_pod_security_names_is_left_out_too() {
    let seen = super::by_admission(&refusing(POD_SECURITY)).unwrap();
    let hash = seen.template.clone().unwrap();
    let found = step(None, "k", &hash, &[seen], &nobody()).unwrap();
    assert_eq!(found.left_out, [SOMAXCONN, "net.ipv4.tcp_fin_timeout"]);
    let said = sentence(&found).unwrap();
    assert!(said.contains("Pod Security admission refuses") && said.contains("enforce-version"), "{said}");
}

#[test]
fn a_policy_that_names_none_means_all_and_one_that_names_others_means_none() {
    let refused = |message: &str| {
        let seen = super::by_admission(&refusing(message)).unwrap();
        let hash = seen.template.clone().unwrap();
        step(None, "k", &hash, &[seen], &nobody()).map_or(0, |found| found.left_out.len())
    };
    assert_eq!(refused("admission webhook \"p\" denied the request: sysctls are not allowed"), 2);
    assert_eq!(refused("violates PodSecurity \"baseline:v1.24\": forbidden sysctls (net.ipv4.tcp_rmem)"), 0);
    assert_eq!(refused("denied the request: sysctl net.core.somaxconn. It is unsafe"), 1);
    assert!(super::by_admission(&refusing("exceeded quota: q")).is_none());
}
