//! The operator's client of the nodes' admin port, against nodes that answer, refuse, lie and hang.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use node_core::admin::{DrainRequest, DrainStage, DrainStatus, NodePhase, Stats, VERSION};
use operator::scrape::{NodeError, Nodes, Patience, Peer};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::sync::mpsc;

const TOKEN: &str = "secret";
/// A test that has not seen what it waits for by then has failed.
const HANG: Duration = Duration::from_secs(120);
/// The server shares the machine, and even the thread, with the client, so both get all the time that they need.
const PATIENT: Patience = Patience { connect: HANG, answer: HANG };

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
    Json(DrainStatus { version: VERSION, phase: NodePhase::Closing, connections: 7 })
}

async fn take_back(State(told): State<mpsc::Sender<Value>>) -> Json<DrainStatus> {
    told.send(json!("back")).await.unwrap();
    Json(DrainStatus::default())
}

/// The node of these tests.
fn peer() -> Peer {
    Peer { name: "a".to_owned(), ip: "127.0.0.1".to_owned() }
}

/// Starts a server and gives its port.
async fn serve(router: Router) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    port
}

/// A client of a server that is going to answer.
async fn nodes(router: Router) -> Nodes {
    Nodes::on_port(serve(router).await, PATIENT)
}

async fn ask(nodes: &Nodes, token: &str) -> Result<Stats, NodeError> {
    nodes.stats(vec![((), peer())], token).await.remove(0).2
}

#[tokio::test]
async fn statistics_come_with_the_token_and_not_without() {
    let nodes = nodes(Router::new().route("/v1/stats", get(stats))).await;
    assert_eq!(ask(&nodes, TOKEN).await.unwrap().node, "a");
    assert!(matches!(ask(&nodes, "wrong").await, Err(NodeError::Unauthorized)));
}

#[tokio::test]
async fn a_connection_is_kept_and_one_that_the_node_closed_is_made_again() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // Each connection answers twice, in two pieces, and is closed then without a word.
    let server = tokio::spawn(async move {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            for _ in 0..2 {
                let mut read = [0; 1_024];
                assert!(stream.read(&mut read).await.unwrap() > 0);
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n{\"node\"").await.unwrap();
                tokio::task::yield_now().await;
                stream.write_all(b":\"a\"}").await.unwrap();
            }
        }
    });
    let nodes = Nodes::on_port(port, PATIENT);
    for _ in 0..4 {
        assert_eq!(ask(&nodes, TOKEN).await.unwrap().node, "a");
    }
    server.await.unwrap();
}

#[tokio::test]
async fn a_drain_says_what_the_node_reads() {
    let (tell, mut told) = mpsc::channel(4);
    let router = Router::new()
        .route("/v1/drain", post(drain).delete(take_back))
        .route("/v1/stats", get(stats))
        .with_state(tell);
    let nodes = nodes(router).await;
    let request =
        DrainRequest { version: VERSION, stage: DrainStage::Close, connections_per_second: Some(500) };
    let status = nodes.drain(&peer(), TOKEN, &request).await.unwrap();
    assert_eq!((status.phase, status.connections), (NodePhase::Closing, 7));
    let body = told.recv().await.unwrap();
    assert_eq!(body, json!({"version": 1, "stage": "Close", "connectionsPerSecond": 500}));
    nodes.take_back(&peer(), TOKEN).await.unwrap();
    assert_eq!(told.recv().await.unwrap(), "back");
}

#[tokio::test]
async fn a_node_that_hangs_lies_or_floods_costs_one_error() {
    let hangs = serve(Router::new().route("/v1/stats", get(std::future::pending::<String>))).await;
    let patience = Patience { connect: HANG, ..Patience::default() };
    let answer = ask(&Nodes::on_port(hangs, patience), TOKEN).await;
    assert!(matches!(answer, Err(NodeError::Timeout(after)) if after == patience.answer));
    let lies = nodes(Router::new().route("/v1/stats", get(|| async { "{\"counters\": 7}" }))).await;
    assert!(matches!(ask(&lies, TOKEN).await, Err(NodeError::Unreadable(_))));
    let floods = nodes(Router::new().route("/v1/stats", get(|| async { "x".repeat(1 << 20) }))).await;
    assert!(matches!(ask(&floods, TOKEN).await, Err(NodeError::Unreadable(_))));
    let fails = nodes(Router::new().route("/v1/stats", get(|| async { StatusCode::BAD_GATEWAY }))).await;
    assert!(matches!(ask(&fails, TOKEN).await, Err(NodeError::Status(502))));
    // The socket is bound and does not listen: connections are refused, and nobody else gets the port meanwhile.
    let held = TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = Nodes::on_port(held.local_addr().unwrap().port(), PATIENT);
    assert!(matches!(ask(&nobody, TOKEN).await, Err(NodeError::Refused)));
}

#[tokio::test]
async fn an_order_does_not_reach_a_node_that_was_given_the_address_of_another() {
    let (tell, mut told) = mpsc::channel(1);
    // It answers as a node of the previous version, which does not know the header.
    let router = Router::new()
        .route("/v1/drain", post(drain).delete(take_back))
        .route("/v1/stats", get(stats))
        .with_state(tell);
    let nodes = nodes(router).await;
    let gone = Peer { name: "b".to_owned(), ..peer() };
    let request = DrainRequest { version: VERSION, stage: DrainStage::Close, connections_per_second: None };
    let ordered = nodes.drain(&gone, TOKEN, &request).await;
    assert!(matches!(ordered, Err(NodeError::Another)), "{ordered:?}");
    assert!(matches!(nodes.take_back(&gone, TOKEN).await, Err(NodeError::Another)));
    let answers = nodes.stats(vec![((), gone)], TOKEN).await;
    assert!(matches!(answers[0].2, Err(NodeError::Another)), "nor are its figures the other's");
    assert!(told.try_recv().is_err(), "nothing was ordered");
}
