//! The rules with numbers and names of the node's configuration, which they take from [`keys`].

use kube::core::Rule;

use crate::Duration;

/// The beginning of a condition that is checked only when these durations can be read as such.
const IDLE_TIMEOUT: &str = with_durations!("self.idleTimeout";);
const FIELD: &str = with_durations!("self.FIELD";);
const LEEWAY: &str = with_durations!("self.leeway";);
const DRAIN_DELAY: &str = with_durations!("self.delay";);
const DRAIN: &str = with_durations!("self.delay", "self.deadline";);

fn rule(condition: &str, sentence: &str) -> Rule {
    Rule::from((condition, sentence))
}

/// A number of milliseconds as a manifest writes it.
fn span(millis: impl Into<u64>) -> Duration {
    Duration::from_millis(millis.into())
}

pub(crate) fn drain_delay() -> Rule {
    let most = span(keys::DRAIN_DELAY_MILLIS.manifest.most);
    rule(
        &format!("{DRAIN_DELAY}duration(self.delay) <= duration('{most}')"),
        &format!(
            "drain.delay must be at most {most}: load balancers that need longer to take a node out are broken"
        ),
    )
}

pub(crate) fn drain_grace() -> Rule {
    let (margin, grace) = (span(keys::GRACE_MARGIN_MILLIS), span(keys::GRACE_MILLIS));
    rule(
        &format!(
            "{DRAIN}duration(self.delay) + duration(self.deadline) + duration('{margin}') <= duration('{grace}')"
        ),
        &format!(
            "drain.delay + drain.deadline + {margin} is the pods' termination grace period and must be at most {grace}: lower drain.deadline"
        ),
    )
}

pub(crate) fn topic_reserved() -> Rule {
    let (own, phoenix) = (keys::OWN_TOPIC_PREFIX, keys::PHOENIX_TOPIC);
    rule(
        &format!("!self.topics.startsWith('{own}') && self.topics != '{phoenix}'"),
        &format!(
            "rooms.policies[].topics must not be {phoenix} or begin with {own}, which are the fleet's own topics: choose another"
        ),
    )
}

/// On a list of patterns of topics with claims: the grammar of `node_core::auth::Template`, a test holds the two together.
pub(crate) fn jwt_topics(list: &str) -> Rule {
    let claim = "[{][A-Za-z0-9_-]{1,64}[}]";
    rule(
        &format!(
            "!has(self.{list}) || self.{list}.all(t, t.matches('^([^*{{}}]|{claim}[^*{{}}])*({claim}|[*])?$'))"
        ),
        &format!(
            "auth.jwt[].{list} must be topics, or prefixes with * at their end, in which claims stand in braces and something stands after each of them: write user:{{sub}} or user:{{sub}}:*"
        ),
    )
}

/// On the same.
pub(crate) fn jwt_topics_reserved(list: &str) -> Rule {
    let (own, phoenix) = (keys::OWN_TOPIC_PREFIX, keys::PHOENIX_TOPIC);
    rule(
        &format!("!has(self.{list}) || self.{list}.all(t, !t.startsWith('{own}') && t != '{phoenix}')"),
        &format!(
            "auth.jwt[].{list} must not be {phoenix} or begin with {own}, which are the fleet's own topics: choose another"
        ),
    )
}

pub(crate) fn jwt_leeway() -> Rule {
    let most = span(keys::TOKEN_LEEWAY_MILLIS.manifest.most);
    rule(
        &format!("!has(self.leeway) || {LEEWAY}duration(self.leeway) <= duration('{most}')"),
        &format!(
            "auth.jwt[].leeway must be at most {most}: clocks that differ more are wrong, and an ended token would be good for so long"
        ),
    )
}

pub(crate) fn jwks_url() -> Rule {
    url_rule("auth.jwt[].jwks.url", "https://id.example.org/keys or http://NAME.NAMESPACE.svc/keys")
}

/// On the URL of a server that nodes ask: the grammar of `node_core::auth::Endpoint`, a test holds the two together.
pub(super) fn url_rule(name: &str, example: &str) -> Rule {
    let label = "[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?";
    let port = grammar!(port);
    let host = format!(r"({label}([.]{label})*|{})", grammar!(v6));
    let own = format!(r"(localhost|127[.]0[.]0[.]1|\[::1\]|{label}[.]{label}[.]svc([.]cluster[.]local)?)");
    let path = "(/[-A-Za-z0-9._~!$&()*+,;=:@/?%]*)?";
    rule(
        &format!(r"self.url.matches(r'^(https://{host}|http://{own}){port}?{path}$')"),
        &format!(
            "{name} must be https://HOST[:PORT]/PATH without user and fragment, or http:// with a Service of this cluster: write {example}"
        ),
    )
}

/// On a duration of `field`, which may be missing.
pub(super) fn range_of_duration<T: Into<u64>>(
    range: keys::Range<T>,
    field: &str,
    name: &str,
    why: &str,
) -> Rule {
    let (least, most) = (span(range.least), span(range.most));
    let readable = FIELD.replace("FIELD", field);
    rule(
        &format!(
            "!has(self.{field}) || {readable}(duration(self.{field}) >= duration('{least}') && duration(self.{field}) <= duration('{most}'))"
        ),
        &format!("{name} must lie between {least} and {most}: {why}"),
    )
}

pub(crate) fn expiry_warning() -> Rule {
    range_of_duration(
        keys::EXPIRY_WARNING_MILLIS.manifest,
        "expiryWarning",
        "auth.expiryWarning",
        "leave it out for no warning",
    )
}

