//! The operator's side of the nodes' admin API: statistics and drain commands. Each request has a time-out, and the
//! number of requests at a time is bounded.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use node_core::admin::{DrainRequest, DrainStatus, NODE_HEADER, RebalanceRequest, RebalanceStatus, Stats};
use operator_core::names::ADMIN_PORT;
use serde::de::DeserializeOwned;

use crate::clock;

mod kept;

use kept::{Get, Kept};

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_millis(1_500);
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_000);
/// Requests at a time per ChannelCluster.
const CONCURRENCY: usize = 64;
/// Longest answer that is read, in bytes.
const MAX_ANSWER: usize = 256 * 1_024;

/// Why a node did not answer as it should.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// It did not answer in time.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// Nothing listens on the admin port: the process that listened is gone, or a machine on the way answers in its
    /// stead.
    #[error("refused the connection")]
    Refused,
    /// The connection failed.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// The node refused the token.
    #[error("refused the admin token")]
    Unauthorized,
    /// Another node has the address now.
    #[error("another node has its address")]
    Another,
    /// It answered with an error.
    #[error("answered {0}")]
    Status(u16),
    /// The answer makes no sense.
    #[error("sent an answer that cannot be read: {0}")]
    Unreadable(String),
}

/// A node, and where it was last seen. An address is given to another pod once the node's own pod is gone, so name
/// and address both go along with each request; the node compares the name, and it is compared with the name in the
/// answer.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Name of its pod.
    pub name: String,
    /// Its IP.
    pub ip: String,
}

/// How long a node may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the connection.
    pub connect: Duration,
    /// For the answer, the connection included.
    pub answer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { connect: CONNECT_TIMEOUT, answer: TIMEOUT }
    }
}

/// Client of the nodes' admin ports.
#[derive(Clone, Debug)]
pub struct Nodes {
    /// For orders, which are few.
    client: Client<HttpConnector, Full<Bytes>>,
    /// For statistics.
    kept: Arc<Kept>,
    port: u16,
    patience: Patience,
}

impl Default for Nodes {
    fn default() -> Self {
        Self::on_port(u16::try_from(ADMIN_PORT).unwrap_or_default(), Patience::default())
    }
}

impl Nodes {
    /// A client for nodes whose admin port is another one, or that may take another time.
    #[must_use]
    pub fn on_port(port: u16, patience: Patience) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(patience.connect));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Self { client, kept: Arc::default(), port, patience }
    }

    /// The statistics of many nodes, in any order, each with the time when it came (as [`clock::now`] has it).
    pub async fn stats<K>(
        &self,
        nodes: Vec<(K, Peer)>,
        token: &str,
    ) -> Vec<(K, u64, Result<Stats, NodeError>)> {
        stream::iter(nodes)
            .map(|(key, peer)| async move {
                let answer = self.stats_of(&peer, token).await;
                (key, clock::now(), answer)
            })
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await
    }

    async fn stats_of(&self, peer: &Peer, token: &str) -> Result<Stats, NodeError> {
        let ip: IpAddr =
            peer.ip.parse().map_err(|_| NodeError::Unreachable("it has no address".to_owned()))?;
        let Patience { connect, answer } = self.patience;
        let address = SocketAddr::new(ip, self.port);
        let get = Get { address, path: "/v1/stats", token, node: &peer.name, connect };
        let got = tokio::time::timeout(answer, self.kept.get(get));
        let (status, body) = got.await.map_err(|_| NodeError::Timeout(answer)).flatten()?;
        let stats: Stats = read(status, &body)?;
        if stats.node == peer.name { Ok(stats) } else { Err(NodeError::Another) }
    }

    /// Drains a node as far as `request` says.
    ///
    /// # Errors
    /// When the node did not answer as it should.
    pub async fn drain(
        &self,
        peer: &Peer,
        token: &str,
        request: &DrainRequest,
    ) -> Result<DrainStatus, NodeError> {
        let body = serde_json::to_vec(request).map_err(|e| NodeError::Unreadable(e.to_string()))?;
        self.stats_of(peer, token).await?; // nodes of the previous version do not know the header
        self.request(Method::POST, peer, "/v1/drain", token, body.into()).await
    }

    /// Takes a node back.
    ///
    /// # Errors
    /// When the node did not answer as it should.
    pub async fn take_back(&self, peer: &Peer, token: &str) -> Result<DrainStatus, NodeError> {
        self.stats_of(peer, token).await?;
        self.request(Method::DELETE, peer, "/v1/drain", token, Bytes::new()).await
    }

    /// Lets a node move clients to others.
    ///
    /// # Errors
    /// When the node did not answer as it should; one of a version that does not know of this answers 404.
    pub async fn rebalance(
        &self,
        peer: &Peer,
        token: &str,
        request: &RebalanceRequest,
    ) -> Result<RebalanceStatus, NodeError> {
        let body = serde_json::to_vec(request).map_err(|e| NodeError::Unreadable(e.to_string()))?;
        self.request(Method::POST, peer, "/v1/rebalance", token, body.into()).await
    }

    /// Lets a node move no more clients.
    ///
    /// # Errors
    /// As [`Self::rebalance`].
    pub async fn stop_rebalance(&self, peer: &Peer, token: &str) -> Result<RebalanceStatus, NodeError> {
        self.request(Method::DELETE, peer, "/v1/rebalance", token, Bytes::new()).await
    }

    async fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        peer: &Peer,
        path: &str,
        token: &str,
        body: Bytes,
    ) -> Result<T, NodeError> {
        let ip = &peer.ip;
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.clone() };
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{host}:{}{path}", self.port))
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header(NODE_HEADER, &peer.name)
            .body(Full::new(body))
            .map_err(|e| NodeError::Unreachable(e.to_string()))?;
        let longest = self.patience.answer;
        let answer = tokio::time::timeout(longest, self.answer(request));
        answer.await.map_err(|_| NodeError::Timeout(longest))?
    }

    async fn answer<T: DeserializeOwned>(&self, request: Request<Full<Bytes>>) -> Result<T, NodeError> {
        let response = self.client.request(request).await.map_err(|error| unreachable(&error))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(|e| NodeError::Unreadable(e.to_string()))?
            .to_bytes();
        read(status, &body)
    }
}

/// What an answer says.
fn read<T: DeserializeOwned>(status: u16, body: &[u8]) -> Result<T, NodeError> {
    match status {
        200..=299 => serde_json::from_slice(body).map_err(|error| NodeError::Unreadable(error.to_string())),
        401 | 403 => Err(NodeError::Unauthorized),
        421 => Err(NodeError::Another),
        other => Err(NodeError::Status(other)),
    }
}

/// Tells a connection that was refused from one that failed otherwise.
fn unreachable(error: &(dyn std::error::Error + 'static)) -> NodeError {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    let refused = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::ConnectionRefused)
    };
    if causes.any(refused) { NodeError::Refused } else { NodeError::Unreachable(error.to_string()) }
}
