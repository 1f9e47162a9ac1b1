//! What the end-to-end tests and the load runs are made of.
//!
//! The clients here are written from the protocol's description and share no code with the node: a mistake
//! in the node's codec cannot hide behind the same mistake in its judge.

// They panic where nobody takes what they write; see the crate `say`.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod client;
pub mod cut;
pub mod fleet;
pub mod load;
pub mod relay;
pub mod report;
pub mod scaling;
pub mod soak;
pub mod stock;
pub mod tsung;
