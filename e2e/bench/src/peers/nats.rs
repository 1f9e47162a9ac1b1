//! NATS with its WebSocket listener, built from its Go module as for the images.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};
use cluster::{Tool, run::Progress};

use super::{Peer, Start};

pub(super) struct Nats;

impl Peer for Nats {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn dialect(&self) -> &'static str {
        "nats"
    }

    fn version(&self) -> Result<String> {
        ensure!(Tool::Nats.path()?.exists(), "nats-server is not built");
        Tool::Nats.version()
    }

    fn settings(&self) -> &'static str {
        "WebSocket listener without TLS and compression, pings off but for each connection's first, which cannot be"
    }

    fn workers(&self) -> &'static [u8] {
        &[1, 2]
    }

    fn install(&self, progress: &Progress) -> Result<()> {
        cluster::check_go()?;
        Tool::Nats.ready(progress).map(drop)
    }

    fn command(&self, start: &Start<'_>) -> Result<Command> {
        let file = start.directory.join("nats.conf");
        fs::write(&file, configuration(start)).with_context(|| format!("cannot write {}", file.display()))?;
        let mut command = Command::new(Tool::Nats.path()?);
        command.arg("--config").arg(file).env("GOMAXPROCS", start.workers.to_string());
        Ok(command)
    }
}

fn configuration(start: &Start<'_>) -> String {
    let (port, plain) = (start.port, start.port + 1);
    format!(
        r#"listen: "127.0.0.1:{plain}"
websocket {{ listen: "127.0.0.1:{port}", no_tls: true, compression: false }}
max_connections: {connections}
max_payload: 512KB
max_pending: 512KB
ping_interval: "1h"
write_deadline: "30s"
logfile: "/dev/null"
debug: false
trace: false
"#,
        connections = u64::from(start.connections) * 2 + 1000,
    )
}
