//! The admin port: metrics and probes for everyone, statistics, the dashboard and orders to drain or to move clients for those that
//! have the token.
//!
//! It runs on its own thread and runtime, so that a busy shard cannot delay a probe and a slow scrape cannot delay a
//! shard.

use std::{fmt::Display, net::TcpListener, sync::Arc};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State, rejection::JsonRejection},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use node_core::{
    admin::{DrainRequest, NODE_HEADER, NodePhase, RebalanceRequest, VERSION},
    drain::DrainRefusal,
    limits::MAX_OPERATION_BYTES,
    moving::MoveRefusal,
    visitors::{BOUNDS, Bounds},
};
use serde_json::json;
use shell::http::Port;

use crate::{
    api::{self, Api},
    app::App,
    dashboard,
    drain::DrainError,
    for_programs, metrics,
    moving::MoveError,
    secrets,
};

/// Longest request body in bytes.
const BODY_BYTES: usize = 16 * 1024;
/// The bounds of the port. Backends may speak HTTP/2 to the server API, a few requests at a time: anybody may read metrics here.
const PORT: Bounds = Bounds { streams: Some(4), ..BOUNDS };

type Shared = State<Arc<App>>;

/// The routes.
pub fn router(app: Arc<App>, api: Arc<Api>) -> Router {
    let guarded = Router::new()
        .route("/v1/stats", get(stats))
        .route("/v1/drain", get(drain_status).post(drain).delete(cancel_drain))
        .route("/v1/rebalance", get(rebalance_status).post(rebalance).delete(end_rebalance))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), meant))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), authorize));
    Router::new()
        .route("/metrics", get(scrape))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .merge(guarded)
        .with_state(Arc::clone(&app))
        .merge(dashboard::router(Arc::clone(&app), Arc::clone(&api)))
        .merge(api::router(api))
        .fallback(|| async {
            refuse(
                StatusCode::NOT_FOUND,
                "no such path; see /dashboard, /metrics, /healthz, /readyz, /v1/stats",
            )
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(middleware::from_fn_with_state(app, by_its_own_name))
        .layer(middleware::map_response(for_programs::only))
}

/// Serves the routes until the task is dropped.
///
/// # Errors
/// When the runtime does not take a listener.
pub async fn serve(listeners: Vec<TcpListener>, app: Arc<App>, api: Arc<Api>) -> std::io::Result<()> {
    Port::new(listeners, PORT)?.serve(router(app, api), std::future::pending()).await;
    Ok(())
}

fn refuse(status: StatusCode, error: impl Display) -> Response {
    (status, Json(json!({ "error": error.to_string() }))).into_response()
}

/// Where no token protects the port, as in dev mode, a page in the developer's browser must not reach it: neither by a
/// name that was made to lead here nor from another origin.
async fn by_its_own_name(State(app): Shared, request: Request, next: Next) -> Response {
    let names = app.config.load().auth.names;
    let is_allowed = {
        let header = |name| request.headers().get(name).map(header::HeaderValue::as_bytes);
        names.allow_request(header(header::HOST), header(header::ORIGIN))
    };
    if is_allowed {
        return next.run(request).await;
    }
    refuse(StatusCode::FORBIDDEN, "in dev mode ask by localhost or a loopback address")
}

async fn authorize(State(app): Shared, request: Request, next: Next) -> Response {
    let Some(token) = &app.token else { return next.run(request).await };
    let secret = match token.read() {
        Ok(secret) => secret,
        Err(error) => {
            tracing::error!(%error, "the admin API is closed");
            return refuse(StatusCode::SERVICE_UNAVAILABLE, "the node has no admin token now");
        }
    };
    if secrets::bearer(request.headers()).is_some_and(|given| secrets::equal(given, secret.as_bytes())) {
        return next.run(request).await;
    }
    let mut response = refuse(StatusCode::UNAUTHORIZED, "send Authorization: Bearer <admin token>");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    response
}

/// Refuses what is meant for another node.
async fn meant(State(app): Shared, request: Request, next: Next) -> Response {
    let named = request.headers().get(NODE_HEADER);
    if named.is_some_and(|name| name.as_bytes() != app.node_name.as_bytes()) {
        return refuse(StatusCode::MISDIRECTED_REQUEST, format!("this is the node {}", app.node_name));
    }
    next.run(request).await
}

async fn scrape(State(app): Shared) -> Response {
    match metrics::render(&app) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

async fn ready(State(app): Shared) -> (StatusCode, &'static str) {
    match app.phase() {
        NodePhase::Serving if app.is_ready() => (StatusCode::OK, "ready\n"),
        NodePhase::Serving => (StatusCode::SERVICE_UNAVAILABLE, "moving clients to other nodes\n"),
        NodePhase::Starting => {
            (StatusCode::SERVICE_UNAVAILABLE, "waiting for the first connection to the bus\n")
        }
        _ => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    }
}

async fn stats(State(app): Shared) -> Response {
    Json(app.stats()).into_response()
}

async fn drain_status(State(app): Shared) -> Response {
    Json(app.drain_status()).into_response()
}

async fn drain(State(app): Shared, body: Result<Json<DrainRequest>, JsonRejection>) -> Response {
    let request = match body {
        Ok(Json(request)) => request,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error.body_text()),
    };
    if let Some(refusal) = refuse_version(request.version) {
        return refusal;
    }
    let pace = app.config.load().drain.connections_per_second;
    let done = app.drain.request(&request, pace, app.now_millis(), &app.shards);
    app.tell_ready();
    tracing::info!(stage = ?request.stage, pace = request.connections_per_second, ?done, "drain order");
    answer(&app, done)
}

async fn cancel_drain(State(app): Shared) -> Response {
    let done = app.drain.cancel(&app.shards);
    app.tell_ready();
    tracing::info!(?done, "drain cancelled");
    answer(&app, done)
}

fn answer(app: &App, done: Result<(), DrainError>) -> Response {
    match done {
        Ok(()) => Json(app.drain_status()).into_response(),
        Err(error @ DrainError::Refused(DrainRefusal::Ending)) => refuse(StatusCode::CONFLICT, error),
        Err(error @ DrainError::Refused(DrainRefusal::Pace)) => refuse(StatusCode::BAD_REQUEST, error),
        Err(error @ DrainError::Busy) => refuse(StatusCode::SERVICE_UNAVAILABLE, error),
    }
}

fn refuse_version(version: u32) -> Option<Response> {
    let text = format!("version: {version} is not known to this node; send {VERSION}");
    (version != VERSION).then(|| refuse(StatusCode::BAD_REQUEST, text))
}

async fn rebalance_status(State(app): Shared) -> Response {
    Json(app.drain.last_rebalance(&app.shards)).into_response()
}

async fn rebalance(State(app): Shared, body: Result<Json<RebalanceRequest>, JsonRejection>) -> Response {
    let request = match body {
        Ok(Json(request)) => request,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error.body_text()),
    };
    if let Some(refusal) = refuse_version(request.version) {
        return refusal;
    }
    let begins = !app.drain.is_moving(app.now_millis());
    let done = app.drain.rebalance_by(&request, app.now_millis(), &app.shards);
    app.tell_ready();
    // An operation under way is asked for again each second.
    if begins || done.is_err() {
        tracing::info!(
            operation = request.operation.get(..MAX_OPERATION_BYTES).unwrap_or(&request.operation),
            connections = request.connections,
            writes_per_second = request.writes_per_second,
            pace = request.connections_per_second,
            ?done,
            "order to move clients"
        );
    }
    moved(&app, done)
}

async fn end_rebalance(State(app): Shared) -> Response {
    let done = app.drain.end_rebalance(app.now_millis(), &app.shards);
    app.tell_ready();
    tracing::info!(?done, "clients are no longer moved");
    moved(&app, done)
}

fn moved(app: &App, done: Result<(), MoveError>) -> Response {
    match done {
        Ok(()) => Json(app.drain.last_rebalance(&app.shards)).into_response(),
        Err(error @ MoveError::Refused(MoveRefusal::Leaving)) => refuse(StatusCode::CONFLICT, error),
        Err(error @ MoveError::Refused(_)) => refuse(StatusCode::BAD_REQUEST, error),
        Err(error @ MoveError::Busy) => refuse(StatusCode::SERVICE_UNAVAILABLE, error),
    }
}

#[cfg(test)]
mod tests;
