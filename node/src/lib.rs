//! A WebSocket node that speaks Phoenix Channels: the shell around the pure core in `node-core`. `main` reads as the
//! life of the process.

// These macros panic where their output has no reader; see `shell::output`.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod admin;
pub mod api;
pub mod api_counts;
pub mod api_keys;
pub mod app;
pub mod args;
pub mod bus;
pub mod chat_page;
pub mod config;
pub mod dashboard;
pub mod drain;
pub mod environment;
pub mod failure;
pub mod hook_counts;
pub mod hooks;
pub mod inlets;
pub mod jwks;
pub mod life;
pub mod mailbox;
pub mod memory;
pub mod metrics;
pub mod moving;
pub mod near;
pub mod pulse;
pub mod secrets;
pub mod stats;
pub mod sysinfo;
#[cfg(test)]
mod test_dir;
pub mod threads;
pub mod token_keys;
pub mod transport;

mod as_client;
mod for_programs;
mod handover;
mod links;
mod poller;
mod readable;
mod shard_loop;
mod sync;
mod sys;
mod to_bus;
mod usage;
