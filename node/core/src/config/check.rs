//! Finds what is wrong with a configuration. All errors are collected, so that one run tells everything.

use std::fmt::Display;

use keys::{
    BURST_SECONDS, JOIN_PATIENCE_SECONDS, Key, LIST_ITEMS, MAX_EVENT_BYTES, MAX_TOPIC_BYTES,
    MAX_TRUSTED_PROXIES, PING_SLACK_MILLIS,
};

use crate::{
    auth::Endpoint,
    protocol::is_reserved_event,
    proxy::{ForwardedHeader, Network, Proxies, network::NotANetwork},
    topic::{TopicKind, TopicName},
};

use super::{Bus, Dialect, DrainSettings, Limits, NodeConfig, Policy, Rooms, TopicPattern, VERSION};

mod auth;

/// Longest mount in bytes: one that is longer is a mistake.
const PATH_BYTES: usize = 255;
/// A memory budget has room for so many of the longest messages at least. With a bus about a quarter of the budget is
/// the bus's; with two shards or more half of the rest belongs to other shards; and one message takes three times its
/// length: twice while it comes, since buffers grow to the double, and once in the queues.
const MESSAGES_IN_BUDGET: u64 = 10;

/// Every error, in the order of the file.
pub(super) fn all(config: &NodeConfig) -> Vec<String> {
    let mut errors = Vec::new();
    let fixed = &config.fixed;
    if fixed.version != VERSION {
        errors.push(format!("version: {} is not known to this node; write {VERSION}", fixed.version));
    }
    name("cluster.namespace", &fixed.cluster.namespace, &mut errors);
    name("cluster.name", &fixed.cluster.name, &mut errors);
    path(&fixed.path, &mut errors);
    rooms(&config.rooms, &mut errors);
    limits(&config.limits, &mut errors);
    proxies(&config.proxies, &mut errors);
    auth::check(&config.auth, &mut errors);
    hooks(config, &mut errors);
    drain(&config.drain, &mut errors);
    if let Some(compression) = &config.compression {
        range(&keys::COMPRESSION_LEVEL, compression.level, &mut errors);
        range(&keys::COMPRESSION_MIN_BYTES, compression.min_bytes, &mut errors);
    }
    if let Some(Bus::Nats(nats)) = &fixed.bus {
        if nats.urls.is_empty() {
            errors.push("bus.nats.urls: is empty; list at least one, like nats://chat-nats:4222".to_owned());
        }
        for url in &nats.urls {
            nats_url(url, &mut errors);
        }
        if nats.user.as_deref() == Some("") {
            errors.push("bus.nats.user: is empty; leave it out to connect without credentials".to_owned());
        }
    }
    for key in fixed.sysctls.keys() {
        sysctl(key, &mut errors);
    }
    if let Some(nofile) = fixed.nofile {
        range(&keys::NOFILE, nofile, &mut errors);
    }
    errors
}

fn range<T: Copy + PartialOrd + Display, D>(key: &Key<T, D>, value: T, errors: &mut Vec<String>) {
    range_of(key.name, key, value, errors);
}

/// The same for a key inside a list, by its whole name.
fn range_of<T: Copy + PartialOrd + Display, D>(
    name: &str,
    key: &Key<T, D>,
    value: T,
    errors: &mut Vec<String>,
) {
    let (least, most) = (&key.node.least, &key.node.most);
    if value < *least || value > *most {
        errors.push(format!("{name}: {value} is out of range; use {least} to {most} {}", key.unit));
    }
}

/// Bounds a list that is looked through for each publish.
fn at_most(key: &str, items: usize, errors: &mut Vec<String>) {
    if items > LIST_ITEMS {
        errors.push(format!("{key}: has {items} items; use at most {LIST_ITEMS}"));
    }
}

/// Names become tokens of a NATS subject, hence the Kubernetes alphabet and nothing else.
fn name(key: &str, value: &str, errors: &mut Vec<String>) {
    let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if value.is_empty() || value.len() > 63 || !value.chars().all(ok) {
        errors.push(format!("{key}: {value:?} is not a name; use 1 to 63 of a-z, 0-9 and -"));
    }
}

fn path(value: &str, errors: &mut Vec<String>) {
    let ok = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
    let shape = value.starts_with('/') && value.len() > 1 && !value.ends_with('/') && !value.contains("//");
    if !shape || value.len() > PATH_BYTES || !value.chars().all(ok) {
        errors.push(format!("path: {value:?} is not a mount; use a path like /socket, without a trailing /"));
    }
}

