//! A fleet that speaks TLS with its clients: what its status says while the certificate is missing or broken, and what its clients
//! notice of another certificate, of a node that cannot start, and of a drain.

use std::{fs, io::Write, process::Stdio};

use anyhow::{Context, Result, ensure};
use e2e::{
    fleet::{Fleet, NodePod, eventually},
    report::record,
    stock::{AUTHORITY, StockClients},
};
use serde_json::json;

/// The test's certificates, all of one authority.
const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../node/tests/data/tls");
const SECRET: &str = "chat-tls";
const NODES: usize = 2;
/// Enough that each node has some.
const CLIENTS: usize = 20;

fn spec(nodes: usize) -> String {
    format!(
        "{{targetConnections: 1000, rooms: {{maxMembers: 150}}, nodes: {{min: 1, max: {NODES}, replicas: {nodes}}}, \
         autoscaling: {{mode: Manual}}, drain: {{delay: 1s, deadline: 20s}}, auth: {{anonymous: true}}, \
         expose: {{chatPage: true, tls: {{secretName: {SECRET}}}}}}}"
    )
}

fn data(name: &str) -> String {
    fs::read_to_string(format!("{DATA}/{name}")).unwrap()
}

/// Gives the Secret this certificate and this key.
fn give(fleet: &Fleet, certificate: &str, key: &str) {
    let labels = json!({"channelcluster.io/credentials": "true"});
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": SECRET, "namespace": fleet.namespace, "labels": labels},
        "stringData": {"tls.crt": certificate, "tls.key": key},
    });
    fleet.instance.apply(&secret.to_string()).unwrap();
}

/// What OpenSSL tells of a connection to a node, which it uses for one request.
fn connect(fleet: &Fleet, node: &NodePod, more: &[&str]) -> Result<String> {
    let mut command = fleet.instance.client_command("openssl");
    command.args(["s_client", "-connect", &format!("{}:4000", node.address), "-servername", "localhost"]);
    command.args(["-CAfile", AUTHORITY, "-verify_return_error", "-ign_eof"]).args(more);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("openssl")?;
    let request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    child.stdin.as_mut().context("its input is piped")?.write_all(request)?;
    let text = String::from_utf8(child.wait_with_output()?.stdout)?;
    ensure!(text.contains("HTTP/1.1 200 OK") && text.contains("TLSv1.3"), "{text}");
    Ok(text)
}

/// Waits until a condition of the fleet has this reason and these words.
fn says(fleet: &Fleet, reason: &str, words: &[&str]) {
    let (_, elapsed) = eventually(&format!("the status says {reason}"), || {
        let object = fleet.object()?;
        let conditions = object["status"]["conditions"].as_array().context("no conditions yet")?;
        let has =
            |text: &serde_json::Value, part: &str| text.as_str().is_some_and(|text| text.contains(part));
        let found = conditions.iter().any(|condition| {
            condition["reason"] == reason && words.iter().all(|word| has(&condition["message"], word))
        });
        ensure!(found, "no {words:?} in {conditions:?}");
        Ok(Some(()))
    })
    .unwrap();
    record("tls_clients", &format!("{reason}_said"), elapsed.as_secs_f64()).unwrap();
}

/// Waits until each of these nodes shows this certificate.
fn show(fleet: &Fleet, nodes: &[NodePod], certificate: &str) {
    let (_, elapsed) = eventually("the nodes show the certificate", || {
        for node in nodes {
            ensure!(connect(fleet, node, &[])?.contains(certificate.trim()), "another one on {}", node.name);
        }
        Ok(Some(()))
    })
    .unwrap();
    record("tls_clients", "given_to_shown", elapsed.as_secs_f64()).unwrap();
}

/// Waits until all clients are in their rooms and hear, and checks how often connections ended, all by a polite goodbye.
fn are_there(clients: &mut StockClients, ended: std::ops::RangeInclusive<u64>) {
    let (summary, _) = eventually("all clients are in their rooms", || {
        let summary = clients.summary()?;
        Ok(summary.all_back().then_some(summary))
    })
    .unwrap();
    assert!(ended.contains(&summary.reconnects), "{summary:?}");
    let codes: Vec<_> = summary.closes.as_object().unwrap().keys().collect();
    assert!(codes.iter().all(|code| *code == "1012"), "{summary:?}");
}

