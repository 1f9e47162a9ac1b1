//! channel-operator: keeps a fleet of channel nodes for each ChannelCluster.
//!
//! The crate `operator-core` makes all decisions and is pure; this one watches, asks and writes. One process leads,
//! by [`lease`]; it runs the [`controller`], whose [`reconcile`] keeps the objects as the spec says and starts one
//! [`fleet`] loop per ChannelCluster, which scrapes the nodes, decides the node count, drains and writes the status.

// These macros panic when standard output is closed; see `shell::output`.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod act;
pub mod admin;
pub mod apply;
pub mod args;
pub mod claim;
pub mod client;
pub mod clock;
pub mod contests;
pub mod context;
pub mod controller;
pub mod events;
pub mod fetch;
pub mod fleet;
pub mod hindrances;
pub mod lease;
pub mod machines;
pub mod metrics;
pub mod observe;
pub mod ours;
pub mod pending;
pub mod pods;
pub mod probe;
pub mod pruned;
pub mod publish;
pub mod pulses;
pub mod reconcile;
pub mod remembered;
pub mod scrape;
pub mod secrets;
pub mod shared;
pub mod shelf;
pub mod source;
pub mod standings;
pub mod store;
pub mod sysctl_probes;
pub mod unreadable;
pub mod watch;
pub mod watches;
pub mod written;
