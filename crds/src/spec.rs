//! What a user asks for: the parts of `ChannelCluster.spec`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, ResourceRequirements, Toleration};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Duration;

/// Rooms: who may be in one and what happens to what is said there.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Rooms {
    /// Most members of one room on one node.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_members: u32,
    /// What a join to a full room gets.
    #[serde(default)]
    pub on_full: OnFull,
    /// Events that are broadcast and then replied `ok`. Other events are broadcast without a reply.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(min = 1, max = 128)))]
    pub ack_events: Vec<String>,
    /// Whether the sender of an event receives it too, as Phoenix's `broadcast!` does.
    #[serde(default = "yes")]
    pub echo_to_sender: bool,
    /// Rules by topic; the first whose pattern matches wins.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub policies: Vec<RoomPolicy>,
}

/// The rule of the rooms whose topic matches.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RoomPolicy {
    /// An exact topic, or a prefix followed by `*`.
    #[schemars(length(min = 1, max = 255))]
    pub topics: String,
    /// Most members of one room on one node; unset: `rooms.maxMembers`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_members: Option<u32>,
    /// Who may push events into the room.
    #[serde(default)]
    pub publish: Publish,
    /// Overrides `rooms.ackEvents`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 128)))]
    pub ack_events: Option<Vec<String>>,
    /// Overrides `rooms.echoToSender`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub echo_to_sender: Option<bool>,
}

/// What a join to a full room gets.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum OnFull {
    /// An error reply with the reason `room full`.
    #[default]
    Reject,
}

/// Who may push events into a room.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum Publish {
    /// Every member.
    #[default]
    Members,
    /// No client.
    Nobody,
}

/// The nodes of the fleet.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Nodes {
    /// Fewest nodes.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 1_000))]
    pub min: i32,
    /// Most nodes.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 1_000))]
    pub max: i32,
    /// Node count while autoscaling is `Off` or `Observe`; the field of the scale subresource.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub replicas: Option<i32>,
    /// Node image; unset: the operator's own, kept from the day the cluster was first seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// Compute resources of the node container; unset: requests of 100m CPU and 64Mi memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Labels of the machines that may run a node.
    #[serde(default)]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that a node tolerates.
    #[serde(default)]
    pub tolerations: Vec<Toleration>,
    /// Scheduling affinity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// More labels for the node pods.
    #[serde(default)]
    pub pod_labels: BTreeMap<String, String>,
    /// More annotations for the node pods.
    #[serde(default)]
    pub pod_annotations: BTreeMap<String, String>,
    /// What one node carries at 100 % utilization.
    #[serde(default)]
    pub capacity: Capacity,
}

/// What one node carries at 100 % utilization.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// Fan-out writes per second: messages delivered to members.
    #[serde(default = "default_writes")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub writes_per_second: u64,
    /// Connections held.
    #[serde(default = "default_connections")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub connections: u64,
}

/// How the node count is decided.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Autoscaling {
    /// `Auto` acts, `Observe` only says what it would do, `Off` follows `nodes.replicas`.
    #[serde(default)]
    pub mode: AutoscalingMode,
    /// Percent of a node's capacity that the fleet is sized for.
    #[serde(default = "sixty")]
    #[schemars(range(min = 10, max = 95))]
    pub target_utilization: u32,
    /// Windows over which rates are averaged.
    #[serde(default)]
    pub windows: Windows,
    /// Pace of scaling, shaped as in HorizontalPodAutoscaler v2.
    #[serde(default)]
    pub behavior: Behavior,
}

/// Windows over which observed rates are averaged.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Windows {
    /// Average that decides in calm times.
    #[serde(default = "stable_window")]
    pub stable: Duration,
    /// Average that decides in a burst; scales out only.
    #[serde(default = "burst_window")]
    pub burst: Duration,
}

/// Pace of scaling in each direction.
#[derive(Clone, Debug, Default, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Behavior {
    /// Pace of growth; unset: at once, at most doubling or 4 nodes per 15 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_up: Option<ScalingRules>,
    /// Pace of shrinking; unset: after 300 s of calm, one drained node at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_down: Option<ScalingRules>,
}

/// Pace of scaling in one direction.
#[derive(Clone, Debug, Default, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ScalingRules {
    /// Seconds over which the most cautious recommendation counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3_600))]
    pub stabilization_window_seconds: Option<i32>,
    /// Most change in a period; the one that `selectPolicy` names counts.
    #[serde(default)]
    #[schemars(length(max = 8))]
    pub policies: Vec<ScalingPolicy>,
    /// Which of the policies counts.
    #[serde(default)]
    pub select_policy: SelectPolicy,
}

/// Most change in a period.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ScalingPolicy {
    /// Unit of `value`.
    #[serde(rename = "type")]
    pub type_: PolicyType,
    /// Nodes or percent.
    #[schemars(range(min = 1, max = 10_000))]
    pub value: i32,
    /// Length of the period in seconds.
    #[schemars(range(min = 1, max = 1_800))]
    pub period_seconds: i32,
}

/// Unit of a scaling policy.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum PolicyType {
    /// A number of nodes.
    Pods,
    /// A percentage of the nodes at the period's start.
    Percent,
}

/// Which of several scaling policies counts.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum SelectPolicy {
    /// The one that allows the most change.
    #[default]
    Max,
    /// The one that allows the least change.
    Min,
    /// No change in this direction.
    Disabled,
}

/// Who decides the node count.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum AutoscalingMode {
    /// The operator decides and acts.
    #[default]
    Auto,
    /// The operator says in the status what it would do.
    Observe,
    /// `nodes.replicas` decides.
    Off,
}

