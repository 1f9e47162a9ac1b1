//! How the connection to NATS is made, and made again.
//!
//! The client tries for ever. Before each attempt it *looks at* a server: it looks the name up, connects to the
//! addresses in turn, and reads a greeting, each within [`LOOK`]. Only a server that greets is given to the client. A
//! pod that was replaced leaves its address behind, where packets are dropped or a connection is taken and never
//! answered; without the look each attempt would hang there for as long as a login may take, which has to be long
//! enough for a fleet that logs in at once. A connection to a Service goes where its first packet went, even when
//! another pod has taken over since: so when a connection does not answer, another one is begun beside it after
//! [`AGAIN`].

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use async_nats::{Auth, AuthError, Client, ConnectOptions, Event, ReconnectToServer, Server};
use futures::{StreamExt, stream::FuturesUnordered};
use rand::seq::SliceRandom;
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{BusState, Credentials, link::Link, subjects};

/// Most messages of one topic that wait for this node. The client drops further ones, and the sequence numbers show
/// it.
const TOPIC_QUEUE: usize = 8_192;
/// A server that says nothing at all is given up after two to three of these, and connected to anew. It is longer
/// than the silence after which a bus counts as lost: giving up loses the messages that wait on both ends of the
/// connection.
const PING: Duration = Duration::from_secs(5);
/// How long a login may take, after the server has greeted. Long enough for a server on which a whole fleet logs in at
/// once.
const LOGIN: Duration = Duration::from_secs(5);
/// How long the look-up of a name may take, and then how long each address may take to accept a connection and greet.
/// The answer of a look-up is used for as long: looks follow each other more often than a name server should be
/// asked.
const LOOK: Duration = Duration::from_secs(1);
/// Time after which an address that has not answered is connected to once more.
const AGAIN: Duration = Duration::from_millis(200);
/// Longest pause between two looks; each is random up to its bound, so that the nodes of a fleet do not come back all
/// at once. Together with [`AGAIN`] it bounds how late a server that listens again is found. A look that is refused
/// costs a packet each way.
const MAX_PAUSE: Duration = Duration::from_millis(200);
/// Least time between two log lines about the same outage.
const COMPLAINT: Duration = Duration::from_secs(10);
/// A connection that ends before this counts as a failed attempt: a server that takes the login and then hangs up is
/// not asked without pause.
const SHORT_LIVED: Duration = Duration::from_secs(10);
/// Longest pause after connections that did not last, each of which costs the server a login.
const MAX_LOGIN_PAUSE: Duration = Duration::from_secs(2);

/// Starts the client, which connects in the background and for ever.
pub(super) async fn connect(link: &Link) -> Result<Client, async_nats::ConnectError> {
    let credentials = link.credentials.clone();
    let state = Arc::clone(&link.state);
    let trouble = Arc::new(Mutex::new(Trouble::default()));
    let history = Arc::clone(&trouble);
    let lookups = Arc::new(tokio::sync::Mutex::new(Lookups::default()));
    let options = match &link.credentials {
        Credentials::None => ConnectOptions::new(),
        _ => ConnectOptions::with_auth_callback(move |_| std::future::ready(auth(&credentials))),
    };
    options
        .name(&link.node_name)
        .no_echo()
        .retry_on_initial_connect()
        .ping_interval(PING)
        .connection_timeout(LOGIN)
        .client_capacity(link.client_queue)
        .subscription_capacity(TOPIC_QUEUE)
        // Replies come to a subject of the fleet, so that permissions need to name no other.
        .custom_inbox_prefix(subjects::inbox(&link.cluster, link.boot_id))
        .reconnect_to_server_callback(move |servers, _| {
            let (lookups, history) = (Arc::clone(&lookups), Arc::clone(&history));
            async move {
                let mut lookups = lookups.lock().await;
                find(servers, &mut lookups, &history).await
            }
        })
        .event_callback(move |event| {
            note(&state, &mut lock(&trouble), &event, Instant::now());
            std::future::ready(())
        })
        .connect(link.nats.urls.clone())
        .await
}

