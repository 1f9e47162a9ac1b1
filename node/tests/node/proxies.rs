//! A node behind real nginx and real HAProxy: whose connections are whose, over WebSocket and over long-poll.
//!
//! Clients have loopback addresses of their own, and the proxies connect from 127.0.0.1, which the node trusts.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
};

use rustix::{
    net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with},
    process::Signal,
};

use crate::support::{
    frame::frame,
    http::Http,
    process::{Process, command},
    proxy::Proxy,
    tls::{Certificate, client_config, try_shake},
    wait::{HANG, wait},
};

const PROXY: Ipv4Addr = Ipv4Addr::LOCALHOST;
const ONE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 4);

const FORWARDFOR: &str = "  mode http\n  option forwardfor";
const TCP: &str = "  mode tcp";
/// Asks for a session of long-poll.
const POLL: &str = "/socket/longpoll?vsn=2.0.0";

/// A node with its files, which are removed with it.
struct Node {
    process: Process,
    directory: PathBuf,
}

impl Drop for Node {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.directory).ok();
    }
}

impl Node {
    fn start(keys: &str) -> Self {
        Self::start_with(keys, |_| {})
    }

    fn start_with(keys: &str, change: impl FnOnce(&mut Command)) -> Self {
        let directory =
            std::env::temp_dir().join(format!("channel-node-proxies-{:x}", rand::random::<u64>()));
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("admin-token"), "token").unwrap();
        Self::write(&directory, keys);
        let mut command = command();
        command.arg("--config").arg(directory.join("node.yaml")).arg("--secrets").arg(&directory);
        change(&mut command);
        Node { process: Process::start(command), directory }
    }

    fn write(directory: &std::path::Path, keys: &str) {
        let config = format!("auth: {{anonymous: true}}\nlongPoll: true\n{keys}\n");
        fs::write(directory.join("node.yaml"), config).unwrap();
    }

    fn reload(&self, keys: &str) {
        let before = self.process.metric("channelcluster_node_config_reloads_total").unwrap();
        Self::write(&self.directory, keys);
        self.process.signal(Signal::HUP);
        wait("the new configuration", || {
            self.process.metric("channelcluster_node_config_reloads_total").unwrap() > before
        });
    }

    fn refused(&self, reason: &str) -> f64 {
        self.process
            .metric(&format!("channelcluster_node_refused_total{{reason=\"{reason}\"}}"))
            .unwrap_or_default()
    }
}

/// A connection from one of this machine's addresses.
fn from(source: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    bind(&socket, &SocketAddr::from((source, 0))).unwrap();
    connect(&socket, &to).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(HANG)).unwrap();
    stream
}

/// The head of the answer to what was said on a connection; less when it ends before.
fn head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    // A reset is an end too.
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count > 0) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// The request of a handshake with more headers.
fn handshake(headers: &str) -> String {
    format!(
        "GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n{headers}\r\n"
    )
}

/// Shakes hands with more headers: the status and the connection.
fn upgrade(source: Ipv4Addr, to: SocketAddr, headers: &str) -> (String, TcpStream) {
    let mut stream = from(source, to);
    stream.write_all(handshake(headers).as_bytes()).unwrap();
    let head = head(&mut stream);
    (head.split(' ').nth(1).unwrap_or_default().to_owned(), stream)
}

/// Whether a WebSocket is served: a join is answered.
fn is_served(stream: &mut TcpStream) -> bool {
    let join = br#"["1","1","room:1","phx_join",{}]"#;
    stream.write_all(&frame(0x81, [1, 2, 3, 4], join)).unwrap();
    let mut answer = [0; 4_096];
    let count = stream.read(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..count]).contains(r#""status":"ok""#)
}

/// Two clients behind a proxy have as many connections each as one address may have, and are not taken for each other.
fn each_client_has_its_own_places(node: &Node, proxy: SocketAddr) {
    let forged = "x-forwarded-for: 127.0.0.99\r\nx-forwarded-for: 127.0.0.98\r\n";
    let mut kept: Vec<_> = [(ONE, ""), (ONE, forged), (OTHER, ""), (OTHER, forged)]
        .map(|(source, headers)| {
            let (status, stream) = upgrade(source, proxy, headers);
            assert_eq!(status, "101", "{source}");
            stream
        })
        .into();
    assert!(kept.iter_mut().all(is_served));
    let refused = node.refused("address_full");
    for (source, headers) in [(ONE, ""), (ONE, forged), (OTHER, forged)] {
        assert_eq!(upgrade(source, proxy, headers).0, "429", "{source} {headers}");
    }
    wait("they are counted", || node.refused("address_full") >= refused + 3.0);
    kept.clear();
    wait("the places are free again", || {
        node.process.metric("channelcluster_node_client_addresses") == Some(0.0)
    });
    assert_eq!(upgrade(ONE, proxy, "").0, "101");
    wait("the end of that one", || node.process.metric("channelcluster_node_client_addresses") == Some(0.0));
}

