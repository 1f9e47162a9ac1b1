//! The loop that shows the kernel's own cost: `bare_server.rs` of this crate.

use std::process::Command;

use anyhow::Result;
use cluster::run::Progress;

use super::{BARE, Peer, Start, beside};

pub(super) struct Bare;

impl Peer for Bare {
    fn name(&self) -> &'static str {
        BARE
    }

    fn dialect(&self) -> &'static str {
        "uws"
    }

    fn version(&self) -> Result<String> {
        beside("bare-server").map(|_| "own".to_owned())
    }

    fn settings(&self) -> &'static str {
        "threads that call send(2) once per message and member of their own: no server, the kernel's own cost"
    }

    fn workers(&self) -> &'static [u8] {
        &[1, 2]
    }

    fn install(&self, _: &Progress) -> Result<()> {
        beside("bare-server").map(drop)
    }

    fn command(&self, start: &Start<'_>) -> Result<Command> {
        let mut command = Command::new(beside("bare-server")?);
        command.args([start.port.to_string(), start.workers.to_string()]);
        Ok(command)
    }
}
