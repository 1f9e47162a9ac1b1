//! Socket.IO 4 from npm.

use std::process::Command;

use anyhow::Result;
use cluster::{
    packages,
    run::{self, Progress},
};

use crate::cache;

use super::{Peer, Start};

/// Version of socket.io in the lock file.
const VERSION: &str = "4.8.4";
const PACKAGE: &str = include_str!("../../assets/socketio/package.json");
const LOCK: &str = include_str!("../../assets/socketio/package-lock.json");
/// The server.
const SERVER: &str = include_str!("../../assets/socketio/server.js");

pub(super) struct SocketIo;

impl Peer for SocketIo {
    fn name(&self) -> &'static str {
        "socketio"
    }

    fn dialect(&self) -> &'static str {
        "socketio"
    }

    fn version(&self) -> Result<String> {
        cache::installed("socketio", VERSION).map(|_| VERSION.to_owned())
    }

    fn settings(&self) -> &'static str {
        "WebSocket transport only, in-memory adapter, compression off, with the native bufferutil; one process, as Node.js \
         has one thread"
    }

    fn install(&self, progress: &Progress) -> Result<()> {
        packages::ensure(&[&[packages::TEST[0], packages::TEST[1]]], progress)?;
        cache::ready("socketio", VERSION, progress, |directory| {
            std::fs::write(directory.join("package.json"), PACKAGE)?;
            std::fs::write(directory.join("package-lock.json"), LOCK)?;
            let mut npm = run::tied("npm");
            npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(directory);
            progress.long("installing socket.io", &mut npm, &cache::log("socketio-npm")?)
        })
        .map(drop)
    }

    fn command(&self, start: &Start<'_>) -> Result<Command> {
        let directory = cache::installed("socketio", VERSION)?;
        let script = start.directory.join("server.js");
        std::fs::write(&script, SERVER)?;
        let mut command = Command::new("node");
        // Node looks for packages from the script's place; this variable names their real place.
        command.env("NODE_PATH", directory.join("node_modules"));
        command.arg(script).arg(start.port.to_string());
        Ok(command)
    }
}
