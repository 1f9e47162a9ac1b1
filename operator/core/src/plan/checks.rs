//! The ten rules of the model, asked of a manifest: what it says, and what it lacks.
//!
//! They look at the manifest as it was written: a default that nobody has thought about is no answer to "what does a node
//! carry?".

use crds::{AutoscalingMode, BackplaneType, ChannelClusterSpec, TuningProfile};
use serde::Serialize;
use serde_json::Value;

use super::{FRAME_BYTES, Load, Worksheet, number};
use crate::footprint::{self, mebibytes};

/// Descriptors of a node that are no connections: files, the poller, the admin port, NATS.
const OTHER_FILES: u64 = 500;
/// How long a slow consumer may lag before its queue is full, in seconds, at the least: a phone that changes its network
/// takes about as long.
const LEAST_QUEUED_SECONDS: f64 = 5.0;
/// Silence after which a connection is closed, in milliseconds, beyond which dead sockets gather: ten heartbeats of Phoenix.
const LONG_IDLE_MILLIS: u64 = 300_000;
/// Length of a message in bytes beyond which one client makes others wait.
const LONG_FRAME_BYTES: u32 = 64 << 10;
/// Members of a room beyond which it is a feed in all but name: one message in it is more than a tenth of a second of the
/// writes that a node is said to carry by default.
const LARGE_ROOM: u32 = 5_000;

/// How a rule is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Verdict {
    /// The manifest says all that it has to.
    Met,
    /// The manifest lacks something; the findings say what.
    Lacking,
    /// Only a person can do it.
    ByHand,
}

/// One rule, asked of a manifest.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// 1 to 10.
    pub number: u8,
    /// The rule.
    pub rule: &'static str,
    /// How it is kept.
    pub verdict: Verdict,
    /// What is lacking, with what to set; or, when nothing is, what was found.
    pub findings: Vec<String>,
}

/// A manifest with the load that it is for.
struct Case<'a> {
    spec: &'a ChannelClusterSpec,
    written: &'a Value,
    load: Option<(&'a Load, &'a Worksheet)>,
}

/// What is lacking, and what is worth saying beside.
#[derive(Default)]
struct Findings {
    lacking: Vec<String>,
    fine: Vec<String>,
}

impl Findings {
    fn lack(&mut self, sentence: impl Into<String>) {
        self.lacking.push(sentence.into());
    }

    fn fine(&mut self, sentence: impl Into<String>) {
        self.fine.push(sentence.into());
    }
}

