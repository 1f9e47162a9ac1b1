//! A real NATS server as a child process.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::{
    ffi::OsString,
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
};

use super::wait::wait;

/// Runs until dropped.
pub(crate) struct NatsServer {
    child: Child,
    pub(crate) port: u16,
}

impl NatsServer {
    /// Starts a server; `more` are further arguments.
    pub(crate) fn start(port: u16, more: &[&str]) -> Self {
        let child = Command::new(program())
            .args(["--addr", "127.0.0.1", "--port", &port.to_string()])
            .args(more)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("NATS_SERVER must be an executable nats-server");
        let server = NatsServer { child, port };
        wait("nats-server to listen", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A port that was free a moment ago, for servers that must come back on it.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

fn program() -> OsString {
    std::env::var_os("NATS_SERVER").expect(
        "NATS_SERVER is not set: run `cargo xtask test`, or `go install github.com/nats-io/nats-server/v2@latest` and \
         set it to the path of nats-server",
    )
}
