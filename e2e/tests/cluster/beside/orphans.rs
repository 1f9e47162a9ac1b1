//! A ChannelCluster is deleted while its objects stay, and is then made again, as after a restore: it takes over its
//! own objects, and clients notice nothing.

use std::time::Duration;

use e2e::{
    fleet::{
        eventually,
        pair::{PORT, Pair, spec},
    },
    report::record,
    scaling::node_deployments,
};

const PERIOD: Duration = Duration::from_millis(500);
/// Objects that name their owner.
const OWNED: [&str; 4] = ["service/chat", "configmap/chat-config", "secret/chat-node", "service/chat-nats"];

#[test]
fn left_behind_objects_are_taken_back_without_a_disconnect() {
    let pair = Pair::create("orphans").unwrap();
    let clients = pair.talk(&pair.service().unwrap(), PERIOD, 1).unwrap();
    let fleet = &pair.fleet;

    fleet.kubectl(&["delete", "channelcluster", &fleet.name, "--cascade=orphan", "--wait=true"]).unwrap();
    fleet.apply_spec(&spec(PORT)).unwrap();
    let uid = fleet.object().unwrap()["metadata"]["uid"].clone();
    let (_, elapsed) = eventually("all objects belong to the new ChannelCluster, and it is Ready", || {
        for object in OWNED {
            let found = fleet.instance.kubectl_json(["-n", &fleet.namespace, "get", object])?;
            let owners = &found["metadata"]["ownerReferences"];
            anyhow::ensure!(owners[0]["uid"] == uid, "{object} belongs to {owners}");
        }
        let nodes = node_deployments(fleet)?;
        anyhow::ensure!(nodes.len() == 1, "{} Deployments of nodes", nodes.len());
        let owners = &nodes[0]["metadata"]["ownerReferences"];
        anyhow::ensure!(owners[0]["uid"] == uid, "the nodes belong to {owners}");
        let (ready, message) = fleet.condition("Ready")?;
        anyhow::ensure!(ready == "True", "{message}");
        Ok(Some(()))
    })
    .unwrap();
    record("orphans", "restored_to_ready", elapsed.as_secs_f64()).unwrap();

    pair.undisturbed(clients).unwrap();
}
