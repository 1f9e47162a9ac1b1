//! The settings of a node's transports.

use std::{net::SocketAddr, os::fd::OwnedFd, sync::Arc};

use super::{Identity, Listener, Transports, accept, tls::Tls};
use crate::args::Args;

/// The settings of the transports. The node makes one value from its command line, and each shard gets a copy.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Addresses of the public port, of which all but the first are done without where their family is missing. Port 0 asks
    /// the kernel.
    listen: Vec<SocketAddr>,
    /// Clients speak TLS, and the node shows this certificate.
    tls: Option<Arc<Identity>>,
}

impl Settings {
    /// The settings that the command line asks for, but for TLS.
    pub fn of(args: &Args) -> Self {
        Self::at(args.listen_addrs())
    }

    /// Settings that name addresses and nothing else.
    pub const fn at(listen: Vec<SocketAddr>) -> Self {
        Self { listen, tls: None }
    }

    /// These settings with TLS.
    #[must_use]
    pub fn with_tls(self, identity: &Arc<Identity>) -> Self {
        Self { tls: Some(Arc::clone(identity)), ..self }
    }

    /// The addresses that clients connect to, in the order of the command line.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.listen
    }

    /// Holds the addresses for the shards. Returns the sockets that hold them, and the settings for the shards, which name
    /// the addresses that exist here, with the ports that the kernel chose.
    ///
    /// # Errors
    /// When the first address cannot be bound, or another process listens there.
    pub(crate) fn reserve(&self) -> std::io::Result<(Vec<OwnedFd>, Self)> {
        let (reserved, listen) = accept::reserve(&self.listen)?;
        Ok((reserved, Self { listen, tls: self.tls.clone() }))
    }

    /// Opens the transports of one shard, in the thread of the shard: the listener for clients, which get
    /// descriptors below `ceiling`, and the table of their connections.
    ///
    /// # Errors
    /// When the kernel refuses a socket.
    pub(crate) fn open(&self, ceiling: i32) -> std::io::Result<(Listener, Transports)> {
        let tls = self.tls.as_ref().map(|identity| Tls::new(Arc::clone(identity)));
        Ok((Listener::bind(&self.listen, ceiling)?, Transports::new(tls)))
    }
}
