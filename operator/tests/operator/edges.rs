//! The process in bad surroundings: broken and stuck outputs, signals, address families. No API server answers it.

use std::{
    fs::{self, OpenOptions},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::port::Port;

/// A test that has not seen what it waits for by then has failed.
const HANG: Duration = Duration::from_secs(120);

fn wait(what: &str, mut reached: impl FnMut() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < HANG, "waited {HANG:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A running operator and its kubeconfig; both are removed when it is dropped.
struct Operator {
    child: Child,
    port: u16,
    kubeconfig: PathBuf,
    _reserved: Port,
}

impl Operator {
    fn start(stdout: Stdio, stderr: Stdio) -> Self {
        let reserved = Port::reserve();
        let port = reserved.number();
        let kubeconfig = std::env::temp_dir().join(format!("channel-operator-edges-{port}"));
        let text = "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n\
                    clusters: [{name: c, cluster: {server: \"http://127.0.0.1:1\"}}]\nusers: [{name: u, user: {}}]\n";
        fs::write(&kubeconfig, text).unwrap();
        // A process that a shell starts in the background inherits an ignored QUIT, and the operator would leave it
        // ignored.
        let child = Command::new("env")
            .args(["--default-signal=HUP,QUIT", env!("CARGO_BIN_EXE_channel-operator")])
            .args(["--node-image", "n", "--nats-image", "m", "--metrics-addr", &format!("[::]:{port}")])
            .env("KUBECONFIG", &kubeconfig)
            .env("CHANNEL_LOG", "debug")
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap();
        let mut operator = Operator { child, port, kubeconfig, _reserved: reserved };
        wait("the port", || {
            assert_eq!(operator.child.try_wait().unwrap(), None, "it ended");
            operator.answers("127.0.0.1")
        });
        operator
    }

    fn answers(&self, host: &str) -> bool {
        let ask = || {
            let address = SocketAddr::new(host.parse().unwrap(), self.port);
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: o\r\nconnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok::<_, std::io::Error>(answer)
        };
        ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn ends_in_order(mut self, signal: Signal) {
        self.signal(signal);
        wait("the end", || self.child.try_wait().unwrap().is_some());
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        fs::remove_file(&self.kubeconfig).ok();
    }
}

fn broken_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn full_disk() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

#[test]
fn output_that_cannot_be_written_changes_nothing() {
    Operator::start(broken_pipe(), broken_pipe()).ends_in_order(Signal::TERM);
    Operator::start(full_disk(), full_disk()).ends_in_order(Signal::INT);
    let (reader, writer) = std::io::pipe().unwrap();
    let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
    rustix::fs::fcntl_setfl(&writer, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    while rustix::io::write(&writer, b"x").is_ok() {}
    rustix::fs::fcntl_setfl(&writer, flags).unwrap();
    Operator::start(writer.try_clone().unwrap().into(), writer.into()).ends_in_order(Signal::QUIT);
    drop(reader);
}

#[test]
fn signals_that_mean_nothing_change_nothing_and_both_families_are_served() {
    let operator = Operator::start(Stdio::null(), Stdio::null());
    for signal in
        [Signal::HUP, Signal::USR1, Signal::USR2, Signal::ALARM, Signal::PROF, Signal::IO, Signal::PIPE]
    {
        operator.signal(signal);
        assert!(operator.answers("127.0.0.1"), "{signal:?}");
    }
    if TcpListener::bind("[::1]:0").is_ok() {
        assert!(operator.answers("::1"));
    }
    operator.ends_in_order(Signal::TERM);
}
