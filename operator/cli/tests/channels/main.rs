//! The tests of `kubectl channels`, in one program: what each command says of recorded objects.
#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

#[path = "../../../../e2e/tests/repository/pages.rs"]
mod pages;
mod support;

mod command_line;
mod docs;
mod explain;
mod hold;
mod plan;
mod report;
mod simulate;
mod status;
mod steer;
