//! What a user asks for: the parts of `ChannelCluster.spec`.

mod auth;
mod autoscaling;
mod capacity;
mod hooks;
mod metrics;
mod network;
mod nodes;
mod operation;
mod pods;
mod rollout;
mod rooms;

pub use auth::*;
pub use autoscaling::*;
pub use capacity::*;
pub use hooks::*;
pub use metrics::*;
pub use network::*;
pub use nodes::*;
pub use operation::*;
pub use pods::*;
pub use rollout::*;
pub use rooms::*;
