//! The pages for people name this program's metrics and flags, all of them and no others.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::Command,
};

#[path = "../../e2e/tests/support/pages.rs"]
mod pages;
#[path = "support/process.rs"]
mod process;
#[path = "support/wait.rs"]
mod wait;
use process::{Process, command};

#[test]
fn every_metric_is_in_the_page_and_no_other() {
    let dir = std::env::temp_dir().join(format!("channel-node-docs-{:x}", rand::random::<u64>()));
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("admin-token"), "token").unwrap();
    fs::write(dir.join("nats-password"), "password").unwrap();
    // Metrics of the bus are there when one is configured, reached or not.
    let config =
        "auth: {anonymous: true}\nbus: {nats: {urls: [\"nats://127.0.0.1:1\"], user: channel-node}}\n";
    fs::write(dir.join("node.yaml"), config).unwrap();
    let mut command = command();
    command.arg("--config").arg(dir.join("node.yaml")).arg("--secrets").arg(&dir);
    let node = Process::start(command);
    let (status, text) = node.ask("GET", "/metrics", None, "");
    assert_eq!(status, 200);
    fs::remove_dir_all(&dir).unwrap();
    let prefix = "channelcluster_node_";
    assert_eq!(pages::metrics(&pages::page("docs/METRICS.md"), prefix), pages::scraped(&text));
}

#[test]
fn every_flag_is_in_the_page_and_no_other() {
    let help = Command::new(env!("CARGO_BIN_EXE_channel-node")).arg("--help").output().unwrap();
    pages::check_flags("channel-node", &String::from_utf8(help.stdout).unwrap());
}

/// `cargo run --release --bin channel-node -- ...` of the README, with the debug binary and ports of the kernel's choice.
#[test]
fn the_readmes_one_node_serves_its_chat_page() {
    let readme = pages::page("README.md");
    let words = pages::invocations(&readme, "cargo run --release --bin channel-node --");
    assert_eq!(words.len(), 1, "{words:?}");
    let mut command = command();
    command.args(words[0].split_whitespace());
    let node = Process::start(command);
    let mut stream = TcpStream::connect(node.listen).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("</html>"), "{answer:.200}");
}
