//! The operator's HTTP port: `/metrics`, `/healthz`, `/readyz`. An operator that stands by is ready too; a leader is
//! ready while its watches see.

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

use crate::claim::Claims;
use crate::lease::Fence;
use crate::metrics::Metrics;
use crate::pulses::{Pulses, Sight};

/// Most namespaces that `/readyz` names.
const MOST_NAMED: usize = 20;

/// The state that the port's answers are made from.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Whether this process leads.
    pub fence: Arc<Fence>,
    /// The leader's watches.
    pub sight: Sight,
    /// Where this installation may act.
    pub claims: Arc<Claims>,
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
    let foreign = i64::try_from(admin.claims.foreign().len()).unwrap_or(i64::MAX);
    admin.metrics.foreign_claims.set(foreign);
    admin.metrics.watches(admin.sight.get().as_ref());
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

async fn readyz(State(admin): State<Admin>) -> (StatusCode, String) {
    let (ready, text) = readiness(admin.fence.held(), admin.fence.stands_back(), admin.sight.get().as_ref());
    let (ready, text) = match admin.claims.stands_back().filter(|_| admin.fence.held()) {
        Some(why) => (false, format!("standing back: {why}")),
        None => (ready, text),
    };
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{text}\n"))
}

fn readiness(leads: bool, stands_back: bool, watches: Option<&Pulses>) -> (bool, String) {
    if stands_back {
        return (false, "standing back: a watch had seen nothing for too long".to_owned());
    }
    if !leads {
        return (true, "standing by".to_owned());
    }
    let Some(watches) = watches else { return (false, "the watches have not begun yet".to_owned()) };
    if let Some((kind, age)) = watches.stale() {
        return (false, format!("the watch of {kind} has seen nothing for {} s", age / 1_000));
    }
    if !watches.synced() {
        return (false, "the watches have not seen their first lists yet".to_owned());
    }
    let lost = Vec::from_iter(watches.lost());
    if lost.is_empty() {
        return (true, "leading".to_owned());
    }
    let more = lost.len().saturating_sub(MOST_NAMED);
    let named = lost[..lost.len() - more].join(", ");
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (true, format!("leading, without these namespaces, which cannot be seen: {named}{more}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::readiness;
    use crate::pulses::{Pulse, Pulses, STALE_MILLIS};

    #[test]
    fn a_leader_that_sees_nothing_is_not_ready() {
        let pulse = Arc::new(Pulse::new("pods", None));
        let watches = Pulses::new(vec![pulse.clone()]);
        assert!(readiness(false, false, None).0, "a stand-by sees nothing and is ready");
        assert!(!readiness(true, false, None).0);
        assert!(readiness(true, false, Some(&watches)).1.contains("first lists"));
        pulse.set_age(STALE_MILLIS + 5_000);
        assert_eq!(readiness(true, false, Some(&watches)).1, "the watch of pods has seen nothing for 35 s");
        let (a, b) = (Arc::new(Pulse::new("pods", Some("a"))), Arc::new(Pulse::new("pods", Some("b"))));
        a.leave_out(true);
        b.leave_out(true);
        let (ready, said) = readiness(true, false, Some(&Pulses::new(vec![a, b])));
        assert!(ready && said.ends_with("cannot be seen: a, b"), "{said}");
        assert!(!readiness(false, true, None).0, "it left the lease to others and says so");
    }
}
