//! The servers, one file each: installed from a package registry, and configured as a user would for this load.
//!
//! All of them are set up alike: loopback only, one port, logging off, no keepalive pings during a run, limits far
//! above the load, no compression; 512 KiB may wait for a connection where that can be set, as with our node. A server with
//! TLS is a server of its own, and otherwise set up as the one without.

mod bare;
mod channel_node;
mod deflate;
mod nats;
mod nchan;
mod socketio;
mod sockudo;
pub(crate) mod tls;
mod tokens;
mod tungstenite;
mod uws;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use cluster::run::Progress;

/// Name of our own server.
pub const OURS: &str = "channel-node";

/// Name of our own server where clients need a token.
pub const TOKENS: &str = "channel-node-tokens";

/// Name of our own server with compression.
pub const DEFLATE: &str = "channel-node-deflate";

/// Name of our own server with TLS.
pub const TLS: &str = "channel-node-tls";

/// Name of uWebSockets with TLS.
pub const UWS_TLS: &str = "uws-tls";

/// Name of nchan with TLS.
pub const NCHAN_TLS: &str = "nchan-tls";

/// Name of NATS with TLS.
pub const NATS_TLS: &str = "nats-tls";

/// Servers that take part only in scenarios that name them.
pub const NAMED_ONLY: [&str; 6] = [TOKENS, DEFLATE, TLS, UWS_TLS, NCHAN_TLS, NATS_TLS];

/// Name of the bare loop, which is no server.
pub const BARE: &str = "bare";

/// The arguments of a server's start.
#[derive(Debug)]
pub struct Start<'a> {
    /// An empty directory of its own, for its configuration.
    pub directory: &'a Path,
    /// Port of 127.0.0.1 to listen on.
    pub port: u16,
    /// Threads or processes that serve.
    pub workers: u8,
    /// Connections that will come.
    pub connections: u32,
}

/// A server.
pub trait Peer: Sync {
    /// Its name in commands, records and tables.
    fn name(&self) -> &'static str;

    /// Dialect that the generator speaks with it.
    fn dialect(&self) -> &'static str;

    /// Version, as a reader would look it up.
    ///
    /// # Errors
    /// When it is not installed.
    fn version(&self) -> Result<String>;

    /// How the server is set up, in one sentence for the page.
    fn settings(&self) -> &'static str;

    /// Numbers of workers that it can run with, the usual one on two cores first.
    fn workers(&self) -> &'static [u8] {
        &[1]
    }

    /// Installs the server on this machine. May take minutes the first time.
    ///
    /// # Errors
    /// When a package cannot be had or built.
    fn install(&self, progress: &Progress) -> Result<()>;

    /// The command that serves until it is told to end.
    ///
    /// # Errors
    /// When it is not installed or its configuration cannot be written.
    fn command(&self, start: &Start<'_>) -> Result<Command>;

    /// Flags of the generator that this server's clients need.
    fn generator_flags(&self, _: &Start<'_>) -> Vec<OsString> {
        Vec::new()
    }

    /// Whether it speaks TLS: then `command` has written the files of the certificate.
    fn is_tls(&self) -> bool {
        false
    }

    /// The signal that the server gets when the runner dies. A server with children needs TERM, because KILL would
    /// leave them behind.
    fn signal_on_our_death(&self) -> &'static str {
        "KILL"
    }
}

/// All of them, ours first.
pub const ALL: [&dyn Peer; 14] = [
    &channel_node::ChannelNode { tls: false },
    &channel_node::ChannelNode { tls: true },
    &tokens::CHANNEL_NODE,
    &deflate::CHANNEL_NODE,
    &bare::Bare,
    &uws::Uws { tls: false },
    &uws::Uws { tls: true },
    &tungstenite::Tungstenite,
    &nchan::Nchan { tls: false },
    &nchan::Nchan { tls: true },
    &nats::Nats { tls: false },
    &nats::Nats { tls: true },
    &socketio::SocketIo,
    &sockudo::Sockudo,
];

/// A server with a number of workers: `nchan`, or `nchan@2`.
#[derive(Clone, Copy)]
pub struct Contestant {
    /// The server.
    pub peer: &'static dyn Peer,
    /// Its workers.
    pub workers: u8,
}

impl Contestant {
    /// Reads `NAME` or `NAME@WORKERS`.
    ///
    /// # Errors
    /// When there is no such server, or it cannot run with so many workers.
    pub fn parse(text: &str) -> Result<Self> {
        let (name, workers) = text.split_once('@').map_or((text, None), |(name, n)| (name, Some(n)));
        let Some(peer) = ALL.into_iter().find(|peer| peer.name() == name) else {
            let names: Vec<_> = ALL.iter().map(|peer| peer.name()).collect();
            bail!("no server {name:?}; there are {}", names.join(", "));
        };
        let possible = peer.workers();
        let workers = match workers {
            None => *possible.first().context("a server runs with some number of workers")?,
            Some(text) => match possible.iter().find(|n| n.to_string() == text) {
                Some(workers) => *workers,
                None => bail!("{name} runs with one of {possible:?} workers, not {text}"),
            },
        };
        Ok(Self { peer, workers })
    }

    /// The label: without the number of workers when that is the usual one.
    #[must_use]
    pub fn label(&self) -> String {
        if self.peer.workers().first() == Some(&self.workers) {
            self.peer.name().to_owned()
        } else {
            format!("{}@{}", self.peer.name(), self.workers)
        }
    }

    /// Whether it is our node.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.peer.name() == OURS
    }
}

/// A program that cargo has put beside this one.
///
/// # Errors
/// When it is not there; says how to build it.
pub fn beside(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if !path.exists() {
        bail!("{name} is not built beside this program; `cargo xtask bench` builds all of them");
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_distinct_and_ours_comes_first() {
        let names: BTreeSet<_> = ALL.iter().map(|peer| peer.name()).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(Contestant::parse(OURS).unwrap().is_ours() && ALL[0].name() == OURS);
    }

    #[test]
    fn a_label_reads_back() {
        for peer in ALL {
            for workers in peer.workers() {
                let label = Contestant { peer, workers: *workers }.label();
                let read = Contestant::parse(&label).unwrap();
                assert_eq!((read.peer.name(), read.workers), (peer.name(), *workers));
            }
            assert!(!peer.settings().is_empty());
        }
    }

    #[test]
    fn what_does_not_exist_is_named_with_what_does() {
        let text = |name| Contestant::parse(name).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(text("redis").contains("uws"));
        assert!(text("bare@9").contains('9'));
    }
}
