//! The CEL rules of the CRD, each with the sentence that a refused manifest gets.
//!
//! A sentence names the field and what to write instead. The API server bounds what rules may cost and computes it from
//! the bounds of the schema, so every list, map and text that a rule reads has one.

/// A CEL expression and the sentence for when it is false.
pub(crate) type Rule = (&'static str, &'static str);

pub(crate) const NAME_LENGTH: Rule = (
    "size(self.metadata.name) <= 40",
    "metadata.name must be at most 40 characters, because Services and labels are named after it: choose a shorter name",
);
pub(crate) const NAME_FORM: Rule = (
    "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    "metadata.name must be a Service name: begin with a letter and use only a-z, 0-9 and -",
);

/// Whether a value reads as a [`crate::Duration`].
macro_rules! is_duration {
    ($value:literal) => {
        concat!(
            "(type(",
            $value,
            ") == string && ",
            $value,
            ".matches('^([0-9]{1,9}([.][0-9]{1,9})?(h|m|s|ms))+$'))"
        )
    };
}
/// A condition on durations that is checked only when all of them can be read as durations; until then only
/// [`DURATION_FORM`] refuses the manifest. With nothing after the semicolon the macro gives the beginning of such a
/// condition.
macro_rules! with_durations {
    ($($value:literal),+; $($condition:literal)?) => {
        concat!($("!", is_duration!($value), " || ",)+ $($condition)?)
    };
}

/// The grammar of hosts and origins as regular expressions, which `node_core::ws::{host, origin}` has as code; a test
/// holds the two together.
macro_rules! grammar {
    (port) => {
        "(:(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3}))"
    };
    (name) => {
        "([A-Za-z0-9_-]+([.][A-Za-z0-9_-]+)*[.]?)"
    };
    (number) => {
        "([^:]*[.])?([0-9]+|0[xX][0-9a-fA-F]*)[.]?"
    };
    (v4) => {
        "((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])([.](25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])){3})"
    };
    (h) => {
        "[0-9a-fA-F]{1,4}"
    };
    (v6) => {
        concat!(
            r"(\[((",
            grammar!(h),
            ":){7}",
            grammar!(h),
            "|(",
            grammar!(h),
            ":){1,7}:|(",
            grammar!(h),
            ":){1,6}:",
            grammar!(h),
            "|(",
            grammar!(h),
            ":){1,5}(:",
            grammar!(h),
            "){1,2}|(",
            grammar!(h),
            ":){1,4}(:",
            grammar!(h),
            "){1,3}|(",
            grammar!(h),
            ":){1,3}(:",
            grammar!(h),
            "){1,4}|(",
            grammar!(h),
            ":){1,2}(:",
            grammar!(h),
            "){1,5}|",
            grammar!(h),
            ":(:",
            grammar!(h),
            "){1,6}|:((:",
            grammar!(h),
            r"){1,7}|:))\])"
        )
    };
}

pub(crate) mod hooks;
mod metrics;
mod numbers;

pub(crate) use metrics::{
    METRICS_SOURCE, PROMETHEUS_AUTH, PROMETHEUS_AUTH_FORM, PROMETHEUS_TIMES, PROMETHEUS_TLS,
    PROMETHEUS_TLS_FORM, SCHEDULE_CRON, SCHEDULE_DURATION, SCHEDULE_ZONE,
    prometheus_credentials_in_the_clear, prometheus_url,
};
pub(crate) use numbers::{
    bus_message_age, bytes_per_second, drain_delay, drain_grace, events, expiry_warning, flush_window,
    frame_in_time, handshake_timeout, idle_timeout, joins_at_once, joins_in_time, jwks_refresh, jwks_url,
    jwt_leeway, jwt_topics, jwt_topics_reserved, ping_interval, topic_reserved,
};

/// On every [`crate::Duration`].
pub(crate) const DURATION_FORM: Rule = (
    is_duration!("self"),
    "a duration must be a number with its unit h, m, s or ms: write 600s, 10m, 1h30m or 250ms, and 24h for a day",
);

