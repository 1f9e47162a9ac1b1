//! The command lines of what a person asks of the operator.

use clap::{Args as Group, Subcommand};

use super::Form;

/// `hold`.
#[derive(Clone, Debug, Group)]
#[command(after_help = "Examples:
  kubectl channels hold chat
  kubectl channels hold chat --scale-in

It writes annotations of the ChannelCluster, never its spec. Without a flag both directions are held.")]
pub struct Hold {
    /// The ChannelCluster
    #[arg(value_name = "NAME")]
    pub name: String,
    /// It does not shrink
    #[arg(long)]
    pub scale_in: bool,
    /// It does not grow
    #[arg(long)]
    pub scale_out: bool,
    /// Form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// `release`.
#[derive(Clone, Debug, Group)]
#[command(after_help = "Example:
  kubectl channels release chat")]
pub struct Release {
    /// The ChannelCluster
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// `drain`.
#[derive(Clone, Debug, Group)]
#[command(after_help = "Examples:
  kubectl channels drain chat-node-2e672c58ea-x7k2p
  kubectl channels drain chat-node-2e672c58ea-x7k2p chat-node-2e672c58ea-9qv4d -n web

The operator drains: another node comes first, then the node leaves the Service, closes its connections at the fleet's pace and is
removed. The fleet keeps its node count. It writes an annotation of the pods, which goes with them.")]
pub struct Drain {
    /// The nodes, by the names of their pods
    #[arg(value_name = "NODE", required = true)]
    pub nodes: Vec<String>,
    /// Form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// `undrain`.
#[derive(Clone, Debug, Group)]
#[command(after_help = "Example:
  kubectl channels undrain chat-node-2e672c58ea-x7k2p

A node that is not removed yet comes back into service. Clients that it closed are on other nodes and stay there.")]
pub struct Undrain {
    /// The nodes, by the names of their pods
    #[arg(value_name = "NODE", required = true)]
    pub nodes: Vec<String>,
    /// Form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// `rebalance`.
#[derive(Clone, Debug, Group)]
#[command(after_help = "Examples:
  kubectl channels rebalance chat
  kubectl channels rebalance chat --stop

One round of moving clients from nodes that have more than their share by rebalance.tolerance to others, in every rebalance.mode and
however little the load is. rebalance.connectionsPerSecond and maxMovesPerHour count as always. A round that cannot begin within 10
minutes is not begun.")]
pub struct Rebalance {
    /// The ChannelCluster
    #[arg(value_name = "NAME")]
    pub name: String,
    /// End the round that was asked for
    #[arg(long)]
    pub stop: bool,
    /// Form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// `rollout`.
#[derive(Clone, Debug, Group)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Examples:
  kubectl channels rollout status chat
  kubectl channels rollout pause chat
  kubectl channels rollout undo chat

It writes annotations of the ChannelCluster, never its spec."
)]
pub struct Rollout {
    /// What to do.
    #[command(subcommand)]
    pub command: RolloutCommand,
}

/// What to do with a rollout.
#[derive(Clone, Debug, Subcommand)]
pub enum RolloutCommand {
    /// How the rollout stands: the templates, their nodes, and what holds it
    #[command(after_help = "Example:
  kubectl channels rollout status chat -o json")]
    Status(OfRollout),
    /// No node is added or emptied for the rollout any more; nodes that close their connections go on
    #[command(after_help = "Example:
  kubectl channels rollout pause chat")]
    Pause(OfRollout),
    /// Go on with what pause or undo stopped
    #[command(after_help = "Example:
  kubectl channels rollout resume chat")]
    Resume(OfRollout),
    /// Go back to the template of before, until the spec asks for another one
    #[command(after_help = "Example:
  kubectl channels rollout undo chat")]
    Undo(OfRollout),
}

/// Which rollout.
#[derive(Clone, Debug, Group)]
pub struct OfRollout {
    /// The ChannelCluster
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Form of what is printed.
    #[command(flatten)]
    pub form: Form,
}
