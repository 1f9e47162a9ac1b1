//! (b) Two stock phoenix.js clients on two different nodes chat in one room; the chat page in Chromium does too.

use e2e::fleet::{Fleet, HANG_GUARD, NodePod};
use e2e::report;
use serde_json::Value;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const SPEC: &str = "{targetConnections: 1000, rooms: {maxMembers: 150}, nodes: {min: 2, max: 2}, \
    auth: {anonymous: true}, expose: {chatPage: true}}";
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/js");

/// Runs a script of `js/` in the client namespace and returns the JSON that it prints last.
fn script(fleet: &Fleet, words: &[&str]) -> Value {
    let mut command = fleet.instance.client_command("node");
    command.args(words).current_dir(SCRIPTS).env("CHANNELCLUSTER_REPORTS", report::directory());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let ended = wait(&mut child);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(ended && output.status.success(), "{words:?} ended with {}: {text}", output.status);
    serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap()
}

/// Whether the child ends by itself; it is killed when it hangs.
fn wait(child: &mut Child) -> bool {
    let deadline = Instant::now() + HANG_GUARD * 2;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    true
}

fn socket(pod: &NodePod) -> String {
    format!("ws://{}:4000/socket", pod.address)
}

#[test]
fn clients_on_two_nodes_share_a_room() {
    let fleet = Fleet::create("two-nodes", SPEC).unwrap();
    let (pods, _) = fleet.wait_ready(2).unwrap();
    let [first, second] = pods.as_slice() else { panic!("two pods: {pods:?}") };

    let pair = script(&fleet, &["chat-pair.mjs", &socket(first), &socket(second), "room:pair"]);
    assert_eq!(pair["messages"], 40, "{pair}");
    report::record("chat_two_nodes", "exchange_of_40", pair["milliseconds"].as_f64().unwrap() / 1e3).unwrap();

    let page = format!("http://{}:4000/", first.address);
    let seen = script(&fleet, &["chat-page.mjs", &page, &socket(second), "room:page", "2"]);
    assert_eq!(seen["node"], first.name.as_str(), "{seen}");
    let mut listed: Vec<_> = seen["list"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    listed.sort_unstable();
    let mut names = [first.name.as_str(), second.name.as_str()];
    names.sort_unstable();
    assert_eq!(listed, names, "{seen}");
}
