//! The operator's HTTP port: `/metrics`, `/healthz`, `/readyz`. A stand-by is ready too; a leader is ready once its
//! watches have seen their first lists.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use node_core::visitors::BOUNDS;
use shell::http::{BACKLOG, Port};
use shell::socket;
use tokio_util::sync::CancellationToken;

use crate::lease::Fence;
use crate::metrics::Metrics;
use crate::watches::Synced;

/// What the port answers from.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Whether this process leads.
    pub fence: Arc<Fence>,
    /// Whether the leader's watches are synced.
    pub synced: Synced,
}

/// Serves until `stop`.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(admin: Admin, address: SocketAddr, stop: CancellationToken) -> std::io::Result<()> {
    let port = Port::new(vec![socket::listen(address, BACKLOG)?], BOUNDS)?;
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .with_state(admin);
    port.serve(router, stop.cancelled_owned()).await;
    Ok(())
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    admin.metrics.leader.set(i64::from(admin.fence.held()));
    match admin.metrics.encode() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written as text\n").into_response()
        }
    }
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    if !admin.fence.held() {
        (StatusCode::OK, "standing by\n")
    } else if admin.synced.get() {
        (StatusCode::OK, "leading\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the watches have not seen their first lists yet\n")
    }
}
