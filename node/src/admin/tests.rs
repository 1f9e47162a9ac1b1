use std::{fs, net::SocketAddr, sync::atomic::Ordering::Relaxed};

use node_core::{
    addresses::Addresses,
    admin::{DrainStatus, RebalanceStatus, Stats},
    config::NodeConfig,
    counters::{CloseReason, Counters},
    moving::{MoveOrder, MoveReport, Share},
    route::Registry,
    shard::Mail,
    ws::host::Names,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;
use crate::{
    bus::BusState,
    mailbox::{Mailbox, mailbox},
    secrets::{CREDENTIAL_BYTES, SecretFile},
    test_dir::TestDir,
};

struct Node {
    address: SocketAddr,
    app: Arc<App>,
    inboxes: Vec<Mailbox>,
}

async fn node(change: impl FnOnce(&mut App)) -> Node {
    let (handles, inboxes): (Vec<_>, Vec<_>) = (0..2).map(|index| mailbox(index).unwrap()).unzip();
    let mut app = App {
        memory: crate::memory::Budget::find(None),
        descriptor_room: 19_808,
        boot_id: 7,
        started: std::time::Instant::now(),
        node_name: "n1".to_owned(),
        config: Arc::new(NodeConfig::dev()).into(),
        max_connections: None,
        tls: None,
        shards: handles,
        topics: Arc::new(Registry::new(Default::default())),
        addresses: Arc::new(Addresses::new(Default::default())),
        near: Default::default(),
        history: Default::default(),
        drain: Default::default(),
        ready: Arc::default(),
        bus: None,
        token: None,
        api_keys: Default::default(),
        api_counts: Default::default(),
        hook_counts: Default::default(),
        key_sources: Default::default(),
        reloads: Default::default(),
        reload_failures: Default::default(),
    };
    change(&mut app);
    let app = Arc::new(app);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let api = Arc::new(Api::new(Arc::clone(&app), None, Default::default()));
    tokio::spawn(serve(vec![listener], Arc::clone(&app), api));
    Node { address, app, inboxes }
}

impl Node {
    /// Status, head and body of the answer to one request, which is sent without an HTTP client so that it may be
    /// wrong.
    async fn ask(&self, head: &str, body: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let request = format!(
            "{head}\r\nhost: n\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), head.to_owned(), body.to_owned())
    }

    async fn status(&self, head: &str) -> u16 {
        self.ask(head, "").await.0
    }
}

#[tokio::test]
async fn the_api_wants_the_token_and_the_probes_do_not() {
    let dir = TestDir::new("admin");
    fs::write(dir.path().join("admin-token"), "secret\n").unwrap();
    let node =
        node(|app| app.token = Some(SecretFile::new(dir.path(), "admin-token", CREDENTIAL_BYTES))).await;
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(node.status(&format!("GET {path} HTTP/1.1")).await, 200, "{path}");
    }
    for request in
        ["GET /v1/stats", "POST /v1/drain", "DELETE /v1/drain", "POST /v1/rebalance", "DELETE /v1/rebalance"]
    {
        let (status, head, body) = node.ask(&format!("{request} HTTP/1.1"), "").await;
        assert_eq!(status, 401, "{request}");
        assert!(head.to_lowercase().contains("www-authenticate: bearer") && !body.contains("secret"));
    }
    let with = |token: &str| format!("GET /v1/stats HTTP/1.1\r\nauthorization: {token}");
    for token in ["Bearer secres", "Bearer ", "secret", "Bearer secretsecret"] {
        assert_eq!(node.status(&with(token)).await, 401, "{token}");
    }
    assert_eq!(node.status(&with("bearer secret")).await, 200);
    fs::write(dir.path().join("admin-token"), "rotated").unwrap();
    assert_eq!(node.status(&with("Bearer secret")).await, 401);
    assert_eq!(node.status(&with("Bearer rotated")).await, 200);
    fs::remove_file(dir.path().join("admin-token")).unwrap();
    assert_eq!(node.status(&with("Bearer rotated")).await, 503);
}

#[tokio::test]
async fn a_port_without_a_token_is_reached_by_local_names_only() {
    let node = node(|app| {
        let mut config = NodeConfig::dev();
        config.auth.names = Names::Loopback;
        app.config = Arc::new(config).into();
    })
    .await;
    // The client here calls the node "n".
    for line in ["GET /metrics", "GET /v1/stats", "POST /v1/drain", "DELETE /v1/drain", "POST /v1/rebalance"]
    {
        assert_eq!(node.status(&format!("{line} HTTP/1.1")).await, 403, "{line}");
    }
}

#[tokio::test]
async fn readiness_waits_for_the_first_bus_connection_only() {
    let bus = Arc::new(BusState::default());
    let node = node(|app| app.bus = Some(Arc::clone(&bus))).await;
    assert_eq!(node.status("GET /readyz HTTP/1.1").await, 503);
    bus.set_connected(true);
    assert_eq!(node.status("GET /readyz HTTP/1.1").await, 200);
    bus.set_connected(false);
    assert_eq!(
        node.status("GET /readyz HTTP/1.1").await,
        200,
        "a lost bus must not take the node out of service"
    );
    assert_eq!(node.status("GET /healthz HTTP/1.1").await, 200);
}

#[tokio::test]
async fn the_drain_order_goes_to_the_shards_and_back() {
    let node = node(|_| ()).await;
    let post = "POST /v1/drain HTTP/1.1";
    let (status, _, body) = node.ask(post, r#"{"version":1,"stage":"Unready"}"#).await;
    assert_eq!(
        (status, serde_json::from_str::<DrainStatus>(&body).unwrap().phase),
        (200, NodePhase::Unready)
    );
    assert_eq!(node.status("GET /readyz HTTP/1.1").await, 503);
    assert!(node.inboxes.iter().all(Mailbox::is_empty));
    let (status, ..) = node.ask(post, r#"{"version":1,"stage":"Close","connectionsPerSecond":10}"#).await;
    assert_eq!(status, 200);
    assert!(node.inboxes.iter().all(|inbox| inbox.pop().is_some()));
    assert_eq!(node.status("DELETE /v1/drain HTTP/1.1").await, 200);
    assert_eq!(node.status("GET /readyz HTTP/1.1").await, 200);
    for (body, part) in [
        (r#"{"version":1,"stage":"Close","connectionsPerSecond":0}"#, "at least 1"),
        (r#"{"version":9,"stage":"Close"}"#, "version: 9"),
        (r#"{"stage":"Close"}"#, "version"),
        (r#"{"version":1,"stage":"Now"}"#, "Unready"),
        ("{", "JSON"),
    ] {
        let (status, _, text) = node.ask(post, body).await;
        assert!(status == 400 && text.contains(part), "{body}: {status} {text}");
    }
    node.app.drain.end(0, &node.app.shards);
    assert_eq!(node.status("DELETE /v1/drain HTTP/1.1").await, 409);
}

#[tokio::test]
async fn stats_and_metrics_show_the_same_sums() {
    let node = node(|_| ()).await;
    for (inbox, writes) in node.inboxes.iter().zip([3, 4]) {
        let mut counters = Counters { writes, connections: 1, ..Counters::ZERO };
        counters.count_closed(CloseReason::Idle);
        inbox.stats().store(&counters);
        inbox.stats().store_utilization(writes as f64 / 10.0);
    }
    let (_, _, body) = node.ask("GET /v1/stats HTTP/1.1", "").await;
    let stats: Stats = serde_json::from_str(&body).unwrap();
    assert_eq!((stats.counters.writes, stats.gauges.connections, stats.phase), (7, 2, NodePhase::Serving));
    assert!(stats.gauges.nofile.soft > 0 && stats.gauges.sysctls.contains_key("net.core.somaxconn"));
    assert!((stats.gauges.utilization - 0.4).abs() < 1e-6);

    let (status, head, text) = node.ask("GET /metrics HTTP/1.1", "").await;
    assert!(status == 200 && head.contains("application/openmetrics-text; version=1.0.0"));
    for line in [
        "channelcluster_node_writes_total 7",
        "channelcluster_node_connections 2",
        "channelcluster_node_utilization_ratio 0.4",
        "channelcluster_node_closed_total{reason=\"idle_timeout\"} 2",
        "channelcluster_node_shard_utilization_ratio{shard=\"1\"} 0.4",
    ] {
        assert!(text.lines().any(|got| got == line), "no {line} in\n{text}");
    }
    for sample in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = sample.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        let of_histogram = ["_bucket", "_count", "_sum"].into_iter().find_map(|part| name.strip_suffix(part));
        let of_histogram =
            of_histogram.filter(|family| text.contains(&format!("# TYPE {family} histogram\n")));
        let (family, kind) = match (of_histogram, name.strip_suffix("_total")) {
            (Some(family), _) => (family, "histogram"),
            (None, Some(family)) => (family, "counter"),
            (None, None) => (name, "gauge"),
        };
        assert!(text.contains(&format!("# TYPE {family} {kind}\n")), "{sample}");
        assert!(value.parse::<f64>().is_ok(), "{sample}");
    }
    assert!(text.contains("channelcluster_node_nofile{kind=\"soft\"}") && text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn a_bad_configuration_keeps_the_old_one_and_is_counted() {
    let node = node(|_| ()).await;
    let mut new = NodeConfig::dev();
    new.rooms.max_members = 5;
    new.fixed.path = "/other".to_owned();
    node.app.reload(Ok(new));
    node.app.reload(Err(crate::config::ConfigError::Size { path: "x".into() }));
    let config = node.app.config.load();
    assert_eq!((config.rooms.max_members, config.fixed.path.as_str()), (5, "/socket"));
    assert_eq!((node.app.reloads.load(Relaxed), node.app.reload_failures.load(Relaxed)), (1, 1));
    assert!(node.app.tell_config());
    assert!(node.inboxes.iter().all(|inbox| inbox.pop().is_some()));
}

#[tokio::test]
async fn an_unknown_path_and_a_huge_body_are_refused() {
    let node = node(|_| ()).await;
    assert_eq!(node.status("GET /v2 HTTP/1.1").await, 404);
    // The order is good but for its length.
    let huge = format!("{{\"version\":1,\"stage\":\"Unready\"{}}}", " ".repeat(BODY_BYTES));
    assert_eq!(node.ask("POST /v1/drain HTTP/1.1", &huge).await.0, 400);
    assert_eq!(node.app.phase(), NodePhase::Serving);
}

#[tokio::test]
async fn what_is_meant_for_another_node_is_refused_and_not_done() {
    let node = node(|_| {}).await;
    let order = r#"{"version":1,"stage":"Unready"}"#;
    let head = |name: &str| format!("POST /v1/drain HTTP/1.1\r\nx-channelcluster-node: {name}");
    let (status, _, body) = node.ask(&head("n2"), order).await;
    assert!(status == 421 && body.contains("n1"), "{status} {body}");
    let before = node.app.phase();
    assert_eq!(node.status("GET /v1/stats HTTP/1.1\r\nx-channelcluster-node: n2").await, 421);
    assert_eq!(node.status("GET /v1/stats HTTP/1.1\r\nx-channelcluster-node: n1").await, 200);
    assert_eq!(node.ask(&head("n1"), order).await.0, 200);
    assert_ne!(node.app.phase(), before, "only the second order was taken");
}

/// A good request to move clients, but for what `change` makes of it.
fn rebalance(change: impl FnOnce(&mut serde_json::Map<String, serde_json::Value>)) -> String {
    let mut body = json!({
        "version": 1, "operation": "a", "connections": 6, "connectionsPerSecond": 50, "leaseMillis": 60_000,
    });
    change(body.as_object_mut().expect("an object"));
    body.to_string()
}

const REBALANCE: &str = "POST /v1/rebalance HTTP/1.1";

#[tokio::test]
async fn the_order_to_move_clients_goes_to_the_shards_and_a_drain_goes_before_it() {
    let node = node(|_| ()).await;
    let (status, _, body) = node.ask(REBALANCE, &rebalance(|_| ())).await;
    assert_eq!(status, 200, "{body}");
    for inbox in &node.inboxes {
        let Some(Mail::Move(MoveOrder::Close(task))) = inbox.pop() else { panic!("no order") };
        assert_eq!((task.share.connections, task.milliconnections_per_second), (3, 25_000));
        let moved = Share { connections: 2, milliwrites: 1_500 };
        inbox.stats().store_moves(MoveReport { operation: task.operation, moved, ..MoveReport::default() });
    }
    assert_eq!((node.status("GET /readyz HTTP/1.1").await, node.app.phase()), (503, NodePhase::Serving));
    assert!(node.ask("GET /metrics HTTP/1.1", "").await.2.contains("channelcluster_node_rebalancing 1\n"));
    let (.., body) = node.ask("GET /v1/stats HTTP/1.1", "").await;
    let stats: Stats = serde_json::from_str(&body).unwrap();
    let seen = stats.rebalance.expect("it is under way");
    assert_eq!((seen.moved, seen.moved_writes_per_second, seen.operation.as_str()), (4, 3, "a"));

    let drain = r#"{"version":1,"stage":"Unready"}"#;
    assert_eq!(node.ask("POST /v1/drain HTTP/1.1", drain).await.0, 200);
    let stopped = |inbox: &Mailbox| matches!(inbox.pop(), Some(Mail::Move(MoveOrder::Stop)));
    assert!(node.inboxes.iter().all(stopped));
    assert_eq!(node.ask(REBALANCE, &rebalance(|_| ())).await.0, 409);
    assert_eq!(node.status("DELETE /v1/drain HTTP/1.1").await, 200);
    assert_eq!(node.status("GET /readyz HTTP/1.1").await, 200, "what the drain ended does not begin again");
    assert!(node.inboxes.iter().all(|inbox| matches!(inbox.pop(), Some(Mail::Drain(_)))));

    assert_eq!(node.ask(REBALANCE, &rebalance(|_| ())).await.0, 200);
    assert!(node.inboxes.iter().all(|inbox| inbox.pop().is_some()));
    let (status, _, body) = node.ask("DELETE /v1/rebalance HTTP/1.1", "").await;
    assert_eq!((status, serde_json::from_str::<RebalanceStatus>(&body).unwrap().moved), (200, 4));
    assert!(node.inboxes.iter().all(stopped));
    assert_eq!(node.status("GET /readyz HTTP/1.1").await, 200);
    assert_eq!(node.status("DELETE /v1/rebalance HTTP/1.1").await, 200, "nothing is under way");
    assert!(node.inboxes.iter().all(Mailbox::is_empty));
    node.app.drain.end(0, &node.app.shards);
    assert_eq!(node.ask(REBALANCE, &rebalance(|_| ())).await.0, 409);
}

#[tokio::test]
async fn a_wrong_order_to_move_clients_is_refused_and_not_done() {
    let node = node(|_| ()).await;
    let with =
        |key: &str, value: serde_json::Value| rebalance(|body| drop(body.insert(key.to_owned(), value)));
    let huge = "9".repeat(400);
    for (body, part) in [
        (with("connectionsPerSecond", json!(0)), "at least 1"),
        (with("connectionsPerSecond", json!(1u64 << 32)), "u32"),
        (with("connectionsPerSecond", json!(-1)), "integer `-1`"),
        (with("connections", json!(-1)), "integer `-1`"),
        (with("connections", json!(1e300)), "u64"),
        (rebalance(|_| ()).replace('6', &huge), "JSON"),
        (with("leaseMillis", json!(0)), "1000 to 600000"),
        (with("leaseMillis", json!(u64::MAX)), "1000 to 600000"),
        (with("minAgeMillis", json!(u64::MAX)), "7200000"),
        (with("operation", json!("")), "1 to 64 bytes"),
        (with("operation", json!("\u{00e9}".repeat(40))), "1 to 64 bytes"),
        (with("operation", json!(null)), "null"),
        (with("version", json!(2)), "version: 2"),
        ("[".repeat(10_000), "JSON"),
        ("{}".to_owned(), "missing field"),
        (String::new(), "JSON"),
    ] {
        let (status, _, text) = node.ask(REBALANCE, &body).await;
        assert!((400..=422).contains(&status) && text.contains(part), "{body:.100}: {status} {text}");
    }
    assert!(node.inboxes.iter().all(Mailbox::is_empty));
    let huge = |body: &mut serde_json::Map<String, serde_json::Value>| {
        for key in ["connections", "writesPerSecond"] {
            body.insert(key.to_owned(), json!(u64::MAX));
        }
        body.insert("connectionsPerSecond".to_owned(), json!(u32::MAX));
    };
    assert_eq!(node.ask(REBALANCE, &rebalance(huge)).await.0, 200, "much may be asked for");
    assert!(node.inboxes.iter().all(|inbox| inbox.pop().is_some()));
}
