//! The command line.

use std::path::PathBuf;

use clap::{Args as Group, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

mod steer;

pub use steer::{Drain, Hold, OfRollout, Rebalance, Release, Rollout, RolloutCommand, Undrain};

/// Shows, explains, sizes and operates fleets of channel nodes.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "kubectl-channels",
    bin_name = "kubectl channels",
    version,
    arg_required_else_help = true,
    after_help = "Examples:
  kubectl channels status               how each fleet of the namespace is
  kubectl channels top chat             the nodes of one fleet, again and again
  kubectl channels explain chat         why it has as many nodes as it has
  kubectl channels plan --publishes-per-second 2000 --room-size 150 --active-fraction 0.4 --peak-connections 20000

Exit codes: 0 done; 1 could not be done; 2 done, and something is not as it should be; 64 wrong command line."
)]
pub struct Args {
    /// Where the fleets are.
    #[command(flatten)]
    pub target: Target,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Where the fleets are, and as whom to ask.
#[derive(Clone, Debug, Default, Group)]
pub struct Target {
    /// Namespace of the fleet; by default that of the context
    #[arg(short, long, global = true, value_name = "NAME", help_heading = "Cluster")]
    pub namespace: Option<String>,
    /// Context of the kubeconfig; by default the current one
    #[arg(long, global = true, value_name = "NAME", help_heading = "Cluster")]
    pub context: Option<String>,
    /// The kubeconfig; by default those of KUBECONFIG, or ~/.kube/config
    #[arg(long, global = true, value_name = "FILE", help_heading = "Cluster")]
    pub kubeconfig: Option<PathBuf>,
    /// User to act as
    #[arg(long = "as", global = true, value_name = "USER", help_heading = "Cluster")]
    pub impersonated: Option<String>,
}

/// A command.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// One that asks a cluster.
    #[command(flatten)]
    Cluster(ClusterCommand),
    /// The capacity worksheet, with the formulas, and what a manifest lacks
    Plan(Plan),
    /// A manifest under a load, in virtual time: overload, nodes and moved clients, drawn
    Simulate(Simulate),
    /// The script that completes commands and flags in a shell
    #[command(after_help = "Example:
  kubectl channels completion bash > /etc/bash_completion.d/kubectl-channels")]
    Completion {
        /// bash, zsh, fish, powershell or elvish
        shell: Shell,
    },
}

/// A command that asks a cluster.
#[derive(Clone, Debug, Subcommand)]
pub enum ClusterCommand {
    /// How a fleet is: conditions that are not as they should be, nodes, what is under way, the last decisions
    Status(Status),
    /// Connections, rooms, writes/s and utilization of each node, again and again
    Top(Top),
    /// Why a fleet has as many nodes as it has
    Explain(Explain),
    /// Keep a fleet from shrinking, from growing, or from both, while you look
    Hold(Hold),
    /// Let a fleet follow its load again
    Release(Release),
    /// Let nodes go that you name: each is replaced, drained and removed
    Drain(Drain),
    /// Keep nodes that were to go
    Undrain(Undrain),
    /// Move clients now from nodes that have too much to others
    Rebalance(Rebalance),
    /// Pause, resume, undo or watch the replacement of nodes by others of another template
    Rollout(Rollout),
    /// A support bundle without secrets: objects, events, logs and metrics of a fleet and of the operator
    Report(Report),
}

/// Form of what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// JSON
    Json,
    /// YAML
    Yaml,
}

/// The form that is asked for.
#[derive(Clone, Copy, Debug, Default, Group)]
pub struct Form {
    /// json or yaml instead of text
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<Format>,
}

