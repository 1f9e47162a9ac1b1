//! Makes one checked value from a ChannelCluster and from what was fetched for it, or a list of everything that is
//! wrong.
//!
//! Most mistakes are refused by the CRD's CEL rules when the manifest is applied. Mistakes that would break the fleet
//! are checked again here, because the CRD on the server may be an older one; checks that depend on the server or on
//! other objects are only here.

mod context;
pub(crate) mod mounted;
mod render;
mod shape;
mod sources;
mod template;
#[cfg(test)]
mod tests;
mod tokens;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crds::{
    AutoscalingMode, BackplaneType, ChannelCluster, ChannelClusterSpec, ScalingRules, TuningProfile, UserIds,
};
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use node_core::config::Fixed;

use crate::footprint;
use crate::names::{CREDENTIALS_LABEL, Component, Names, SERVERS_ANNOTATION};
use crate::refused;
use crate::sysctl_probes::{self, Proof};
use crate::tuning::{self, Standing};
use crate::user_ids;

use context::not_ours;
pub use context::{OperatorEnv, Problem};
pub use value::{
    Bounds, Bus, DrainLimits, Mounted, NatsPod, NodeCapacity, NodePod, Pace, PacePolicy, RebalanceLimits,
    Scaling, TlsSecrets, ValidatedCluster,
};

/// The part of a node's termination grace period that is left when delay and drain have both taken as long as they
/// may: for closing the rest and for exiting.
pub const GRACE_MARGIN: Duration = Duration::from_millis(keys::GRACE_MARGIN_MILLIS);
/// Longest termination grace period: managed clusters take a machine down after an hour even if a pod asks for longer.
pub const MAX_GRACE: Duration = Duration::from_millis(keys::GRACE_MILLIS);
/// Longest name: `chat-nodes` and the like must stay valid Service names and label values.
pub const MAX_NAME: usize = 40;
/// Keys that the Secret of `backplane.credentialsSecretRef` must have.
pub const CREDENTIAL_KEYS: [&str; 2] = ["username", "password"];

/// What was read from the server beside the ChannelCluster.
#[derive(Clone, Debug, Default)]
pub struct Fetched {
    /// Image in our node Deployment; none when there is no Deployment yet.
    pub node_image: Option<String>,
    /// Image in our NATS Deployment; none when there is no Deployment yet.
    pub nats_image: Option<String>,
    /// What our node Deployment was tuned for ([`crate::names::TUNED_FOR_ANNOTATION`]); none when it does not say.
    pub tuned_for: Option<String>,
    /// Names of the sysctls that its pods have.
    pub sysctls: BTreeSet<String>,
    /// The Secret that `backplane.credentialsSecretRef` names; none when it does not exist.
    pub credentials: Option<Credentials>,
    /// The Secrets that entries of `auth.jwt`, `expose.tls`, `expose.api`, `hooks` and `autoscaling.metrics` name, by their
    /// names, those that exist.
    pub named_secrets: BTreeMap<String, Credentials>,
}

/// The parts that are read of a Secret that a ChannelCluster names. The values are not read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Its keys.
    pub keys: BTreeSet<String>,
    /// Whether its label allows ChannelClusters to name it.
    pub labelled: bool,
    /// Servers that the Secret may be sent to; none: any.
    pub servers: Option<Vec<String>>,
}

