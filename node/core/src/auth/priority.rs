//! Which clients are refused first when memory is short.

use serde_json::Value;

/// The priority of a client, by which it is refused sooner or later when memory is short, and closed before others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Priority {
    /// It is refused before others.
    Low,
    /// What clients have of which nothing else is said, those without a token among them.
    Normal,
    /// It is refused after others.
    High,
}

impl Priority {
    /// The priority that the value of a claim names. Any other value counts as none: a priority is no right, and nobody
    /// should be shut out for how it is written.
    pub(super) fn of(value: Option<&Value>) -> Self {
        match value.and_then(Value::as_str) {
            Some("low") => Self::Low,
            Some("high") => Self::High,
            _ => Self::Normal,
        }
    }
}
