//! Sockudo, a server in Rust that speaks the Pusher protocol, from crates.io.

use std::{fs, process::Command};

use anyhow::{Context, Result};
use cluster::{
    packages,
    run::{self, Progress},
};

use crate::cache;

use super::{Peer, Start};

/// Version of the crate.
const VERSION: &str = "5.2.0";

pub(super) struct Sockudo;

impl Peer for Sockudo {
    fn name(&self) -> &'static str {
        "sockudo"
    }

    fn dialect(&self) -> &'static str {
        "pusher"
    }

    fn version(&self) -> Result<String> {
        cache::installed("sockudo", VERSION).map(|_| VERSION.to_owned())
    }

    fn settings(&self) -> &'static str {
        "local adapter only, client events on, rate limits, history, metrics and webhooks off"
    }

    fn workers(&self) -> &'static [u8] {
        &[2, 1]
    }

    fn install(&self, progress: &Progress) -> Result<()> {
        // One of its dependencies makes code from protocol buffers.
        let protobuf: &[_] = &[
            ("protobuf-compiler", &["/usr/bin/protoc"][..]),
            ("libprotobuf-dev", &["/usr/include/google/protobuf/timestamp.proto"]),
        ];
        packages::ensure(&[packages::BUILD, protobuf], progress)?;
        cache::ready("sockudo", VERSION, progress, |directory| {
            let mut cargo = run::tied("nice");
            cargo.args(["-n", "19", "cargo", "install", "--locked", "--version", VERSION, "sockudo"]);
            cargo.args(["--no-default-features", "--features", "local", "--root"]).arg(directory);
            cargo.arg("--target-dir").arg(directory.join("target"));
            progress.long(
                "building sockudo (once, many minutes)",
                &mut cargo,
                &cache::log("sockudo-cargo")?,
            )?;
            // The rest of the build takes a gigabyte.
            fs::remove_dir_all(directory.join("target")).context("removing the build's directory")
        })
        .map(drop)
    }

    fn command(&self, start: &Start<'_>) -> Result<Command> {
        let file = start.directory.join("sockudo.toml");
        fs::write(&file, configuration(start)).with_context(|| format!("cannot write {}", file.display()))?;
        let mut command = Command::new(cache::installed("sockudo", VERSION)?.join("bin/sockudo"));
        command.arg("--config").arg(file).current_dir(start.directory);
        command.env("TOKIO_WORKER_THREADS", start.workers.to_string()).env("RUST_LOG", "error");
        Ok(command)
    }
}

fn configuration(start: &Start<'_>) -> String {
    let (port, connections) = (start.port, u64::from(start.connections) * 2 + 1000);
    format!(
        r#"debug = false
host = "127.0.0.1"
port = {port}
mode = "production"
activity_timeout = 3600
shutdown_grace_period = 0

[adapter]
driver = "local"

[app_manager]
driver = "memory"

[[app_manager.array.apps]]
id = "app-id"
key = "app-key"
secret = "app-secret"
enabled = true

[app_manager.array.apps.policy.limits]
max_connections = {connections}
max_client_events_per_second = 10000000

[app_manager.array.apps.policy.features]
enable_client_messages = true

[app_manager.array.apps.policy.channels]
allowed_origins = ["*"]

[cache]
driver = "memory"

[queue]
driver = "memory"

[rate_limiter]
enabled = false
driver = "memory"

[metrics]
enabled = false
host = "127.0.0.1"
port = {admin}

[delta_compression]
enabled = false

[tag_filtering]
enabled = false

[idempotency]
enabled = false

[history]
enabled = false

[connection_recovery]
enabled = false

[websocket]
auto_ping = false
idle_timeout = 3600
max_backpressure = 524288
max_messages = 1000
max_bytes = 524288
disconnect_on_buffer_full = true
compression = "disabled"
"#,
        admin = start.port + 1,
    )
}
