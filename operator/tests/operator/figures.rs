//! What the status and the metrics say of nodes whose figures end, against a node's admin port and an API server in
//! memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Server, UID, cluster, kept_pods, node_pod, valid, watched};
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use k8s_openapi::api::core::v1::Secret;
use kube::core::DeserializeGuard;
use node_core::admin::{BusStats, Counters, Gauges, NodePhase, Stats};
use operator::context::Context;
use operator::lease::Fence;
use operator::metrics::ClusterLabels;
use operator::scrape::{Nodes, Patience};
use operator::shared::Reconciled;
use operator_core::view::Outcome;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const CLUSTER: &str = "/apis/channelcluster.io/v1alpha1/namespaces/default/channelclusters/chat";
/// A test that has not seen what it waits for by then has failed.
const HANG: Duration = Duration::from_secs(120);

/// A node that answers as the test wants.
#[derive(Default)]
struct Node {
    asked: AtomicU64,
    silent: AtomicBool,
}

/// Closes the connection after the answer, so that the next answer needs a node that listens.
async fn stats(State(node): State<Arc<Node>>) -> ([(&'static str, &'static str); 1], Json<Stats>) {
    let asked = node.asked.fetch_add(1, Ordering::Relaxed) + 1;
    let silent_millis = if node.silent.load(Ordering::Relaxed) { 3_000 } else { 10 };
    let stats = Stats {
        boot_id: "a".to_owned(),
        node: "a".to_owned(),
        monotonic_millis: asked * 2_000,
        phase: NodePhase::Serving,
        bus_connected: Some(true),
        bus: Some(BusStats { connected: true, silent_millis, ..BusStats::default() }),
        counters: Counters { writes: asked * 2_000, ..Counters::default() },
        gauges: Gauges { connections: 300, ..Gauges::default() },
        ..Stats::default()
    };
    ([("connection", "close")], Json(stats))
}

/// Serves `node` on `port`, or on any, until the token is cancelled.
async fn serve(node: Arc<Node>, port: u16) -> (u16, CancellationToken, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let end = CancellationToken::new();
    let ended = end.clone();
    let router = Router::new().route("/v1/stats", get(stats)).with_state(node);
    let task = tokio::spawn(async move {
        tokio::select! {
            served = axum::serve(listener, router) => served.unwrap(),
            () = ended.cancelled() => {}
        }
    });
    (port, end, task)
}

/// A fleet of one ready node, and its loop.
struct Scene {
    server: Server,
    context: Context,
    fence: Arc<Fence>,
}

impl Scene {
    fn new(port: u16) -> Self {
        let server = Server::default();
        let spec = json!({"nodes": {"min": 1}});
        let object = cluster(&spec);
        server.put(CLUSTER, serde_json::to_value(&object).unwrap());
        let secret: Secret = serde_json::from_value(json!({
            "metadata": {"name": "chat-node", "namespace": "default"}, "data": {"admin-token": "c2VjcmV0"},
        }))
        .unwrap();
        server.put("/api/v1/namespaces/default/secrets/chat-node", serde_json::to_value(secret).unwrap());
        let mut shared = server.shared();
        shared.stores.clusters = watched(vec![DeserializeGuard(Ok(object))]);
        let ready = json!({"status": {
            "podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}],
        }});
        shared.stores.pods = kept_pods(vec![node_pod("a", &ready)]);
        shared.nodes = Nodes::on_port(port, Patience { connect: HANG, answer: HANG });
        let fence = shared.fence.clone();
        let context = Context::new(shared);
        let labels = ClusterLabels { namespace: "default".to_owned(), name: "chat".to_owned() };
        let cluster = Some(Arc::new(valid(&spec)));
        let told = Reconciled {
            uid: UID.to_owned(),
            generation: 1,
            outcome: Outcome::Applied,
            cluster,
            waiting: None,
        };
        context.tell(&labels, told);
        Self { server, context, fence }
    }

    /// Waits until `holds` is true of the status.
    async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        let begun = Instant::now();
        loop {
            self.fence.extend(operator::clock::now());
            let status = self.status();
            if holds(&status) {
                return;
            }
            assert!(begun.elapsed() < HANG, "{what} did not come: {status}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The status that was applied last: the server in memory keeps fields that are no longer applied.
    fn status(&self) -> Value {
        let applied = self.server.writes().into_iter().rev().find(|write| write.path.ends_with("/status"));
        applied.map_or(Value::Null, |write| write.body["status"].clone())
    }

    fn metrics(&self) -> String {
        self.context.shared.metrics.encode().unwrap()
    }
}

/// Status and reason of a condition.
fn condition(status: &Value, kind: &str) -> Option<(String, String)> {
    let found = status["conditions"].as_array()?.iter().find(|c| c["type"] == kind)?;
    Some((found["status"].as_str()?.to_owned(), found["reason"].as_str()?.to_owned()))
}

fn is(status: &Value, kind: &str, wanted: (&str, &str)) -> bool {
    condition(status, kind).is_some_and(|(status, reason)| (status.as_str(), reason.as_str()) == wanted)
}

#[tokio::test]
async fn a_node_that_is_gone_is_unknown_and_not_zero_nor_what_it_was() {
    let node = Arc::new(Node::default());
    let (port, end, task) = serve(node.clone(), 0).await;
    let scene = Scene::new(port);
    scene
        .until("the figures", |status| {
            status["totals"]["connections"] == 300 && status["totals"]["writesPerSecond"] == 1_000
        })
        .await;
    assert!(scene.metrics().contains("writes_per_second{namespace=\"default\",name=\"chat\"} 1000"));
    end.cancel();
    task.await.unwrap();
    scene.until("that it is unknown", |status| is(status, "MetricsFresh", ("False", "MetricsMissing"))).await;
    let status = scene.status();
    assert_eq!(status["totals"], json!({"unknownNodes": 1}), "{status}");
    assert_eq!(status["nodes"][0]["phase"], "Unknown");
    assert!(status["nodes"][0]["lastAnswer"].is_string() && status["nodes"][0].get("connections").is_none());
    assert!(is(&status, "TuningApplied", ("Unknown", "NoFigures")), "{status}");
    let text = scene.metrics();
    assert!(!text.contains("writes_per_second{") && text.contains("unknown_nodes{"), "{text}");
}

#[tokio::test]
async fn a_silent_bus_is_said_and_ends() {
    let node = Arc::new(Node::default());
    let (port, ..) = serve(node.clone(), 0).await;
    let scene = Scene::new(port);
    scene.until("that it serves", |status| is(status, "Ready", ("True", "Serving"))).await;
    node.silent.store(true, Ordering::Relaxed);
    scene.until("that it is silent", |s| is(s, "Ready", ("False", "BackplaneDisconnected"))).await;
    let status = scene.status();
    assert!(is(&status, "BackplaneHealthy", ("False", "BackplaneDisconnected")), "{status}");
    node.silent.store(false, Ordering::Relaxed);
    scene.until("that it is heard again", |s| is(s, "BackplaneHealthy", ("True", "Heard"))).await;
}