/// Checks a ChannelCluster and resolves every default.
///
/// # Errors
/// Everything that is wrong, in the order of the manifest.
pub fn validate(
    cluster: &ChannelCluster,
    env: &OperatorEnv,
    fetched: &Fetched,
) -> Result<ValidatedCluster, Vec<Problem>> {
    let mut problems = Vec::new();
    let spec = &cluster.spec;
    let meta = &cluster.metadata;
    let name = meta.name.clone().unwrap_or_default();
    let namespace = meta.namespace.clone().unwrap_or_default();
    check_name(&name, &mut problems);
    let bounds = bounds(spec, &mut problems);
    let scaling = scaling(spec, &mut problems);
    let drain = drain(spec, &mut problems);
    let bus = bus(spec, env, fetched, &mut problems);
    let mounted = Mounted {
        token_keys: tokens::secrets(spec, fetched, &mut problems),
        ..mounted::secrets(spec, fetched, &mut problems)
    };
    let names = Names::new(&name);
    let schedule = sources::schedule(spec, &mut problems);
    let prometheus = sources::prometheus(spec, &namespace, &names, fetched, &mut problems);
    let mut pod = pod(spec, env, fetched, &mut problems);
    let mut nats = shape::nats(spec, &mut problems);
    without_refused(cluster, &mut pod, &mut nats);
    without_unproven(cluster, env, fetched, &mut pod);
    let config = render::config(spec, &namespace, &names, &pod.sysctls);
    for message in config.validate() {
        problems.push(Problem::new("InvalidConfiguration", message));
    }
    let hash = |pod: &NodePod, fixed: &Fixed| {
        let (bus, mounted, drain) = (&bus, &mounted, &drain);
        template::hash(&template::Wish { spec, pod, fixed, bus, mounted, drain })
    };
    let template = hash(&pod, &config.fixed);
    let back = template::given_up(cluster, &template, || {
        variants(&pod, fetched).map(|pod| {
            let fixed = render::config(spec, &namespace, &names, &pod.sysctls).fixed;
            hash(&pod, &fixed)
        })
    });
    let files = render::files(&config).map_err(|error| problems.push(error));
    let (Ok(files), true) = (files, problems.is_empty()) else {
        return Err(problems);
    };
    Ok(ValidatedCluster {
        namespace,
        name,
        uid: meta.uid.clone().unwrap_or_default(),
        generation: meta.generation.unwrap_or_default(),
        names,
        operator_namespace: env.namespace.clone(),
        paused: spec.paused,
        target_connections: spec.target_connections,
        bounds,
        capacity: capacity(spec),
        scaling,
        schedule,
        prometheus,
        drain,
        rollout: spec.rollout.clone().unwrap_or_default(),
        rebalance: rebalance(spec),
        pod,
        nats,
        bus,
        mounted,
        service: spec.expose.service.clone(),
        config,
        config_file: files.yaml,
        restart_hash: files.restart_hash,
        given_up: back.as_ref().map(|(from, _)| from.clone()),
        template: back.map_or(template, |(_, to)| to),
    })
}

/// The pods of the same spec with all of its unsafe sysctls, and with those alone that nodes have: what was given up with the one or
/// the other stays given up when a kubelet has answered.
fn variants(pod: &NodePod, fetched: &Fetched) -> [NodePod; 2] {
    let all = [pod.all_sysctls(), pod.kept_sysctls(&fetched.sysctls)];
    all.map(|sysctls| NodePod { sysctls, ..pod.clone() })
}

fn capacity(spec: &ChannelClusterSpec) -> NodeCapacity {
    NodeCapacity {
        writes_per_second: spec.nodes.capacity.writes_per_second.assumed(),
        learns_writes: spec.nodes.capacity.writes_per_second == crds::WritesPerSecond::Learned,
        connections: footprint::assumed(spec),
        derived: footprint::Given::of(spec),
    }
}

/// Takes out of the pods what was refused before.
fn without_refused(cluster: &ChannelCluster, pod: &mut NodePod, nats: &mut NatsPod) {
    let left_out = refused::left_out(cluster);
    pod.sysctls.retain(|name, _| !left_out.contains(name));
    for (component, options) in [(Component::Node, &mut pod.options), (Component::Nats, &mut nats.options)] {
        if user_ids::left_out(cluster, component) {
            options.user_ids = Some(UserIds::Assigned);
        }
    }
}

