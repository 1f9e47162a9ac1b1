//! A `channel-node` as a child process.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
};

use super::wait::{HANG, wait};

/// The command, with both ports chosen by the kernel and log lines in JSON.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_channel-node"));
    command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"]);
    command
}

/// A running node; killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Process {
    /// Starts a node and waits until it says where it listens.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child =
            command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("channel-node starts");
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let (found, addresses) = mpsc::channel();
        let log = Arc::<Mutex<String>>::default();
        let written = Arc::clone(&log);
        // The thread reads on for as long as the node lives, because the node's log would block otherwise.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(pair) = field(&line, "listen").zip(field(&line, "admin")) {
                    found.send(pair).ok();
                }
                eprintln!("{line}");
                written.lock().expect("no panic").push_str(&(line + "\n"));
            }
        });
        let (listen, admin) = addresses.recv_timeout(HANG).expect("the node says where it listens");
        Process { child, listen, admin, log }
    }

    /// Whether the node's log has a text.
    pub(crate) fn has_logged(&self, text: &str) -> bool {
        self.log.lock().expect("no panic").contains(text)
    }

    /// Asks the admin port; the status and the body.
    pub(crate) fn ask(&self, method: &str, path: &str, token: Option<&str>, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin).expect("the admin port");
        let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n{token}\
             content-length: {length}\r\n\r\n{body}"
        )
        .expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head[9..12].parse().expect("a status"), body.to_owned())
    }

    /// Asks the public port; the whole answer, or nothing when there is none.
    pub(crate) fn public(&self, request: &str) -> String {
        said(self.listen, request)
    }

    /// The same of the admin port.
    pub(crate) fn administration(&self, request: &str) -> String {
        said(self.admin, request)
    }

    pub(crate) fn ready(&self) -> u16 {
        self.ask("GET", "/readyz", None, "").0
    }

    /// The value of a metric without labels.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = self.ask("GET", "/metrics", None, "");
        let line = text.lines().find(|line| line.split(' ').next() == Some(name))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the node lives");
    }

    pub(crate) fn exited(&mut self) -> ExitStatus {
        let mut status = None;
        wait("the node to exit", || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        status.expect("an exit status")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The whole answer to a request, or nothing when there is none.
fn said(address: SocketAddr, request: &str) -> String {
    let mut answer = String::new();
    if let Ok(mut stream) = TcpStream::connect(address)
        && stream.write_all(request.as_bytes()).is_ok()
    {
        // The bytes that were read before an error count.
        stream.read_to_string(&mut answer).ok();
    }
    answer
}

fn field(line: &str, name: &str) -> Option<SocketAddr> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    line.get(name)?.as_str()?.parse().ok()
}
