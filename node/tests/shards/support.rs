//! Shards in this process and blocking clients.

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use node::{
    mailbox::BusSender,
    sysinfo,
    threads::{ShardSettings, Shards, start_shards},
    transport::Settings,
};
use node_core::{
    config::NodeConfig, counters::Counters, layout::Layout, limits::CLOSE_TIMEOUT_MILLIS, shard::Mail,
};
use tokio_tungstenite::tungstenite::{Error, HandshakeError, Message, WebSocket, client, protocol::Role};

/// A test that has not seen what it waits for by then has failed.
pub(crate) const HANG: Duration = Duration::from_secs(120);

/// Waits for a state.
pub(crate) fn wait(what: &str, mut reached: impl FnMut() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < HANG, "waited {HANG:?} for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Running shards; shut down when dropped.
pub(crate) struct Node {
    shards: Option<Shards>,
    addr: SocketAddr,
    /// Clients begin with a header of the PROXY protocol.
    introduces: bool,
}

impl Node {
    /// Shards in dev mode with changes.
    pub(crate) fn start(shards: u8, change: impl FnOnce(&mut NodeConfig)) -> Self {
        Self::start_with(shards, Duration::from_millis(CLOSE_TIMEOUT_MILLIS), change)
    }

    /// Shards that wait for `close_timeout` until a client has read its close frame and answered.
    pub(crate) fn start_with(
        shards: u8,
        close_timeout: Duration,
        change: impl FnOnce(&mut NodeConfig),
    ) -> Self {
        let mut config = NodeConfig::dev();
        change(&mut config);
        Self::start_of(shards, close_timeout, config, None)
    }

    /// Shards in dev mode with changes, on other transports than plain ones.
    #[allow(dead_code, reason = "only the test of idle memory uses it")]
    pub(crate) fn start_on(shards: u8, transport: Settings, change: impl FnOnce(&mut NodeConfig)) -> Self {
        let mut config = NodeConfig::dev();
        change(&mut config);
        let close_timeout = Duration::from_millis(CLOSE_TIMEOUT_MILLIS);
        Self::start_with_all(shards, close_timeout, config, None, transport)
    }

    /// Shards with every choice made by the caller.
    pub(crate) fn start_of(
        shards: u8,
        close_timeout: Duration,
        config: NodeConfig,
        bus: Option<&BusSender>,
    ) -> Self {
        Self::start_with_all(shards, close_timeout, config, bus, Settings::at(vec![Self::any_address()]))
    }

    /// An address of which the kernel chooses the port.
    pub(crate) fn any_address() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    pub(crate) fn start_with_all(
        shards: u8,
        close_timeout: Duration,
        config: NodeConfig,
        bus: Option<&BusSender>,
        transport: Settings,
    ) -> Self {
        let settings = ShardSettings {
            transport,
            layout: Layout { shards, own_tables: false },
            nofile: sysinfo::nofile().soft,
            boot_id: 1,
            node_name: "test".to_owned(),
            version: "0",
            chat_page: Default::default(),
            close_timeout_millis: close_timeout.as_millis() as u64,
        };
        let introduces = config.proxies.protocol;
        let shards =
            start_shards(&settings, &Arc::new(config), bus, &node::inlets::ways().0).expect("starts");
        let addr = shards.local_addr();
        Self { shards: Some(shards), addr, introduces }
    }

    pub(crate) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn shards(&self) -> &Shards {
        self.shards.as_ref().expect("not joined yet")
    }

    pub(crate) fn counters(&self) -> Counters {
        let mut sum = Counters::ZERO;
        self.shards().handles().iter().for_each(|handle| sum.add(&handle.stats().load()));
        sum
    }

    pub(crate) fn tell(&self, item: impl Fn() -> Mail) {
        for handle in self.shards().handles() {
            handle.send(item()).expect("room in the mailbox");
        }
    }

    pub(crate) fn shut_down(&self) {
        self.tell(|| Mail::Shutdown);
    }

    pub(crate) fn join(&mut self) {
        self.shards.take().expect("not joined yet").join();
    }

    /// A connected client, or the HTTP status of the refusal.
    pub(crate) fn try_client(&self) -> Result<Client, u16> {
        let mut stream = TcpStream::connect(self.addr).expect("connects");
        if self.introduces {
            stream.write_all(b"PROXY TCP4 192.0.2.1 192.0.2.200 1024 80\r\n").expect("sends");
        }
        stream.set_read_timeout(Some(HANG)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        match client(format!("ws://{}/socket/websocket?vsn=2.0.0", self.addr), stream) {
            Ok((socket, _)) => Ok(Client(socket)),
            Err(HandshakeError::Failure(Error::Http(response))) => Err(response.status().as_u16()),
            Err(other) => panic!("{other}"),
        }
    }

    pub(crate) fn client(&self) -> Client {
        self.try_client().expect("accepted")
    }

    /// Clients until each of two shards has at least two: the kernel chooses by a hash of the ports.
    pub(crate) fn clients_on_both_shards(&self) -> Vec<Client> {
        let mut clients = Vec::new();
        let on = |shard: usize| self.shards().handles()[shard].stats().load().connections;
        while on(0) < 2 || on(1) < 2 {
            assert!(clients.len() < 1_000, "the kernel does not spread connections");
            clients.push(self.client());
            wait("it is counted", || on(0) + on(1) == clients.len() as u64);
        }
        clients
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(shards) = self.shards.take() {
            for handle in shards.handles() {
                handle.send(Mail::Shutdown).ok();
            }
            if !std::thread::panicking() {
                shards.join();
            }
        }
    }
}

/// A blocking client.
pub(crate) struct Client(WebSocket<TcpStream>);

impl Client {
    pub(crate) fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).expect("sends");
    }

    /// The next text, or the close code.
    pub(crate) fn read_or_close(&mut self) -> Result<String, Option<u16>> {
        loop {
            match self.0.read().expect("a message in time") {
                Message::Text(text) => return Ok(text.as_str().to_owned()),
                Message::Close(frame) => {
                    // Answers the close frame.
                    while self.0.read().is_ok() {}
                    return Err(frame.map(|frame| frame.code.into()));
                }
                _ => {}
            }
        }
    }

    pub(crate) fn read(&mut self) -> String {
        self.read_or_close().expect("not closed")
    }

    pub(crate) fn expect(&mut self, text: &str) {
        assert_eq!(self.read(), text);
    }

    /// Joins with join_ref `"1"`; gives the reply when it is not `ok`.
    pub(crate) fn try_join(&mut self, topic: &str) -> Result<(), String> {
        self.send(&format!(r#"["1","1","{topic}","phx_join",{{}}]"#));
        let reply = self.read();
        if reply.contains(r#""status":"ok""#) { Ok(()) } else { Err(reply) }
    }

    pub(crate) fn join(&mut self, topic: &str) {
        self.try_join(topic).expect("joins");
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        self.0.get_ref()
    }

    /// A second reader of the same connection, for another thread. The first must not read any more.
    pub(crate) fn split(&self) -> Self {
        let stream = self.stream().try_clone().expect("clones");
        Self(WebSocket::from_raw_socket(stream, Role::Client, None))
    }
}