fn rooms(rooms: &Rooms, errors: &mut Vec<String>) {
    if rooms.topics.is_empty() {
        errors.push("rooms.topics: is empty, nothing could be joined; use [\"*\"] for all topics".to_owned());
    }
    for topic in &rooms.topics {
        pattern("rooms.topics", topic, errors);
    }
    range(&keys::MAX_MEMBERS, rooms.max_members, errors);
    allowed_events("rooms.events", rooms.events.as_deref(), errors);
    events("rooms.ackEvents", &rooms.ack_events, errors);
    events("rooms.echoEvents", &rooms.echo_events, errors);
    if let Some(suffix) = &rooms.ack_suffix {
        events("rooms.ackSuffix", std::slice::from_ref(suffix), errors);
    }
    at_most("rooms.policies", rooms.policies.len(), errors);
    for (index, policy) in rooms.policies.iter().enumerate() {
        one_policy(&format!("rooms.policies[{index}]"), policy, errors);
    }
}

fn one_policy(key: &str, policy: &Policy, errors: &mut Vec<String>) {
    pattern(&format!("{key}.topics"), &policy.topics, errors);
    if let Some(members) = policy.max_members {
        range_of(&format!("{key}.maxMembers"), &keys::MAX_MEMBERS, members, errors);
    }
    allowed_events(&format!("{key}.events"), policy.events.as_deref(), errors);
    if let Some(names) = &policy.ack_events {
        events(&format!("{key}.ackEvents"), names, errors);
    }
    if let Some(millis) = policy.flush_window_millis {
        range_of(&format!("{key}.flushWindowMillis"), &keys::FLUSH_WINDOW_MILLIS, millis, errors);
    }
    let theirs =
        [("ackEvents", policy.ack_events.is_some()), ("echoToSender", policy.echo_to_sender.is_some())];
    for (name, _) in theirs.iter().filter(|(_, said)| *said && policy.dialect == Some(Dialect::Realtime)) {
        errors.push(format!(
            "{key}.{name}: is up to each client with dialect: Realtime, which says it when it joins; leave it out"
        ));
    }
}

fn pattern(key: &str, TopicPattern(text): &TopicPattern, errors: &mut Vec<String>) {
    let body = text.strip_suffix('*').unwrap_or(text);
    if text.is_empty() || text.len() > MAX_TOPIC_BYTES || body.contains('*') {
        errors.push(format!(
            "{key}: {text:?} is not a topic pattern; write a topic, or a prefix and * at its end"
        ));
    } else if TopicName::parse(text).is_some_and(|name| name.kind() != TopicKind::Shared) {
        errors.push(format!(
            "{key}: {text:?} is reserved; choose a topic that is not phoenix and has no $ in front"
        ));
    }
}

fn allowed_events(key: &str, names: Option<&[String]>, errors: &mut Vec<String>) {
    let Some(names) = names else { return };
    if names.is_empty() {
        errors.push(format!("{key}: is empty; leave it out to allow all events, or use publish: Nobody"));
    }
    events(key, names, errors);
}

fn events(key: &str, names: &[String], errors: &mut Vec<String>) {
    at_most(key, names.len(), errors);
    for name in names {
        if name.is_empty() || name.len() > MAX_EVENT_BYTES {
            errors.push(format!("{key}: {name:?} is not an event name; use 1 to {MAX_EVENT_BYTES} bytes"));
        } else if is_reserved_event(name) {
            errors.push(format!(
                "{key}: {name:?} is the protocol's own; choose a name that is not presence_state, presence_diff or \
                 access_token and has no phx_ in front"
            ));
        }
    }
}

