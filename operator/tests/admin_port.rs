//! The operator's port against strangers: the memory that they make it use is bounded, and its probes are answered
//! throughout.
#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

#[path = "../../node/tests/node/support/port.rs"]
mod port;

use port::Port;

/// Connections of each kind.
const CONNECTIONS: usize = 2_000;
/// Addresses that they come from.
const ADDRESSES: usize = 50;
/// Most that the process may grow by, in KiB.
const MOST_GROWTH: u64 = 64 * 1_024;
/// A test that has not seen what it waits for by then has failed.
const HANG: Duration = Duration::from_secs(120);
/// How long a probe waits for its answer: a kubelet gives up after a second, and a busy machine is slower.
const PATIENCE: Duration = Duration::from_secs(10);

struct Operator {
    process: Child,
    port: u16,
    _reserved: Port,
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Operator {
    /// Starts an operator that never finds an API server: its port answers all the same.
    fn start() -> Self {
        let reserved = Port::reserve();
        let port = reserved.number();
        let config = std::env::temp_dir().join(format!("admin-port-{}.kubeconfig", std::process::id()));
        let text = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "a",
            "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}],
            "users": [{"name": "a", "user": {}}], "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}]}"#;
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_channel-operator"));
        command.args([
            "--node-image=node:1",
            "--nats-image=nats:1",
            &format!("--metrics-addr=0.0.0.0:{port}"),
        ]);
        command.env("KUBECONFIG", config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let operator = Self { process: command.spawn().unwrap(), port, _reserved: reserved };
        let started = Instant::now();
        while operator.healthz(PATIENCE).is_none() {
            assert!(started.elapsed() < HANG, "it never answered");
            std::thread::sleep(Duration::from_millis(50));
        }
        operator
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// How long a probe from an address of its own took, if it was answered.
    fn healthz(&self, patience: Duration) -> Option<Duration> {
        let started = Instant::now();
        let mut stream = TcpStream::connect_timeout(&self.address(), patience).ok()?;
        stream.set_read_timeout(Some(patience)).ok()?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: operator\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.1 200").then(|| started.elapsed())
    }

    /// Memory of the process, in KiB: now, or the most it ever had.
    fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// A connection from one of many addresses; none where the port takes no more.
    fn stranger(&self, number: usize) -> Option<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let last = u8::try_from(number % ADDRESSES).unwrap() + 1;
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 7, last), 0)).into()).unwrap();
        socket.connect_timeout(&self.address().into(), Duration::from_secs(1)).ok()?;
        socket.set_nonblocking(true).unwrap();
        Some(socket.into())
    }
}

#[test]
fn strangers_take_little_memory_and_no_probe() {
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }).unwrap();
    let operator = Operator::start();
    let before = operator.memory("VmRSS");
    let (mut held, mut worst) = (Vec::new(), Duration::ZERO);
    // Sends as much of a request head as the port takes.
    let head = format!("GET /metrics HTTP/1.1\r\nx: {}", "y".repeat(390_000));
    for number in 0..2 * CONNECTIONS {
        let Some(mut stranger) = operator.stranger(number) else { continue };
        if number % 2 == 0 {
            // It is no fault when a connection is refused or takes no more.
            let _taken = stranger.write(head.as_bytes());
        }
        held.push(stranger);
        if number % 100 == 0 {
            worst = worst.max(operator.healthz(PATIENCE).expect("the probe is answered"));
        }
    }
    let grown = operator.memory("VmHWM").saturating_sub(before);
    println!("{} strangers: {grown} KiB more at most, slowest probe {worst:?}", held.len());
    assert!(grown < MOST_GROWTH, "{grown} KiB");
}
