//! The generated Secret is deleted: it is there again at once, its readers get its new content, and nodes and NATS
//! that start later accept each other.

use std::time::Duration;

use e2e::{
    fleet::{
        eventually,
        pair::{NODES, Pair},
    },
    report::record,
};

const PERIOD: Duration = Duration::from_millis(200);
const SECRET: &str = "chat-node";

#[test]
fn a_deleted_secret_is_made_again_and_all_who_read_it_follow() {
    let pair = Pair::create("secret").unwrap();
    let (fleet, pods) = (&pair.fleet, &pair.nodes);
    let uid = || fleet.kubectl(&["get", "secret", SECRET, "-o", "jsonpath={.metadata.uid}"]);
    let old = uid().unwrap();
    fleet.kubectl(&["delete", "secret", SECRET]).unwrap();
    let (_, elapsed) = eventually("the Secret is there again", || {
        let now = uid()?;
        anyhow::ensure!(now != old, "the old one");
        Ok(Some(()))
    })
    .unwrap();
    record("secret_deleted", "deleted_to_made_again", elapsed.as_secs_f64()).unwrap();

    // A node that starts now reads the new password; the other node may still have the old one.
    fleet.kubectl(&["delete", "pod", &pods[0].name, "--wait=false"]).unwrap();
    let (_, elapsed) = eventually("the fleet is whole with another node", || {
        let now = fleet.node_pods()?;
        let whole = now.len() == NODES && now.iter().all(|pod| pod.ready && pod.uid != pods[0].uid);
        anyhow::ensure!(whole, "{now:?}");
        let (ready, message) = fleet.condition("Ready")?;
        anyhow::ensure!(ready == "True", "{message}");
        Ok(Some(()))
    })
    .unwrap();
    record("secret_deleted", "node_deleted_to_whole", elapsed.as_secs_f64()).unwrap();

    pair.talk(&pair.service().unwrap(), PERIOD, NODES).unwrap().stop().unwrap();
}