pub(crate) fn jwks_refresh() -> Rule {
    let why = "leave it out for 5m, a new key counts at once in any case";
    range_of_duration(keys::TOKEN_KEYS_REFRESH_MILLIS.manifest, "refresh", "auth.jwt[].jwks.refresh", why)
}

/// On a list of events.
pub(crate) fn events(list: &str) -> Rule {
    let prefix = keys::PHOENIX_EVENT_PREFIX;
    let [most @ .., last] = keys::RESERVED_EVENTS;
    let quoted = keys::RESERVED_EVENTS.map(|event| format!("'{event}'")).join(", ");
    let named = format!("{} or {last}", most.join(", "));
    rule(
        &format!("!has(self.{list}) || self.{list}.all(e, !e.startsWith('{prefix}') && !(e in [{quoted}]))"),
        &format!(
            "{list} must not begin with {prefix} or be {named}, which are the protocol's own events: choose another name"
        ),
    )
}

pub(crate) fn flush_window() -> Rule {
    range_of_duration(
        keys::FLUSH_WINDOW_MILLIS.manifest,
        "flushWindow",
        "rooms.policies[].flushWindow",
        "leave it out to send at once",
    )
}

pub(crate) fn idle_timeout() -> Rule {
    let range = keys::IDLE_TIMEOUT_MILLIS.manifest;
    let (least, most) = (span(range.least), span(range.most));
    rule(
        &format!(
            "{IDLE_TIMEOUT}duration(self.idleTimeout) >= duration('{least}') && duration(self.idleTimeout) <= duration('{most}')"
        ),
        &format!(
            "limits.idleTimeout must lie between {least} and {most}: Phoenix clients send a heartbeat each 30s, and below that healthy ones would be closed"
        ),
    )
}

pub(crate) fn bus_message_age() -> Rule {
    let range = keys::BUS_MESSAGE_AGE_MILLIS.manifest;
    let (least, most) = (span(range.least), span(range.most));
    rule(
        &format!(
            "!has(self.busMessageAge) || (duration(self.busMessageAge) >= duration('{least}') && duration(self.busMessageAge) <= duration('{most}'))"
        ),
        &format!(
            "limits.busMessageAge must lie between {least} and {most}: a healthy backplane takes milliseconds, and a busy one some hundred"
        ),
    )
}

pub(crate) fn handshake_timeout() -> Rule {
    let range = keys::HANDSHAKE_TIMEOUT_MILLIS.manifest;
    let (least, most) = (span(range.least), span(range.most));
    rule(
        &format!(
            "!has(self.handshakeTimeout) || (duration(self.handshakeTimeout) >= duration('{least}') && duration(self.handshakeTimeout) <= duration('{most}'))"
        ),
        &format!(
            "limits.handshakeTimeout must lie between {least} and {most}: a client far away needs a second or two, and whoever takes longer only holds a place"
        ),
    )
}

pub(crate) fn ping_interval() -> Rule {
    let (least, slack) = (span(keys::PING_INTERVAL_MILLIS.manifest.least), span(keys::PING_SLACK_MILLIS));
    rule(
        &format!(
            "!has(self.pingInterval) || (duration(self.pingInterval) >= duration('{least}') && duration(self.pingInterval) + duration('{slack}') <= duration(self.idleTimeout))"
        ),
        &format!(
            "limits.pingInterval must be at least {least} and {slack} below limits.idleTimeout, so that an answer comes in time: lower it or raise idleTimeout"
        ),
    )
}

pub(crate) fn bytes_per_second() -> Rule {
    let least = keys::LEAST_BYTES_PER_SECOND;
    rule(
        &format!("!has(self.bytesPerSecond) || self.bytesPerSecond == 0 || self.bytesPerSecond >= {least}"),
        &format!(
            "limits.bytesPerSecond must be at least {least}, which is a handful of messages: raise it, or write 0 for no bound"
        ),
    )
}

pub(crate) fn frame_in_time() -> Rule {
    let (usual, burst) = (keys::BYTES_PER_SECOND.usual, keys::BURST_SECONDS);
    rule(
        &format!(
            "{IDLE_TIMEOUT}(has(self.bytesPerSecond) && self.bytesPerSecond == 0) || self.maxFrameBytes <= (has(self.bytesPerSecond) ? self.bytesPerSecond : {usual}) * (duration(self.idleTimeout).getSeconds() + {burst})"
        ),
        "limits.bytesPerSecond must take a message of limits.maxFrameBytes within limits.idleTimeout, after five seconds' worth at once: raise bytesPerSecond or lower maxFrameBytes",
    )
}

pub(crate) fn joins_in_time() -> Rule {
    let (usual, seconds) =
        (keys::MESSAGES_PER_SECOND.usual, keys::BURST_SECONDS + keys::JOIN_PATIENCE_SECONDS);
    rule(
        &format!(
            "(has(self.messagesPerSecond) && self.messagesPerSecond == 0) || self.maxChannelsPerConnection <= (has(self.messagesPerSecond) ? self.messagesPerSecond : {usual}) * {seconds}"
        ),
        "limits.messagesPerSecond must take the joins of limits.maxChannelsPerConnection before phoenix.js gives them up, five seconds' worth at once and ten seconds more: raise messagesPerSecond or lower maxChannelsPerConnection",
    )
}

/// On a rate of joins.
pub(crate) fn joins_at_once(key: &str) -> Rule {
    let burst = keys::BURST_SECONDS;
    rule(
        &format!(
            "!has(self.{key}) || self.{key} == 0 || self.maxChannelsPerConnection <= self.{key} * {burst}"
        ),
        &format!(
            "limits.{key} must let a client that comes back join limits.maxChannelsPerConnection at once, which are five seconds' worth: raise {key} or lower maxChannelsPerConnection"
        ),
    )
}