/// Takes out of the pods the unsafe sysctls that no kubelet has shown to take. What nodes have already stays, so that an operator
/// that learns to try sysctls replaces no node.
fn without_unproven(cluster: &ChannelCluster, env: &OperatorEnv, fetched: &Fetched, pod: &mut NodePod) {
    let is_unsafe = |name: &String| tuning::standing(name, env.server_minor) != Standing::Safe;
    pod.unsafe_sysctls =
        pod.sysctls.iter().filter(|(name, _)| is_unsafe(name)).map(|(n, v)| (n.clone(), v.clone())).collect();
    pod.proof =
        sysctl_probes::proof(cluster.status.as_ref(), &pod.tuning, &pod.unsafe_sysctls, &fetched.sysctls);
    if pod.proof != Proof::Given {
        pod.sysctls = pod.kept_sysctls(&fetched.sysctls);
    }
}

fn check_name(name: &str, problems: &mut Vec<Problem>) {
    let letters = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    if name.len() > MAX_NAME || !letters || !first {
        problems.push(Problem::new(
            "InvalidName",
            format!("metadata.name {name:?} cannot name Services: use at most {MAX_NAME} of a-z, 0-9 and -, beginning with a letter"),
        ));
    }
}

fn bounds(spec: &ChannelClusterSpec, problems: &mut Vec<Problem>) -> Bounds {
    let nodes = &spec.nodes;
    if nodes.max < nodes.min {
        problems.push(Problem::new(
            "InvalidNodeRange",
            format!("nodes.max ({}) is below nodes.min ({}): raise max or lower min", nodes.max, nodes.min),
        ));
    }
    if nodes.max > 1 && spec.backplane.type_ == BackplaneType::None {
        problems.push(Problem::new(
            "BackplaneRequired",
            "more than one node needs a backplane: set nodes.min and nodes.max to 1, or backplane.type to Managed or Nats",
        ));
    }
    let replicas = match spec.autoscaling.mode {
        AutoscalingMode::Auto => None,
        AutoscalingMode::Observe | AutoscalingMode::Manual => nodes.replicas,
    };
    let replicas = replicas.map(|wanted| wanted.min(nodes.max).max(nodes.min));
    Bounds { min: nodes.min, max: nodes.max, replicas }
}

fn scaling(spec: &ChannelClusterSpec, problems: &mut Vec<Problem>) -> Scaling {
    let auto = &spec.autoscaling;
    let (stable, burst): (Duration, Duration) = (auto.windows.stable.into(), auto.windows.burst.into());
    if burst > stable || burst.is_zero() {
        problems.push(Problem::new(
            "InvalidWindows",
            "autoscaling.windows.burst must be above 0s and not longer than autoscaling.windows.stable",
        ));
    }
    Scaling {
        mode: auto.mode,
        target_utilization: auto.target_utilization,
        stable,
        burst,
        up: pace(auto.behavior.scale_up.as_ref(), &default_up()),
        down: pace(auto.behavior.scale_down.as_ref(), &default_down()),
    }
}

/// At once, at most tenfold or by 20 nodes per 15 s, whichever is more. The HorizontalPodAutoscaler doubles; but a crowd
/// that comes at once needs its nodes at once, no node shows more than a few times its share of the target, and two looks in
/// a row have to show a jump.
fn default_up() -> Pace {
    let period = Duration::from_secs(15);
    let policy = |kind, value| PacePolicy { kind, value, period };
    Pace {
        stabilization: Duration::ZERO,
        policies: vec![policy(crds::PolicyType::Percent, 900), policy(crds::PolicyType::Pods, 20)],
        select: crds::SelectPolicy::Max,
    }
}

/// As in HorizontalPodAutoscaler v2: after 300 s. The pace is that of the drains, one node at a time.
fn default_down() -> Pace {
    Pace { stabilization: Duration::from_secs(300), policies: Vec::new(), select: crds::SelectPolicy::Max }
}

