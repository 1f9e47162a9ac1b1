//! The state machine driven without sockets: protocol rules, limits and time.

mod chaos;
mod harness;
mod incomplete;
mod limits;
mod model;
mod protocol;
