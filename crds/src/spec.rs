//! What a user asks for: the parts of `ChannelCluster.spec`.

mod auth;
mod autoscaling;
mod network;
mod nodes;
mod operation;
mod pods;
mod rooms;

pub use auth::*;
pub use autoscaling::*;
pub use network::*;
pub use nodes::*;
pub use operation::*;
pub use pods::*;
pub use rooms::*;
