//! The process in bad surroundings: broken and stuck outputs, signals, address families, files that are no plain
//! files.

use std::{
    fs::{self, OpenOptions},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::client::Client;
use crate::support::process::Process;
use crate::support::wait::wait;

/// As [`process::command`], with the signals that a process may inherit as ignored set back to the system's default:
/// a process that a shell starts in the background inherits an ignored QUIT, and one under `nohup` an ignored HUP.
fn command() -> Command {
    let given = crate::support::process::command();
    let mut command = Command::new("env");
    command.arg("--default-signal=HUP,QUIT").arg(given.get_program()).args(given.get_args());
    command
}

/// A node with outputs of the test's choice, which nobody reads.
struct Mute {
    child: Child,
    listen: SocketAddr,
    admin: SocketAddr,
}

/// Loopback addresses of the node's public and admin port, one for each: the node can tell its ports to nobody,
/// because nobody reads its log.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const ADMIN: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Where a process listens at an address, as proc(5) tells.
fn listens(pid: u32, ip: Ipv4Addr) -> Option<SocketAddr> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).ok()?;
    let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.filter_map(Result::ok);
    let own: Vec<_> = files.filter_map(|file| fs::read_link(file.path()).ok()).collect();
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (address, port) = fields.get(1)?.split_once(':')?;
        let is_there = u32::from_str_radix(address, 16).ok()? == u32::from_ne_bytes(ip.octets());
        let inode = PathBuf::from(format!("socket:[{}]", fields.get(9)?));
        let listening = fields.get(3) == Some(&"0A") && is_there && own.contains(&inode);
        listening.then(|| u16::from_str_radix(port, 16).ok())?.map(|port| SocketAddr::from((ip, port)))
    })
}

