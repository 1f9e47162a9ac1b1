//! Our node, as this repository builds it.

use std::{ffi::OsString, fs, process::Command};

use anyhow::Result;
use cluster::run::{self, Progress};
use rustix::process::{Resource, getrlimit};

use super::{OURS, Peer, Start, TLS, beside, tls::Files};

/// Our node in dev mode.
pub(super) struct ChannelNode {
    pub(super) tls: bool,
}

/// The one that the others differ from in one thing.
const PLAIN: ChannelNode = ChannelNode { tls: false };

impl Peer for ChannelNode {
    fn name(&self) -> &'static str {
        if self.tls { TLS } else { OURS }
    }

    fn dialect(&self) -> &'static str {
        "phoenix"
    }

    fn version(&self) -> Result<String> {
        let text = run::output(Command::new(beside(OURS)?).arg("--version"))?;
        Ok(text.trim().rsplit(' ').next().unwrap_or_default().to_owned())
    }

    fn settings(&self) -> &'static str {
        if self.tls {
            "as channel-node, with `--tls`"
        } else {
            "release build, `--dev` with its default limits"
        }
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
        if self.tls {
            let files = Files::of(start.directory);
            files.write()?;
            command.arg("--tls").arg(files.directory());
        }
        size(&mut command, start);
        Ok(command)
    }

    fn is_tls(&self) -> bool {
        self.tls
    }
}

/// Directory of the node's token keys, below that of its other files.
pub(super) const TOKEN_KEYS: &str = "jwt";

/// Our node with a configuration of its own, beside the one of `--dev`.
pub(super) struct Configured {
    pub(super) name: &'static str,
    pub(super) settings: &'static str,
    /// The node's file.
    pub(super) config: &'static str,
    /// Writes what the file names, below the directory of the start.
    pub(super) prepare: fn(&Start<'_>) -> Result<()>,
    pub(super) generator_flags: fn(&Start<'_>) -> Vec<OsString>,
}

impl Peer for Configured {
    fn name(&self) -> &'static str {
        self.name
    }

    fn dialect(&self) -> &'static str {
        PLAIN.dialect()
    }

    fn version(&self) -> Result<String> {
        PLAIN.version()
    }

    fn settings(&self) -> &'static str {
        self.settings
    }

    fn workers(&self) -> &'static [u8] {
        PLAIN.workers()
    }

    fn install(&self, progress: &Progress) -> Result<()> {
        PLAIN.install(progress)
    }

    fn command(&self, start: &Start<'_>) -> Result<Command> {
        (self.prepare)(start)?;
        let file = start.directory.join("node.yaml");
        fs::write(&file, self.config)?;
        fs::write(start.directory.join("admin-token"), "bench")?;
        let mut command = Command::new(beside(OURS)?);
        command.arg("--config").arg(file).args(["--log", "warn"]);
        command.arg("--secrets").arg(start.directory);
        let keys = start.directory.join(TOKEN_KEYS);
        if keys.exists() {
            command.arg("--token-keys").arg(keys);
        }
        size(&mut command, start);
        Ok(command)
    }

    fn generator_flags(&self, start: &Start<'_>) -> Vec<OsString> {
        (self.generator_flags)(start)
    }
}

/// Gives the node its ports, and as many shards as its connections need.
fn size(command: &mut Command, start: &Start<'_>) {
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
