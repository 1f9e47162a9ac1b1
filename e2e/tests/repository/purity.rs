//! The core crates decide and never act: no crate that could open a socket, read a clock or speak to a cluster may be
//! among their dependencies. The `.clippy.toml` of each forbids the parts of the standard library that could.

use std::process::Command;

/// Crates that would bring a runtime, a socket, the system's random numbers or a Kubernetes client.
const BANNED: [&str; 14] = [
    "async-nats",
    "axum",
    "getrandom",
    "hyper",
    "kube-client",
    "kube-runtime",
    "mio",
    "rand",
    "reqwest",
    "rustls",
    "socket2",
    "tokio",
    "tokio-tungstenite",
    "tokio-util",
];

fn normal_dependencies(package: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--package",
            package,
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("cargo prints UTF-8");
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

fn assert_pure(package: &str) {
    let names = normal_dependencies(package);
    assert!(names.len() > 3, "cargo tree told nothing of {package}: {names:?}");
    let found: Vec<_> = names.iter().filter(|name| BANNED.contains(&name.as_str())).collect();
    assert!(found.is_empty(), "{package} is a core crate and may not depend on {found:?}");
}

#[test]
fn node_core_is_pure() {
    assert_pure("node-core");
}

#[test]
fn operator_core_is_pure() {
    assert_pure("operator-core");
}

#[test]
fn crds_are_pure() {
    assert_pure("crds");
}

#[test]
fn the_node_knows_no_kubernetes() {
    let names = normal_dependencies("node");
    let found: Vec<_> = names
        .iter()
        .filter(|name| name.starts_with("kube") || ["crds", "k8s-openapi"].contains(&name.as_str()))
        .collect();
    assert!(found.is_empty(), "the node may not depend on {found:?}");
}
