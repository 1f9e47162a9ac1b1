//! The server that examples of tungstenite lead to: `tungstenite_server.rs` of this crate.

use std::process::Command;

use anyhow::Result;
use cluster::run::Progress;

use super::{Peer, Start, beside};

pub(super) struct Tungstenite;

impl Peer for Tungstenite {
    fn name(&self) -> &'static str {
        "tungstenite"
    }

    fn dialect(&self) -> &'static str {
        "uws"
    }

    fn version(&self) -> Result<String> {
        // The version is read from the one dependency table, so that it cannot differ from the one that was built.
        let table = include_str!("../../../../Cargo.toml");
        let line = table.lines().find_map(|line| line.strip_prefix("tokio-tungstenite = "));
        Ok(line.and_then(|line| line.split('"').nth(1)).unwrap_or("unknown").to_owned())
    }

    fn settings(&self) -> &'static str {
        "tokio-tungstenite as in its examples: a task and a channel per connection, default buffers"
    }

    fn workers(&self) -> &'static [u8] {
        &[1, 2]
    }

    fn install(&self, _: &Progress) -> Result<()> {
        beside("tungstenite-server").map(drop)
    }

    fn command(&self, start: &Start<'_>) -> Result<Command> {
        let mut command = Command::new(beside("tungstenite-server")?);
        command.args([start.port.to_string(), start.workers.to_string()]);
        Ok(command)
    }
}
