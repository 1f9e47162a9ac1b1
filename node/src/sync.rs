//! The standard library's atomics, which threads share. The crate `node/interleavings` puts loom's in this place.

pub(crate) use std::sync::atomic;
