//! A real NATS server as a child process.

use std::{
    ffi::OsString,
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use super::{port::Port, wait::wait};

/// Runs until dropped.
pub(crate) struct NatsServer {
    child: Child,
    port: u16,
}

impl NatsServer {
    /// Starts a server; `more` are further arguments.
    pub(crate) fn start(port: &Port, more: &[&str]) -> Self {
        Self::start_with(port, more, &[])
    }

    /// The same with environment variables that the configuration refers to.
    pub(crate) fn start_with(port: &Port, more: &[&str], environment: &[(&str, &str)]) -> Self {
        let port = port.number();
        let child = Command::new(program())
            .args(["--addr", "127.0.0.1", "--port", &port.to_string()])
            .args(more)
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("NATS_SERVER must be an executable nats-server");
        let mut server = NatsServer { child, port };
        wait("nats-server to listen", || {
            let ended = server.child.try_wait().expect("a child");
            assert!(ended.is_none(), "nats-server on port {port} ended: {ended:?}");
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        server
    }

    pub(crate) fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
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

fn program() -> OsString {
    std::env::var_os("NATS_SERVER").expect(
        "NATS_SERVER is not set: run `cargo xtask test`, or `go install github.com/nats-io/nats-server/v2@latest` and \
         set it to the path of nats-server",
    )
}