/// A manifest that is read in the place of a fleet.
#[derive(Clone, Debug, Default, Group)]
pub struct Manifest {
    /// A manifest with a ChannelCluster; - for standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// `status`.
#[derive(Clone, Debug, Default, Group)]
#[command(after_help = "Examples:
  kubectl channels status
  kubectl channels status chat -n web
  kubectl channels status --all-namespaces -o json")]
pub struct Status {
    /// The ChannelCluster; by default all of the namespace, in short
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// All namespaces
    #[arg(short = 'A', long, conflicts_with = "name")]
    pub all_namespaces: bool,
    /// Form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// By what nodes are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// By name
    #[default]
    Name,
    /// Most connections first
    Connections,
    /// Most writes/s first
    Writes,
    /// Busiest first
    Busy,
}

/// `top`.
#[derive(Clone, Debug, Group)]
#[command(after_help = "Examples:
  kubectl channels top chat
  kubectl channels top --once --sort writes
  kubectl channels top chat --interval 5 >> chat.log

Figures are those of the status, which the operator writes each 15 s at most. With -o it prints once.")]
pub struct Top {
    /// The ChannelCluster; by default all of the namespace
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// All namespaces
    #[arg(short = 'A', long, conflicts_with = "name")]
    pub all_namespaces: bool,
    /// Print once
    #[arg(long)]
    pub once: bool,
    /// Pause between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub interval: u64,
    /// Order of the nodes
    #[arg(long, value_name = "ORDER", value_enum, default_value_t)]
    pub sort: Sort,
    /// Form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// `explain`.
#[derive(Clone, Debug, Group)]
#[command(after_help = "Examples:
  kubectl channels explain chat
  kubectl channels explain chat -n web -o yaml")]
pub struct Explain {
    /// The ChannelCluster
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// `plan`.
#[derive(Clone, Debug, Default, Group)]
#[command(after_help = "Examples:
  kubectl channels plan --publishes-per-second 2000 --room-size 150 --active-fraction 0.4 --message-bytes 256 --peak-connections 20000
  kubectl channels plan -f chat.yaml
  kubectl channels plan -f chat.yaml --publishes-per-second 100 --room-size 100 -o json

The model: writes/s = publishes/s x room size x active fraction. With a manifest the exit code is 2 when it lacks something.")]
pub struct Plan {
    /// The manifest, which is checked by the ten rules.
    #[command(flatten)]
    pub manifest: Manifest,
    /// Messages published per second, over all rooms, at the busiest time
    #[arg(long, value_name = "N", required_unless_present = "file")]
    pub publishes_per_second: Option<f64>,
    /// Members of the room that a message is published in, averaged over messages; with -f by default rooms.maxMembers
    #[arg(long, value_name = "N", required_unless_present = "file")]
    pub room_size: Option<f64>,
    /// Part of a room's members that are connected, above 0 and at most 1
    #[arg(long, value_name = "FRACTION", default_value_t = 1.0)]
    pub active_fraction: f64,
    /// Payload of a message
    #[arg(long, value_name = "BYTES", default_value_t = 256.0)]
    pub message_bytes: f64,
    /// Most connections at a time; with -f by default targetConnections
    #[arg(long, value_name = "N", required_unless_present = "file")]
    pub peak_connections: Option<f64>,
    /// Writes/s of one node at 100 %; by default that of the manifest, or 40000
    #[arg(long, value_name = "N")]
    pub capacity_writes: Option<f64>,
    /// Connections of one node at 100 %; by default that of the manifest, or 10000
    #[arg(long, value_name = "N")]
    pub capacity_connections: Option<f64>,
    /// How full a node may be; by default that of the manifest, or 60
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub target: Option<u32>,
    /// Form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// `report`.
#[derive(Clone, Debug, Group)]
#[command(after_help = "Examples:
  kubectl channels report chat
  kubectl channels report chat -n web --to /tmp/chat.tar.gz

Of Secrets it has the names and the names of their keys. It reads their values, where you may, to hide them wherever they stand.")]
pub struct Report {
    /// The ChannelCluster
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The file; by default NAME-report-TIME.tar.gz in this directory. No file is written over
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// Namespace in which the operator runs
    #[arg(long, value_name = "NAME", default_value = "channelcluster-system")]
    pub operator_namespace: String,
}

/// A controller to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Other {
    /// HorizontalPodAutoscaler on CPU
    HpaCpu,
    /// HorizontalPodAutoscaler on writes/s
    HpaWrites,
    /// The autoscaler of Knative
    Kpa,
    /// KEDA on writes/s
    Keda,
    /// One that knows the load in advance
    Ideal,
}

/// `simulate`.
#[derive(Clone, Debug, Group)]
#[command(after_help = "Examples:
  kubectl channels simulate -f chat.yaml --kind crowd-joins-5s
  kubectl channels simulate -f chat.yaml --trace friday.csv --beside hpa-cpu,keda --svg friday.svg
  kubectl channels simulate --list

Without a manifest it is the one that the kinds were made for. A trace has lines of `second,clients,writes per second`, in order. The load of a kind is scaled to the manifest's capacity.")]
pub struct Simulate {
    /// The manifest; by default the one that the kinds were made for.
    #[command(flatten)]
    pub manifest: Manifest,
    /// A recorded load: lines of second,clients,writes per second
    #[arg(long, value_name = "FILE", conflicts_with = "kind")]
    pub trace: Option<PathBuf>,
    /// A load that is made; --list names the kinds
    #[arg(long, value_name = "NAME")]
    pub kind: Option<String>,
    /// Print the names of the kinds
    #[arg(long, conflicts_with_all = ["trace", "kind"])]
    pub list: bool,
    /// How long a client of --trace stays connected on average
    #[arg(long, value_name = "SECONDS", default_value_t = 1_800.0)]
    pub session_seconds: f64,
    /// Nodes at the beginning; by default as many as the load then needs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=1_000))]
    pub nodes: Option<i32>,
    /// Of the noise in kinds
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Controllers to compare with, with commas between
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub beside: Vec<Other>,
    /// Draw load, nodes and overload into this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Form of what is printed.
    #[command(flatten)]
    pub form: Form,
}
