//! The client and the load generator against a server in this process that does wrong on purpose.
#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

mod support;

mod accounts;
mod client;
mod dialects;
mod scenarios;
mod tls;