/// Kernel parameters and limits of a node.
#[derive(Clone, Debug, Default, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Tuning {
    /// Which set of sysctls a node asks for.
    #[serde(default)]
    pub profile: TuningProfile,
    /// More sysctls, or other values for those of the profile.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub sysctls: BTreeMap<String, String>,
    /// Open files that a node should be able to have; compared with what it got.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_024, max = 1_073_741_816))]
    pub nofile: Option<u64>,
}

/// Which set of sysctls a node asks for.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum TuningProfile {
    /// Those that Kubernetes allows on every kubelet.
    #[default]
    Safe,
    /// None.
    None,
}

/// How a node is emptied before it goes.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// Connections closed per second, over the whole cluster.
    #[serde(default = "five_hundred")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections_per_second: u32,
    /// How long a terminating node goes on accepting, so that load balancers can take it out.
    #[serde(default = "drain_delay")]
    pub delay: Duration,
    /// Longest drain; what is left then is closed at once.
    #[serde(default = "drain_deadline")]
    pub deadline: Duration,
}

/// What carries messages from node to node.
#[derive(Clone, Debug, Default, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Backplane {
    /// Who runs it.
    #[serde(rename = "type", default)]
    pub type_: BackplaneType,
    /// NATS servers, `nats://HOST:PORT`; only with type `Nats`.
    #[serde(default)]
    #[schemars(length(max = 16), inner(length(min = 1, max = 512)))]
    pub urls: Vec<String>,
    /// Secret with the keys `username` and `password`; only with type `Nats`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
}

/// Who runs the backplane.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum BackplaneType {
    /// The operator runs NATS beside the nodes.
    #[default]
    Managed,
    /// NATS servers of the user's.
    Nats,
    /// None: one node only.
    None,
}

/// A Secret of the same namespace.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq)]
pub struct SecretRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// How clients reach the fleet.
#[derive(Clone, Debug, Default, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Expose {
    /// Serve the live chat page at `/` and the reserved topic `$cluster`.
    #[serde(default)]
    pub chat_page: bool,
    /// The client-facing Service.
    #[serde(default)]
    pub service: ServiceSpec,
}

/// The client-facing Service.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// Type of the Service.
    #[serde(rename = "type", default)]
    pub type_: ServiceType,
    /// Port of the Service.
    #[serde(default = "eighty")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
}

/// Type of the client-facing Service.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum ServiceType {
    /// Reachable inside the cluster.
    #[default]
    ClusterIP,
    /// Reachable on a port of every machine.
    NodePort,
    /// Reachable through the cloud's load balancer.
    LoadBalancer,
}

/// Who may connect.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// Let everybody connect without credentials.
    #[serde(default)]
    pub anonymous: bool,
    /// Origins that a browser may connect from besides the page's own host; `//*.example.com` matches subdomains.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(min = 1, max = 255)))]
    pub allowed_origins: Vec<String>,
}

/// Limits of one connection.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Longest message from a client, in bytes.
    #[serde(default = "frame_bytes")]
    #[schemars(range(min = 1_024, max = 16_777_216))]
    pub max_frame_bytes: u32,
    /// Most rooms that one connection is in.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_channels_per_connection: u32,
    /// A connection without data from the client for so long is closed. Phoenix clients send a heartbeat each 30 s.
    #[serde(default = "idle_timeout")]
    pub idle_timeout: Duration,
    /// Most bytes queued for one connection before it is closed as too slow.
    #[serde(default = "queue_bytes")]
    #[schemars(range(min = 16_384, max = 67_108_864))]
    pub send_queue_bytes: u32,
}

fn yes() -> bool {
    true
}
fn two() -> i32 {
    2
}
fn ten() -> i32 {
    10
}
fn eighty() -> i32 {
    80
}
fn sixty() -> u32 {
    60
}
fn hundred() -> u32 {
    100
}
fn five_hundred() -> u32 {
    500
}
fn frame_bytes() -> u32 {
    65_536
}
fn queue_bytes() -> u32 {
    1_048_576
}
fn default_writes() -> u64 {
    40_000
}
fn default_connections() -> u64 {
    10_000
}
fn stable_window() -> Duration {
    Duration::from_secs(60)
}
fn burst_window() -> Duration {
    Duration::from_secs(6)
}
fn drain_delay() -> Duration {
    Duration::from_secs(5)
}
fn drain_deadline() -> Duration {
    Duration::from_secs(600)
}
fn idle_timeout() -> Duration {
    Duration::from_secs(60)
}

impl Default for Nodes {
    fn default() -> Self {
        Self {
            min: two(),
            max: ten(),
            replicas: None,
            image: None,
            resources: None,
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            affinity: None,
            pod_labels: BTreeMap::new(),
            pod_annotations: BTreeMap::new(),
            capacity: Capacity::default(),
        }
    }
}

impl Default for Capacity {
    fn default() -> Self {
        Self { writes_per_second: default_writes(), connections: default_connections() }
    }
}

impl Default for Autoscaling {
    fn default() -> Self {
        Self {
            mode: AutoscalingMode::Auto,
            target_utilization: sixty(),
            windows: Windows::default(),
            behavior: Behavior::default(),
        }
    }
}

impl Default for Windows {
    fn default() -> Self {
        Self { stable: stable_window(), burst: burst_window() }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self { connections_per_second: five_hundred(), delay: drain_delay(), deadline: drain_deadline() }
    }
}

impl Default for ServiceSpec {
    fn default() -> Self {
        Self { type_: ServiceType::ClusterIP, port: eighty() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_frame_bytes: frame_bytes(),
            max_channels_per_connection: hundred(),
            idle_timeout: idle_timeout(),
            send_queue_bytes: queue_bytes(),
        }
    }
}