pub(crate) const REBALANCE_PACE: Rule = (
    "!has(self.rebalance.connectionsPerSecond) || self.rebalance.connectionsPerSecond <= self.drain.connectionsPerSecond",
    "rebalance.connectionsPerSecond must be at most drain.connectionsPerSecond, which is the pace at which a fleet closes connections whatever the reason: lower the first or raise the second",
);
pub(crate) const AUTH_REQUIRED: Rule = (
    "has(self.auth)",
    "auth is required, so that nobody opens a fleet to everyone by accident: write `auth: {anonymous: true}` to let clients connect without credentials",
);
pub(crate) const AUTH_SOMEBODY: Rule = (
    "self.anonymous || (has(self.jwt) && size(self.jwt) > 0)",
    "auth must let somebody connect: set auth.anonymous to true, or list an issuer of tokens in auth.jwt",
);
pub(crate) const AUTH_ANONYMOUS_TOPICS: Rule = (
    "self.anonymous || !has(self.anonymousTopics) || size(self.anonymousTopics) == 0",
    "auth.anonymousTopics must not be set without auth.anonymous: nobody connects without a token, so remove them or set auth.anonymous to true",
);
pub(crate) const AUTH_ANONYMOUS_TOPICS_FORM: Rule = (
    "!has(self.anonymousTopics) || self.anonymousTopics.all(t, t.matches('^[^*]*[*]?$') && !t.startsWith('$') && t != 'phoenix')",
    "auth.anonymousTopics must be topics, or prefixes with * at their end, and not phoenix or begin with $: write room:1 or live:*",
);
pub(crate) const AUTH_TOKEN_PARAM: Rule = (
    "!has(self.tokenParam) || (has(self.jwt) && size(self.jwt) > 0)",
    "auth.tokenParam must not be set without auth.jwt, since no token is taken: list an issuer, or remove it",
);
pub(crate) const AUTH_TOKEN_PARAM_FORM: Rule = (
    "!has(self.tokenParam) || (self.tokenParam.matches('^[A-Za-z0-9_-]+$') && self.tokenParam != 'vsn')",
    "auth.tokenParam must be a name of letters, digits, - and _, and not vsn: write token",
);
pub(crate) const AUTH_EXPIRY: Rule = (
    "(!has(self.expiryWarning) && !has(self.onExpiry)) || (has(self.jwt) && size(self.jwt) > 0)",
    "auth.expiryWarning and auth.onExpiry must not be set without auth.jwt, since no token is taken: list an issuer, or remove them",
);
pub(crate) const JWT_ISSUERS: Rule = (
    "!has(self.jwt) || size(self.jwt) < 2 || self.jwt.all(j, has(j.issuer) && self.jwt.exists_one(k, has(k.issuer) && k.issuer == j.issuer))",
    "auth.jwt with several entries must have an issuer of its own in each, by which tokens are told apart: add the iss of its tokens",
);
/// On [`crate::Jwt`].
pub(crate) const JWT_ALGORITHMS: Rule = (
    "self.algorithms.all(a, a.startsWith('HS')) || self.algorithms.all(a, !a.startsWith('HS'))",
    "auth.jwt[].algorithms must not mix shared secrets (HS256 and the like) with public keys, of which one could be taken for the other: make two entries of it",
);
pub(crate) const JWT_KEYS: Rule = (
    "has(self.secretRef) != has(self.jwks)",
    "auth.jwt[] must have either secretRef or jwks, from where its keys come: add or remove one",
);
pub(crate) const JWT_KEYS_BY_URL: Rule = (
    "!has(self.jwks) || self.algorithms.all(a, !a.startsWith('HS'))",
    "auth.jwt[].jwks is for public keys, and what a URL gives to everybody is no secret: use secretRef for HS256 and the like",
);
/// On [`crate::Jwks`].
pub(crate) const JWKS_AUTHORITIES: Rule = (
    "!has(self.caSecretRef) || self.url.startsWith('https://')",
    "auth.jwt[].jwks.caSecretRef counts only for https: remove it, or change the url",
);
pub(crate) const JWKS_AUTHORITIES_FORM: Rule = (
    "!has(self.caSecretRef) || (self.caSecretRef.key.matches('^[-._A-Za-z0-9]+$') && !self.caSecretRef.key.startsWith('..') && self.caSecretRef.key != '.' && self.caSecretRef.name.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$'))",
    "auth.jwt[].jwks.caSecretRef must name a Secret and a key in it: the name of a-z, 0-9, - and ., the key of letters, digits, -, _ and .",
);
pub(crate) const JWT_KEY_FORM: Rule = (
    "!has(self.secretRef) || (self.secretRef.key.matches('^[-._A-Za-z0-9]+$') && !self.secretRef.key.startsWith('..') && self.secretRef.key != '.' && self.secretRef.name.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$'))",
    "auth.jwt[].secretRef must name a Secret and a key in it: the name of a-z, 0-9, - and ., the key of letters, digits, -, _ and .",
);
/// On [`crate::RoomPolicy`].
pub(crate) const REALTIME_OPTIONS: Rule = (
    "!has(self.dialect) || self.dialect != 'Realtime' || (!has(self.ackEvents) && !has(self.echoToSender))",
    "rooms.policies[] with dialect: Realtime must not set ackEvents or echoToSender: each client says both when it joins, so leave them out",
);
pub(crate) const AUTH_ORIGINS: Rule = (
    concat!(
        "self.allowedOrigins.all(o, o == '*' || o == 'null'",
        " || o.matches(r'^(?i:https?)://(",
        grammar!(v4),
        "|",
        grammar!(v6),
        ")",
        grammar!(port),
        "?$')",
        " || (o.matches(r'^(?i:https?)://([*][.])?",
        grammar!(name),
        grammar!(port),
        "?$')",
        " && !o.matches(r'^[^:]*://",
        grammar!(number),
        "(:[0-9]+)?$'))",
        " || (o.matches(r'^[A-Za-z][A-Za-z0-9+.-]*://([A-Za-z0-9._-]+",
        grammar!(port),
        "?)?$')",
        " && !o.matches(r'^(?i:https?|wss?)://')))",
    ),
    "auth.allowedOrigins takes origins as browsers send them: write https://HOST, https://HOST:PORT or https://*.HOST without user, path, query or blank; null, file:// or SCHEME://ID for apps and extensions; or * for all",
);
pub(crate) const AUTH_HOSTS: Rule = (
    concat!(
        "!has(self.servedHosts) || self.servedHosts.all(h, h.matches(r'^(",
        grammar!(v4),
        "|",
        grammar!(v6),
        ")$')",
        " || (h.matches(r'^([*][.])?",
        grammar!(name),
        "$') && !h.matches(r'^",
        grammar!(number),
        "$')))",
    ),
    "auth.servedHosts takes hosts without scheme and port: write a name, *.NAME, 10.0.0.1 or [::1]",
);

