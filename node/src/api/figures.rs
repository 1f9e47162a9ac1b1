//! Figures of this node and of the fleet.

use std::{
    sync::{Arc, MutexGuard, PoisonError},
    time::Instant,
};

use axum::{Json, extract::State};
use node_core::admin::{NodePhase, Stats};
use serde::Serialize;

use super::{
    Api,
    auth::{Reader, needs_all_topics},
    problem::Problem,
};
use crate::bus::fleet::{self, Line};

/// The fleet as this node hears it each second.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Fleet {
    nodes: u64,
    connections: u64,
    rooms: u64,
    writes_per_second: u64,
    list: Vec<Line>,
    partial: bool,
}

impl Api {
    /// The nodes that were heard of lately.
    pub fn fleet(&self) -> MutexGuard<'_, fleet::Fleet> {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there may be nodes that this one has not heard of.
    pub fn knows_part(&self) -> bool {
        self.is_cut_off() || self.app.phase() == NodePhase::Starting
    }
}

/// `GET /v1/node`: as `GET /v1/stats`.
pub(super) async fn node(
    State(api): State<Arc<Api>>,
    Reader(caller): Reader,
) -> Result<Json<Stats>, Problem> {
    needs_all_topics(caller.key())?;
    Ok(Json(api.app.stats()))
}

/// `GET /v1/fleet`.
pub(super) async fn fleet(
    State(api): State<Arc<Api>>,
    Reader(caller): Reader,
) -> Result<Json<Fleet>, Problem> {
    needs_all_topics(caller.key())?;
    let (sum, partial) = (api.fleet().sum(Instant::now()), api.knows_part());
    Ok(Json(Fleet {
        nodes: sum.nodes,
        connections: sum.connections,
        rooms: sum.rooms,
        writes_per_second: sum.writes_per_second,
        list: sum.list,
        partial,
    }))
}
