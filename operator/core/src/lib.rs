//! The pure core of the operator: what a ChannelCluster asks for, checked and turned into Kubernetes objects and
//! decisions. No runtime, socket, clock or Kubernetes client: observations and time come in as arguments.

pub mod build;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod machine;
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
pub mod figures;
pub mod footprint;
pub mod hash;
pub mod heat;
pub mod hindrance;
pub mod holds;
pub mod observation;
pub mod operations;
pub mod plan;
pub mod pod;
pub mod redact;
pub mod refusals;
pub mod refused;
pub mod samples;
pub mod schedule;
pub mod seen;
pub mod source;
pub mod status;
pub mod sysctl_probes;
pub mod templates;
pub mod tick;
pub mod tickets;
pub mod timestamp;
pub mod view;
pub mod wishes;
pub(crate) mod words;
pub mod world;
