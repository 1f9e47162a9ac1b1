//! The pure core of the operator: what a ChannelCluster asks for, checked and turned into Kubernetes objects and
//! decisions. No runtime, socket, clock or Kubernetes client: observations and time come in as arguments.

pub mod build;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod names;
pub mod ownership;
pub mod tuning;
pub mod user_ids;
pub mod validate;

pub mod asked;
pub mod autoscale;
pub mod backplane;
pub mod capacity;
pub mod conditions;
pub mod contest;
pub mod hash;
pub mod hindrance;
pub mod observation;
pub mod operations;
pub mod pod;
pub mod refused;
pub mod samples;
pub mod seen;
pub mod status;
pub mod tick;
pub mod timestamp;
pub mod view;
pub(crate) mod words;
