//! Our node, as this repository builds it.

use std::process::Command;

use anyhow::Result;
use cluster::run::{self, Progress};
use rustix::process::{Resource, getrlimit};

use super::{OURS, Peer, Start, beside};

pub(super) struct ChannelNode;

impl Peer for ChannelNode {
    fn name(&self) -> &'static str {
        OURS
    }

    fn dialect(&self) -> &'static str {
        "phoenix"
    }

    fn version(&self) -> Result<String> {
        let text = run::output(Command::new(beside(OURS)?).arg("--version"))?;
        Ok(text.trim().rsplit(' ').next().unwrap_or_default().to_owned())
    }

    fn settings(&self) -> &'static str {
        "release build, `--dev` with its default limits"
    }

    fn workers(&self) -> &'static [u8] {
        &[2, 1]
    }

    fn install(&self, _: &Progress) -> Result<()> {
        beside(OURS).map(drop)
    }

    fn command(&self, start: &Start<'_>) -> Result<Command> {
        let mut command = Command::new(beside(OURS)?);
        command.args(["--dev", "--log", "warn"]);
        size(&mut command, start);
        Ok(command)
    }
}

/// Gives the node its ports, and as many shards as its connections need.
pub(super) fn size(command: &mut Command, start: &Start<'_>) {
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    if u64::from(start.connections) * 2 > limit {
        // Then the node takes as many shards as it needs, each with a descriptor table of its own.
        command.args(["--max-connections", &(start.connections + start.connections / 10).to_string()]);
    } else {
        command.args(["--shards", &start.workers.to_string()]);
    }
    command.args(["--listen", &format!("127.0.0.1:{}", start.port)]);
    command.args(["--admin", &format!("127.0.0.1:{}", start.port + 1)]);
}
