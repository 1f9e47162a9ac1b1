//! `up` is killed with SIGKILL at random moments, and once when everything is in place; `down` must then leave
//! nothing behind, and a new `up` must clear the remains by itself.
#![cfg(feature = "cluster")]

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, SystemTime},
};

use cluster::Instance;
use rand::{Rng, SeedableRng, rngs::StdRng};

/// Times that `up` is killed.
const ROUNDS: u64 = 6;
/// A start of a bare cluster takes about this long on two cores; later kills hit a finished one.
const START_MILLIS: u64 = 15_000;

fn xtask(command: &str) -> Command {
    let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
    xtask.args([command, "--instance", "scratch"]).stdin(Stdio::null()).stdout(Stdio::null());
    xtask
}

fn start() -> Child {
    xtask("up").arg("--bare").spawn().expect("up starts")
}

fn assert_down_leaves_nothing(instance: &Instance, when: &str) {
    assert!(xtask("down").status().expect("down runs").success(), "down after {when}");
    let remains = instance.remains().expect("the machine can be looked at");
    assert!(remains.is_empty(), "after {when}: {remains:#?}");
}

/// Checks packets from the client namespace to a pod, with and without the rule that tests of lost metrics use.
fn assert_packets_can_be_dropped(instance: &Instance) {
    const HEALTH_PORT: u16 = 8080;
    let query = ["-n", "kube-system", "get", "pods", "-o", "jsonpath={.items[0].status.podIP}"];
    let pod = instance.kubectl(query).expect("an address");
    let reaches = || {
        let connect = format!("exec 3<>/dev/tcp/{pod}/{HEALTH_PORT}");
        let mut client = instance.client_command("timeout");
        client.args(["2", "bash", "-c", &connect]).stderr(Stdio::null()).status().expect("runs").success()
    };
    assert!(reaches(), "a client reaches the pod {pod}");
    let dropped = instance.drop_packets(&instance.client_addresses()[0], HEALTH_PORT).expect("a rule");
    assert!(!reaches(), "what the client sends is dropped");
    drop(dropped);
    assert!(reaches(), "the rule is gone with its value");
}

#[test]
fn nothing_is_left_after_a_sigkill() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let instance = Instance::named("scratch").expect("known");
    assert_down_leaves_nothing(&instance, "the start of the test");
    for round in 0..ROUNDS {
        let moment = random.random_range(0..START_MILLIS);
        let mut up = start();
        // This waits for nothing: the test is about random moments.
        thread::sleep(Duration::from_millis(moment));
        up.kill().expect("killed");
        up.wait().expect("reaped");
        println!(
            "round {round}: killed after {moment} ms, {} things alive",
            instance.remains().expect("look").len()
        );
        assert_down_leaves_nothing(&instance, &format!("a kill after {moment} ms"));
    }
}

/// The last words of `up` when all its parts live: operator, fleet and the relay, which is in the host's own
/// namespaces.
const RELAYED: &str = "the chat page is carried to 127.0.0.1:";

#[test]
fn nothing_is_left_after_a_sigkill_of_a_start_with_all_in_place() {
    let instance = Instance::named("scratch").expect("known");
    assert_down_leaves_nothing(&instance, "the start of the test");
    // The demo may have the usual port.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let mut up = xtask("up");
    let up = up.args(["--quick", "--port", &port.to_string()]).stderr(Stdio::piped());
    let mut up = up.spawn().expect("up starts");
    let lines = BufReader::new(up.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let said = lines.inspect(|line| eprintln!("{line}")).any(|line| line.contains(RELAYED));
    up.kill().expect("killed");
    up.wait().expect("reaped");
    assert!(said, "up ended without saying {RELAYED:?}");
    let alive = instance.remains().expect("look");
    let relay = format!("TCP-LISTEN:{port}");
    assert!(alive.iter().any(|what| what.contains(&relay)), "no relay to be left: {alive:#?}");
    assert!(alive.iter().any(|what| what.contains("channel-node")), "no node to be left: {alive:#?}");
    assert_down_leaves_nothing(&instance, "a kill with all in place");
}

/// Directories that a kubelet of the host has at fixed places, with their times: ours must neither empty nor fill
/// them.
fn host_kubelet() -> Vec<(PathBuf, SystemTime)> {
    let list = |directory| fs::read_dir(directory).into_iter().flatten().flatten();
    let entries = ["/var/lib/kubelet/device-plugins", "/var/lib/kubelet/pki"].into_iter().flat_map(list);
    let mut found: Vec<_> = entries
        .map(|entry| (entry.path(), entry.metadata().and_then(|meta| meta.modified()).expect("there")))
        .collect();
    found.sort();
    found
}

#[test]
fn a_new_start_clears_dead_remains() {
    let host = host_kubelet();
    let instance = Instance::named("scratch").expect("known");
    let mut up = start();
    thread::sleep(Duration::from_millis(START_MILLIS / 3));
    up.kill().expect("killed");
    up.wait().expect("reaped");
    assert!(start().wait().expect("up runs").success(), "a start over dead remains");
    assert!(instance.is_up());
    let pods = instance.kubectl(["get", "pods", "-A"]).expect("answers");
    assert!(pods.contains("coredns"), "{pods}");
    assert_packets_can_be_dropped(&instance);
    assert_eq!(host_kubelet(), host, "the host's own kubelet is left alone");
    assert_down_leaves_nothing(&instance, "a finished start");
}
