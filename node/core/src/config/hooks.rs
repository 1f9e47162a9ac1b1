//! What the node asks a backend before a client may do something.

use serde::{Deserialize, Serialize};

/// The backend and how it is asked. Which rooms ask is said by their policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hooks {
    /// Where the node posts its questions, `https://HOST/PATH`, or `http://` for a name that ends with `.svc` or
    /// `.svc.cluster.local`, and for loopback.
    pub url: String,
    /// Time in milliseconds within which an answer has to come.
    #[serde(default = "usual_timeout_millis")]
    pub timeout_millis: u64,
    /// What counts when no usable answer comes.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Most questions of the node that the backend has at a time; others wait, within their time.
    #[serde(default = "usual_in_flight")]
    pub max_in_flight: u32,
}

const fn usual_timeout_millis() -> u64 {
    keys::HOOK_TIMEOUT_MILLIS.usual
}

const fn usual_in_flight() -> u32 {
    keys::HOOKS_IN_FLIGHT.usual
}

/// What counts when the backend gives no usable answer in time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnFailure {
    /// The client is refused, and told when it may try again.
    #[default]
    Refuse,
    /// The client may do it, as if the room did not ask.
    Allow,
}

/// What a room's policy can have the backend asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Hook {
    /// A client asks to join. Not before the node itself found nothing against it.
    Join,
    /// A member publishes. The same.
    Publish,
}