pub(crate) const BACKPLANE_REQUIRED: Rule = (
    "self.backplane.type != 'None' || self.nodes.max == 1",
    "more than one node needs a backplane: set nodes.min and nodes.max to 1, or backplane.type to Managed or Nats",
);
pub(crate) const BACKPLANE_URLS_MISSING: Rule = (
    "self.type != 'Nats' || size(self.urls) > 0",
    "backplane.type Nats needs backplane.urls: list the servers as nats://HOST:PORT, or use type Managed",
);
pub(crate) const BACKPLANE_URLS_UNUSED: Rule = (
    "self.type == 'Nats' || (size(self.urls) == 0 && !has(self.credentialsSecretRef))",
    "backplane.urls and backplane.credentialsSecretRef count only with backplane.type Nats: remove them or set the type",
);
pub(crate) const BACKPLANE_IMAGE_UNUSED: Rule = (
    "!has(self.image) || self.type == 'Managed'",
    "backplane.image counts only with backplane.type Managed: remove it or set the type",
);
pub(crate) const BACKPLANE_PODS_UNUSED: Rule = (
    "self.type == 'Managed' || !(has(self.resources) || has(self.nodeSelector) || has(self.tolerations) \
     || has(self.affinity) || has(self.podLabels) || has(self.podAnnotations) || has(self.imagePullSecrets) \
     || has(self.priorityClassName) || has(self.runtimeClassName) || has(self.serviceAccountName) \
     || has(self.topologySpreadConstraints) || has(self.env) || has(self.userIds) || has(self.podSecurityContext) \
     || has(self.securityContext))",
    "the fields of backplane about pods count only with backplane.type Managed: remove them or set the type",
);
pub(crate) const BACKPLANE_URL_FORM: Rule = (
    "self.urls.all(u, u.matches('^(nats|tls)://[^/@]+$'))",
    "backplane.urls takes nats://HOST:PORT or tls://HOST:PORT without credentials: put those in a Secret and name it in credentialsSecretRef",
);

