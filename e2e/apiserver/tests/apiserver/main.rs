//! The tests with a real API server, in one program: what they use is compiled and linked once.
#![cfg(feature = "apiserver")]
#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

#[path = "../../../tests/repository/pages.rs"]
mod pages;
mod support;

mod channels;
mod chart;
mod contest;
mod foreign;
mod gitops;
mod hindrances;
mod installations;
mod manifests;
mod objects;
mod recovery;
mod rig;
mod size;
mod user_ids;
