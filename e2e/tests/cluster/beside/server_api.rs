//! The server API on a Service of its own: the key of a backend counts at each node, and what it asks for is done on all of them.

use anyhow::{Context, Result, ensure};
use e2e::{
    fleet::{Fleet, eventually},
    report::record,
    stock::StockClients,
};
use serde_json::{Value, json};

const NODES: usize = 2;
const CLIENTS: usize = 20;
const SPEC: &str = "{targetConnections: 1000, rooms: {maxMembers: 150}, nodes: {min: 1, max: 2, replicas: 2}, \
    autoscaling: {mode: Manual}, auth: {anonymous: true}, expose: {chatPage: true, api: {secretName: backends, port: 8080}}}";
/// `printf %s the-key-of-the-backend | sha256sum`
const DIGEST: &str = "6e883399da7d7d7dd0031c0667ab4eaae7fc0bfd8b69015fd38e5b32eb58e684";

fn give_keys(fleet: &Fleet) {
    let keys = format!("keys:\n- {{name: backend, sha256: {DIGEST}, scopes: [publish, read, manage]}}\n");
    let labels = json!({"channelcluster.io/credentials": "true"});
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "backends", "namespace": fleet.namespace, "labels": labels},
        "stringData": {"keys.yaml": keys},
    });
    fleet.instance.apply(&secret.to_string()).unwrap();
}

/// What the Service of the API answers.
fn ask(fleet: &Fleet, path: &str, body: Option<&Value>) -> Result<Value> {
    let address = fleet.instance.service_address(&fleet.namespace, &format!("{}-api", fleet.name))?;
    let mut command = fleet.instance.client_command("curl");
    command.args([
        "-sS",
        "--fail-with-body",
        "--max-time",
        "10",
        "-H",
        "authorization: Bearer the-key-of-the-backend",
    ]);
    if let Some(body) = body {
        command.args(["-H", "content-type: application/json", "-d", &body.to_string()]);
    }
    let output = command.arg(format!("http://{address}:8080{path}")).output().context("curl")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{path}: {text} {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).with_context(|| text.into_owned())
}

#[test]
fn a_backend_reaches_all_clients_by_the_service_of_the_api() {
    let fleet = Fleet::create("api", SPEC).unwrap();
    give_keys(&fleet);
    fleet.wait_ready(NODES).unwrap();
    let url = fleet.socket_url().unwrap();
    let mut clients = StockClients::spread(&fleet.instance, &url, CLIENTS, CLIENTS, NODES).unwrap();
    let (topic, elapsed) = eventually("the room of all is listed", || {
        let topics = ask(&fleet, "/v1/topics?prefix=room:", None)?;
        let line = topics["topics"][0].clone();
        ensure!(
            topics["partial"] == false && line["members"] == CLIENTS && line["nodes"] == NODES,
            "{topics}"
        );
        Ok(line["topic"].as_str().map(str::to_owned))
    })
    .unwrap();
    record("server_api", "room_listed", elapsed.as_secs_f64()).unwrap();
    let said =
        json!({"topic": topic, "event": "told", "payload": {"by": "backend"}, "idempotencyKey": "once"});
    let answers: Vec<_> = (0..4).map(|_| ask(&fleet, "/v1/publish", Some(&said)).unwrap()).collect();
    assert!(answers.iter().all(|answer| answer["reach"] == "fleet"), "{answers:?}");
    let firsts = answers.iter().filter(|answer| answer["repeated"] == false).count();
    assert_eq!(firsts, 1, "whichever node the Service chose: {answers:?}");
    let done = ask(&fleet, "/v1/disconnect", Some(&json!({"topic": topic, "code": 4_000}))).unwrap();
    assert_eq!(
        (&done["connections"], &done["nodes"], &done["partial"]),
        (&json!(CLIENTS), &json!(NODES), &json!(false))
    );
    let (summary, elapsed) = eventually("all clients are back", || {
        let summary = clients.summary()?;
        Ok((summary.all_back() && summary.reconnects == CLIENTS as u64).then_some(summary))
    })
    .unwrap();
    assert_eq!(summary.codes(), ["4000"], "{summary:?}");
    record("server_api", "closed_to_back", elapsed.as_secs_f64()).unwrap();
    clients.stop().unwrap();

    // Without the wish the Service goes, and the fleet stays.
    fleet.apply_spec(&SPEC.replace(", api: {secretName: backends, port: 8080}", "")).unwrap();
    let (_, elapsed) = eventually("the Service of the API is gone", || {
        let service = format!("{}-api", fleet.name);
        let left = fleet.kubectl(&["get", "service", &service, "--ignore-not-found", "-o", "name"])?;
        Ok(left.trim().is_empty().then_some(()))
    })
    .unwrap();
    record("server_api", "service_gone", elapsed.as_secs_f64()).unwrap();
    fleet.wait_ready(NODES).unwrap();
}