pub(crate) const TARGET_REACHABLE: Rule = (
    "!string(self.nodes.capacity.connections).matches('^[0-9]+$') \
     || self.targetConnections <= self.nodes.max * int(self.nodes.capacity.connections)",
    "targetConnections is more than nodes.max nodes of nodes.capacity.connections each can hold: raise nodes.max or nodes.capacity.connections",
);
pub(crate) const MAX_BELOW_MIN: Rule =
    ("self.max >= self.min", "nodes.max must not be below nodes.min: raise nodes.max or lower nodes.min");
pub(crate) const REPLICAS_RANGE: Rule = (
    "!has(self.replicas) || (self.min <= self.replicas && self.replicas <= self.max)",
    "nodes.replicas must lie between nodes.min and nodes.max: change it or the bounds",
);
pub(crate) const REPLICAS_MODE: Rule = (
    "!has(self.nodes.replicas) || self.autoscaling.mode != 'Auto'",
    "nodes.replicas counts only with autoscaling.mode Manual or Observe: remove it, or change the mode first",
);

pub(crate) const ENV_NAME: Rule = (
    "self.name.matches('^[-._a-zA-Z][-._a-zA-Z0-9]*$')",
    "env[].name must be a variable's name: use letters, digits, -, _ and ., and no digit in front",
);
pub(crate) const ENV_RESERVED: Rule = (
    "!(self.name in ['NATS_PASSWORD', 'NODE_NAME', 'POD_IP', 'POD_NAME', 'POD_NAMESPACE'])",
    "env[].name must not be NATS_PASSWORD, NODE_NAME, POD_IP, POD_NAME or POD_NAMESPACE, which the operator sets: choose another name",
);
pub(crate) const ENV_ONE_VALUE: Rule = (
    "!has(self.value) || !has(self.valueFrom)",
    "env[] has a value and a valueFrom, and only one can count: remove the other",
);
pub(crate) const ENV_ONE_SOURCE: Rule = (
    "has(self.fieldRef) != has(self.resourceFieldRef)",
    "env[].valueFrom must have one of fieldRef and resourceFieldRef: a Secret or a ConfigMap cannot be named here",
);

