//! A proxy on loopback before an API server, which breaks the way to it: HTTP/1.1, as the client library speaks it.
//!
//! The client's side is plain HTTP, so that the proxy sees a request's path. A connection that was made silent stays
//! silent for ever, like one that a NAT has forgotten: only connections made after [`Faults::silent`] was lifted
//! carry anything.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as Task, Poll};
use std::time::Duration;

use anyhow::{Context, Result};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::{Client, Config};
use serde_json::json;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::identity::{Identity, write_kubeconfig};

/// The requests that a fault is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Everything.
    All,
    /// Watches, and the connections that carry one.
    Watches,
    /// Everything but watches.
    Others,
}

impl Traffic {
    fn holds(self, watch: bool) -> bool {
        match self {
            Self::All => true,
            Self::Watches => watch,
            Self::Others => !watch,
        }
    }
}

/// The faults of the moment. By default there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// For these requests nothing more is carried, and nothing is closed.
    pub silent: Option<Traffic>,
    /// The proxy itself answers these requests with this status; with 429 it tells clients to come again after 1 s.
    pub answer: Option<(Traffic, u16)>,
    /// Requests wait for so long before they are passed on.
    pub delay: Duration,
}

/// A proxy before an API server. Dropping it closes all connections.
pub struct Proxy {
    address: SocketAddr,
    directory: PathBuf,
    state: Arc<State>,
    _accept: AbortOnDropHandle<()>,
}

struct State {
    upstream: Config,
    faults: Mutex<Faults>,
    connections: Mutex<HashMap<u64, Arc<Connection>>>,
    requests: AtomicU64,
    all: CancellationToken,
}

/// One connection of a client.
struct Connection {
    /// A second handle on the socket, through which its close becomes a reset.
    socket: OwnedFd,
    dead: AtomicBool,
    watch: AtomicBool,
    reset: CancellationToken,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    pub(crate) async fn start(upstream: Config, directory: PathBuf) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            upstream,
            faults: Mutex::default(),
            connections: Mutex::default(),
            requests: AtomicU64::new(0),
            all: CancellationToken::new(),
        });
        let accept = AbortOnDropHandle::new(tokio::spawn(accept(listener, state.clone())));
        Ok(Self { address, directory, state, _accept: accept })
    }

    /// Replaces the faults. They act on existing connections at once.
    pub fn set(&self, faults: Faults) {
        *lock(&self.state.faults) = faults;
        if let Some(traffic) = faults.silent {
            for connection in lock(&self.state.connections).values() {
                if traffic.holds(connection.watch.load(Ordering::Acquire)) {
                    connection.dead.store(true, Ordering::Release);
                }
            }
        }
    }

    /// Ends all faults. A connection that was made silent stays so.
    pub fn heal(&self) {
        self.set(Faults::default());
    }

    /// Resets all connections once (RST); new ones are served.
    pub fn reset(&self) {
        for (_, connection) in lock(&self.state.connections).drain() {
            // A closed socket needs no reset.
            SockRef::from(&connection.socket).set_linger(Some(Duration::ZERO)).ok();
            connection.reset.cancel();
        }
    }

    /// Connections of clients now, silent ones included.
    #[must_use]
    pub fn connections(&self) -> usize {
        lock(&self.state.connections).len()
    }

    /// Requests that came, also those that were not passed on.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::Relaxed)
    }

    /// A client all of whose requests go through this proxy.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn client(&self, identity: Identity) -> Result<Client> {
        Ok(Client::try_from(self.config(identity)?)?)
    }

    /// The configuration of such a client.
    ///
    /// # Errors
    /// When the address cannot be written as a URL.
    pub fn config(&self, identity: Identity) -> Result<Config> {
        let mut config = Config::new(format!("http://{}", self.address).parse()?);
        config.auth_info.token = Some(identity.token().to_owned().into());
        config.default_namespace = "default".into();
        Ok(config)
    }

    /// A kubeconfig that leads here, for programs.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn kubeconfig(&self, identity: Identity) -> Result<PathBuf> {
        let path = self.directory.join(format!("{identity:?}-by-{}.kubeconfig", self.address.port()));
        write_kubeconfig(&path, &json!({"server": format!("http://{}", self.address)}), identity)?;
        Ok(path)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.all.cancel();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut next = 0_u64;
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let Ok(socket) = std::os::fd::AsFd::as_fd(&stream).try_clone_to_owned() else { continue };
        let connection = Arc::new(Connection {
            socket,
            dead: AtomicBool::new(lock(&state.faults).silent == Some(Traffic::All)),
            watch: AtomicBool::new(false),
            reset: CancellationToken::new(),
        });
        next += 1;
        lock(&state.connections).insert(next, connection.clone());
        tokio::spawn(serve(stream, next, connection, state.clone()));
    }
}

