//! What the dashboard of a node decides: who is logged in, whether the node is healthy, and what happened within the last minute.
//!
//! Its pages and figures are served by the node's admin port (`node/src/dashboard/`).

pub mod attempts;
pub mod health;
pub mod history;
pub mod hits;
pub mod sessions;