pub(crate) const API_SECRET_FORM: Rule = (
    "self.secretName.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
    "expose.api.secretName must name a Secret of this namespace by a-z, 0-9, - and .: write the name of one with the key keys.yaml",
);
pub(crate) const TLS_SECRET_FORM: Rule = (
    "self.secretName.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
    "expose.tls.secretName must name a Secret of this namespace by a-z, 0-9, - and .: write the secretName of your Certificate",
);
pub(crate) const TLS_CLIENT_CA_FORM: Rule = (
    "!has(self.clientCaSecretName) || self.clientCaSecretName.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
    "expose.tls.clientCaSecretName must name a Secret of this namespace by a-z, 0-9, - and .: write the name of one with the key ca.crt",
);
pub(crate) const TLS_CLIENT_CERTIFICATES: Rule = (
    "!has(self.clientCertificates) || has(self.clientCaSecretName)",
    "expose.tls.clientCertificates counts only with clientCaSecretName: remove it, or name the Secret with the CAs of the certificates",
);
pub(crate) const SERVICE_BALANCER: Rule = (
    "self.type == 'LoadBalancer' || !(has(self.loadBalancerClass) || has(self.loadBalancerSourceRanges))",
    "expose.service.loadBalancerClass and loadBalancerSourceRanges count only with type LoadBalancer: remove them or set the type",
);
pub(crate) const SERVICE_TRAFFIC: Rule = (
    "self.type != 'ClusterIP' || !has(self.externalTrafficPolicy)",
    "expose.service.externalTrafficPolicy counts only with type NodePort or LoadBalancer: remove it or set the type",
);
pub(crate) const SERVICE_FAMILIES: Rule = (
    "!has(self.ipFamilies) || size(self.ipFamilies) < 2 || (self.ipFamilies[0] != self.ipFamilies[1] \
     && has(self.ipFamilyPolicy) && self.ipFamilyPolicy != 'SingleStack')",
    "expose.service.ipFamilies with two families must name both and needs ipFamilyPolicy: set it to PreferDualStack or RequireDualStack",
);
pub(crate) const SERVICE_RANGES: Rule = (
    "!has(self.loadBalancerSourceRanges) || self.loadBalancerSourceRanges.all(r, r.matches('^[0-9a-fA-F:.]+/[0-9]{1,3}$'))",
    "expose.service.loadBalancerSourceRanges takes address ranges with their prefix length: write 192.0.2.0/24 or 2001:db8::/32",
);
pub(crate) const PROXIES_FORM: Rule = (
    "!has(self.trustedProxies) || self.trustedProxies.all(p, p.matches('^[0-9a-fA-F:.]+(/[0-9]{1,3})?$'))",
    "expose.trustedProxies takes address ranges with their prefix length, or single addresses: write 10.0.0.0/8 or 2001:db8::/32",
);
pub(crate) const PROXY_PROTOCOL: Rule = (
    "!has(self.proxyProtocol) || !self.proxyProtocol || (has(self.trustedProxies) && size(self.trustedProxies) > 0)",
    "expose.proxyProtocol needs expose.trustedProxies, since nobody else may send its header: list the networks of the proxies",
);
pub(crate) const FORWARDED_HEADER: Rule = (
    "!has(self.forwardedHeader) || (has(self.trustedProxies) && size(self.trustedProxies) > 0)",
    "expose.forwardedHeader counts only for expose.trustedProxies, of which there are none: list the networks of the proxies",
);
pub(crate) const SERVICE_ANNOTATIONS: Rule = (
    "!has(self.annotations) || self.annotations.all(k, !k.startsWith('channelcluster.io/'))",
    "expose.service.annotations must not begin with channelcluster.io/, which the operator sets: choose another prefix",
);
pub(crate) const SERVICE_CLASS_KEPT: Rule = (
    "self.type != 'LoadBalancer' || oldSelf.type != 'LoadBalancer' || (has(self.loadBalancerClass) == has(oldSelf.loadBalancerClass) \
     && (!has(self.loadBalancerClass) || self.loadBalancerClass == oldSelf.loadBalancerClass))",
    "expose.service.loadBalancerClass must stay as it is while the type is LoadBalancer: apply type ClusterIP first, then LoadBalancer with the class",
);