/// The credentials are read at each attempt, so that a rotated password counts.
fn auth(credentials: &Credentials) -> Result<Auth, AuthError> {
    let (username, password) = credentials.read().map_err(|error| {
        tracing::error!(%error, "the bus cannot log in");
        AuthError::new(error)
    })?;
    let mut auth = Auth::new();
    auth.username = Some(username);
    auth.password = Some(password);
    Ok(auth)
}

/// Looks at the servers, in random order with those that failed least first, until one greets, and returns that one.
async fn find(
    mut servers: Vec<Server>,
    lookups: &mut Lookups,
    trouble: &Mutex<Trouble>,
) -> Option<ReconnectToServer> {
    servers.shuffle(&mut rand::rng());
    servers.sort_by_key(|server| server.failed_attempts);
    // A server that greets may still refuse or drop the login, so failed logins make this wait before the looks.
    let failed = servers.first().map_or(0, |server| server.failed_attempts);
    let lost = lock(trouble).short_lived + failed;
    sleep(pause(lost, MAX_LOGIN_PAUSE)).await;
    for attempt in 1.. {
        for server in &servers {
            let (host, port) = (server.addr.host(), server.addr.port());
            match look(lookups, host, port).await {
                Ok(()) => {
                    let addr = server.addr.clone();
                    return Some(ReconnectToServer { addr, delay: Some(Duration::ZERO) });
                }
                Err(error) if lock(trouble).is_worth_telling(Instant::now()) => {
                    tracing::warn!(host, port, %error, "the bus cannot be reached, it is tried again for ever");
                }
                Err(_) => {}
            }
        }
        sleep(pause(attempt, MAX_PAUSE)).await;
    }
    None
}

/// Whether a server takes connections and greets. A NATS server speaks first, before any login and any TLS.
async fn look(lookups: &mut Lookups, host: &str, port: u16) -> io::Result<()> {
    let name = host.trim_start_matches('[').trim_end_matches(']');
    // An address needs no look-up, so one that hangs for another name does not hold it up.
    match name.parse::<IpAddr>() {
        Ok(ip) => greeted(&[SocketAddr::new(ip, port)]).await,
        Err(_) => greeted(&lookups.addresses(name, port).await?).await,
    }
}

/// Whether a server greets at one of the addresses. Each has its own time: behind one that is dead there may be a
/// live one.
async fn greeted(addresses: &[SocketAddr]) -> io::Result<()> {
    let mut last = io::Error::other("the name has no address");
    for address in addresses {
        match timeout(LOOK, first_answer(*address)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => last = error,
            Err(_) => last = in_time("connection or greeting"),
        }
    }
    Err(last)
}

/// The outcome of the first of several connections to an address; another one is begun each [`AGAIN`].
async fn first_answer(address: SocketAddr) -> io::Result<()> {
    let greeting = || async move { TcpStream::connect(address).await?.read_u8().await };
    let mut connections = FuturesUnordered::new();
    loop {
        connections.push(greeting());
        tokio::select! {
            Some(answer) = connections.next() => return answer.map(drop),
            () = sleep(AGAIN) => {}
        }
    }
}

fn in_time(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no {what} within {} ms", LOOK.as_millis()))
}

/// Look-ups of names, one at a time: a look-up that hangs keeps a thread, so it is waited for again and no further
/// one is begun.
#[derive(Debug, Default)]
struct Lookups {
    running: Option<(String, tokio::task::JoinHandle<io::Result<Vec<SocketAddr>>>)>,
    /// The last good answer, and when it came.
    last: Option<(String, Instant, Vec<SocketAddr>)>,
}

