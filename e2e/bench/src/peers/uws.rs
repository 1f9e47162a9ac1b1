//! uWebSockets through the Python package socketify, which ships it compiled.
//!
//! Python runs once per publish (the call of ws.publish); the fan-out to the members is C++.

use std::process::Command;

use anyhow::Result;
use cluster::{
    packages,
    run::{self, Progress},
};

use crate::cache;

use super::{Peer, Start, UWS_TLS, tls::Files};

/// Version of socketify.
const VERSION: &str = "0.0.31";
/// The packages that pip installs, with pinned versions.
const REQUIREMENTS: &str = include_str!("../../assets/uws/requirements.txt");
/// The server.
const SERVER: &str = include_str!("../../assets/uws/server.py");

pub(super) struct Uws {
    pub(super) tls: bool,
}

impl Peer for Uws {
    fn name(&self) -> &'static str {
        if self.tls { UWS_TLS } else { "uws" }
    }

    fn dialect(&self) -> &'static str {
        "uws"
    }

    fn version(&self) -> Result<String> {
        cache::installed("socketify", VERSION)?;
        Ok(format!("20 (socketify {VERSION})"))
    }

    fn settings(&self) -> &'static str {
        if self.tls {
            "as uws, with a key, a certificate and `ssl_prefer_low_memory_usage`; TLS by BoringSSL"
        } else {
            "uWebSockets by topic, one event loop, compression off, no idle timeout; a Python callback per publish"
        }
    }

    fn install(&self, progress: &Progress) -> Result<()> {
        packages::ensure(
            &[&[
                ("python3-venv", &["/usr/share/doc/python3-venv"]),
                (
                    "libuv1",
                    &["/usr/lib/x86_64-linux-gnu/libuv.so.1", "/usr/lib/aarch64-linux-gnu/libuv.so.1"],
                ),
                ("zlib1g", &["/lib/x86_64-linux-gnu/libz.so.1", "/lib/aarch64-linux-gnu/libz.so.1"]),
            ]],
            progress,
        )?;
        cache::ready("socketify", VERSION, progress, |directory| {
            let list = directory.join("requirements.txt");
            std::fs::write(&list, REQUIREMENTS)?;
            let mut make = run::tied("python3");
            let log = cache::log("socketify-venv")?;
            progress.long(
                "making a Python environment",
                make.args(["-m", "venv"]).arg(directory.join("venv")),
                &log,
            )?;
            let mut pip = run::tied(directory.join("venv/bin/pip"));
            pip.args(["install", "--disable-pip-version-check", "--require-hashes", "--requirement"])
                .arg(list);
            progress.long("installing socketify", &mut pip, &cache::log("socketify-pip")?)
        })
        .map(drop)
    }

    fn command(&self, start: &Start<'_>) -> Result<Command> {
        let script = start.directory.join("server.py");
        std::fs::write(&script, SERVER)?;
        let mut command = Command::new(cache::installed("socketify", VERSION)?.join("venv/bin/python"));
        command.arg(script).arg(start.port.to_string());
        if self.tls {
            let files = Files::of(start.directory);
            files.write()?;
            command.arg(files.key()).arg(files.certificate());
        }
        Ok(command)
    }

    fn is_tls(&self) -> bool {
        self.tls
    }
}
