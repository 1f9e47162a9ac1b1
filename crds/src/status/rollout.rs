//! `status.rollout`: the templates that nodes are made from, and how a rollout stands.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most entries of `status.rollout.deployments`.
pub const MAX_STATUS_TEMPLATES: usize = 8;

/// The templates that the nodes are made from.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// The Deployments of nodes, the current one first, at most 8. A rollout is under way while another one has nodes.
    #[serde(default)]
    pub deployments: Vec<TemplateStatus>,
    /// Why the rollout does not go on; only then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<RolloutPaused>,
    /// The template that was given up, since its nodes did worse than those of before; until the spec asks for another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<RolledBack>,
}

/// A Deployment of nodes.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TemplateStatus {
    /// Its name.
    pub name: String,
    /// Hash of its pod template; none of a Deployment from before there were hashes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Image of its nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Nodes that it is to have.
    pub replicas: i32,
    /// Nodes that are Ready.
    pub ready: i32,
}

/// Why a rollout does not go on.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RolloutPaused {
    /// A CamelCase word.
    pub reason: String,
    /// A sentence with the figures.
    #[serde(default)]
    pub message: String,
    /// Generation of the spec in which it stopped: with another one it goes on.
    pub generation: i64,
}

/// A template that was given up.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RolledBack {
    /// Hash of that template.
    pub from: String,
    /// Hash of the template that nodes are made from in its place.
    pub to: String,
    /// Why, in a sentence.
    #[serde(default)]
    pub message: String,
    /// Whether a person asked for it by an annotation: it lasts no longer than that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asked: bool,
}
