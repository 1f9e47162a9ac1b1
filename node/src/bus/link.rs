//! What the tasks of the bus share about the way to the other nodes.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use node_core::{
    age::Ages,
    config::{ClusterId, Nats},
    longpoll::peers::Peers,
    route::Registry,
};

use tokio::sync::mpsc;

use super::{BusState, Credentials, fleet::Fleet, inbound::Inbound};
use crate::inlets::Heard;

/// Least time between two log lines about nodes that speak another version.
const VERSION_COMPLAINT: Duration = Duration::from_secs(60);

/// What the tasks need to reach the other nodes.
pub(super) struct Link {
    pub(super) cluster: ClusterId,
    pub(super) nats: Nats,
    pub(super) credentials: Credentials,
    pub(super) node_name: String,
    pub(super) boot_id: u128,
    pub(super) started: Instant,
    pub(super) shards: Inbound,
    pub(super) members: Arc<Registry>,
    pub(super) state: Arc<BusState>,
    pub(super) fleet: Arc<Mutex<Fleet>>,
    /// The nodes that shards may ask.
    pub(super) peers: Arc<Peers>,
    pub(super) ages: Mutex<Ages>,
    /// Where questions and answers of the server API go.
    pub(super) api: mpsc::Sender<Heard>,
    /// When it was last logged that nodes speak another version.
    pub(super) told_version: Mutex<Option<Instant>>,
    /// Commands that may wait in the client.
    pub(super) client_queue: usize,
    /// Topics without members that stay subscribed.
    pub(super) lingering: usize,
    /// Memory in bytes of long-poll requests and answers of which a part has not come yet.
    pub(super) parts_bytes: usize,
}

impl Link {
    /// Milliseconds that a message was on its way from `origin`, beyond what such a message takes at least.
    pub(super) fn age(&self, origin: u128, sent_millis: u64) -> u64 {
        let now = self.state.clock_millis();
        self.ages.lock().unwrap_or_else(PoisonError::into_inner).note(origin, sent_millis, now)
    }

    /// Logs, once in a while, that nodes of another version are not heard.
    pub(super) fn tell_version(&self, version: u8) {
        let mut told = self.told_version.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|at| at.elapsed() >= VERSION_COMPLAINT) {
            *told = Some(Instant::now());
            tracing::warn!(
                version,
                "nodes of another version speak on the bus: what they say is not heard here, nor what is said here there, \
                 until all nodes run one version"
            );
        }
    }
}
