//! The parts of a node that its threads share, built once more with loom's atomics and locks: its tests run them in
//! every order that the memory model allows, within a bound on switches.
//!
//! The files are the node's own. What they take from [`sync`] is the standard library in the node and loom here.

/// Stands in the place of the standard library's modules.
pub mod sync {
    pub use loom::sync::{Mutex, MutexGuard, atomic};
}

use node_core::{ledger, limits, topic};

#[path = "../../core/src/route.rs"]
pub mod route;
#[path = "../../src/mailbox/sleep.rs"]
pub mod sleep;
