//! Our node with compression, which each client asks for.

use std::{ffi::OsString, fs, process::Command};

use anyhow::Result;
use cluster::run::Progress;

use super::{DEFLATE, OURS, Peer, Start, beside, channel_node};

const CONFIG: &str = "\
auth: {anonymous: true}
compression: {}
";

pub(super) struct ChannelNode;

impl Peer for ChannelNode {
    fn name(&self) -> &'static str {
        DEFLATE
    }

    fn dialect(&self) -> &'static str {
        channel_node::ChannelNode.dialect()
    }

    fn version(&self) -> Result<String> {
        channel_node::ChannelNode.version()
    }

    fn settings(&self) -> &'static str {
        "release build with its default limits; permessage-deflate without context takeover, level 2"
    }

    fn workers(&self) -> &'static [u8] {
        channel_node::ChannelNode.workers()
    }

    fn install(&self, _: &Progress) -> Result<()> {
        beside(OURS).map(drop)
    }

    fn command(&self, start: &Start<'_>) -> Result<Command> {
        let config = start.directory.join("node.yaml");
        fs::write(&config, CONFIG)?;
        fs::write(start.directory.join("admin-token"), "bench")?;
        let mut command = Command::new(beside(OURS)?);
        command.arg("--config").arg(config).args(["--log", "warn"]);
        command.arg("--secrets").arg(start.directory);
        channel_node::size(&mut command, start);
        Ok(command)
    }

    fn generator_flags(&self, _: &Start<'_>) -> Vec<OsString> {
        vec!["--deflate".into()]
    }
}
