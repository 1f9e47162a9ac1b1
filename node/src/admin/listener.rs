//! The admin port's listener: at most so many connections, in all and per address, none of them idle for ever.
//!
//! Anyone who reaches the port may open connections without a token; without these bounds a few thousand silent ones
//! would take the descriptors that clients need, and one peer could keep the kubelet's probes waiting.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};

/// Connections at a time; more wait in the backlog.
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
    places: Arc<Semaphore>,
    addresses: Arc<Addresses>,
    idle: Duration,
}

/// Connections per address. Never more entries than connections.
#[derive(Debug, Default)]
struct Addresses(Mutex<HashMap<IpAddr, usize>>);

impl Addresses {
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn claim(self: &Arc<Self>, ip: IpAddr) -> Option<Claim> {
        let mut addresses = self.lock();
        let count = addresses.entry(ip).or_default();
        if *count == PER_ADDRESS {
            return None;
        }
        *count += 1;
        Some(Claim { addresses: Arc::clone(self), ip })
    }
}

/// One connection of an address, counted until it is dropped.
#[derive(Debug)]
struct Claim {
    addresses: Arc<Addresses>,
    ip: IpAddr,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut addresses = self.addresses.lock();
        if let Some(count) = addresses.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&self.ip);
            }
        }
    }
}

impl Limited {
    /// Puts the bounds around a listener.
    pub fn new(inner: TcpListener) -> Self {
        Limited {
            inner,
            places: Arc::new(Semaphore::new(CONNECTIONS)),
            addresses: Arc::default(),
            idle: IDLE,
        }
    }
}

impl Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        loop {
            let (stream, address) = Listener::accept(&mut self.inner).await;
            if let Some(claim) = self.addresses.claim(address.ip()) {
                let idle = (self.idle, Box::pin(sleep(self.idle)));
                return (Connection { stream, idle, _place: (place, claim) }, address);
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
    _place: (Option<OwnedSemaphorePermit>, Claim),
}

impl Connection {
    /// Passes on what the stream did, or the end when it did nothing for too long. A reader that never takes its answers
    /// keeps the server from reading, hence both directions look at the clock.
    fn in_time<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let (limit, timer) = &mut self.idle;
        if done.is_ready() {
            timer.as_mut().reset(Instant::now() + *limit);
            return done;
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
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
        self.in_time(cx, done)
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
        self.in_time(cx, done)
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
        assert_eq!(listener.places.available_permits(), CONNECTIONS - 1);
        let silent = connection.read_u8().await.unwrap_err();
        assert_eq!(silent.kind(), io::ErrorKind::TimedOut);
        let deaf = loop {
            if let Err(error) = connection.write_all(&[0; 65_536]).await {
                break error;
            }
        };
        assert_eq!(deaf.kind(), io::ErrorKind::TimedOut);
        drop(connection);
        assert_eq!(listener.places.available_permits(), CONNECTIONS);
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
        assert!(listener.addresses.lock().is_empty());
    }
}
