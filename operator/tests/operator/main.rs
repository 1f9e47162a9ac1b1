//! The tests of the operator from outside, in one program: what they use is compiled and linked once.
#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

#[path = "../../../e2e/tests/repository/pages.rs"]
mod pages;
#[path = "../../../e2e/tests/repository/panels.rs"]
mod panels;
#[path = "../../../node/tests/node/support/port.rs"]
mod port;
mod support;

mod claims;
mod contests;
mod credentials;
mod dashboards;
mod differences;
mod docs;
mod edges;
mod figures;
mod lease;
mod nodes;
mod prometheus;
mod reconcile;
mod templates;
mod tickets;
mod writes;
