//! The admin port's listener: at most so many connections, in all and per address, none of them idle for ever.
//!
//! Anyone who reaches the port may open connections without a token; without these bounds a few thousand silent ones
//! would take the descriptors that clients need. A full port makes room for the newest by ending whoever has waited for
//! longest since its last answer: the kubelet's probes are new and short, those who sit on places are neither.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::{Instant, Sleep, sleep},
};

/// Connections at a time.
const CONNECTIONS: usize = 128;
/// Of these, connections of one address; more are closed at once.
const PER_ADDRESS: usize = 32;
/// A connection that neither sends nor takes anything for so long is closed, which frees its place. Longer than a usual
/// scrape interval.
const IDLE: Duration = Duration::from_secs(35);

/// A listener with bounds.
#[derive(Debug)]
pub struct Limited {
    inner: TcpListener,
    places: Arc<Places>,
    idle: Duration,
}

/// Who holds a place.
#[derive(Debug, Default)]
struct Places {
    taken: Mutex<HashMap<u64, Taken>>,
    /// Counts what happens, as a clock that never stands still between two events.
    clock: AtomicU64,
}

#[derive(Debug)]
struct Taken {
    ip: IpAddr,
    /// When it was last answered, or came.
    answered: Arc<AtomicU64>,
    /// Dropped to end it.
    _hold: oneshot::Sender<()>,
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Taken>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Relaxed)
    }

    /// A place, unless the address has its share; when all are taken, that of who waits for longest.
    fn claim(self: &Arc<Self>, ip: IpAddr) -> Option<Claim> {
        let mut taken = self.lock();
        if taken.values().filter(|other| other.ip == ip).count() >= PER_ADDRESS {
            return None;
        }
        if taken.len() >= CONNECTIONS {
            let longest =
                taken.iter().min_by_key(|(_, other)| other.answered.load(Relaxed)).map(|(id, _)| *id);
            longest.map(|id| taken.remove(&id));
        }
        let id = self.tick();
        let answered = Arc::new(AtomicU64::new(id));
        let (hold, ended) = oneshot::channel();
        taken.insert(id, Taken { ip, answered: Arc::clone(&answered), _hold: hold });
        Some(Claim { places: Arc::clone(self), id, answered, ended: Some(ended) })
    }
}

/// A place, until it is dropped or given to another.
#[derive(Debug)]
struct Claim {
    places: Arc<Places>,
    id: u64,
    answered: Arc<AtomicU64>,
    /// Resolves when the place is given to another; none from then on.
    ended: Option<oneshot::Receiver<()>>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.places.lock().remove(&self.id);
    }
}

impl Limited {
    /// Puts the bounds around a listener.
    pub fn new(inner: TcpListener) -> Self {
        Limited { inner, places: Arc::default(), idle: IDLE }
    }
}

impl Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.inner).await;
            if let Some(claim) = self.places.claim(address.ip()) {
                let idle = (self.idle, Box::pin(sleep(self.idle)));
                return (Connection { stream, idle, claim }, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// A connection that holds its place and ends when idle.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    idle: (Duration, Pin<Box<Sleep>>),
    claim: Claim,
}

impl Connection {
    /// Passes on what the stream did, or the end when it did nothing for too long or lost its place. A reader that never
    /// takes its answers keeps the server from reading, hence both directions look at the clock.
    fn in_time<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let Claim { ended, .. } = &mut self.claim;
        if ended.as_mut().is_none_or(|ended| Pin::new(ended).poll(cx).is_ready()) {
            *ended = None;
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let (limit, timer) = &mut self.idle;
        if done.is_ready() {
            timer.as_mut().reset(Instant::now() + *limit);
            return done;
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// The same for output, which is an answer.
    fn answered<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.claim.answered.store(self.claim.places.tick(), Relaxed);
        }
        self.in_time(cx, done)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.in_time(cx, done)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.answered(cx, done)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
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
        self.answered(cx, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn who_neither_asks_nor_reads_loses_the_place() {
        let inner = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = inner.local_addr().unwrap();
        let mut listener = Limited { idle: Duration::from_millis(20), ..Limited::new(inner) };
        let _client = TcpStream::connect(address).await.unwrap();
        let (mut connection, _) = listener.accept().await;
        assert_eq!(listener.places.lock().len(), 1);
        let silent = connection.read_u8().await.unwrap_err();
        assert_eq!(silent.kind(), io::ErrorKind::TimedOut);
        let deaf = loop {
            if let Err(error) = connection.write_all(&[0; 65_536]).await {
                break error;
            }
        };
        assert_eq!(deaf.kind(), io::ErrorKind::TimedOut);
        drop(connection);
        assert!(listener.places.lock().is_empty());
    }

    #[tokio::test]
    async fn one_address_cannot_take_every_place() {
        let inner = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = inner.local_addr().unwrap().port();
        let mut listener = Limited::new(inner);
        let mut flood = Vec::new();
        for _ in 0..CONNECTIONS {
            flood.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
        }
        let mut held = Vec::new();
        for _ in 0..PER_ADDRESS {
            held.push(listener.accept().await.0);
        }
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let _probe = socket.connect(SocketAddr::from(([127, 0, 0, 1], port))).await.unwrap();
        let (connection, address) = listener.accept().await;
        assert_eq!(address.ip(), IpAddr::from([127, 0, 0, 2]), "the probe waited behind the flood");
        drop((connection, held));
        assert!(listener.places.lock().is_empty());
    }

    #[tokio::test]
    async fn many_addresses_that_sit_on_all_places_make_room_for_a_probe() {
        let inner = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = inner.local_addr().unwrap().port();
        let mut listener = Limited::new(inner);
        let mut held = Vec::new();
        let mut clients = Vec::new();
        for number in 0..CONNECTIONS {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from(([127, 0, 1, (number / PER_ADDRESS) as u8], 0))).unwrap();
            clients.push(socket.connect(SocketAddr::from(([127, 0, 0, 1], port))).await.unwrap());
            held.push(listener.accept().await.0);
        }
        // The first was answered since, so the second has waited for longest.
        held[0].write_all(b"answer").await.unwrap();
        let mut probe = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (mut connection, _) = listener.accept().await;
        probe.write_all(b"?").await.unwrap();
        assert_eq!(connection.read_u8().await.unwrap(), b'?');
        let ended = held[1].read_u8().await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::ConnectionAborted);
        clients[0].write_all(b"!").await.unwrap();
        assert_eq!(held[0].read_u8().await.unwrap(), b'!');
        assert_eq!(listener.places.lock().len(), CONNECTIONS);
    }
}