/// The same over long-poll.
fn each_client_has_its_own_sessions(proxy: SocketAddr) {
    let ask = |source| {
        let mut http = Http::over(from(source, proxy));
        http.ask("GET", POLL, "", "").status
    };
    let forged = |source| {
        let mut http = Http::over(from(source, proxy));
        http.ask("GET", POLL, "x-forwarded-for: 127.0.0.97\r\n", "").status
    };
    assert_eq!([ask(ONE), ask(OTHER), forged(ONE), forged(OTHER)], [200; 4]);
    assert_eq!([ask(ONE), ask(OTHER), forged(ONE), ask(STRANGER)], [429, 429, 429, 200]);
}

const LIMITED: &str = "limits: {maxConnectionsPerAddress: 2}\ntrustedProxies: [127.0.0.1]";

#[test]
fn behind_nginx() {
    let node = Node::start(LIMITED);
    let nginx = Proxy::nginx(node.process.listen);
    each_client_has_its_own_places(&node, nginx.address);
    each_client_has_its_own_sessions(nginx.address);
}

#[test]
fn behind_haproxy_with_forwarded_for() {
    let node = Node::start(LIMITED);
    let haproxy = Proxy::haproxy(node.process.listen, FORWARDFOR, "");
    each_client_has_its_own_places(&node, haproxy.address);
    each_client_has_its_own_sessions(haproxy.address);
}

#[test]
fn behind_haproxy_and_nginx_in_a_row() {
    let node = Node::start(LIMITED);
    let nginx = Proxy::nginx(node.process.listen);
    let haproxy = Proxy::haproxy(nginx.address, FORWARDFOR, "");
    each_client_has_its_own_places(&node, haproxy.address);
    each_client_has_its_own_sessions(haproxy.address);
}

#[test]
fn behind_haproxy_with_the_proxy_protocol() {
    let node = Node::start(&format!("{LIMITED}\nproxyProtocol: true"));
    for (options, version) in [
        (TCP, "send-proxy"),
        (TCP, "send-proxy-v2"),
        (FORWARDFOR, "send-proxy"),
        (FORWARDFOR, "send-proxy-v2"),
    ] {
        let haproxy = Proxy::haproxy(node.process.listen, options, version);
        each_client_has_its_own_places(&node, haproxy.address);
    }
    let haproxy = Proxy::haproxy(node.process.listen, TCP, "send-proxy-v2 check inter 50ms check-send-proxy");
    each_client_has_its_own_places(&node, haproxy.address);
    // The node sees the sockets of these clients themselves, and each counts beside the session.
    let ask = |source| Http::over(from(source, haproxy.address)).ask("GET", POLL, "", "").status;
    assert_eq!([ask(ONE), ask(OTHER), ask(ONE), ask(STRANGER)], [200, 200, 429, 200]);
}

#[test]
fn who_brings_no_header_of_the_proxy_protocol_does_not_come_in() {
    let node = Node::start(&format!("{LIMITED}\nproxyProtocol: true"));
    assert_eq!(upgrade(STRANGER, node.process.listen, "").0, "", "nobody comes past the proxies");
    assert_eq!(upgrade(PROXY, node.process.listen, "").0, "", "a proxy has to say whom it speaks for");
    // A shard shows its counters at the end of a turn, and a client may see its end before.
    wait("both are counted", || node.refused("proxy_header") == 2.0);
}

/// The load balancer passes the bytes of TLS on, after its own header.
#[test]
fn behind_haproxy_with_the_proxy_protocol_before_tls() {
    let certificate = Certificate::of("one");
    let keys = format!("{LIMITED}\nproxyProtocol: true");
    let node = Node::start_with(&keys, |command| {
        command.arg("--tls").arg(certificate.path());
    });
    let config = client_config();
    for version in ["send-proxy", "send-proxy-v2"] {
        let haproxy = Proxy::haproxy(node.process.listen, TCP, version);
        let come = |source| {
            let mut stream = try_shake(from(source, haproxy.address), &config).ok()?;
            stream.write_all(handshake("").as_bytes()).ok()?;
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).ok()?;
            Some((stream, answer))
        };
        let kept: Vec<_> = [ONE, ONE, OTHER].into_iter().map(come).collect();
        assert!(kept.iter().all(|one| one.as_ref().is_some_and(|(_, answer)| answer == b"HTTP/1.1 101")));
        assert!(come(ONE).is_none(), "dropped before it shakes hands");
        assert!(
            try_shake(from(STRANGER, node.process.listen), &config).is_err(),
            "nobody comes past the proxies"
        );
        drop(kept);
        wait("the end of all", || node.process.metric("channelcluster_node_client_addresses") == Some(0.0));
    }
}