fn limits(limits: &Limits, errors: &mut Vec<String>) {
    let frame = limits.max_frame_bytes;
    range(&keys::MAX_FRAME_BYTES, frame, errors);
    range(&keys::TOPIC_BYTES, limits.max_topic_bytes, errors);
    range(&keys::EVENT_BYTES, limits.max_event_bytes, errors);
    let payload = limits.max_payload_bytes;
    range(&keys::PAYLOAD_BYTES, payload, errors);
    if payload > frame {
        errors.push(format!(
            "limits.maxPayloadBytes: {payload} is more than limits.maxFrameBytes ({frame}) lets through; use at most {frame}, or \
             0 for no bound of its own"
        ));
    }
    range(&keys::JSON_DEPTH, limits.max_json_depth, errors);
    range(&keys::MAX_CHANNELS, limits.max_channels_per_connection, errors);
    range(&keys::IDLE_TIMEOUT_MILLIS, limits.idle_timeout_millis, errors);
    if let Some(interval) = limits.ping_interval_millis {
        range(&keys::PING_INTERVAL_MILLIS, interval, errors);
        // Deadlines are met within a second, and the answer to a ping needs a moment.
        let most = limits.idle_timeout_millis.saturating_sub(PING_SLACK_MILLIS);
        if interval > most {
            errors.push(format!(
                "limits.pingIntervalMillis: {interval} is too close to limits.idleTimeoutMillis for an answer to come in \
                 time; use at most {most}"
            ));
        }
    }
    range(&keys::HANDSHAKE_TIMEOUT_MILLIS, limits.handshake_timeout_millis, errors);
    range(&keys::REQUEST_HEAD_BYTES, limits.max_request_head_bytes, errors);
    let queue = limits.send_queue_bytes;
    range(&keys::SEND_QUEUE_BYTES, queue, errors);
    if queue < frame {
        errors.push(format!(
            "limits.sendQueueBytes: {queue} cannot hold one message of limits.maxFrameBytes ({frame}); use at least {frame}"
        ));
    }
    range(&keys::SEND_QUEUE_FRAMES, limits.send_queue_frames, errors);
    range(&keys::MAX_CONNECTIONS, limits.max_connections, errors);
    range(&keys::MAX_CONNECTIONS_PER_ADDRESS, limits.max_connections_per_address, errors);
    range(&keys::HANDSHAKES_PER_SECOND, limits.handshakes_per_second, errors);
    range(&keys::HANDSHAKES_PER_SECOND_PER_ADDRESS, limits.handshakes_per_second_per_address, errors);
    joins(&keys::JOINS_PER_SECOND, limits.joins_per_second, limits, errors);
    joins(&keys::JOINS_PER_SECOND_PER_ADDRESS, limits.joins_per_second_per_address, limits, errors);
    range(&keys::BUS_MESSAGE_AGE_MILLIS, limits.bus_message_age(), errors);
    let key = &keys::MEMORY_BUDGET;
    range(key, limits.memory_budget.unwrap_or(key.node.least), errors);
    range(&keys::MESSAGES_PER_SECOND, limits.messages_per_second, errors);
    let (bytes, least) = (limits.bytes_per_second, keys::LEAST_BYTES_PER_SECOND);
    range(&keys::BYTES_PER_SECOND, bytes, errors);
    if bytes > 0 && bytes < least {
        errors.push(format!(
            "limits.bytesPerSecond: {bytes} is less than a handful of messages; use at least {least}, or 0 for no bound"
        ));
    }
    range(&keys::MAX_ROOMS, limits.rooms(), errors);
    together(limits, errors);
}

fn proxies(proxies: &Proxies, errors: &mut Vec<String>) {
    let trusted = &proxies.trusted;
    if trusted.len() > MAX_TRUSTED_PROXIES {
        let items = trusted.len();
        errors.push(format!("trustedProxies: has {items} items; use at most {MAX_TRUSTED_PROXIES}"));
    }
    for text in trusted {
        match Network::parse(text) {
            Ok(_) => {}
            Err(NotANetwork::Form) => errors.push(format!(
                "trustedProxies: {text:?} is no network; write 10.0.0.0/8, 2001:db8::/32 or a single address"
            )),
            Err(NotANetwork::Host(network)) => errors.push(format!(
                "trustedProxies: {text:?} has bits behind its prefix; write {network} for the whole network, or leave the \
                 prefix out for the single address"
            )),
        }
    }
    if proxies.protocol && trusted.is_empty() {
        errors.push(
            "proxyProtocol: needs trustedProxies, since nobody else may send its header; list the networks of the proxies"
                .to_owned(),
        );
    }
    if proxies.header != ForwardedHeader::default() && trusted.is_empty() {
        errors.push(
            "forwardedHeader: counts only for trustedProxies, of which there are none; list the networks of the proxies"
                .to_owned(),
        );
    }
}

fn hooks(config: &NodeConfig, errors: &mut Vec<String>) {
    let policies = &config.rooms.policies;
    let Some(hooks) = &config.hooks else {
        for (index, _) in policies.iter().enumerate().filter(|(_, policy)| !policy.hooks.is_empty()) {
            errors.push(format!(
                "rooms.policies[{index}].hooks: nobody is there to be asked; write hooks.url, or remove them"
            ));
        }
        return;
    };
    // The URL is not repeated: some have a password in the wrong place.
    if let Err(why) = Endpoint::parse(&hooks.url) {
        errors.push(format!("hooks.url: {why}"));
    }
    range(&keys::HOOK_TIMEOUT_MILLIS, hooks.timeout_millis, errors);
    range(&keys::HOOKS_IN_FLIGHT, hooks.max_in_flight, errors);
}

