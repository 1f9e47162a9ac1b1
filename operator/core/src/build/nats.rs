//! The managed NATS: one server without storage, for the nodes of one cluster.
//!
//! It carries what nodes tell each other; nothing is kept in it, so a restart loses what was under way and nodes
//! reconnect by themselves.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, ContainerPort, EnvVar, EnvVarSource, PodSpec, PodTemplateSpec, Probe,
    SecretKeySelector, Service, ServicePort, ServiceSpec, TCPSocketAction,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::meta::meta;
use super::{network_policy, pod, shape};
use crate::hash::short_hash;
use crate::names::{
    CONFIG_HASH_ANNOTATION, Component, NATS_CONFIG_KEY, NATS_CONTAINER, NATS_PASSWORD_KEY, NATS_PORT,
    NATS_PORT_NAME, NATS_USER,
};
use crate::validate::ValidatedCluster;

const CONFIG_DIR: &str = "/etc/nats";
/// NATS's own default for the longest message, in bytes.
const DEFAULT_MAX_PAYLOAD: u32 = 1 << 20;
/// Room for the envelope around a frame, in bytes: topic, event and the node's own fields.
const ENVELOPE_BYTES: u32 = 65_536;

/// The managed NATS.
#[derive(Clone, Debug, PartialEq)]
pub struct NatsBundle {
    /// Its configuration file.
    pub config_map: ConfigMap,
    /// Which pods may reach it.
    pub network_policy: NetworkPolicy,
    /// Its address.
    pub service: Service,
    /// The server.
    pub deployment: Deployment,
}

/// All objects of the managed NATS.
pub(super) fn build(cluster: &ValidatedCluster, image: &str) -> NatsBundle {
    let config = config(cluster);
    NatsBundle {
        network_policy: network_policy::nats(cluster),
        service: service(cluster),
        deployment: deployment(cluster, image, &config),
        config_map: ConfigMap {
            metadata: meta(cluster, cluster.names.nats(), Component::Nats),
            data: Some(BTreeMap::from([(NATS_CONFIG_KEY.to_owned(), config)])),
            ..Default::default()
        },
    }
}

/// The server's configuration. The password stays in the environment, which the `$` reads.
fn config(cluster: &ValidatedCluster) -> String {
    let payload =
        cluster.config.limits.max_frame_bytes.saturating_add(ENVELOPE_BYTES).max(DEFAULT_MAX_PAYLOAD);
    format!(
        "port: {NATS_PORT}\n\
         server_name: $POD_NAME\n\
         max_payload: {payload}\n\
         authorization {{\n  user: {NATS_USER}\n  password: $NATS_PASSWORD\n}}\n"
    )
}

fn service(cluster: &ValidatedCluster) -> Service {
    Service {
        metadata: meta(cluster, cluster.names.nats(), Component::Nats),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(cluster.names.selector_labels(Component::Nats)),
            ports: Some(vec![ServicePort {
                name: Some(NATS_PORT_NAME.to_owned()),
                port: NATS_PORT,
                protocol: Some("TCP".to_owned()),
                target_port: Some(IntOrString::String(NATS_PORT_NAME.to_owned())),
                ..Default::default()
            }]),
            ..Default::default()
        }),
        status: None,
    }
}

fn deployment(cluster: &ValidatedCluster, image: &str, config: &str) -> Deployment {
    let mut annotations = cluster.nats.annotations.clone();
    annotations.insert(CONFIG_HASH_ANNOTATION.to_owned(), short_hash(config.as_bytes()));
    let mut labels = cluster.nats.labels.clone();
    labels.extend(cluster.names.labels(Component::Nats));
    Deployment {
        metadata: meta(cluster, cluster.names.nats(), Component::Nats),
        spec: Some(DeploymentSpec {
            replicas: Some(1),
            selector: cluster.names.selector(Component::Nats),
            // Two servers at once would not know of each other, and the fleet would be split in two.
            strategy: Some(DeploymentStrategy { type_: Some("Recreate".to_owned()), rolling_update: None }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels),
                    annotations: Some(annotations),
                    ..Default::default()
                }),
                spec: Some(pod_spec(cluster, image)),
            },
            ..Default::default()
        }),
        status: None,
    }
}

fn pod_spec(cluster: &ValidatedCluster, image: &str) -> PodSpec {
    let own = &cluster.nats;
    let mut spec = PodSpec {
        service_account_name: Some(cluster.names.service_account()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(shape::pod_security(&own.options)),
        node_selector: Some(own.node_selector.clone()).filter(|s| !s.is_empty()),
        tolerations: Some(own.tolerations.clone()).filter(|t| !t.is_empty()),
        affinity: own.affinity.clone(),
        volumes: Some(vec![pod::config_volume("config", cluster.names.nats())]),
        containers: vec![container(cluster, image)],
        ..Default::default()
    };
    shape::apply(&mut spec, &own.options, &cluster.names.selector(Component::Nats));
    spec
}

fn container(cluster: &ValidatedCluster, image: &str) -> Container {
    let password = SecretKeySelector {
        name: cluster.names.secret(),
        key: NATS_PASSWORD_KEY.to_owned(),
        optional: Some(false),
    };
    Container {
        name: NATS_CONTAINER.to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        args: Some(vec!["--config".to_owned(), format!("{CONFIG_DIR}/{NATS_CONFIG_KEY}")]),
        env: Some(vec![
            pod::field_env("POD_NAME", "metadata.name"),
            EnvVar {
                name: "NATS_PASSWORD".to_owned(),
                value_from: Some(EnvVarSource { secret_key_ref: Some(password), ..Default::default() }),
                ..Default::default()
            },
        ]),
        ports: Some(vec![ContainerPort {
            name: Some(NATS_PORT_NAME.to_owned()),
            container_port: NATS_PORT,
            protocol: Some("TCP".to_owned()),
            ..Default::default()
        }]),
        resources: Some(cluster.nats.resources.clone()),
        security_context: Some(shape::container_security(&cluster.nats.options)),
        // There is no readiness probe: there is only one pod, and a probe that has not yet seen it listen would keep
        // nodes from it for up to two seconds. Before NATS listens it refuses connections, and the nodes try again at
        // once.
        liveness_probe: Some(liveness()),
        volume_mounts: Some(vec![pod::mount("config", CONFIG_DIR)]),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Default::default()
    }
}

/// A probe of the client port; the monitoring port has no authentication and stays closed.
fn liveness() -> Probe {
    Probe {
        tcp_socket: Some(TCPSocketAction {
            port: IntOrString::String(NATS_PORT_NAME.to_owned()),
            host: None,
        }),
        period_seconds: Some(10),
        timeout_seconds: Some(5),
        failure_threshold: Some(6),
        ..Default::default()
    }
}
