//! The Deployment of the nodes.

use std::collections::BTreeMap;

use crds::{ClientCertificates, TlsVersion};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, HTTPGetAction, PodSpec, PodTemplateSpec, Probe, Sysctl,
    TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use node_core::config::Fixed;
use serde_json::json;

use super::meta::meta;
use super::{pod, shape};
use crate::names::{
    ADMIN_PORT, ADMIN_PORT_NAME, API_PORT, API_PORT_NAME, CONFIG_KEY, Component, NODE_CONTAINER,
    RESTART_HASH_ANNOTATION, TEMPLATE_LABEL, TUNED_FOR_ANNOTATION, WS_PORT, WS_PORT_NAME,
};
use crate::validate::{
    Bus, ValidatedCluster,
    mounted::{API_KEYS_KEY, CA_KEY},
};

const CONFIG_DIR: &str = "/etc/channelcluster/config";
const SECRETS_DIR: &str = "/etc/channelcluster/secrets";
const NATS_CREDENTIALS_DIR: &str = "/etc/channelcluster/nats";
/// The keys of tokens: a directory for each Secret, of its name.
const TOKEN_KEYS_DIR: &str = "/etc/channelcluster/jwt";
/// The certificate of the nodes.
const TLS_DIR: &str = "/etc/channelcluster/tls";
/// The CAs of clients' certificates.
const CLIENT_CA_DIR: &str = "/etc/channelcluster/client-ca";
/// The keys of the server API.
const API_KEYS_DIR: &str = "/etc/channelcluster/api";
const HOOK_SECRETS_DIR: &str = "/etc/channelcluster/hooks";
/// The beginning of the names of variables that set a key of a node's configuration.
const SETTING_PREFIX: &str = "CHANNEL_NODE__";
/// Old ReplicaSets kept. A Deployment has one template only; others stay from what somebody else wrote into it.
const REVISIONS: i32 = 3;

/// The nodes that are made from one template. A change of the template makes another Deployment, so Kubernetes replaces
/// no pod by itself; if somebody else changes the template, a node is added before one is taken away.
pub(super) fn build(cluster: &ValidatedCluster, replicas: i32) -> Deployment {
    let label = (TEMPLATE_LABEL.to_owned(), cluster.template.clone());
    let mut deployment = first(cluster, replicas);
    deployment.metadata.name = Some(cluster.names.deployment(&cluster.template));
    if let Some(spec) = &mut deployment.spec {
        spec.selector.match_labels.get_or_insert_default().extend([label.clone()]);
        let meta = spec.template.metadata.get_or_insert_default();
        meta.labels.get_or_insert_default().extend([label]);
        for container in spec.template.spec.iter_mut().flat_map(|pod| &mut pod.containers) {
            let env = container.env.get_or_insert_default();
            let more = restart_keys(cluster).filter(|key| env.iter().all(|own| own.name != key.name));
            env.extend(more.collect::<Vec<_>>());
        }
    }
    deployment
}

/// The keys of the configuration that a running node cannot change, as variables, which go before the file. All nodes of a fleet
/// have the file of the present spec, so that they follow what they can while they are replaced; a node of another template that
/// is started again meanwhile must not come up with what only the new nodes are to have, such as another bus.
fn restart_keys(cluster: &ValidatedCluster) -> impl Iterator<Item = EnvVar> {
    let Fixed { version: _, cluster: _, path, bus, sysctls, nofile, dev: _ } = &cluster.config.fixed;
    let keys =
        [("PATH", json!(path)), ("BUS", json!(bus)), ("SYSCTLS", json!(sysctls)), ("NOFILE", json!(nofile))];
    keys.into_iter().map(|(key, value)| EnvVar {
        name: format!("{SETTING_PREFIX}{key}"),
        value: Some(value.to_string()),
        value_from: None,
    })
}

