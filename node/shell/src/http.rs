//! A bounded HTTP port for probes, scrapes, orders and the server API, which speaks HTTP/1 and, to clients that begin with
//! its preface, HTTP/2 (RFC 9113, section 3.3). The number of connections is bounded, in all and per
//! address; each of them may last as long as an exchange, or idle time, may take; and a request head may have a few
//! kilobytes.
//!
//! Which connections stay is decided in [`node_core::visitors`]; here are the sockets.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use node_core::visitors::{Bounds, Patience, Visitors};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinSet,
    time::{Instant, Sleep, sleep, sleep_until},
};

/// Length of a port's accept queue.
pub const BACKLOG: i32 = 128;
/// What a client of HTTP/2 says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";
/// Pause after accept ran out of descriptors or memory: trying again at once would spin.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// A port within bounds, listening at one or more addresses.
#[derive(Debug)]
pub struct Port {
    listeners: Vec<TcpListener>,
    bounds: Bounds,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    started: Instant,
    visitors: Mutex<(Visitors, Holds)>,
}

/// By the connection's id: when the sender is dropped, the connection ends.
type Holds = std::collections::HashMap<u64, oneshot::Sender<()>>;

impl Shared {
    fn lock(&self) -> MutexGuard<'_, (Visitors, Holds)> {
        self.visitors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Port {
    /// Takes over listening sockets. Must be called inside a runtime.
    ///
    /// # Errors
    /// When the runtime refuses a socket.
    pub fn new(listeners: Vec<std::net::TcpListener>, bounds: Bounds) -> io::Result<Self> {
        let watched = listeners.into_iter().map(|listener| {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        });
        let visitors = Mutex::new((Visitors::new(bounds), Holds::new()));
        let shared = Arc::new(Shared { started: Instant::now(), visitors });
        Ok(Port { listeners: watched.collect::<io::Result<_>>()?, bounds, shared })
    }

    /// Serves until `stop`. Connections that are under way then are ended.
    pub async fn serve(self, router: Router, stop: impl Future<Output = ()>) {
        let mut tasks = JoinSet::new();
        tokio::pin!(stop);
        loop {
            let connection = tokio::select! {
                connection = self.accept() => connection,
                Some(_) = tasks.join_next() => continue,
                () = &mut stop => return,
            };
            let service = TowerToHyperService::new(router.clone());
            let mut builder = auto::Builder::new(TokioExecutor::new());
            if self.bounds.streams.is_none() {
                builder = builder.http1_only();
            }
            builder.http1().max_buf_size(self.bounds.head_bytes);
            let heads = u32::try_from(self.bounds.head_bytes).unwrap_or(u32::MAX);
            builder.http2().max_header_list_size(heads).max_concurrent_streams(self.bounds.streams);
            // Only the peer can end a connection here, so it is not logged: a peer could cause such lines at will.
            tasks.spawn(
                async move { builder.serve_connection(TokioIo::new(connection), service).await.is_ok() },
            );
        }
    }

    /// Accepts the next connection and gives it a place.
    async fn accept(&self) -> Connection {
        loop {
            match self.next().await {
                Ok((stream, address)) => return self.admit(stream, address),
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "a connection to the port for probes cannot be taken");
                    sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }

    async fn next(&self) -> io::Result<(TcpStream, SocketAddr)> {
        std::future::poll_fn(|cx| {
            let ready = self.listeners.iter().find_map(|listener| match listener.poll_accept(cx) {
                Poll::Ready(accepted) => Some(accepted),
                Poll::Pending => None,
            });
            ready.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    fn admit(&self, stream: TcpStream, address: SocketAddr) -> Connection {
        let (hold, ended) = oneshot::channel();
        let arrival = {
            let (visitors, holds) = &mut *self.shared.lock();
            let arrival = visitors.arrive(address.ip());
            arrival.ended.map(|id| holds.remove(&id));
            holds.insert(arrival.id, hold);
            arrival
        };
        let patience = Patience::new(self.bounds, self.shared.millis());
        let timer = Box::pin(sleep_until(self.shared.started + Duration::from_millis(patience.deadline())));
        let shared = Arc::clone(&self.shared);
        Connection {
            bounds: self.bounds,
            stream,
            place: Place { shared, id: arrival.id },
            ended: Some(ended),
            patience,
            timer,
            wrote: false,
            begins: true,
            is_http2: false,
        }
    }
}

/// accept(2): errors of the connection itself are to be treated by trying the next one.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// A place at the port, which a connection has until it is dropped.
#[derive(Debug)]
struct Place {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let (visitors, holds) = &mut *self.shared.lock();
        visitors.leave(self.id);
        holds.remove(&self.id);
    }
}

/// A connection that ends when it loses its place or its time is over.
#[derive(Debug)]
struct Connection {
    bounds: Bounds,
    stream: TcpStream,
    place: Place,
    /// Resolves when another connection gets the place; none from then on.
    ended: Option<oneshot::Receiver<()>>,
    patience: Patience,
    timer: Pin<Box<Sleep>>,
    /// Whether output was given to the kernel since the last flush.
    wrote: bool,
    /// Whether nothing was read yet.
    begins: bool,
    is_http2: bool,
}

impl Connection {
    /// Passes on what the stream did, or an end when the connection has lost its place or its time is over. A reader
    /// that never takes its answers keeps the server from reading, so both directions look at the clock.
    fn in_time<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if self.ended.as_mut().is_none_or(|ended| Pin::new(ended).poll(cx).is_ready()) {
            self.ended = None;
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if done.is_ready() {
            return done;
        }
        ready!(self.timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn set_timer(&mut self) {
        let deadline = self.place.shared.started + Duration::from_millis(self.patience.deadline());
        self.timer.as_mut().reset(deadline);
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let done = Pin::new(&mut self.stream).poll_read(cx, buf);
        let now = self.place.shared.millis();
        if buf.filled().len() > before
            && std::mem::take(&mut self.begins)
            && self.bounds.streams.is_some()
            && buf.filled()[before..].starts_with(PREFACE)
        {
            self.is_http2 = true;
            self.patience = Patience::of_http2(self.bounds, now);
            self.set_timer();
        }
        if buf.filled().len() > before && self.patience.on_input(now) {
            self.set_timer();
        }
        self.in_time(cx, done)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote |= matches!(done, Poll::Ready(Ok(1..)));
        self.in_time(cx, done)
    }

    /// The server flushes when it has written all of an answer.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        if std::mem::take(&mut self.wrote) {
            let now = self.place.shared.millis();
            // What is flushed on HTTP/2 may be no answer: a client could keep its place by pings.
            if !self.is_http2 {
                self.place.shared.lock().0.answered(self.place.id);
            }
            if self.patience.on_answered(now) {
                self.set_timer();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote |= matches!(done, Poll::Ready(Ok(1..)));
        self.in_time(cx, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::routing::get;
    use node_core::visitors::BOUNDS;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::socket;

    /// Starts a port with an answer at `/` and a huge one at `/huge`.
    fn start(bounds: Bounds) -> SocketAddr {
        let listener = socket::listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), BACKLOG).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, listener.local_addr().unwrap().port()));
        let router = Router::new()
            .route("/", get(|| async { "ok\n" }))
            .route("/huge", get(|| async { vec![b'x'; 64 << 20] }));
        let port = Port::new(vec![listener], bounds).unwrap();
        tokio::spawn(port.serve(router, std::future::pending()));
        address
    }

    /// A request of a client that goes on to use its connection.
    async fn ask(stream: &mut TcpStream) -> io::Result<()> {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: n\r\n\r\n").await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok\n") {
            answer.push(stream.read_u8().await?);
        }
        Ok(())
    }

    async fn ended(stream: &mut TcpStream) {
        let mut rest = Vec::new();
        // The kernel shows an end or a reset; both are the end here.
        stream.read_to_end(&mut rest).await.ok();
    }

    #[tokio::test]
    async fn dripping_connections_of_an_address_never_keep_its_probes_out() {
        let address = start(BOUNDS);
        let mut drips = Vec::new();
        for _ in 0..4 * BOUNDS.per_address {
            let mut drip = TcpStream::connect(address).await.unwrap();
            drip.write_all(b"GET / HTTP/1.1\r\nx").await.unwrap();
            drips.push(drip);
        }
        for _ in 0..2 * BOUNDS.per_address {
            for drip in &mut drips {
                drip.write_all(b"x").await.ok();
            }
            ask(&mut TcpStream::connect(address).await.unwrap()).await.expect("an answer");
        }
    }

    #[tokio::test]
    async fn a_connection_that_is_used_outlives_those_that_wait() {
        let address = start(BOUNDS);
        let mut used = TcpStream::connect(address).await.unwrap();
        ask(&mut used).await.unwrap();
        for _ in 0..3 * BOUNDS.per_address {
            // One client ends its connection at once, another keeps it without a word: neither may take the place of
            // a client that is answered.
            std::mem::forget(TcpStream::connect(address).await.unwrap().into_std());
            ask(&mut used).await.expect("it was answered last");
        }
    }

    #[tokio::test]
    async fn one_byte_after_another_prolongs_no_head_and_no_answer() {
        let bounds = Bounds { exchange_millis: 50, idle_millis: 60_000, ..BOUNDS };
        let address = start(bounds);
        let mut drip = TcpStream::connect(address).await.unwrap();
        drip.write_all(b"GET / HTTP/1.1\r\nx").await.unwrap();
        while drip.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET /huge HTTP/1.1\r\nhost: n\r\n\r\n").await.unwrap();
        let (mut taken, mut piece) = (0, [0; 4_096]);
        while let Ok(count @ 1..) = slow.read(&mut piece).await {
            taken += count;
            sleep(Duration::from_millis(1)).await;
        }
        assert!(taken < 64 << 20, "it took the whole answer");
    }

    #[tokio::test]
    async fn who_is_silent_or_idle_loses_the_place() {
        let bounds = Bounds { exchange_millis: 20, idle_millis: 20, ..BOUNDS };
        let address = start(bounds);
        ended(&mut TcpStream::connect(address).await.unwrap()).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        ask(&mut idle).await.unwrap();
        ended(&mut idle).await;
    }

    #[tokio::test]
    async fn a_head_beyond_the_bound_is_refused() {
        let address = start(BOUNDS);
        let mut long = TcpStream::connect(address).await.unwrap();
        long.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
        long.write_all(&vec![b'x'; 2 * BOUNDS.head_bytes]).await.ok();
        let mut answer = Vec::new();
        long.read_to_end(&mut answer).await.ok();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
}