#[test]
fn who_is_no_proxy_is_not_believed() {
    let node = Node::start(LIMITED);
    let listen = node.process.listen;
    let forged =
        |number: u8| format!("x-forwarded-for: 192.0.2.{number}\r\nforwarded: for=192.0.2.{number}\r\n");
    let kept = [1, 2].map(|number| upgrade(STRANGER, listen, &forged(number)));
    assert!(kept.iter().all(|(status, _)| status == "101"));
    assert_eq!(upgrade(STRANGER, listen, &forged(3)).0, "429");
    assert_eq!(upgrade(OTHER, listen, "").0, "101");
}

#[test]
fn the_limit_and_the_proxies_are_reloaded_and_nobody_is_dropped() {
    let node = Node::start(LIMITED);
    let listen = node.process.listen;
    let nginx = Proxy::nginx(listen);
    let mut kept = vec![
        upgrade(ONE, nginx.address, "").1,
        upgrade(ONE, nginx.address, "").1,
        upgrade(OTHER, listen, "").1,
    ];
    assert_eq!(upgrade(ONE, nginx.address, "").0, "429");
    node.reload("limits: {maxConnectionsPerAddress: 3}\ntrustedProxies: [127.0.0.1]");
    kept.push(upgrade(ONE, nginx.address, "").1);
    assert_eq!(upgrade(ONE, nginx.address, "").0, "429");
    node.reload("limits: {maxConnectionsPerAddress: 1}");
    let (status, stream) = upgrade(ONE, nginx.address, "");
    assert_eq!(status, "101", "it counts as the proxy now, which is no proxy any more");
    kept.push(stream);
    assert_eq!(upgrade(OTHER, listen, "").0, "429");
    node.reload("");
    kept.push(upgrade(OTHER, listen, "").1);
    node.reload("trustedProxies: [127.0.0.1]\nproxyProtocol: true");
    assert_eq!(upgrade(OTHER, listen, "").0, "");
    assert!(kept.iter_mut().all(is_served), "all that came in are still there");
    let connections = || node.process.metric("channelcluster_node_connections");
    wait("only they are counted", || connections() == Some(kept.len() as f64));
}

/// Connects until the answer is another status. Returns the connections.
fn until_refused(source: Ipv4Addr, to: SocketAddr, expected: &str) -> Vec<TcpStream> {
    let mut kept = Vec::new();
    loop {
        let (status, mut stream) = upgrade(source, to, "");
        if status != "101" {
            assert_eq!((&*status, kept.len() >= 5), (expected, true), "five come at once");
            assert!(!is_open(&mut stream), "it was refused");
            return kept;
        }
        kept.push(stream);
    }
}

/// Whether the other side has not ended the connection.
fn is_open(stream: &mut TcpStream) -> bool {
    !stream.read(&mut [0]).is_ok_and(|count| count == 0)
}

#[test]
fn connects_are_bounded_per_address_and_per_node_and_warned_of() {
    let node = Node::start("limits: {handshakesPerSecondPerAddress: 1}");
    let listen = node.process.listen;
    let mut kept = until_refused(ONE, listen, "429");
    kept.push(upgrade(OTHER, listen, "").1);
    let near = |limit: &str| {
        node.process.metric(&format!("channelcluster_node_limit_near_total{{limit=\"{limit}\"}}")).unwrap()
    };
    assert!(near("address_handshakes") >= 1.0 && near("handshakes") == 0.0);
    wait("a line of log", || node.process.has_logged("limits.handshakesPerSecondPerAddress"));
    node.reload("limits: {handshakesPerSecond: 1}");
    kept.extend(until_refused(STRANGER, listen, "503"));
    wait("it is counted", || node.refused("rate") >= 1.0 && near("handshakes") >= 1.0);
    let most = kept.len() + 2;
    node.reload(&format!("limits: {{maxConnections: {most}}}"));
    kept.push(upgrade(STRANGER, listen, "").1);
    wait("the use of the limit", || {
        node.process.metric("channelcluster_node_limit_used_ratio{limit=\"connections\"}") >= Some(0.9)
    });
    wait("a line of log", || node.process.has_logged("limits.maxConnections\""));
    assert_eq!(near("connections"), 1.0);
    assert!(kept.iter_mut().all(is_served), "no reload drops anybody");
}