impl Lookups {
    async fn addresses(&mut self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Some((_, _, addresses)) =
            self.last.as_ref().filter(|(known, at, _)| known == name && at.elapsed() < LOOK)
        {
            return Ok(addresses.iter().map(|address| SocketAddr::new(address.ip(), port)).collect());
        }
        let running = self.running.take().filter(|(known, lookup)| known == name || !lookup.is_finished());
        let (asked, mut lookup) = running.unwrap_or_else(|| {
            let host = name.to_owned();
            let lookup = async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) };
            (name.to_owned(), tokio::spawn(lookup))
        });
        let Ok(answer) = timeout(LOOK, &mut lookup).await else {
            self.running = Some((asked, lookup));
            return Err(in_time("answer about the name"));
        };
        if asked != name {
            return Err(io::Error::other("another name was looked up meanwhile"));
        }
        let addresses = answer.map_err(io::Error::other)??;
        self.last = Some((asked, Instant::now(), addresses.clone()));
        Ok(addresses)
    }
}

/// Full jitter below a bound that doubles from 50 ms up to `most`.
fn pause(attempt: usize, most: Duration) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(10);
    let bound = most.min(Duration::from_millis(50) * 2u32.pow(doublings));
    if attempt == 0 { Duration::ZERO } else { bound.mul_f64(rand::random::<f64>()) }
}

/// The recent failures.
#[derive(Debug, Default)]
struct Trouble {
    connected: Option<Instant>,
    /// Connections in a row that did not last.
    short_lived: usize,
    told: Option<Instant>,
}

impl Trouble {
    fn lost(&mut self, now: Instant) {
        let lasted = self.connected.take().map(|at| now.saturating_duration_since(at));
        match lasted {
            Some(lasted) if lasted < SHORT_LIVED => self.short_lived += 1,
            Some(_) => self.short_lived = 0,
            None => {}
        }
    }

    /// Whether to log a failure: one that repeats is logged once per [`COMPLAINT`].
    fn is_worth_telling(&mut self, now: Instant) -> bool {
        let worth = self.told.is_none_or(|at| now.saturating_duration_since(at) >= COMPLAINT);
        if worth {
            self.told = Some(now);
        }
        worth
    }
}

fn lock(trouble: &Mutex<Trouble>) -> MutexGuard<'_, Trouble> {
    trouble.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Records the state of the connection and logs its changes.