/// The session of one node is resumed on another.
fn resume(fleet: &Fleet, nodes: &[NodePod]) {
    let [one, other] = nodes else { panic!("two nodes: {nodes:?}") };
    let file = std::env::temp_dir().join(format!("{}-session.pem", fleet.namespace));
    let file = file.to_str().unwrap();
    assert!(!connect(fleet, one, &["-sess_out", file]).unwrap().contains("Reused,"));
    let resumed = connect(fleet, other, &["-sess_in", file]).unwrap();
    fs::remove_file(file).unwrap();
    assert!(resumed.contains("Reused, TLSv1.3"), "{resumed}");
}

#[test]
fn clients_of_a_fleet_with_tls_stay_whatever_becomes_of_its_certificate() {
    let fleet = Fleet::create("tls", &spec(NODES)).unwrap();
    says(&fleet, "SecretNotFound", &[SECRET, "expose.tls.secretName", "create it with tls.crt and tls.key"]);
    give(&fleet, &data("one.crt"), &data("one.key"));
    let (nodes, elapsed) = fleet.wait_ready(NODES).unwrap();
    record("tls_clients", "secret_to_ready", elapsed.as_secs_f64()).unwrap();
    show(&fleet, &nodes, &data("one.crt"));
    resume(&fleet, &nodes);

    let url = format!("wss://{}/socket", fleet.service_address().unwrap());
    let mut clients = StockClients::spread(&fleet.instance, &url, CLIENTS, CLIENTS / 2, NODES).unwrap();
    eventually("the operator counts them", || {
        let figures = &fleet.object()?["status"]["nodes"];
        let counts = figures.as_array().context("no nodes yet")?.iter();
        let sum: i64 = counts.filter_map(|node| node["connections"].as_i64()).sum();
        ensure!(sum == CLIENTS as i64, "{sum} connections");
        Ok(Some(()))
    })
    .unwrap();

    give(&fleet, &data("two.crt"), &data("two.key"));
    show(&fleet, &nodes, &data("two.crt"));
    are_there(&mut clients, 0..=0);

    // A node that starts now has nothing to show. The other one has, and all clients.
    give(&fleet, "no certificate", &data("two.key"));
    fleet.kubectl(&["delete", "pod", &nodes[0].name, "--wait=false"]).unwrap();
    says(&fleet, "CrashLoop", &["it must hold tls.crt and tls.key"]);
    show(&fleet, &nodes[1..], &data("two.crt"));
    are_there(&mut clients, 1..=CLIENTS as u64);

    give(&fleet, &data("two.crt"), &data("two.key"));
    let (nodes, elapsed) = fleet.wait_ready(NODES).unwrap();
    record("tls_clients", "mended_to_ready", elapsed.as_secs_f64()).unwrap();
    resume(&fleet, &nodes);

    // All clients are on the node that was there all the time. It is deleted, and they go to the other one.
    fleet.kubectl(&["delete", "pod", &nodes[0].name, "--wait=false"]).unwrap();
    let (_, elapsed) = eventually("another node is there", || {
        let now = fleet.node_pods()?;
        let is_new = now.iter().all(|pod| pod.ready && !pod.terminating && pod.uid != nodes[0].uid);
        Ok((now.len() == NODES && is_new).then_some(()))
    })
    .unwrap();
    record("tls_clients", "deleted_to_ready", elapsed.as_secs_f64()).unwrap();
    are_there(&mut clients, CLIENTS as u64..=2 * CLIENTS as u64);

    fleet.apply_spec(&spec(1)).unwrap();
    let (nodes, elapsed) = fleet.wait_ready(1).unwrap();
    record("tls_clients", "drained", elapsed.as_secs_f64()).unwrap();
    are_there(&mut clients, CLIENTS as u64..=3 * CLIENTS as u64);

    show(&fleet, &nodes, &data("two.crt"));
    clients.stop().unwrap();
}
