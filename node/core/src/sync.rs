//! The standard library's locks and atomics, which threads share. The crate `node/interleavings` puts loom's in this
//! place.

pub(crate) use std::sync::{Mutex, MutexGuard, atomic};
