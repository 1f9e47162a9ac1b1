//! The ChannelCluster API: types, units, validation rules, and the CRD made from them.
//!
//! The types are the single source: `crdgen` prints the YAML that the chart ships, and a test holds the
//! checked-in file against it. `v1alpha1` grows by additions only.

#![allow(unreachable_pub, reason = "KubeSchema repeats each struct inside a private scope")]
#![allow(clippy::duplicated_attributes, reason = "several printer columns share a type")]

mod cluster;
mod quantity;
mod rules;
mod schema;
mod spec;
mod status;

pub use cluster::{ChannelCluster, ChannelClusterSpec, crd, crd_yaml};
pub use quantity::{Duration, DurationError, Memory, MemoryError};
pub use spec::*;
pub use status::*;

/// API group of every type here.
pub const GROUP: &str = "channelcluster.io";
/// Served and stored version.
pub const VERSION: &str = "v1alpha1";