fn note(state: &BusState, trouble: &mut Trouble, event: &Event, now: Instant) {
    if matches!(event, Event::ServerError(_)) {
        state.counts.server_errors.fetch_add(1, Ordering::Relaxed);
    }
    match event {
        Event::Connected => {
            state.set_connected(true);
            trouble.connected = Some(now);
            if trouble.short_lived == 0 {
                tracing::info!("the bus is connected");
            }
        }
        Event::Disconnected | Event::Closed => {
            state.set_connected(false);
            trouble.lost(now);
            if trouble.short_lived <= 1 || trouble.is_worth_telling(now) {
                tracing::warn!(
                    "the bus is lost; local members are served on, and it is tried again for ever"
                );
            }
        }
        event if trouble.is_worth_telling(now) => tracing::warn!(%event, "the bus has trouble"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn pauses_stay_below_their_bound_and_the_first_attempt_is_at_once() {
        assert_eq!(pause(0, MAX_PAUSE), Duration::ZERO);
        for attempt in 1..100 {
            assert!(pause(attempt, MAX_PAUSE) <= MAX_PAUSE);
        }
        assert!(pause(usize::MAX, MAX_PAUSE) <= MAX_PAUSE);
    }

    #[test]
    fn a_server_that_hangs_up_after_the_login_is_asked_ever_less_often_and_told_rarely() {
        let state = BusState::default();
        let mut trouble = Trouble::default();
        let start = Instant::now();
        for _ in 0..5 {
            note(&state, &mut trouble, &Event::Connected, start);
            note(&state, &mut trouble, &Event::Disconnected, start);
        }
        assert_eq!((trouble.short_lived, state.counts.connects.load(Relaxed)), (5, 5));
        let told = trouble.told;
        note(&state, &mut trouble, &Event::Connected, start);
        note(&state, &mut trouble, &Event::Disconnected, start + SHORT_LIVED / 2);
        assert_eq!((trouble.short_lived, trouble.told), (6, told));
        note(&state, &mut trouble, &Event::Connected, start);
        note(&state, &mut trouble, &Event::Disconnected, start + SHORT_LIVED);
        assert_eq!(trouble.short_lived, 0, "one that lasts is forgiven");
    }

    async fn looked_at(address: SocketAddr) -> io::Result<()> {
        look(&mut Lookups::default(), &address.ip().to_string(), address.port()).await
    }

    #[tokio::test]
    async fn a_server_that_takes_the_connection_and_says_nothing_is_given_up() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let error = looked_at(silent.local_addr().unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    }

    #[tokio::test]
    async fn an_address_that_drops_packets_is_given_up() {
        // A full accept queue drops SYNs, as the address of a dead pod does.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = socket.listen(0).unwrap();
        let address = full.local_addr().unwrap();
        let mut held = Vec::new();
        while let Ok(Ok(stream)) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            held.push(stream);
        }
        let error = looked_at(address).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    }

    /// A server that greets each client.
    async fn server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::io::AsyncWriteExt::write_all(&mut stream, b"INFO {}\r\n").await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn a_connection_that_does_not_answer_is_joined_by_another() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let _silent = listener.accept().await.unwrap();
            let (mut next, _) = listener.accept().await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut next, b"INFO {}\r\n").await.unwrap();
            std::future::pending::<()>().await;
        };
        // The first connection alone would never be answered.
        let answer = async {
            tokio::select! { answer = first_answer(address) => answer, () = server => unreachable!() }
        };
        timeout(Duration::from_secs(120), answer).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_dead_address_of_a_name_leaves_time_for_the_next() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        greeted(&[silent.local_addr().unwrap(), server().await]).await.unwrap();
    }

    #[tokio::test]
    async fn an_address_is_looked_at_while_the_look_up_of_a_name_hangs() {
        let hangs = tokio::spawn(std::future::pending());
        let mut lookups = Lookups { running: Some(("slow".to_owned(), hangs)), last: None };
        look(&mut lookups, "127.0.0.1", server().await.port()).await.unwrap();
        assert!(lookups.running.is_some(), "it is waited for again");
    }

    #[tokio::test]
    async fn a_server_that_greets_is_found_by_address_and_by_name() {
        let address = server().await;
        looked_at(address).await.unwrap();
        look(&mut Lookups::default(), "localhost", address.port()).await.unwrap();
    }

    #[tokio::test]
    async fn a_good_answer_about_a_name_holds_for_a_while() {
        let address: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let last = |at, name: &str| Some((name.to_owned(), at, vec![address]));
        let mut lookups = Lookups { running: None, last: last(Instant::now(), "nats.invalid") };
        let known = lookups.addresses("nats.invalid", 4222).await.unwrap();
        assert_eq!(known, ["192.0.2.1:4222".parse().unwrap()]);
        lookups.last = Instant::now().checked_sub(LOOK).and_then(|old| last(old, "localhost"));
        assert_ne!(lookups.addresses("localhost", 1).await.unwrap(), [address], "it is asked for anew");
    }

    #[tokio::test]
    async fn a_name_whose_look_up_hangs_is_asked_for_by_one_thread_only() {
        let hangs = tokio::spawn(std::future::pending());
        let id = hangs.id();
        let mut lookups = Lookups { running: Some(("slow".to_owned(), hangs)), last: None };
        for _ in 0..2 {
            let error = lookups.addresses("slow", 1).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
            assert_eq!(lookups.running.as_ref().map(|(_, lookup)| lookup.id()), Some(id));
        }
    }
}