async fn serve(stream: TcpStream, number: u64, connection: Arc<Connection>, state: Arc<State>) {
    let gate = Gate { stream, connection: connection.clone() };
    // Each connection of a client gets one of its own to the API server, as behind a balancer.
    let Ok(upstream) = Client::try_from(state.upstream.clone()) else { return };
    let service = {
        let (state, connection) = (state.clone(), connection.clone());
        service_fn(move |request| pass(request, upstream.clone(), connection.clone(), state.clone()))
    };
    tokio::select! {
        // When a client goes away, that is no fault of the proxy.
        _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(gate), service) => {}
        () = connection.reset.cancelled() => {}
        () = state.all.cancelled() => {}
    }
    lock(&state.connections).remove(&number);
}

type Body = UnsyncBoxBody<Bytes, tower::BoxError>;

/// Passes one request on, as far as the present faults let it.
async fn pass(
    request: Request<Incoming>,
    upstream: Client,
    connection: Arc<Connection>,
    state: Arc<State>,
) -> Result<Response<Body>> {
    state.requests.fetch_add(1, Ordering::Relaxed);
    let query = request.uri().query().unwrap_or_default();
    let watch = query.split('&').any(|pair| pair == "watch=true" || pair == "watch=1");
    connection.watch.store(watch, Ordering::Release);
    let faults = *lock(&state.faults);
    if faults.silent.is_some_and(|traffic| traffic.holds(watch)) {
        connection.dead.store(true, Ordering::Release);
        std::future::pending::<()>().await;
    }
    if let Some((_, status)) = faults.answer.filter(|(traffic, _)| traffic.holds(watch)) {
        return refusal(status);
    }
    tokio::time::sleep(faults.delay).await;
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let answer = upstream.send(Request::from_parts(parts, kube::client::Body::from(body.to_vec()))).await?;
    Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()))
}

fn refusal(status: u16) -> Result<Response<Body>> {
    let reason = match status {
        410 => "Expired",
        429 => "TooManyRequests",
        _ => "InternalError",
    };
    let text = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": status,
        "message": format!("the proxy of the test answers {status}"),
    });
    let body = Full::new(Bytes::from(text.to_string())).map_err(|never: Infallible| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = StatusCode::from_u16(status).context("no status of HTTP")?;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if status == 429 {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    Ok(answer)
}

/// A client's stream that carries nothing once its connection is dead.
struct Gate {
    stream: TcpStream,
    connection: Arc<Connection>,
}

impl Gate {
    /// Whether the connection is dead. A client of a dead connection waits for ever; only the end of the proxy, or a
    /// reset, ends it.
    fn dead(&self) -> bool {
        self.connection.dead.load(Ordering::Acquire)
    }
}

impl AsyncRead for Gate {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.dead() { Poll::Pending } else { Pin::new(&mut self.stream).poll_read(task, buffer) }
    }
}

impl AsyncWrite for Gate {
    fn poll_write(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if self.dead() { Poll::Pending } else { Pin::new(&mut self.stream).poll_write(task, bytes) }
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<std::io::Result<()>> {
        if self.dead() { Poll::Pending } else { Pin::new(&mut self.stream).poll_flush(task) }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<std::io::Result<()>> {
        if self.dead() { Poll::Pending } else { Pin::new(&mut self.stream).poll_shutdown(task) }
    }
}