/// The nodes as they were made when a fleet had one Deployment. Its selector cannot be changed, and a label more in its
/// template would replace its pods. It matches the pods of the other Deployments too, which does no harm: a ReplicaSet
/// takes no pod that another one controls.
pub(super) fn first(cluster: &ValidatedCluster, replicas: i32) -> Deployment {
    let rolling = RollingUpdateDeployment {
        max_surge: Some(IntOrString::Int(1)),
        max_unavailable: Some(IntOrString::Int(0)),
    };
    let mut metadata = meta(cluster, cluster.names.first_deployment(), Component::Node);
    metadata.labels.get_or_insert_default().insert(TEMPLATE_LABEL.to_owned(), cluster.template.clone());
    // The annotation is on the Deployment and not on the pods, so that another value replaces no pod.
    let tuned_for = (TUNED_FOR_ANNOTATION.to_owned(), cluster.pod.tuned_for.clone());
    metadata.annotations = Some([tuned_for].into());
    Deployment {
        metadata,
        spec: Some(DeploymentSpec {
            replicas: Some(replicas),
            revision_history_limit: Some(REVISIONS),
            selector: cluster.names.selector(Component::Node),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(rolling),
            }),
            template: template(cluster),
            ..Default::default()
        }),
        status: None,
    }
}

fn template(cluster: &ValidatedCluster) -> PodTemplateSpec {
    let mut labels = cluster.pod.labels.clone();
    labels.extend(cluster.names.labels(Component::Node));
    let mut annotations = cluster.pod.annotations.clone();
    annotations.insert(RESTART_HASH_ANNOTATION.to_owned(), cluster.restart_hash.clone());
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(annotations),
            ..Default::default()
        }),
        spec: Some(pod_spec(cluster)),
    }
}

pub(super) fn pod_spec(cluster: &ValidatedCluster) -> PodSpec {
    let mut security = shape::pod_security(&cluster.pod.options);
    let has_group = security.fs_group.is_some();
    security.sysctls = Some(sysctls(&cluster.pod.sysctls));
    let mut volumes = vec![
        pod::config_volume("config", cluster.names.config()),
        pod::secret_volume("secrets", cluster.names.secret(), has_group),
    ];
    let mut mounts = vec![pod::mount("config", CONFIG_DIR), pod::mount("secrets", SECRETS_DIR)];
    if let Bus::External { credentials_secret: Some(secret) } = &cluster.bus {
        volumes.push(pod::secret_volume("nats", secret.clone(), has_group));
        mounts.push(pod::mount("nats", NATS_CREDENTIALS_DIR));
    }
    for (index, secret) in cluster.mounted.token_keys.iter().enumerate() {
        let volume = format!("jwt-{index}");
        volumes.push(pod::secret_volume(&volume, secret.clone(), has_group));
        mounts.push(pod::mount(&volume, &format!("{TOKEN_KEYS_DIR}/{secret}")));
    }
    if let Some(tls) = &cluster.mounted.tls {
        volumes.push(pod::secret_volume("tls", tls.certificate.clone(), has_group));
        mounts.push(pod::mount("tls", TLS_DIR));
        if let Some(secret) = &tls.client_ca {
            volumes.push(pod::secret_volume("client-ca", secret.clone(), has_group));
            mounts.push(pod::mount("client-ca", CLIENT_CA_DIR));
        }
    }
    if let Some(api) = &cluster.mounted.api {
        volumes.push(pod::secret_volume("api", api.secret.clone(), has_group));
        mounts.push(pod::mount("api", API_KEYS_DIR));
    }
    if let Some(secret) = &cluster.mounted.hooks {
        volumes.push(pod::secret_volume("hooks", secret.clone(), has_group));
        mounts.push(pod::mount("hooks", HOOK_SECRETS_DIR));
    }
    let selector = &cluster.pod.node_selector;
    let mut spec = PodSpec {
        service_account_name: Some(cluster.names.service_account()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(security),
        termination_grace_period_seconds: i64::try_from(cluster.drain.grace.as_secs()).ok(),
        topology_spread_constraints: Some(vec![spread(cluster)]),
        node_selector: (!selector.is_empty()).then(|| selector.clone()),
        tolerations: (!cluster.pod.tolerations.is_empty()).then(|| cluster.pod.tolerations.clone()),
        affinity: cluster.pod.affinity.clone(),
        volumes: Some(volumes),
        containers: vec![Container { volume_mounts: Some(mounts), ..container(cluster) }],
        ..Default::default()
    };
    shape::apply(&mut spec, &cluster.pod.options, &cluster.names.selector(Component::Node));
    spec
}

/// Sysctls as a pod asks for them.
pub(super) fn sysctls(all: &BTreeMap<String, String>) -> Vec<Sysctl> {
    all.iter().map(|(name, value)| Sysctl { name: name.clone(), value: value.clone() }).collect()
}

/// Spreads the nodes over the machines as evenly as possible; a pod never stays pending for it.
fn spread(cluster: &ValidatedCluster) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: "kubernetes.io/hostname".to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(cluster.names.selector(Component::Node)),
        ..Default::default()
    }
}

