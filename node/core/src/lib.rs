//! The pure core of a node: configuration, admin types, WebSocket codec, Phoenix protocol, rooms and the shard state
//! machine. It has no runtime, socket, clock, file or global randomness: time and observations come in as arguments,
//! decisions and bytes come out, so that all of it can be tested and simulated without a machine around it.

pub mod addresses;
pub mod admin;
pub mod age;
pub mod api;
pub mod auth;
pub mod backend;
pub mod broadcast;
pub mod bus;
pub mod config;
pub mod counters;
pub mod dashboard;
pub mod drain;
pub mod egress;
pub mod envelope;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod gcra;
pub mod histogram;
pub mod layout;
pub mod ledger;
pub mod limits;
pub mod longpoll;
pub mod moving;
pub mod placement;
pub mod protocol;
pub mod proxy;
pub mod route;
pub mod session;
pub mod shard;
mod sync;
pub mod tls;
pub mod topic;
mod topics;
pub mod visitors;
pub mod ws;