/// The rules on the pods of one part of a fleet, in sentences with its name.
macro_rules! of_pods {
    ($part:literal) => {
        pub(crate) const LABELS: Rule = (
            "!has(self.podLabels) || self.podLabels.all(k, !k.startsWith('app.kubernetes.io/') && !k.startsWith('channelcluster.io/'))",
            concat!($part, ".podLabels must not begin with app.kubernetes.io/ or channelcluster.io/, which the operator sets: choose another prefix"),
        );
        pub(crate) const ANNOTATIONS: Rule = (
            "!has(self.podAnnotations) || self.podAnnotations.all(k, !k.startsWith('app.kubernetes.io/') && !k.startsWith('channelcluster.io/'))",
            concat!($part, ".podAnnotations must not begin with app.kubernetes.io/ or channelcluster.io/, which the operator sets: choose another prefix"),
        );
        pub(crate) const LABEL_FORM: Rule = (
            "!has(self.podLabels) || self.podLabels.all(k, size(k) <= 317 && k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$') \
             && size(self.podLabels[k]) <= 63 && self.podLabels[k].matches('^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$'))",
            concat!($part, ".podLabels takes keys and values of labels: at most 63 letters, digits, -, _ and ., a letter or digit at both ends; put other texts into ", $part, ".podAnnotations"),
        );
        pub(crate) const ANNOTATION_FORM: Rule = (
            "!has(self.podAnnotations) || self.podAnnotations.all(k, size(k) <= 317 && k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))",
            concat!($part, ".podAnnotations takes keys of at most 63 letters, digits, -, _ and ., perhaps with a domain and / in front: change the key"),
        );
        pub(crate) const NODE_SELECTOR_FORM: Rule = (
            "!has(self.nodeSelector) || self.nodeSelector.all(k, size(k) <= 317 && k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$') \
             && size(self.nodeSelector[k]) <= 63 && self.nodeSelector[k].matches('^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$'))",
            concat!($part, ".nodeSelector takes keys and values of labels: at most 63 letters, digits, -, _ and ., a letter or digit at both ends, as kubectl get nodes --show-labels shows them"),
        );
        pub(crate) const TOLERATION_OPERATOR: Rule = (
            "!has(self.tolerations) || self.tolerations.all(t, !has(t.operator) || t.operator in ['', 'Exists', 'Equal', 'Lt', 'Gt'])",
            concat!($part, ".tolerations[].operator must be Exists or Equal (Lt or Gt where the server knows them): change it, or leave it out for Equal"),
        );
        pub(crate) const TOLERATION_EFFECT: Rule = (
            "!has(self.tolerations) || self.tolerations.all(t, !has(t.effect) || t.effect in ['', 'NoSchedule', 'PreferNoSchedule', 'NoExecute'])",
            concat!($part, ".tolerations[].effect must be NoSchedule, PreferNoSchedule or NoExecute: change it, or leave it out for all"),
        );
        pub(crate) const TOLERATION_VALUE: Rule = (
            "!has(self.tolerations) || self.tolerations.all(t, !has(t.operator) || t.operator != 'Exists' || !has(t.value) || t.value == '')",
            concat!($part, ".tolerations[] with operator Exists must have no value: remove value, or use operator Equal"),
        );
        pub(crate) const TOLERATION_KEY: Rule = (
            "!has(self.tolerations) || self.tolerations.all(t, (has(t.key) && t.key != '') || (has(t.operator) && t.operator == 'Exists'))",
            concat!($part, ".tolerations[] without a key tolerates every taint and must say operator Exists: add it, or name the key"),
        );
        pub(crate) const TOLERATION_SECONDS: Rule = (
            "!has(self.tolerations) || self.tolerations.all(t, !has(t.tolerationSeconds) || (has(t.effect) && t.effect == 'NoExecute'))",
            concat!($part, ".tolerations[].tolerationSeconds counts only with effect NoExecute: remove it or set the effect"),
        );
        pub(crate) const RESOURCES_FORM: Rule = (
            "!has(self.resources) || ((!has(self.resources.requests) || self.resources.requests.all(k, isQuantity(string(self.resources.requests[k])))) \
             && (!has(self.resources.limits) || self.resources.limits.all(k, isQuantity(string(self.resources.limits[k])))))",
            concat!($part, ".resources has a value that is no quantity: write cpu as 500m or 2, memory as 512Mi or 1Gi (not MB or GB)"),
        );
        pub(crate) const RESOURCES_SIGN: Rule = (
            "!has(self.resources) || ((!has(self.resources.requests) || self.resources.requests.all(k, !string(self.resources.requests[k]).startsWith('-'))) \
             && (!has(self.resources.limits) || self.resources.limits.all(k, !string(self.resources.limits[k]).startsWith('-'))))",
            concat!($part, ".resources must not be negative: remove the sign"),
        );
        pub(crate) const RESOURCES_REQUEST_ABOVE_LIMIT: Rule = (
            "!has(self.resources) || !has(self.resources.requests) || !has(self.resources.limits) || ['cpu', 'memory'].all(k, \
             !(k in self.resources.requests) || !(k in self.resources.limits) || !isQuantity(string(self.resources.requests[k])) \
             || !isQuantity(string(self.resources.limits[k])) \
             || quantity(string(self.resources.requests[k])).compareTo(quantity(string(self.resources.limits[k]))) <= 0)",
            concat!($part, ".resources.requests must not be above ", $part, ".resources.limits: raise the limit or lower the request"),
        );
        pub(crate) const RESOURCES_MEMORY_UNIT: Rule = (
            "!has(self.resources) || ((!has(self.resources.requests) || !('memory' in self.resources.requests) || !isQuantity(string(self.resources.requests['memory'])) \
             || quantity(string(self.resources.requests['memory'])).compareTo(quantity('1Mi')) >= 0) \
             && (!has(self.resources.limits) || !('memory' in self.resources.limits) || !isQuantity(string(self.resources.limits['memory'])) \
             || quantity(string(self.resources.limits['memory'])).compareTo(quantity('1Mi')) >= 0))",
            concat!($part, ".resources: memory below 1Mi starts no process, and the unit m means thousandths of a byte: write 512Mi or 1Gi"),
        );
        pub(crate) const IMAGE_FORM: Rule = (
            "!has(self.image) || self.image.matches(r'^(([A-Za-z0-9.-]+|\\[[0-9A-Fa-f:]+\\])(:[0-9]+)?/)?[a-z0-9]+(([.]|__?|-+)[a-z0-9]+)*(/[a-z0-9]+(([.]|__?|-+)[a-z0-9]+)*)*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?(@[A-Za-z0-9_+.-]+:[0-9a-fA-F]+)?$')",
            concat!($part, ".image is no name of an image: write REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:DIGEST, the name in lower case"),
        );
        pub(crate) const NAMES_FORM: Rule = (
            "(!has(self.serviceAccountName) || self.serviceAccountName.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')) \
             && (!has(self.priorityClassName) || self.priorityClassName.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')) \
             && (!has(self.runtimeClassName) || self.runtimeClassName.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')) \
             && (!has(self.imagePullSecrets) || self.imagePullSecrets.all(s, s.name.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')))",
            concat!($part, ".serviceAccountName, priorityClassName, runtimeClassName and imagePullSecrets[].name take names of objects: use a-z, 0-9, - and ., a letter or digit at both ends"),
        );
    };
}

