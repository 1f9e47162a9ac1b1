//! A real local Kubernetes for demonstrations and tests, inside network namespaces of its own.
//!
//! Nothing here is simulated: etcd, the API server, two kubelets with containerd, the proxy and CoreDNS run as on a
//! server, started as daemons that outlive the command. Every process carries three marks (environment, network
//! namespace, control group), by which [`Instance::stop`] finds all of them after any crash.

// The macros of the standard library panic when the reader has gone; see the crate `say`.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod api;
mod cgroup;
mod components;
mod config;
mod dns;
mod faults;
mod images;
mod instance;
mod mounts;
mod net;
pub mod packages;
mod procs;
pub mod run;
mod start;
mod stop;
mod tools;
pub mod user;

pub use cgroup::Layout;
pub use images::Image;
pub use instance::{CLIENT_ADDRESSES, Instance, NODES};
pub use net::Dropped;
pub use procs::pids;
pub use start::Parts;
pub use tools::{Tool, cache, check_go, helm};
