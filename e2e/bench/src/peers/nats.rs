//! NATS with its WebSocket listener, built from its Go module as for the images.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};
use cluster::{Tool, run::Progress};

use super::{NATS_TLS, Peer, Start, tls::Files};

pub(super) struct Nats {
    pub(super) tls: bool,
}

impl Peer for Nats {
    fn name(&self) -> &'static str {
        if self.tls { NATS_TLS } else { "nats" }
    }

    fn dialect(&self) -> &'static str {
        "nats"
    }

    fn version(&self) -> Result<String> {
        ensure!(Tool::Nats.path()?.exists(), "nats-server is not built");
        Tool::Nats.version()
    }

    fn settings(&self) -> &'static str {
        if self.tls {
            "as nats, with `tls` in the WebSocket listener"
        } else {
            "WebSocket listener without TLS and compression, pings off but for each connection's first, which cannot be"
        }
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
        let tls =
            if self.tls { certificate(&Files::of(start.directory))? } else { "no_tls: true".to_owned() };
        fs::write(&file, configuration(start, &tls))
            .with_context(|| format!("cannot write {}", file.display()))?;
        let mut command = Command::new(Tool::Nats.path()?);
        command.arg("--config").arg(file).env("GOMAXPROCS", start.workers.to_string());
        Ok(command)
    }

    fn is_tls(&self) -> bool {
        self.tls
    }
}

/// Writes the files of the certificate. Returns the block that names them.
fn certificate(files: &Files) -> Result<String> {
    files.write()?;
    let [certificate, key] = [files.certificate(), files.key()].map(|path| path.display().to_string());
    Ok(format!(r#"tls {{ cert_file: "{certificate}", key_file: "{key}" }}"#))
}

fn configuration(start: &Start<'_>, tls: &str) -> String {
    let (port, plain) = (start.port, start.port + 1);
    format!(
        r#"listen: "127.0.0.1:{plain}"
websocket {{ listen: "127.0.0.1:{port}", {tls}, compression: false }}
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