/// On [`crate::Nodes`].
pub(crate) mod nodes {
    use super::Rule;
    of_pods!("nodes");
    pub(crate) const WRITES_PER_SECOND: Rule = (
        "string(self).matches('^([1-9][0-9]{0,8}|1000000000|Learned)$')",
        "nodes.capacity.writesPerSecond must be a number from 1 to 1000000000, or the word Learned",
    );
    pub(crate) const CONNECTIONS: Rule = (
        "string(self).matches('^([1-9][0-9]{0,6}|10000000|Derived)$')",
        "nodes.capacity.connections must be a number from 1 to 10000000, or the word Derived",
    );
}

/// On [`crate::Backplane`].
pub(crate) mod backplane {
    use super::Rule;
    of_pods!("backplane");
}

pub(crate) const WINDOWS_ORDER: Rule = (
    with_durations!("self.burst", "self.stable"; "duration(self.burst) <= duration(self.stable)"),
    "autoscaling.windows.burst must not be longer than autoscaling.windows.stable: shorten burst or lengthen stable",
);
pub(crate) const WINDOWS_RANGE: Rule = (
    with_durations!("self.burst", "self.stable"; "duration(self.burst) >= duration('2s') && duration(self.stable) <= duration('1h')"),
    "autoscaling.windows must lie between 2s, the pace of observation, and 1h",
);

