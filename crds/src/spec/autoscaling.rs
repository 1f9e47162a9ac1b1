//! How the node count is decided.

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::spec::Metrics;
use crate::{quantity::Duration, rules};

/// How the node count is decided.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Autoscaling {
    /// `Auto` acts, `Observe` only says what it would do, `Manual` follows `nodes.replicas`. `Off` is an older word for
    /// `Manual` and wants quotes, because YAML reads it as a boolean.
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
    /// From where the load is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    /// Least counts of nodes at certain times, for load that is known before it comes. `nodes.max` still holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub schedule: Vec<ScheduleEntry>,
}

/// A least count of nodes from each time of a cron on, for a duration.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[x_kube(validation = rules::SCHEDULE_CRON)]
#[x_kube(validation = rules::SCHEDULE_ZONE)]
#[x_kube(validation = rules::SCHEDULE_DURATION)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleEntry {
    /// When it begins: minute, hour, day of the month, month, day of the week, as in a CronJob (`30 8 * * 1-5`, `@daily`).
    /// A time that clocks skip counts as much later as they skip; one that they show twice counts once, at the first.
    #[schemars(length(min = 1, max = 128))]
    pub cron: String,
    /// The time zone of `cron`, a name of the IANA database as in `Europe/Berlin`; unset: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// How long it counts, 1m to 168h of elapsed time.
    #[schemars(schema_with = "Duration::text_schema")]
    pub duration: Duration,
    /// Fewest nodes meanwhile.
    #[schemars(range(min = 1, max = 1_000))]
    pub min_nodes: i32,
}

/// Windows over which observed rates are averaged.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[x_kube(validation = rules::WINDOWS_ORDER)]
#[x_kube(validation = rules::WINDOWS_RANGE)]
#[serde(rename_all = "camelCase")]
pub struct Windows {
    /// Average that decides in calm times.
    #[serde(default = "stable_window")]
    pub stable: Duration,
    /// Average that decides in a burst; scales out only. A load that two looks in a row show counts at once.
    #[serde(default = "burst_window")]
    pub burst: Duration,
}

/// Pace of scaling in each direction.
#[derive(Clone, Debug, Default, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Behavior {
    /// Pace of growth; unset: at once, at most tenfold or by 20 nodes per 15 s, whichever is more.
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
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub enum AutoscalingMode {
    /// The operator decides and acts.
    #[default]
    Auto,
    /// The operator says in the status what it would do.
    Observe,
    /// `nodes.replicas` decides. `Off` is what it was called first.
    #[serde(alias = "Off")]
    Manual,
}

impl JsonSchema for AutoscalingMode {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AutoscalingMode".into()
    }

    fn inline_schema() -> bool {
        true
    }

    /// By hand, because a derived schema leaves the alias out.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "enum": ["Auto", "Observe", "Manual", "Off"]})
    }
}

impl Default for Autoscaling {
    fn default() -> Self {
        Self {
            mode: AutoscalingMode::Auto,
            target_utilization: sixty(),
            windows: Windows::default(),
            behavior: Behavior::default(),
            metrics: None,
            schedule: Vec::new(),
        }
    }
}

impl Default for Windows {
    fn default() -> Self {
        Self { stable: stable_window(), burst: burst_window() }
    }
}

fn sixty() -> u32 {
    60
}

fn stable_window() -> Duration {
    Duration::from_secs(60)
}

fn burst_window() -> Duration {
    Duration::from_secs(6)
}