/// A client that comes back joins all its topics at once.
fn joins(key: &Key<u32>, rate: u32, limits: &Limits, errors: &mut Vec<String>) {
    range(key, rate, errors);
    let channels = u64::from(limits.max_channels_per_connection);
    if rate > 0 && channels > u64::from(rate) * BURST_SECONDS {
        errors.push(format!(
            "{}: {rate} refuses a client that comes back and joins limits.maxChannelsPerConnection ({channels}) at once; use at \
             least {}, or 0 for no bound",
            key.name,
            channels.div_ceil(BURST_SECONDS)
        ));
    }
}

/// Limits that are each in their range, but together would keep a client that respects them from using what they
/// allow.
fn together(limits: &Limits, errors: &mut Vec<String>) {
    let (frame, bytes) = (u64::from(limits.max_frame_bytes), u64::from(limits.bytes_per_second));
    let seconds = (limits.idle_timeout_millis / 1_000).saturating_add(BURST_SECONDS);
    if bytes > 0 && frame > bytes.saturating_mul(seconds) {
        errors.push(format!(
            "limits.bytesPerSecond: {bytes} takes a message of limits.maxFrameBytes ({frame}) for longer than \
             limits.idleTimeoutMillis lets one take; use at least {}, or 0 for no bound",
            frame.div_ceil(seconds)
        ));
    }
    let (channels, messages) = (limits.max_channels_per_connection, limits.messages_per_second);
    let seconds = BURST_SECONDS + JOIN_PATIENCE_SECONDS;
    if messages > 0 && u64::from(channels) > u64::from(messages) * seconds {
        errors.push(format!(
            "limits.messagesPerSecond: {messages} takes the joins of limits.maxChannelsPerConnection ({channels}) for longer \
             than clients wait for their answers; use at least {}, or 0 for no bound",
            u64::from(channels).div_ceil(seconds)
        ));
    }
    if let Some(error) = limits.memory_budget.and_then(|budget| budget_for_messages(limits, budget)) {
        errors.push(error);
    }
}

/// Why a budget in bytes is too little for the longest messages; none when it is enough.
pub(super) fn budget_for_messages(limits: &Limits, budget: u64) -> Option<String> {
    let frame = u64::from(limits.max_frame_bytes);
    let least = frame * MESSAGES_IN_BUDGET;
    (budget < least).then(|| {
        format!(
            "limits.memoryBudget: {budget} is too little for messages of limits.maxFrameBytes ({frame}), whose sender would \
             be closed to free memory; use at least {least}"
        )
    })
}

fn drain(drain: &DrainSettings, errors: &mut Vec<String>) {
    range(&keys::DRAIN_DELAY_MILLIS, drain.delay_millis, errors);
    range(&keys::DRAIN_CONNECTIONS_PER_SECOND, drain.connections_per_second, errors);
    range(&keys::DRAIN_DEADLINE_MILLIS, drain.deadline_millis, errors);
}

fn nats_url(url: &str, errors: &mut Vec<String>) {
    let host = url.strip_prefix("nats://").or_else(|| url.strip_prefix("tls://"));
    // Credentials in a URL would end up in logs and in the ConfigMap. The URL is not repeated for the same reason.
    if url.contains('@') {
        errors.push(
            "bus.nats.urls: holds credentials; write nats://host:port and put them in the Secret".to_owned(),
        );
    } else if !host.is_some_and(is_authority) {
        errors.push(format!("bus.nats.urls: {url:?} is not a NATS address; write nats://host:port"));
    }
}

/// `host[:port]`, the host a name or an address. The NATS client must be able to read everything that passes here,
/// because it would end the node otherwise.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let named = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let is_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(named),
    };
    is_host && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Sysctl names become paths under /proc/sys, and no name may lead out of it.
fn sysctl(key: &str, errors: &mut Vec<String>) {
    let ok = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let dotted = key.contains('.') && !key.contains("..") && !key.starts_with('.') && !key.ends_with('.');
    if !dotted || !key.chars().all(ok) {
        errors.push(format!("sysctls: {key:?} is not a sysctl; write it with dots, like net.core.somaxconn"));
    }
}
