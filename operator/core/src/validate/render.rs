//! The node's configuration file, from the manifest.

use std::collections::BTreeMap;

use crds::{
    Algorithm, BackplaneType, ChannelClusterSpec, Dialect, Memory, OnExpiry, OnFull, OnHookFailure, Publish,
    RoomPolicy,
};
use node_core::auth;
use node_core::config::{
    self, Auth, Bus, ClusterId, DrainSettings, Fixed, Limits, Nats, NodeConfig, Policy, Rooms, TopicPattern,
};
use node_core::proxy::{ForwardedHeader, Proxies};

use super::context::Problem;
use crate::footprint;
use crate::hash::short_hash;
use crate::names::{NATS_PORT, NATS_USER, Names};

/// The configuration of this cluster's nodes.
pub(super) fn config(
    spec: &ChannelClusterSpec,
    namespace: &str,
    names: &Names,
    sysctls: &BTreeMap<String, String>,
) -> NodeConfig {
    NodeConfig {
        fixed: Fixed {
            cluster: ClusterId { namespace: namespace.to_owned(), name: names.cluster().to_owned() },
            bus: bus(spec, names),
            sysctls: sysctls.clone(),
            nofile: spec.tuning.nofile,
            ..Fixed::default()
        },
        rooms: rooms(spec),
        limits: limits(spec),
        proxies: Proxies {
            trusted: spec.expose.trusted_proxies.clone(),
            header: match spec.expose.forwarded_header.unwrap_or_default() {
                crds::ForwardedHeader::XForwardedFor => ForwardedHeader::XForwardedFor,
                crds::ForwardedHeader::Forwarded => ForwardedHeader::Forwarded,
            },
            protocol: spec.expose.proxy_protocol,
        },
        auth: auth(spec),
        drain: DrainSettings {
            delay_millis: spec.drain.delay.as_millis(),
            connections_per_second: spec.drain.connections_per_second,
            deadline_millis: spec.drain.deadline.as_millis(),
        },
        chat_page: spec.expose.chat_page,
        long_poll: spec.expose.long_poll,
        compression: spec
            .expose
            .compression
            .as_ref()
            .map(|wanted| config::Compression { level: wanted.level, min_bytes: wanted.min_bytes }),
        hooks: spec.hooks.as_ref().map(hooks),
    }
}

fn rooms(spec: &ChannelClusterSpec) -> Rooms {
    let rooms = &spec.rooms;
    Rooms {
        max_members: rooms.max_members,
        on_full: match rooms.on_full {
            OnFull::Reject => config::OnFull::Reject,
        },
        events: rooms.events.clone(),
        ack_events: rooms.ack_events.clone(),
        echo_to_sender: rooms.echo_to_sender,
        policies: rooms.policies.iter().map(policy).collect(),
        ..Rooms::default()
    }
}

fn policy(policy: &RoomPolicy) -> Policy {
    Policy {
        topics: TopicPattern(policy.topics.clone()),
        max_members: policy.max_members,
        publish: Some(match policy.publish.unwrap_or_default() {
            Publish::Members => config::Publish::Members,
            Publish::Nobody => config::Publish::Nobody,
        }),
        events: policy.events.clone(),
        ack_events: policy.ack_events.clone(),
        echo_to_sender: policy.echo_to_sender,
        // The CRD's rule keeps it within a second.
        flush_window_millis: policy.flush_window.and_then(|window| u16::try_from(window.as_millis()).ok()),
        // Nodes older than the key refuse a file that has it.
        dialect: policy.dialect.and_then(|dialect| match dialect {
            Dialect::Phoenix => None,
            Dialect::Realtime => Some(config::Dialect::Realtime),
        }),
        hooks: policy.hooks.iter().map(hook).collect(),
    }
}

const fn hook(hook: &crds::Hook) -> config::Hook {
    match hook {
        crds::Hook::Join => config::Hook::Join,
        crds::Hook::Publish => config::Hook::Publish,
    }
}

fn hooks(hooks: &crds::Hooks) -> config::Hooks {
    config::Hooks {
        url: hooks.url.clone(),
        timeout_millis: hooks.timeout.map_or(keys::HOOK_TIMEOUT_MILLIS.usual, crds::Duration::as_millis),
        on_failure: match hooks.on_failure.unwrap_or_default() {
            OnHookFailure::Refuse => config::OnFailure::Refuse,
            OnHookFailure::Allow => config::OnFailure::Allow,
        },
        max_in_flight: hooks.max_in_flight.unwrap_or(keys::HOOKS_IN_FLIGHT.usual),
    }
}