impl Mute {
    fn start(stdout: Stdio, stderr: Stdio) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_channel-node"));
        let [listen, admin] = [PUBLIC, ADMIN].map(|ip| format!("{ip}:0"));
        command.args(["--dev", "--log", "debug", "--listen", &listen, "--admin", &admin]);
        let child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().unwrap();
        let nowhere = SocketAddr::from((PUBLIC, 0));
        let mut node = Mute { child, listen: nowhere, admin: nowhere };
        wait("the ports", || {
            assert_eq!(node.child.try_wait().unwrap(), None, "it ended");
            let pid = node.child.id();
            let Some(both) = listens(pid, PUBLIC).zip(listens(pid, ADMIN)) else { return false };
            (node.listen, node.admin) = both;
            TcpStream::connect(node.listen).is_ok() && TcpStream::connect(node.admin).is_ok()
        });
        node
    }

    /// Checks that the node serves, and then leaves as it should.
    fn ends_in_order(mut self) {
        let (mut client, reply) = Client::join(self.listen, "room:1");
        assert_eq!(reply["status"], "ok");
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert_eq!(client.closed(), 1012);
        wait("the end", || self.child.try_wait().unwrap().is_some());
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Mute {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn broken_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// A pipe that takes nothing, and its reader, which keeps it from breaking.
fn full_pipe() -> (Stdio, std::io::PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
    rustix::fs::fcntl_setfl(&writer, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    while rustix::io::write(&writer, &[b'x'; 4_096]).is_ok() {}
    while rustix::io::write(&writer, b"x").is_ok() {}
    rustix::fs::fcntl_setfl(&writer, flags).unwrap();
    (writer.into(), reader)
}

fn full_disk() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

#[test]
fn output_that_cannot_be_written_changes_nothing() {
    Mute::start(broken_pipe(), broken_pipe()).ends_in_order();
    Mute::start(full_disk(), full_disk()).ends_in_order();
    let (stderr, _reader) = full_pipe();
    Mute::start(Stdio::null(), stderr).ends_in_order();
}

#[test]
fn what_is_asked_for_on_the_command_line_is_answered_by_the_exit_code_alone_where_nothing_can_be_written() {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/node.yaml");
    for (arguments, code) in [(&["--help"][..], 0), (&["--check-config", sample], 0), (&["--nonsense"], 64)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_channel-node"));
        let status = command.args(arguments).stdout(broken_pipe()).stderr(broken_pipe()).status().unwrap();
        assert_eq!(status.code(), Some(code), "{arguments:?}");
    }
}

#[test]
fn signals_that_mean_nothing_change_nothing_and_the_others_end_in_order() {
    let mut dev = command();
    dev.arg("--dev");
    let mut node = Process::start(dev);
    let (mut client, _) = Client::join(node.listen, "room:1");
    for signal in [
        Signal::USR1,
        Signal::USR2,
        Signal::ALARM,
        Signal::VTALARM,
        Signal::PROF,
        Signal::IO,
        Signal::PIPE,
        Signal::XCPU,
        Signal::XFSZ,
        Signal::POWER,
        Signal::STKFLT,
    ] {
        node.signal(signal);
        client.send(&serde_json::json!(["1", "2", "room:1", "echo", {}]));
        client.until(|message| message[1] == "2");
    }
    // There is no file to read again, so HUP means that a terminal was closed.
    node.signal(Signal::HUP);
    assert_eq!(client.closed(), 1012);
    assert_eq!(node.exited().code(), Some(0));
}

#[test]
fn a_hangup_that_was_ignored_at_the_start_stays_ignored() {
    let mut nohup = Command::new("env");
    nohup.args(["--default-signal=QUIT", "nohup", env!("CARGO_BIN_EXE_channel-node")]);
    nohup.args(["--dev", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"]);
    let mut node = Process::start(nohup);
    let (mut client, _) = Client::join(node.listen, "room:1");
    node.signal(Signal::HUP);
    client.send(&serde_json::json!(["1", "2", "room:1", "echo", {}]));
    client.until(|message| message[1] == "2");
    node.signal(Signal::QUIT);
    assert_eq!(client.closed(), 1012);
    assert_eq!(node.exited().code(), Some(0));
}

/// The mounts of a node; removed when dropped.
struct Mounts(PathBuf);

impl Mounts {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("channel-node-edges-{:x}", rand::random::<u64>()));
        fs::create_dir(&dir).unwrap();
        fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/node.yaml"), dir.join("node.yaml"))
            .unwrap();
        fs::write(dir.join("admin-token"), "token").unwrap();
        Mounts(dir)
    }

    fn arguments(&self, command: &mut Command) {
        command.arg("--config").arg(self.0.join("node.yaml")).arg("--secrets").arg(&self.0);
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

#[test]
fn a_hangup_reads_the_configuration_again_and_ends_nothing() {
    let mounts = Mounts::new();
    let mut command = command();
    mounts.arguments(&mut command);
    let node = Process::start(command);
    let (mut client, _) = Client::join(node.listen, "room:1");
    let sample = fs::read_to_string(mounts.0.join("node.yaml")).unwrap();
    fs::write(mounts.0.join("node.yaml"), sample.replace("maxMembers: 150", "maxMembers: 1")).unwrap();
    node.signal(Signal::HUP);
    wait("the new file to be taken", || node.metric("channelcluster_node_config_reloads_total") == Some(1.0));
    client.send(&serde_json::json!([null, "2", "phoenix", "heartbeat", {}]));
    client.until(|message| message[1] == "2");
}

/// By default both families reach a node: in a cluster at all addresses, in dev mode on loopback.
#[test]
fn both_families_reach_both_ports_by_default() {
    // The default ports may be taken on this machine, so the node gets a network of its own, with loopback only.
    let mut probe = Command::new("unshare");
    if !probe
        .args(["--user", "--map-root-user", "--net", "true"])
        .status()
        .is_ok_and(|status| status.success())
    {
        println!("skipped: no network namespace can be made here");
        return;
    }
    if let Err(error) = TcpListener::bind("[::1]:0") {
        println!("skipped: there is no IPv6 here: {error}");
        return;
    }
    let mounts = Mounts::new();
    for mode in ["dev", "cluster"] {
        let script = "ip link set lo up && exec \"$0\" \"$@\" 2>/dev/null & \
            for try in $(seq 1 600); do \
              ok=0; for host in 127.0.0.1 ::1; do for port in 4000 9400; do \
                if (exec 3<>/dev/tcp/$host/$port) 2>/dev/null; then ok=$((ok+1)); fi; done; done; \
              [ $ok = 4 ] && break; sleep 0.1; done; kill %1; echo $ok";
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "bash", "-c", script]);
        command.arg(env!("CARGO_BIN_EXE_channel-node"));
        if mode == "dev" {
            command.arg("--dev");
        } else {
            mounts.arguments(&mut command);
        }
        let output = command.stderr(Stdio::inherit()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text.lines().last(), Some("4"), "{mode}: {text}");
    }
}

#[test]
fn files_that_are_no_plain_files_block_nothing_and_are_named() {
    let mounts = Mounts::new();
    let fifo = mounts.0.join("fifo");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    for file in [fifo.as_path(), "/dev/zero".as_ref(), mounts.0.as_path()] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_channel-node"));
        let output = command.arg("--check-config").arg(file).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{text}");
        assert!(text.contains("it is no plain file") && text.contains(file.to_str().unwrap()), "{text}");
    }
    fs::remove_file(mounts.0.join("admin-token")).unwrap();
    fs::rename(&fifo, mounts.0.join("admin-token")).unwrap();
    let mut command = command();
    mounts.arguments(&mut command);
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && text.contains("admin-token"), "{text}");
}
