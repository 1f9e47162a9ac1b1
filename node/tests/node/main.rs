//! The tests of the node's process from outside, in one program: what they use is compiled and linked once.
#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

#[path = "../../../e2e/tests/repository/pages.rs"]
mod pages;
#[path = "../../../e2e/tests/repository/panels.rs"]
mod panels;
mod support;

#[cfg(feature = "nats-server")]
mod api;
mod browsers;
#[cfg(feature = "nats-server")]
mod bus;
#[cfg(feature = "nats-server")]
mod bus_away;
#[cfg(feature = "nats-server")]
mod bus_publish;
mod dashboard_page;
mod dashboards;
mod descriptors;
mod docs;
mod edges;
#[cfg(feature = "nats-server")]
mod events;
mod figures;
mod forged;
mod goodbye;
mod hooks;
mod keys_by_url;
mod longpoll;
#[cfg(feature = "nats-server")]
mod longpoll_nodes;
mod own_tables;
mod priorities;
mod process;
#[cfg(feature = "nats-server")]
mod proxies;
mod tls;
mod tokens;
mod transcripts;
#[cfg(feature = "nats-server")]
mod two_nodes;