fn pace(rules: Option<&ScalingRules>, default: &Pace) -> Pace {
    let Some(rules) = rules else { return default.clone() };
    let seconds = |s: i32| Duration::from_secs(s.max(0).unsigned_abs().into());
    let own = rules.policies.iter().map(|p| PacePolicy {
        kind: p.type_,
        value: p.value,
        period: seconds(p.period_seconds),
    });
    Pace {
        stabilization: rules.stabilization_window_seconds.map_or(default.stabilization, seconds),
        policies: if rules.policies.is_empty() { default.policies.clone() } else { own.collect() },
        select: rules.select_policy,
    }
}

fn rebalance(spec: &ChannelClusterSpec) -> RebalanceLimits {
    let asked = &spec.rebalance;
    let pace = asked.connections_per_second.unwrap_or(spec.drain.connections_per_second);
    RebalanceLimits {
        mode: asked.mode,
        tolerance_percent: asked.tolerance,
        connections_per_second: pace.min(spec.drain.connections_per_second),
        max_moves_per_hour: asked.max_moves_per_hour,
    }
}

fn drain(spec: &ChannelClusterSpec, problems: &mut Vec<Problem>) -> DrainLimits {
    let (delay, deadline): (Duration, Duration) = (spec.drain.delay.into(), spec.drain.deadline.into());
    let grace = delay + deadline + GRACE_MARGIN;
    if grace > MAX_GRACE || delay >= deadline {
        problems.push(Problem::new(
            "InvalidDrain",
            "drain.delay must be shorter than drain.deadline, and both plus 30s at most 1h: lower them",
        ));
    }
    DrainLimits { connections_per_second: spec.drain.connections_per_second, delay, deadline, grace }
}

fn bus(spec: &ChannelClusterSpec, env: &OperatorEnv, fetched: &Fetched, problems: &mut Vec<Problem>) -> Bus {
    match spec.backplane.type_ {
        BackplaneType::None => Bus::None,
        BackplaneType::Managed => {
            let (wanted, kept) = (spec.backplane.image.as_ref(), fetched.nats_image.as_ref());
            Bus::Managed {
                image: shape::image(wanted, kept, &env.nats_image, env, "backplane.image", problems),
            }
        }
        BackplaneType::Nats => {
            let secret = spec.backplane.credentials_secret_ref.as_ref().map(|secret| secret.name.clone());
            if let Some(name) = &secret {
                check_credentials(name, fetched.credentials.as_ref(), &spec.backplane.urls, problems);
            }
            Bus::External { credentials_secret: secret }
        }
    }
}

/// A user who may edit ChannelClusters can name any Secret and any server, and the nodes would send the Secret to the
/// server. So the Secret itself has to agree, by a label that only a user who may edit Secrets can set.
fn check_credentials(name: &str, secret: Option<&Credentials>, urls: &[String], problems: &mut Vec<Problem>) {
    let Some(secret) = secret else {
        problems.push(Problem::new(
            "SecretNotFound",
            format!("the Secret {name:?} of backplane.credentialsSecretRef does not exist here: create it with the keys username and password and the label {CREDENTIALS_LABEL}=true"),
        ));
        return;
    };
    if !secret.labelled {
        // Without the label not even the Secret's keys are told.
        problems.push(Problem::new(
            "SecretNotLabelled",
            format!("the Secret {name:?} of backplane.credentialsSecretRef does not say that ChannelClusters may use it: kubectl label secret {name} {CREDENTIALS_LABEL}=true"),
        ));
        return;
    }
    for key in CREDENTIAL_KEYS.iter().filter(|key| !secret.keys.contains(**key)) {
        problems.push(Problem::new(
            "SecretIncomplete",
            format!("the Secret {name:?} of backplane.credentialsSecretRef has no key {key}: add it"),
        ));
    }
    let Some(servers) = &secret.servers else { return };
    for url in urls.iter().filter(|url| !servers.contains(url)) {
        problems.push(Problem::new(
            "ServerNotAllowed",
            format!("the Secret {name:?} of backplane.credentialsSecretRef may not be sent to {url}: remove it from backplane.urls or add it to the Secret's annotation {SERVERS_ANNOTATION}"),
        ));
    }
}

