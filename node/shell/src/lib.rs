//! What the processes share at their edges: ports that anyone can reach, listening sockets, lines of log, files that
//! other programs wrote, and signals. Decisions about them that need no system are in `node_core::visitors`.

// These macros panic where their output has no reader; see `shell::output`.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod file;
pub mod http;
pub mod output;
pub mod signals;
pub mod socket;
