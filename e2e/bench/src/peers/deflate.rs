//! Our node with compression, which each client asks for.

use super::{DEFLATE, channel_node::Configured};

pub(super) const CHANNEL_NODE: Configured = Configured {
    name: DEFLATE,
    settings: "release build with its default limits; permessage-deflate without context takeover, level 2",
    config: "auth: {anonymous: true}\ncompression: {}\n",
    prepare: |_| Ok(()),
    generator_flags: |_| vec!["--deflate".into()],
};