fn pod(
    spec: &ChannelClusterSpec,
    env: &OperatorEnv,
    fetched: &Fetched,
    problems: &mut Vec<Problem>,
) -> NodePod {
    let nodes = &spec.nodes;
    let (wanted, kept) = (nodes.image.as_ref(), fetched.node_image.as_ref());
    let image = shape::image(wanted, kept, &env.node_image, env, "nodes.image", problems);
    let outdated = nodes.image.is_none() && image != env.node_image;
    let minor = tuned_minor(spec, env, fetched);
    NodePod {
        newer_image: outdated.then(|| env.node_image.clone()),
        image,
        sysctls: sysctls(spec, minor, problems),
        unsafe_sysctls: BTreeMap::new(),
        proof: Proof::Given,
        tuning: refused::key(&spec.tuning),
        tuned_for: format!("{minor} {}", refused::key(&spec.tuning)),
        resources: nodes.resources.clone().unwrap_or_else(default_resources),
        node_selector: nodes.node_selector.clone(),
        tolerations: nodes.tolerations.clone(),
        affinity: nodes.affinity.clone(),
        labels: not_ours(&nodes.pod_labels, "nodes.podLabels", problems),
        annotations: not_ours(&nodes.pod_annotations, "nodes.podAnnotations", problems),
        options: nodes.pod.clone(),
    }
}

/// Requests that let a small fleet fit on a small machine; no limits, because throttling and OOM kills end connections.
fn default_resources() -> ResourceRequirements {
    let amount = |text: &str| Quantity(text.to_owned());
    let requests = [("cpu".to_owned(), amount("100m")), ("memory".to_owned(), amount("64Mi"))];
    ResourceRequirements { requests: Some(BTreeMap::from(requests)), ..Default::default() }
}

/// The minor version of the server that the sysctls of a fleet are chosen for: the server's version when the tuning
/// was last changed. An upgrade of the control plane makes more sysctls safe; taking those up would replace every pod
/// without the manifest asking for it.
fn tuned_minor(spec: &ChannelClusterSpec, env: &OperatorEnv, fetched: &Fetched) -> u32 {
    let kept = fetched.tuned_for.as_deref().and_then(|text| {
        let (minor, key) = text.split_once(' ')?;
        minor.parse::<u32>().ok().filter(|_| key == refused::key(&spec.tuning))
    });
    kept.map_or(env.server_minor, |minor| minor.min(env.server_minor))
}

fn sysctls(spec: &ChannelClusterSpec, minor: u32, problems: &mut Vec<Problem>) -> BTreeMap<String, String> {
    let mut all = match spec.tuning.profile {
        TuningProfile::Safe => tuning::safe_profile(minor),
        TuningProfile::None => BTreeMap::new(),
    };
    for (name, value) in &spec.tuning.sysctls {
        match (tuning::standing(name, minor), spec.tuning.profile) {
            (Standing::Safe, _) | (Standing::Unsafe | Standing::SafeSince(_), TuningProfile::None) => {}
            (Standing::SafeSince(since), TuningProfile::Safe) => problems.push(Problem::new(
                "UnsafeSysctl",
                format!("tuning.sysctls: {name} is safe from Kubernetes 1.{since} on and this server is 1.{minor}: remove it, or set tuning.profile to None and allow it on your kubelets"),
            )),
            (Standing::Unsafe, TuningProfile::Safe) => problems.push(Problem::new(
                "UnsafeSysctl",
                format!("tuning.sysctls: {name} is unsafe and refused by kubelets: remove it, or set tuning.profile to None and allow it on your kubelets"),
            )),
            (Standing::NotNamespaced, _) => problems.push(Problem::new(
                "NotNamespacedSysctl",
                format!("tuning.sysctls: {name} belongs to the machine, not to a pod: remove it and set it on the machine (names are written with dots)"),
            )),
        }
        all.insert(name.clone(), value.clone());
    }
    all
}
