//! The backend that rooms ask.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{quantity::Duration, rules};

/// The backend that is asked about the rooms whose policies have `hooks`.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[x_kube(validation = rules::hooks::url())]
#[x_kube(validation = rules::hooks::SECRET_FORM)]
#[x_kube(validation = rules::hooks::timeout())]
#[serde(rename_all = "camelCase")]
pub struct Hooks {
    /// Where nodes post their questions: `https://HOST/PATH`, or `http://` with a Service of this cluster.
    #[schemars(length(min = 1, max = keys::MAX_URL_BYTES))]
    pub url: String,
    /// Secret with the key `signing-key`, by which questions are signed, and the label `channelcluster.io/credentials: "true"`. A key
    /// `ca.crt` in it names the authorities of the backend's certificate.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
    /// Time within which an answer has to come; unset: 2s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "Duration::text_schema")]
    pub timeout: Option<Duration>,
    /// What counts without a usable answer; unset: `Refuse`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnHookFailure>,
    /// Most questions that the backend has at a time from one node; unset: 256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = keys::HOOKS_IN_FLIGHT.manifest.least, max = keys::HOOKS_IN_FLIGHT.manifest.most))]
    pub max_in_flight: Option<u32>,
}

/// What counts when the backend gives no usable answer in time.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum OnHookFailure {
    /// The client is refused, and told when it may try again.
    #[default]
    Refuse,
    /// The client may do it.
    Allow,
}

/// What the backend is asked about.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum Hook {
    /// A client asks to join.
    Join,
    /// A member publishes.
    Publish,
}
