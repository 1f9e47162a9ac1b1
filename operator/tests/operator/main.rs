//! The tests of the operator from outside, in one program: what they use is compiled and linked once.
#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

#[path = "../../../e2e/tests/repository/pages.rs"]
mod pages;
mod support;

mod claims;
mod contests;
mod credentials;
mod differences;
mod docs;
mod edges;
mod figures;
mod lease;
mod nodes;
mod reconcile;
mod writes;
