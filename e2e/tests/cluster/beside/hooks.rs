//! Hooks: the program of docs/HOOKS.md behind a Service, asked by the nodes of a fleet with the Secret of the page.

use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use e2e::{
    fleet::{Fleet, eventually},
    report::record,
    stock::StockClients,
};
use serde_json::json;

use crate::pages;

const NODES: usize = 2;
const CLIENTS: usize = 20;
const KEY: &str = "whsec_Q2hhbmdlIHRoaXMgZXhhbXBsZSBrZXkgbm93ISE=";

fn spec(namespace: &str) -> String {
    format!(
        "{{targetConnections: 1000, rooms: {{maxMembers: 150, policies: [{{topics: 'room:*', hooks: [Join, Publish]}}]}}, \
         nodes: {{min: 1, max: 2, replicas: 2}}, autoscaling: {{mode: Manual}}, auth: {{anonymous: true}}, expose: {{chatPage: true}}, \
         hooks: {{url: 'http://backend.{namespace}.svc/hooks', secretName: chat-hooks, timeout: 10s}}}}"
    )
}

/// The backend, which ends with the value.
struct Backend(Child);

impl Drop for Backend {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Starts the program of the page where the clients are, and makes a Service of it in the fleet's namespace.
fn backend(fleet: &Fleet, port: u16) -> Backend {
    let page = pages::page("docs/HOOKS.md");
    let program = page.split_once("```python\n").and_then(|(_, rest)| rest.split_once("```")).unwrap().0;
    let address = fleet.instance.client_addresses().remove(0);
    let child = fleet
        .instance
        .client_command("python3")
        .args(["-c", program, &port.to_string()])
        .env("SIGNING_KEY", KEY)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let at = json!({"name": "backend", "namespace": fleet.namespace});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": at,
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": port}]}});
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "backend", "namespace": fleet.namespace, "labels": {"kubernetes.io/service-name": "backend"}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": port}], "endpoints": [{"addresses": [address]}]});
    let secret = json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "chat-hooks", "namespace": fleet.namespace, "labels": {"channelcluster.io/credentials": "true"}},
        "stringData": {"signing-key": KEY}});
    for object in [service, slice, secret] {
        fleet.instance.apply(&object.to_string()).unwrap();
    }
    Backend(child)
}

/// The sum of a counter over the nodes, asked through the API server.
fn counted(fleet: &Fleet, name: &str) -> Result<f64> {
    let mut sum = 0.0;
    for pod in fleet.node_pods()? {
        let path = format!("/api/v1/namespaces/{}/pods/{}:9400/proxy/metrics", fleet.namespace, pod.name);
        let text = fleet.instance.kubectl(["get", "--raw", &path, "--request-timeout", "5s"])?;
        let line =
            text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
        sum += line.trim().parse::<f64>()?;
    }
    Ok(sum)
}

#[test]
fn nodes_ask_the_backend_of_the_page_and_clients_go_on_when_it_is_gone() {
    let fleet = Fleet::create(
        "hooks",
        "{targetConnections: 1000, rooms: {maxMembers: 150}, auth: {anonymous: true}}",
    )
    .unwrap();
    let port = 30_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    let backend = backend(&fleet, port);
    fleet.apply_spec(&spec(&fleet.namespace)).unwrap();
    let (_, elapsed) = eventually("the nodes have the Secret", || {
        let pods = fleet.node_pods()?;
        ensure!(pods.len() == NODES && pods.iter().all(|pod| pod.ready && !pod.terminating), "{pods:?}");
        Ok((counted(&fleet, "channelcluster_node_hook_open ")? == 0.0).then_some(()))
    })
    .unwrap();
    record("hooks", "secret_named_to_ready", elapsed.as_secs_f64()).unwrap();

    let url = fleet.socket_url().unwrap();
    let mut clients = StockClients::spread(&fleet.instance, &url, CLIENTS, CLIENTS, NODES).unwrap();
    let answered = counted(&fleet, "channelcluster_node_hook_requests_total{result=\"answered\"} ").unwrap();
    assert!(answered >= CLIENTS as f64, "each join was asked about: {answered}");
    assert_eq!(counted(&fleet, "channelcluster_node_hooks_failed_total ").unwrap(), 0.0);

    drop(backend);
    // Clients that are in stay in, and what they may not be asked about is refused; nobody is closed.
    let summary = clients.summary().unwrap();
    assert_eq!((summary.reconnects, summary.all_back()), (0, true), "{summary:?}");
    clients.stop().unwrap();
}
