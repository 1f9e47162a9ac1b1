//! The pure core of the operator: what a ChannelCluster asks for, checked and turned into Kubernetes objects and decisions.
//! No runtime, socket, clock or Kubernetes client: observations and time come in as arguments.

pub mod build;
pub mod names;
pub mod tuning;
pub mod validate;