pub(crate) const DRAIN_ORDER: Rule = (
    with_durations!("self.delay", "self.deadline"; "duration(self.delay) < duration(self.deadline)"),
    "drain.delay must be shorter than drain.deadline: lower drain.delay or raise drain.deadline",
);
pub(crate) const SYSCTL_SAFE: Rule = (
    "self.profile != 'Safe' || self.sysctls.all(k, k in ['kernel.shm_rmid_forced', 'net.ipv4.ip_local_port_range', \
     'net.ipv4.ip_local_reserved_ports', 'net.ipv4.ip_unprivileged_port_start', 'net.ipv4.ping_group_range', \
     'net.ipv4.tcp_fin_timeout', 'net.ipv4.tcp_keepalive_intvl', 'net.ipv4.tcp_keepalive_probes', \
     'net.ipv4.tcp_keepalive_time', 'net.ipv4.tcp_notsent_lowat', 'net.ipv4.tcp_rmem', \
     'net.ipv4.tcp_slow_start_after_idle', 'net.ipv4.tcp_syncookies', 'net.ipv4.tcp_wmem'])",
    "tuning.sysctls has a sysctl that kubelets refuse as unsafe: remove it, or set tuning.profile to None and list it in allowedUnsafeSysctls of your kubelets",
);
pub(crate) const SYSCTL_POD: Rule = (
    "self.sysctls.all(k, k.startsWith('net.') || k.startsWith('kernel.shm') || k.startsWith('kernel.msg') \
     || k.startsWith('kernel.sem') || k.startsWith('fs.mqueue.'))",
    "tuning.sysctls takes sysctls that a pod has of its own, written with dots (net.*, kernel.shm*, kernel.msg*, kernel.sem*, fs.mqueue.*): set others on the machine",
);

pub(crate) const TOPIC_STAR: Rule = (
    "self.topics.matches('^[^*]*[*]?$')",
    "rooms.policies[].topics may have * only at its end: write an exact topic, or a prefix and * as in live:*",
);
pub(crate) const TOPIC_DUPLICATE: Rule = (
    "self.policies.all(p, self.policies.exists_one(q, q.topics == p.topics))",
    "rooms.policies has the same topics twice, and only the first would count: merge the two",
);
pub(crate) const MEMORY_BUDGET: Rule = (
    "type(self) == string && self.matches('^([1-9][0-9]{0,6}Gi|(1[6-9]|[2-9][0-9]|[1-9][0-9]{2,6})Mi)$')",
    "limits.memoryBudget must be a whole number of Mi or Gi, at least 16Mi: write 256Mi or 2Gi, or leave it out for half of the pod's memory limit",
);
pub(crate) const MAX_SURGE: Rule = (
    "string(self).matches('^([1-9][0-9]{0,2}|1000|([1-9][0-9]?|100)%)$')",
    "rollout.maxSurge must be a number of nodes from 1 to 1000, or a percentage from 1% to 100%: write 2 or 25%",
);
pub(crate) const FRAME_HOLDS_PAYLOAD: Rule = (
    "!has(self.maxPayloadBytes) || self.maxPayloadBytes <= self.maxFrameBytes",
    "limits.maxPayloadBytes must not be above limits.maxFrameBytes, which closes connections before: lower maxPayloadBytes or raise maxFrameBytes, or write 0 for no bound of its own",
);
pub(crate) const QUEUE_HOLDS_FRAME: Rule = (
    "self.sendQueueBytes >= self.maxFrameBytes",
    "limits.sendQueueBytes must hold one message of limits.maxFrameBytes: raise sendQueueBytes or lower maxFrameBytes",
);
