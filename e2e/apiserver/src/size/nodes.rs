//! One server in the stead of all nodes: it answers on every address of 127.0.0.0/8, as the node that it is asked for.

use std::convert::Infallible;
use std::time::Instant;

use anyhow::{Context, Result};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use node_core::admin::{NODE_HEADER, NodePhase, Stats, VERSION};
use operator_core::names::ADMIN_PORT;
use operator_core::tuning::safe_profile;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// Messages that each node delivers per second: a small part of what it can.
const WRITES_PER_SECOND: u64 = 500;
/// Connections of each node.
const CONNECTIONS: u64 = 1_000;

/// The address of a node by its number.
pub(super) fn address(number: usize) -> String {
    format!("127.{}.{}.{}", 1 + number / 62_500, number / 250 % 250, number % 250 + 1)
}

/// Answers for all nodes until dropped.
pub(super) async fn serve() -> Result<AbortOnDropHandle<()>> {
    let listener = TcpListener::bind(("0.0.0.0", u16::try_from(ADMIN_PORT)?)).await;
    let listener = listener.with_context(|| format!("port {ADMIN_PORT} is taken"))?;
    let started = Instant::now();
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        // A connection that fails is the operator's to notice: it asks again.
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let serve = service_fn(move |request| async move { answer(&request, started) });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), serve),
            );
        }
    })))
}

fn answer(request: &Request<Incoming>, started: Instant) -> Result<Response<Full<Bytes>>, Infallible> {
    let name = request.headers().get(NODE_HEADER).and_then(|name| name.to_str().ok()).unwrap_or_default();
    let text = serde_json::to_vec(&stats(name, started.elapsed().as_millis())).unwrap_or_default();
    let mut response = Response::new(Full::new(Bytes::from(text)));
    if request.uri().path() != "/v1/stats" {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    Ok(response)
}

/// The API server that the nodes are tuned for is Kubernetes 1.34.
const SERVER_MINOR: u32 = 34;

/// What a node says that has a steady load.
fn stats(node: &str, millis: u128) -> Stats {
    let millis = u64::try_from(millis).unwrap_or(u64::MAX);
    let mut stats = Stats {
        version: VERSION,
        boot_id: "one".to_owned(),
        monotonic_millis: millis,
        node: node.to_owned(),
        build: "0.1.0".to_owned(),
        phase: NodePhase::Serving,
        bus_connected: Some(true),
        ..Stats::default()
    };
    stats.counters.writes = WRITES_PER_SECOND * millis / 1_000;
    stats.counters.sent_bytes = stats.counters.writes * 100;
    stats.counters.connections_opened = CONNECTIONS;
    stats.gauges.connections = CONNECTIONS;
    stats.gauges.memberships = CONNECTIONS;
    stats.gauges.rooms = 10;
    stats.gauges.utilization = 0.05;
    stats.gauges.rss_bytes = 64 << 20;
    // It has the sysctls that it was made with: a status that names each difference is not that of a fleet in order.
    stats.gauges.sysctls = safe_profile(SERVER_MINOR);
    stats
}