fn limits(spec: &ChannelClusterSpec) -> Limits {
    let (limits, usual) = (&spec.limits, Limits::default());
    Limits {
        max_frame_bytes: limits.max_frame_bytes,
        max_topic_bytes: limits.max_topic_bytes.unwrap_or(usual.max_topic_bytes),
        max_event_bytes: limits.max_event_bytes.unwrap_or(usual.max_event_bytes),
        max_payload_bytes: limits.max_payload_bytes.unwrap_or(usual.max_payload_bytes),
        max_json_depth: limits.max_json_depth.unwrap_or(usual.max_json_depth),
        max_channels_per_connection: limits.max_channels_per_connection,
        idle_timeout_millis: limits.idle_timeout.as_millis(),
        ping_interval_millis: limits.ping_interval.map(crds::Duration::as_millis),
        handshake_timeout_millis: limits
            .handshake_timeout
            .map_or(usual.handshake_timeout_millis, crds::Duration::as_millis),
        max_request_head_bytes: limits.max_request_head_bytes.unwrap_or(usual.max_request_head_bytes),
        send_queue_bytes: limits.send_queue_bytes,
        send_queue_frames: limits.send_queue_frames.unwrap_or(usual.send_queue_frames),
        max_connections: footprint::most(spec),
        max_connections_per_address: limits.max_connections_per_address.unwrap_or_default(),
        handshakes_per_second: limits.handshakes_per_second.unwrap_or_default(),
        handshakes_per_second_per_address: limits.handshakes_per_second_per_address.unwrap_or_default(),
        joins_per_second: limits.joins_per_second.unwrap_or_default(),
        joins_per_second_per_address: limits.joins_per_second_per_address.unwrap_or_default(),
        max_rooms: limits.max_rooms,
        bus_message_age_millis: limits.bus_message_age.map(crds::Duration::as_millis),
        memory_budget: limits.memory_budget.map(Memory::as_bytes),
        messages_per_second: limits.messages_per_second.unwrap_or(usual.messages_per_second),
        bytes_per_second: limits.bytes_per_second.unwrap_or(usual.bytes_per_second),
    }
}

fn auth(spec: &ChannelClusterSpec) -> Auth {
    spec.auth.as_ref().map_or_else(Auth::default, |auth| Auth {
        anonymous: auth.anonymous,
        anonymous_topics: auth.anonymous_topics.iter().cloned().map(TopicPattern).collect(),
        jwt: auth.jwt.iter().map(jwt).collect(),
        token_param: auth.token_param.clone(),
        expiry_warning_millis: auth.expiry_warning.map(crds::Duration::as_millis),
        on_expiry: match auth.on_expiry.unwrap_or_default() {
            OnExpiry::Close => config::OnExpiry::Close,
            OnExpiry::EndChannels => config::OnExpiry::EndChannels,
        },
        allowed_origins: auth.allowed_origins.clone(),
        served_hosts: auth.served_hosts.clone(),
        ..Auth::default()
    })
}

fn jwt(jwt: &crds::Jwt) -> auth::Jwt {
    let claims = jwt.claims.clone().unwrap_or_default();
    auth::Jwt {
        issuer: jwt.issuer.clone(),
        audience: jwt.audience.clone(),
        algorithms: jwt.algorithms.iter().map(|algorithm| self::algorithm(*algorithm)).collect(),
        key_file: jwt.secret_ref.as_ref().map(file),
        jwks: jwt.jwks.as_ref().map(jwks),
        leeway_millis: jwt.leeway.map(crds::Duration::as_millis),
        user_claim: claims.user.unwrap_or_else(|| auth::USER_CLAIM.to_owned()),
        topics_claim: claims.topics,
        publish_claim: claims.publish,
        priority_claim: claims.priority,
        topics: jwt.topics.clone(),
        publish: jwt.publish.clone(),
    }
}

fn jwks(jwks: &crds::Jwks) -> auth::Jwks {
    auth::Jwks {
        url: jwks.url.clone(),
        ca_file: jwks.ca_secret_ref.as_ref().map(file),
        refresh_millis: jwks.refresh.map(crds::Duration::as_millis),
    }
}

/// The path of a key of a Secret, below the directory where the nodes have such Secrets.
fn file(reference: &crds::SecretKeyRef) -> String {
    format!("{}/{}", reference.name, reference.key)
}

const fn algorithm(algorithm: Algorithm) -> auth::Algorithm {
    match algorithm {
        Algorithm::Hs256 => auth::Algorithm::Hs256,
        Algorithm::Hs384 => auth::Algorithm::Hs384,
        Algorithm::Hs512 => auth::Algorithm::Hs512,
        Algorithm::Rs256 => auth::Algorithm::Rs256,
        Algorithm::Rs384 => auth::Algorithm::Rs384,
        Algorithm::Rs512 => auth::Algorithm::Rs512,
        Algorithm::Ps256 => auth::Algorithm::Ps256,
        Algorithm::Ps384 => auth::Algorithm::Ps384,
        Algorithm::Ps512 => auth::Algorithm::Ps512,
        Algorithm::Es256 => auth::Algorithm::Es256,
        Algorithm::Es384 => auth::Algorithm::Es384,
        Algorithm::Es512 => auth::Algorithm::Es512,
        Algorithm::EdDsa => auth::Algorithm::EdDsa,
    }
}

fn bus(spec: &ChannelClusterSpec, names: &Names) -> Option<Bus> {
    let nats = match spec.backplane.type_ {
        BackplaneType::None => return None,
        BackplaneType::Managed => Nats {
            urls: vec![format!("nats://{}:{NATS_PORT}", names.nats())],
            user: Some(NATS_USER.to_owned()),
        },
        BackplaneType::Nats => Nats { urls: spec.backplane.urls.clone(), user: None },
    };
    Some(Bus::Nats(nats))
}

/// The configuration as text.
pub(super) struct Files {
    /// The node's file.
    pub(super) yaml: String,
    /// Hash of its restart keys.
    pub(super) restart_hash: String,
}

/// Writes the configuration; an error means that it holds what its format cannot say.
pub(super) fn files(config: &NodeConfig) -> Result<Files, Problem> {
    let problem = |error: &dyn std::fmt::Display| {
        Problem::new("InvalidConfiguration", format!("the node's configuration cannot be written: {error}"))
    };
    let yaml = serde_saphyr::to_string(config).map_err(|error| problem(&error))?;
    let restart = serde_json::to_vec(&config.fixed).map_err(|error| problem(&error))?;
    Ok(Files { yaml, restart_hash: short_hash(&restart) })
}
