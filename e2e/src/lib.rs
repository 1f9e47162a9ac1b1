//! Parts of the end-to-end tests and of the load runs.
//!
//! The clients here are written from the protocol's description and share no code with the node, so that a mistake in
//! the node's codec cannot be hidden by the same mistake here.

// The macros of the standard library panic when the reader has gone; see the crate `say`.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod client;
pub mod cut;
pub mod fleet;
pub mod keda;
pub mod load;
pub mod prometheus;
pub mod relay;
pub mod report;
pub mod scaling;
pub mod soak;
pub mod stock;
pub mod tsung;
