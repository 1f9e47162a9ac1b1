//! (i) When a ChannelCluster is deleted, everything that it owned is deleted, and nothing of the user's.

use e2e::fleet::{Fleet, eventually};
use e2e::report::record;

const SPEC: &str = "{targetConnections: 100, rooms: {maxMembers: 50}, nodes: {min: 2, max: 2}, \
    drain: {delay: 1s, deadline: 10s}, auth: {anonymous: true}}";
const KINDS: &str = "deployments,replicasets,pods,services,endpointslices,serviceaccounts,configmaps,\
    secrets,poddisruptionbudgets,networkpolicies";

/// Label of everything that belongs to the ChannelCluster.
const LABEL: &str = "channelcluster.io/cluster=chat";
/// An object of the user's with that label, and without an owner.
const LABELLED: &str = "configmap/users-own";

fn owned(fleet: &Fleet) -> anyhow::Result<Vec<String>> {
    let list = fleet.kubectl(&["get", KINDS, "-l", LABEL, "-o", "name"])?;
    Ok(list.lines().filter(|name| *name != LABELLED).map(str::to_owned).collect())
}

#[test]
fn deletion_takes_what_is_owned_and_leaves_what_is_not() {
    let fleet = Fleet::create("delete", SPEC).unwrap();
    fleet.wait_ready(2).unwrap();
    assert!(owned(&fleet).unwrap().len() >= 8, "{:?}", owned(&fleet));
    // Objects of the user's, with names as close as can be, and one with our own label: the owner decides, not the
    // label.
    fleet.kubectl(&["create", "configmap", "chat-users", "--from-literal=a=b"]).unwrap();
    fleet.kubectl(&["create", "secret", "generic", "chat-users", "--from-literal=a=b"]).unwrap();
    fleet.kubectl(&["create", "serviceaccount", "chat-users"]).unwrap();
    fleet.kubectl(&["create", "configmap", "users-own", "--from-literal=a=b"]).unwrap();
    fleet.kubectl(&["label", LABELLED, LABEL]).unwrap();

    fleet.kubectl(&["delete", "channelcluster", "chat", "--wait=true", "--timeout=120s"]).unwrap();
    let (_, elapsed) = eventually("everything owned is gone", || {
        let left = owned(&fleet)?;
        anyhow::ensure!(left.is_empty(), "left: {left:?}");
        Ok(Some(()))
    })
    .unwrap();
    record("delete", "deleted_to_gone", elapsed.as_secs_f64()).unwrap();

    for kind in ["configmap", "secret", "serviceaccount"] {
        fleet.kubectl(&["get", kind, "chat-users"]).unwrap();
    }
    let labelled = fleet.kubectl(&["get", KINDS, "-l", LABEL, "-o", "name"]).unwrap();
    assert_eq!(labelled.trim(), LABELLED, "what carries the label without being owned stays");
    let rest = fleet.kubectl(&["get", KINDS, "-o", "name"]).unwrap();
    let chat: Vec<_> =
        rest.lines().filter(|name| name.contains("/chat") && !name.contains("chat-users")).collect();
    assert!(chat.is_empty(), "left without the label: {chat:?}");
}
