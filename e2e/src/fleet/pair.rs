//! A fleet of two nodes and a room of clients that talk, which tests watch while they break something around it.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Fleet, NodePod, eventually};
use crate::soak::{
    clients::{Clients, Place},
    ledger::Ledger,
};

/// Nodes of the fleet.
pub const NODES: usize = 2;
/// Clients, all in one room: enough that each node has some.
pub const CLIENTS: usize = 12;
/// Port of the Service when the fleet is made.
pub const PORT: u16 = 80;

/// The fleet's spec. Tests change the port: one object follows it, and no pod.
#[must_use]
pub fn spec(port: u16) -> String {
    format!(
        "{{targetConnections: 1000, rooms: {{maxMembers: 150}}, nodes: {{min: {NODES}, max: {NODES}}}, \
         drain: {{delay: 1s, deadline: 20s}}, auth: {{anonymous: true}}, \
         expose: {{chatPage: true, service: {{port: {port}}}}}}}"
    )
}

/// The fleet, and the nodes that it had when it became Ready.
pub struct Pair {
    /// The fleet; it is deleted when the value is dropped.
    pub fleet: Fleet,
    /// Its first nodes.
    pub nodes: Vec<NodePod>,
}

impl Pair {
    /// Makes the fleet for `test` and waits until it is Ready.
    ///
    /// # Errors
    /// As [`Fleet::create`] and [`Fleet::wait_ready`].
    pub fn create(test: &str) -> Result<Self> {
        Self::of(Fleet::create(test, &spec(PORT))?)
    }

    /// The same for a test that breaks or loads things that all fleets share.
    ///
    /// # Errors
    /// As [`Pair::create`].
    pub fn create_alone(test: &str) -> Result<Self> {
        Self::of(Fleet::create_alone(test, &spec(PORT))?)
    }

    fn of(fleet: Fleet) -> Result<Self> {
        let (nodes, _) = fleet.wait_ready(NODES)?;
        Ok(Self { fleet, nodes })
    }

    /// The Service, behind which both nodes are.
    ///
    /// # Errors
    /// When there is none.
    pub fn service(&self) -> Result<Place> {
        Ok(Place { address: format!("{}:{PORT}", self.fleet.service_address()?), round_trip: None })
    }

    /// The first node itself, for tests in which the Service's port changes.
    #[must_use]
    pub fn node(&self) -> Place {
        Place { address: format!("{}:4000", self.nodes[0].address), round_trip: None }
    }

    /// Starts clients that each say something once in `period`, and waits until they hear each other on so many nodes.
    ///
    /// # Errors
    /// When that does not come within the hang guard.
    pub fn talk(&self, place: &Place, period: Duration, nodes: usize) -> Result<Clients> {
        self.talk_at(place, &[Some(period); CLIENTS], nodes)
    }

    /// The same with a period for each client; a client without one only listens.
    ///
    /// # Errors
    /// When that does not come within the hang guard.
    pub fn talk_at(&self, place: &Place, periods: &[Option<Duration>], nodes: usize) -> Result<Clients> {
        // A node that is Ready is behind the Service a moment later, when clients that came at once are on the others.
        let (clients, _) = eventually(&format!("clients on {nodes} nodes"), || {
            let ledger = Ledger::new(CLIENTS, CLIENTS);
            let clients = Clients::start(&self.fleet.instance, place.clone(), ledger, periods.to_vec())?;
            clients.wait_there()?;
            let found = clients.ledger.lock().nodes().len();
            if found < nodes {
                clients.stop()?;
                anyhow::bail!("they are on {found}");
            }
            Ok(Some(clients))
        })?;
        clients.wait_whole()?;
        Ok(clients)
    }

    /// Waits until the Service has the port.
    ///
    /// # Errors
    /// When it does not within the hang guard.
    pub fn wait_port(&self, port: u16) -> Result<Duration> {
        let Fleet { instance, namespace, name, .. } = &self.fleet;
        let (_, elapsed) = eventually(&format!("the Service has port {port}"), || {
            let service = instance.kubectl_json(["-n", namespace, "get", "service", name])?;
            Ok((service["spec"]["ports"][0]["port"].as_u64() == Some(port.into())).then_some(()))
        })?;
        Ok(elapsed)
    }

    /// Checks that all clients hear all messages, that none was ever disconnected, and that the very same nodes
    /// serve. Ends the clients.
    ///
    /// # Errors
    /// When one of these is not so; the error says which.
    pub fn undisturbed(&self, clients: Clients) -> Result<()> {
        clients.wait_whole()?;
        let ends: Vec<_> =
            clients.ledger.lock().ends().map(|(client, _, at, code)| (client, at, code)).collect();
        ensure!(ends.is_empty(), "disconnected, as client, time and code: {ends:?}");
        let (nodes, _) = self.fleet.wait_ready(NODES)?;
        ensure!(nodes == self.nodes, "other nodes serve: {nodes:?} instead of {:?}", self.nodes);
        clients.stop()
    }
}