/// Asks one rule of a manifest.
type Ask = fn(&Case<'_>, &mut Findings);

/// Asks the ten rules of a spec. `written` is the spec as it stands in the manifest.
#[must_use]
pub fn check(spec: &ChannelClusterSpec, written: &Value, load: Option<(&Load, &Worksheet)>) -> Vec<Check> {
    let case = Case { spec, written, load };
    let asked: [(&'static str, Ask); 9] = [
        ("The fleet is sized and scaled by writes/s; connections and memory are floors.", sized),
        ("Descriptors and kernel parameters are asked for, and compared with what a node got.", tuned),
        ("What a connection costs is bounded.", bounded),
        ("Rooms are capped.", capped),
        ("A slow consumer is dealt with by a declared bound.", queues),
        ("The backplane carries one copy per node that has members.", backplane),
        ("Presence is soft state.", presence),
        ("A node can drain or die at any moment.", replaceable),
        ("Heartbeats, frames and compression stay small.", small),
    ];
    let mut checks: Vec<_> = (1..)
        .zip(asked)
        .map(|(number, (rule, ask))| {
            let mut findings = Findings::default();
            ask(&case, &mut findings);
            let verdict = if findings.lacking.is_empty() { Verdict::Met } else { Verdict::Lacking };
            let findings = if findings.lacking.is_empty() { findings.fine } else { findings.lacking };
            Check { number, rule, verdict, findings }
        })
        .collect();
    checks.push(Check {
        number: 10,
        rule: "A load test has shown it.",
        verdict: Verdict::ByHand,
        findings: vec![
            "No manifest shows it. Open connections in batches of 5,000 with a pause, hold them for 30 minutes or more \
             with about a message per second and connection, and look at a sample each minute: memory must level off, and \
             no core may be above 80 %. Test the largest room and a broadcast to everybody as well."
                .to_owned(),
        ],
    });
    checks
}

impl Case<'_> {
    /// Whether the manifest gives a field of the spec, by its JSON pointer.
    fn gives(&self, pointer: &str) -> bool {
        self.written.pointer(pointer).is_some_and(|value| !value.is_null())
    }

    /// Connections that a node takes at most.
    fn most_connections(&self) -> u64 {
        footprint::most(self.spec).into()
    }
}

fn sized(case: &Case<'_>, findings: &mut Findings) {
    let nodes = &case.spec.nodes;
    if !case.gives("/nodes/capacity/writesPerSecond") {
        findings.lack(
            "nodes.capacity.writesPerSecond is not given: 40,000 is assumed. Measure what one node carries at your message \
             size (cargo xtask load, or loadgen --scenario max), and set it.",
        );
    }
    if !case.gives("/nodes/capacity/connections") {
        findings.lack(
            "nodes.capacity.connections is not given: 10,000 are assumed. Set what a node with its memory is to hold, or Derived.",
        );
    }
    derives(case, findings);
    match case.spec.autoscaling.mode {
        AutoscalingMode::Auto => findings.fine(format!("Scales from {} to {} nodes.", nodes.min, nodes.max)),
        AutoscalingMode::Observe | AutoscalingMode::Manual if nodes.replicas.is_none() => findings.lack(
            "autoscaling.mode does not act and nodes.replicas is not given: set nodes.replicas, or autoscaling.mode to Auto.",
        ),
        AutoscalingMode::Observe | AutoscalingMode::Manual => {
            findings.fine("nodes.replicas decides the node count; the load does not.");
        }
    }
    let Some((load, sheet)) = case.load else { return };
    let most = match case.spec.autoscaling.mode {
        AutoscalingMode::Auto => ("nodes.max", nodes.max),
        AutoscalingMode::Observe | AutoscalingMode::Manual => {
            ("nodes.replicas", nodes.replicas.unwrap_or(nodes.max))
        }
    };
    if most.1 < sheet.nodes {
        findings.lack(format!(
            "{} is {}, and the load needs {} nodes: raise it to at least {}.",
            most.0, most.1, sheet.nodes, sheet.nodes
        ));
    }
    #[allow(clippy::cast_precision_loss, reason = "bounded by the schema far below 2^52")]
    let target = case.spec.target_connections as f64;
    if target < load.peak_connections {
        findings.lack(format!(
            "targetConnections is {}, below the peak of {} connections: set it to the peak.",
            number(target),
            number(load.peak_connections)
        ));
    }
}

/// What no rule of the schema can say of connections that are derived: whether they suffice.
fn derives(case: &Case<'_>, findings: &mut Findings) {
    let Some(given) = footprint::Given::of(case.spec) else { return };
    if given.memory_limit.is_none() {
        findings.lack(
            "nodes.capacity.connections is Derived and nodes.resources.limits.memory is not given: nothing says how much \
             a node holds, so that 10,000 count at most. Set nodes.resources.limits.memory.",
        );
    }
    let (target, most, each) =
        (case.spec.target_connections, case.spec.nodes.max, footprint::assumed(case.spec));
    if target > u64::from(most.unsigned_abs()).saturating_mul(each) {
        findings.lack(format!(
            "targetConnections is {target}, more than {most} nodes hold of which each holds {each}, which is assumed of \
             their memory: raise nodes.max or nodes.resources.limits.memory."
        ));
    }
}

fn tuned(case: &Case<'_>, findings: &mut Findings) {
    let tuning = &case.spec.tuning;
    if tuning.profile == TuningProfile::None && tuning.sysctls.is_empty() {
        findings.lack("tuning.profile is None and tuning.sysctls is empty: set tuning.profile to Safe.");
    }
    let needed = case.most_connections().saturating_add(OTHER_FILES);
    match tuning.nofile {
        None => findings.lack(format!(
            "tuning.nofile is not given, so nothing is compared with what a node gets: set it to {needed}, which is \
             the most connections that a node takes and {OTHER_FILES} for the rest."
        )),
        Some(asked) if asked < needed => findings.lack(format!(
            "tuning.nofile is {asked}; a node takes up to {} connections and needs {OTHER_FILES} files for the rest: set it \
             to {needed}.",
            case.most_connections()
        )),
        Some(asked) => findings.fine(format!("tuning.nofile asks for {asked}.")),
    }
}

fn bounded(case: &Case<'_>, findings: &mut Findings) {
    let limit = footprint::memory_limit(case.spec);
    let budget = case.gives("/limits/memoryBudget");
    let Some(limit) = limit else {
        if budget {
            findings.fine("limits.memoryBudget is given.");
        } else {
            let much = case.load.map_or_else(String::new, |(_, sheet)| {
                format!(" of at least {}Mi", mebibytes(sheet.pod_memory_bytes))
            });
            findings.lack(format!(
                "Neither nodes.resources.limits.memory nor limits.memoryBudget is given, so a node may take half of its \
                 machine's memory: set nodes.resources.limits.memory{much}."
            ));
        }
        return;
    };
    match case.load {
        Some((_, sheet)) if limit < sheet.pod_memory_bytes => findings.lack(format!(
            "nodes.resources.limits.memory is {}Mi; with twice its connections and a second of queues a node needs {}Mi: \
             raise it.",
            mebibytes(limit),
            mebibytes(sheet.pod_memory_bytes)
        )),
        _ => findings.fine(format!("nodes.resources.limits.memory is {}Mi.", mebibytes(limit))),
    }
}

fn capped(case: &Case<'_>, findings: &mut Findings) {
    let cap = case.spec.rooms.max_members;
    if let Some((load, _)) = case.load
        && load.room_size > f64::from(cap)
    {
        findings.lack(format!(
            "rooms.maxMembers is {cap} and rooms have {} members: further joins would be refused. Raise the cap, or give \
             these rooms a policy of their own (rooms.policies).",
            number(load.room_size)
        ));
    }
    if cap > LARGE_ROOM {
        findings.lack(format!(
            "rooms.maxMembers is {cap}: a single message in such a room is {cap} writes. Keep the cap of rooms near what \
             people use, and raise it by rooms.policies for the topics that need it."
        ));
    }
    findings.fine(format!("rooms.maxMembers is {cap} per room and node."));
}

fn queues(case: &Case<'_>, findings: &mut Findings) {
    let limits = &case.spec.limits;
    let bytes = limits.send_queue_bytes;
    let Some((load, sheet)) = case.load.filter(|(load, _)| load.peak_connections > 0.0) else {
        findings.fine(format!("limits.sendQueueBytes is {bytes}; beyond it the connection is closed."));
        return;
    };
    let each = load.message_bytes + FRAME_BYTES;
    let rate = sheet.writes_per_second / load.peak_connections * each;
    if rate <= 0.0 {
        return;
    }
    let seconds = f64::from(bytes) / rate;
    let sentence = format!(
        "limits.sendQueueBytes is {bytes}: {} s of a member's messages ({} writes/s / {} connections x {} bytes)",
        number(seconds),
        number(sheet.writes_per_second),
        number(load.peak_connections),
        number(each)
    );
    if seconds < LEAST_QUEUED_SECONDS {
        findings.lack(format!(
            "{sentence}. A phone that changes its network is cut off: set at least {:.0}.",
            rate * LEAST_QUEUED_SECONDS
        ));
    } else {
        findings.fine(format!("{sentence}; beyond it the connection is closed, and the client is told."));
    }
}

fn backplane(case: &Case<'_>, findings: &mut Findings) {
    let nodes = &case.spec.nodes;
    match case.spec.backplane.type_ {
        BackplaneType::None if nodes.max > 1 => findings.lack(
            "backplane.type is None and nodes.max is above 1: members on different nodes would not hear each other. Set it \
             to Managed or Nats.",
        ),
        BackplaneType::None => findings.fine("One node needs no backplane."),
        BackplaneType::Managed => findings.fine(
            "The managed NATS is one pod: where half a minute without it does harm, use backplane.type Nats with a NATS \
             cluster of your own.",
        ),
        BackplaneType::Nats => findings.fine("NATS is yours."),
    }
}

fn presence(_: &Case<'_>, findings: &mut Findings) {
    findings.fine("The nodes keep no lists of members for clients, so nothing of it has to be sent.");
}

fn replaceable(case: &Case<'_>, findings: &mut Findings) {
    let nodes = &case.spec.nodes;
    if nodes.min < 2 && nodes.max > 1 {
        findings.lack(
            "nodes.min is 1: when that node dies nobody serves until another one has started. Set it to 2.",
        );
    } else if nodes.max < 2 {
        findings
            .lack("nodes.max is 1: when that node dies nobody serves until it is back. Set nodes.min to 2.");
    }
    let drain = &case.spec.drain;
    let pace = drain.connections_per_second.max(1);
    let needed = case.most_connections().div_ceil(u64::from(pace));
    let deadline = std::time::Duration::from(drain.deadline).as_secs();
    if deadline < needed {
        findings.lack(format!(
            "drain.deadline is {deadline}s, and closing {} connections at {pace} per second takes {needed}s: raise the \
             deadline, or drain.connectionsPerSecond.",
            case.most_connections()
        ));
    } else {
        findings.fine(format!("A full node is drained in {needed}s of the {deadline}s of drain.deadline."));
    }
    if let Some((_, sheet)) = case.load
        && let Some(percent) = sheet.percent_after_loss
    {
        if percent > 100.0 {
            findings.lack(format!(
                "When one of {} nodes is gone each other one has {percent:.0} % of its capacity: set nodes.min to {} or lower \
                 autoscaling.targetUtilization.",
                sheet.nodes,
                sheet.nodes + 1
            ));
        } else {
            findings.fine(format!(
                "When one of {} nodes is gone each other one has {percent:.0} % of its capacity.",
                sheet.nodes
            ));
        }
    }
}

fn small(case: &Case<'_>, findings: &mut Findings) {
    let limits = &case.spec.limits;
    let idle = std::time::Duration::from(limits.idle_timeout);
    if idle.as_millis() > u128::from(LONG_IDLE_MILLIS) {
        findings.lack(format!(
            "limits.idleTimeout is {}s: clients send a heartbeat each 30 s, and a longer silence only keeps dead sockets. \
             Leave it at 60s.",
            idle.as_secs()
        ));
    }
    if limits.max_frame_bytes > LONG_FRAME_BYTES {
        findings.lack(format!(
            "limits.maxFrameBytes is {}: a message of that length to a whole room makes everybody wait. Leave it at {LONG_FRAME_BYTES} \
             and send what is longer by other ways.",
            limits.max_frame_bytes
        ));
    }
    if let Some((load, _)) = case.load
        && load.message_bytes + FRAME_BYTES > f64::from(limits.max_frame_bytes)
    {
        findings.lack(format!(
            "Messages of {} bytes are longer than limits.maxFrameBytes {}: their senders would be closed. Raise it.",
            number(load.message_bytes),
            limits.max_frame_bytes
        ));
    }
    let compression = if case.spec.expose.compression.is_some() { "on, as asked for" } else { "off" };
    findings.fine(format!(
        "Idle connections go after {}s, messages have at most {} bytes, compression is {compression}.",
        idle.as_secs(),
        limits.max_frame_bytes
    ));
}
