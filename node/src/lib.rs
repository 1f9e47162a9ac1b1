//! Placeholder text replaced by the first real module.
pub mod mailbox;
pub mod stats;
pub mod threads;
