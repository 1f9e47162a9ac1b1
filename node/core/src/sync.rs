//! What threads share, from the standard library. The crate `node/interleavings` puts loom's in this place.

pub(crate) use std::sync::{Mutex, MutexGuard, atomic};
