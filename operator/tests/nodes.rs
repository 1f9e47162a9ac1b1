//! The operator's client of the nodes' admin port, against nodes that answer, refuse, lie and hang.
#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use node_core::admin::{DrainRequest, DrainStage, DrainStatus, Phase, Stats, VERSION};
use operator::scrape::{NodeError, Nodes};
use serde_json::{Value, json};
use tokio::sync::mpsc;

const TOKEN: &str = "secret";

fn admitted(headers: &HeaderMap) -> bool {
    headers.get("authorization").is_some_and(|value| value == "Bearer secret")
}

async fn stats(headers: HeaderMap) -> Result<Json<Stats>, StatusCode> {
    if !admitted(&headers) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    Ok(Json(Stats { node: "a".to_owned(), ..Stats::default() }))
}

async fn drain(State(told): State<mpsc::Sender<Value>>, Json(body): Json<Value>) -> Json<DrainStatus> {
    told.send(body).await.unwrap();
    Json(DrainStatus { version: VERSION, phase: Phase::Closing, connections: 7 })
}

async fn take_back(State(told): State<mpsc::Sender<Value>>) -> Json<DrainStatus> {
    told.send(json!("back")).await.unwrap();
    Json(DrainStatus::default())
}

/// Starts a server and gives a client for its port.
async fn serve(router: Router) -> Nodes {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Nodes::on_port(port)
}

async fn ask(nodes: &Nodes, token: &str) -> Result<Stats, NodeError> {
    nodes.stats(vec![((), "127.0.0.1".to_owned())], token).await.remove(0).1
}

#[tokio::test]
async fn statistics_come_with_the_token_and_not_without() {
    let nodes = serve(Router::new().route("/v1/stats", get(stats))).await;
    assert_eq!(ask(&nodes, TOKEN).await.unwrap().node, "a");
    assert!(matches!(ask(&nodes, "wrong").await, Err(NodeError::Unauthorized)));
}

#[tokio::test]
async fn a_drain_says_what_the_node_reads() {
    let (tell, mut told) = mpsc::channel(4);
    let router = Router::new().route("/v1/drain", post(drain).delete(take_back)).with_state(tell);
    let nodes = serve(router).await;
    let request =
        DrainRequest { version: VERSION, stage: DrainStage::Close, connections_per_second: Some(500) };
    let status = nodes.drain("127.0.0.1", TOKEN, &request).await.unwrap();
    assert_eq!((status.phase, status.connections), (Phase::Closing, 7));
    let body = told.recv().await.unwrap();
    assert_eq!(body, json!({"version": 1, "stage": "Close", "connectionsPerSecond": 500}));
    nodes.take_back("127.0.0.1", TOKEN).await.unwrap();
    assert_eq!(told.recv().await.unwrap(), "back");
}

#[tokio::test]
async fn a_node_that_hangs_lies_or_floods_costs_one_error() {
    let hangs = serve(Router::new().route("/v1/stats", get(std::future::pending::<String>))).await;
    assert!(matches!(ask(&hangs, TOKEN).await, Err(NodeError::Timeout)));
    let lies = serve(Router::new().route("/v1/stats", get(|| async { "{\"counters\": 7}" }))).await;
    assert!(matches!(ask(&lies, TOKEN).await, Err(NodeError::Unreadable(_))));
    let floods = serve(Router::new().route("/v1/stats", get(|| async { "x".repeat(1 << 20) }))).await;
    assert!(matches!(ask(&floods, TOKEN).await, Err(NodeError::Unreadable(_))));
    let fails = serve(Router::new().route("/v1/stats", get(|| async { StatusCode::BAD_GATEWAY }))).await;
    assert!(matches!(ask(&fails, TOKEN).await, Err(NodeError::Status(502))));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert!(matches!(ask(&Nodes::on_port(nobody), TOKEN).await, Err(NodeError::Unreachable(_))));
}
