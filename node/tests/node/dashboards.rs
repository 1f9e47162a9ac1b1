//! The panels of the fleet's dashboard that show nodes, asked of a real Prometheus that scrapes real nodes.

use std::{fs, time::Duration};

use serde_json::json;

use crate::panels::{Prometheus, queries};
use crate::support::{
    client::Client,
    process::{Process, command},
    tls::Certificate,
    wait::wait,
};

#[test]
fn every_panel_about_nodes_has_samples() {
    // One node has every family of metrics, as it has a bus, keys that are fetched, and a certificate; of these it reaches
    // none. The other one has clients.
    let dir = std::env::temp_dir().join(format!("channel-node-panels-{:x}", rand::random::<u64>()));
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("admin-token"), "token").unwrap();
    fs::write(dir.join("nats-password"), "password").unwrap();
    let certificate = Certificate::of("one");
    let config =
        "bus: {nats: {urls: [\"nats://127.0.0.1:1\"], user: channel-node}}\nauth: {anonymous: true}\n";
    fs::write(dir.join("node.yaml"), config).unwrap();
    let mut whole = command();
    whole.arg("--config").arg(dir.join("node.yaml")).arg("--secrets").arg(&dir);
    whole.arg("--tls").arg(certificate.path());
    let whole = Process::start(whole);
    let mut dev = command();
    dev.arg("--dev");
    let dev = Process::start(dev);
    let labels = |pod: &str| json!({"namespace": "default", "channelcluster_io_cluster": "chat", "pod": pod});
    let targets = [(whole.admin, labels("chat-node-a")), (dev.admin, labels("chat-node-b"))];
    let prometheus = Prometheus::start("panels", &targets);

    let (mut speaker, _) = Client::join(dev.listen, "room:1");
    let (_listener, _) = Client::join(dev.listen, "room:1");
    let about_nodes: Vec<_> =
        queries("fleet").into_iter().filter(|q| q.expr.contains("channelcluster_node_")).collect();
    assert!(about_nodes.iter().all(|query| !query.expr.contains("channelcluster_operator_")));
    assert!(about_nodes.len() > 20, "only {}", about_nodes.len());
    let writes = about_nodes.iter().find(|query| query.panel == "Writes/s").unwrap();
    wait("the panel of writes shows them", || {
        speaker.send(&json!(["1", "2", "room:1", "said", {}]));
        std::thread::sleep(Duration::from_millis(20));
        let samples = prometheus.query(&writes.expr).unwrap_or_default();
        samples.first().is_some_and(|s| s["value"][1].as_str().unwrap().parse::<f64>().unwrap() > 0.0)
    });
    prometheus.until_all_have_samples(&about_nodes, &[]);
    fs::remove_dir_all(&dir).unwrap();
}
