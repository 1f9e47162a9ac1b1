//! A soak: clients that talk for minutes while a fleet of the local cluster is broken in random ways.
//!
//! Every message of every client is in a [`ledger`], so that each message that did not arrive is known. For each such
//! miss the ledger looks for a [`fault`] that explains it, from where each client was at that time and what was
//! broken. A miss that no fault explains is a failure, and so are a message that comes twice, or before an earlier
//! one of the same client, and a client that does not come back.

pub mod fault;
pub mod ledger;
pub mod report;

mod breaking;
pub mod clients;
pub mod run;

/// Milliseconds of wall-clock time since 1970: clients and faults are on one machine.
pub type Millis = u64;

/// Now.
#[must_use]
pub fn now() -> Millis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
