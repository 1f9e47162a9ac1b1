//! Measures our node beside the servers that a user could take instead.
//!
//! Every server is one file in `peers`: how it is installed, configured and started. The runner starts one server,
//! lets the load generator (a process of its own) drive it, keeps the generator's report as a line of JSON, stops the
//! server and starts the next, in rounds of random order. A page with tables and plots is made from those lines.

// The macros of the standard library panic when the reader has gone; see the crate `say`.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod cache;
pub mod environment;
pub mod page;
pub mod peers;
pub mod plot;
pub mod process;
pub mod record;
pub mod run;
pub mod scenario;
pub mod stats;
pub mod wire;