fn container(cluster: &ValidatedCluster) -> Container {
    let port = |name: &str, number| ContainerPort {
        name: Some(name.to_owned()),
        container_port: number,
        protocol: Some("TCP".to_owned()),
        ..Default::default()
    };
    let mut ports = vec![port(WS_PORT_NAME, WS_PORT), port(ADMIN_PORT_NAME, ADMIN_PORT)];
    ports.extend(cluster.mounted.api.iter().map(|_| port(API_PORT_NAME, API_PORT)));
    Container {
        name: NODE_CONTAINER.to_owned(),
        image: Some(cluster.pod.image.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        args: Some(args(cluster)),
        env: Some(vec![
            pod::field_env("POD_NAME", "metadata.name"),
            pod::field_env("POD_NAMESPACE", "metadata.namespace"),
            pod::field_env("POD_IP", "status.podIP"),
            pod::field_env("NODE_NAME", "spec.nodeName"),
        ]),
        ports: Some(ports),
        resources: Some(cluster.pod.resources.clone()),
        security_context: Some(shape::container_security(&cluster.pod.options)),
        // A node has a minute to start. Then it is unready within 2 s of saying so, and restarted only after a minute
        // of silence: a restart ends every connection of the node, so a slow answer must not cause one.
        startup_probe: Some(probe("/healthz", 1, 2, 60)),
        readiness_probe: Some(probe("/readyz", 1, 2, 2)),
        liveness_probe: Some(probe("/healthz", 10, 5, 6)),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Default::default()
    }
}

fn args(cluster: &ValidatedCluster) -> Vec<String> {
    let config = format!("{CONFIG_DIR}/{CONFIG_KEY}");
    let mut args = ["--config", &config, "--secrets", SECRETS_DIR].map(str::to_owned).to_vec();
    if let Some(tls) = &cluster.mounted.tls {
        args.extend(["--tls", TLS_DIR].map(str::to_owned));
        if tls.client_ca.is_some() {
            args.extend(["--tls-client-ca".to_owned(), format!("{CLIENT_CA_DIR}/{CA_KEY}")]);
        }
        // What is the node's default is not said, so that nodes of before such a flag are not replaced.
        if tls.client_certificates == ClientCertificates::Optional {
            args.extend(["--tls-client-certificates", "optional"].map(str::to_owned));
        }
        if tls.min_version == TlsVersion::Tls12 {
            args.extend(["--tls-min-version", "1.2"].map(str::to_owned));
        }
    }
    if cluster.mounted.api.is_some() {
        args.extend(["--api".to_owned(), format!("[::]:{API_PORT}")]);
        args.extend(["--api-keys".to_owned(), format!("{API_KEYS_DIR}/{API_KEYS_KEY}")]);
    }
    if cluster.mounted.hooks.is_some() {
        args.extend(["--hook-secrets", HOOK_SECRETS_DIR].map(str::to_owned));
    }
    args
}

/// A probe of the admin port, times in seconds.
fn probe(path: &str, period: i32, timeout: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(ADMIN_PORT_NAME.to_owned()),
            ..Default::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(timeout),
        failure_threshold: Some(failures),
        ..Default::default()
    }
}
