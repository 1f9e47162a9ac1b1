//! The rules on `autoscaling.metrics` and `autoscaling.schedule`.

use kube::core::Rule as KubeRule;

use super::Rule;

/// Whether a text can be the name of a Secret.
macro_rules! name_form {
    ($name:literal) => {
        concat!($name, ".matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')")
    };
}
/// Whether a reference can be to a key of a Secret.
macro_rules! key_form {
    ($reference:literal) => {
        concat!(
            "(",
            $reference,
            ".key.matches('^[-._A-Za-z0-9]+$') && ",
            $reference,
            ".name.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$'))"
        )
    };
}

/// On [`crate::ScheduleEntry`]: the characters and the number of fields. The operator reads the values.
pub(crate) const SCHEDULE_CRON: Rule = (
    "self.cron.matches('^(@[a-z]+|[-0-9A-Za-z*,/?]+( +[-0-9A-Za-z*,/?]+){4})$')",
    "autoscaling.schedule[].cron must have five fields (minute, hour, day of the month, month, day of the week) or be a word: write 30 8 * * 1-5 or @daily, with the zone in timeZone",
);
pub(crate) const SCHEDULE_ZONE: Rule = (
    "!has(self.timeZone) || self.timeZone.matches('^[A-Za-z][-A-Za-z0-9_+]*(/[-A-Za-z0-9_+]+)*$')",
    "autoscaling.schedule[].timeZone must be a name of the IANA database: write Europe/Berlin, or leave it out for UTC",
);
pub(crate) const SCHEDULE_DURATION: Rule = (
    with_durations!("self.duration"; "(duration(self.duration) >= duration('1m') && duration(self.duration) <= duration('168h'))"),
    "autoscaling.schedule[].duration must lie between 1m and 168h: for longer, raise nodes.min",
);

/// On [`crate::Metrics`].
pub(crate) const METRICS_SOURCE: Rule = (
    "(self.source == 'Prometheus') == has(self.prometheus)",
    "autoscaling.metrics.prometheus must be there with source Prometheus, and with no other: add it, remove it, or change the source",
);

/// The hosts of a URL: names, and addresses of both kinds.
const HOST: &str = concat!(r"([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?|", grammar!(v6), ")");

/// On [`crate::Prometheus`].
pub(crate) fn prometheus_url() -> KubeRule {
    let port = grammar!(port);
    KubeRule::from((
        format!(r"self.url.matches(r'^https?://{HOST}{port}?(/[-A-Za-z0-9._~]+)*/?$')").as_str(),
        "autoscaling.metrics.prometheus.url must be http://HOST[:PORT][/PATH] or https:// without user, query and /api/v1: write http://prometheus.monitoring.svc:9090",
    ))
}

/// What a request shows of the operator is read by nobody else: by TLS, or because it stays in the cluster.
pub(crate) fn prometheus_credentials_in_the_clear() -> KubeRule {
    let own = r"(localhost|127[.]0[.]0[.]1|\[::1\]|[a-z0-9-]+[.][a-z0-9-]+[.]svc([.]cluster[.]local)?)";
    KubeRule::from((
        format!(
            r"!has(self.auth) || self.url.startsWith('https://') || self.url.matches(r'^http://{own}([:/].*)?$')"
        )
        .as_str(),
        "autoscaling.metrics.prometheus.auth must not travel in the clear: use https, or http with a Service of this cluster as in http://NAME.NAMESPACE.svc:9090",
    ))
}

pub(crate) const PROMETHEUS_TLS: Rule = (
    "!has(self.tls) || self.url.startsWith('https://')",
    "autoscaling.metrics.prometheus.tls counts only for https: remove it, or change the url",
);
pub(crate) const PROMETHEUS_TIMES: Rule = (
    concat!(
        "(!has(self.scrapeInterval) || ",
        with_durations!("self.scrapeInterval"; "(duration(self.scrapeInterval) >= duration('1s') && duration(self.scrapeInterval) <= duration('2m'))"),
        ") && (!has(self.timeout) || ",
        with_durations!("self.timeout"; "(duration(self.timeout) >= duration('100ms') && duration(self.timeout) <= duration('30s'))"),
        ")"
    ),
    "autoscaling.metrics.prometheus.scrapeInterval must lie between 1s and 2m, and timeout between 100ms and 30s: leave them out for 30s and 5s",
);

/// On [`crate::PrometheusAuth`].
pub(crate) const PROMETHEUS_AUTH: Rule = (
    "has(self.bearerSecretRef) != has(self.basicSecretRef)",
    "autoscaling.metrics.prometheus.auth must have either bearerSecretRef or basicSecretRef: add or remove one",
);
pub(crate) const PROMETHEUS_AUTH_FORM: Rule = (
    concat!(
        "(!has(self.bearerSecretRef) || ",
        key_form!("self.bearerSecretRef"),
        ") && (!has(self.basicSecretRef) || ",
        name_form!("self.basicSecretRef.name"),
        ")"
    ),
    "autoscaling.metrics.prometheus.auth must name a Secret, and for bearerSecretRef a key in it: the name of a-z, 0-9, - and ., the key of letters, digits, -, _ and .",
);

/// On [`crate::PrometheusTls`].
pub(crate) const PROMETHEUS_TLS_FORM: Rule = (
    concat!(
        "(!has(self.caSecretRef) || ",
        key_form!("self.caSecretRef"),
        ") && (!has(self.certSecretRef) || ",
        name_form!("self.certSecretRef.name"),
        ")"
    ),
    "autoscaling.metrics.prometheus.tls must name Secrets, and for caSecretRef a key in it: the name of a-z, 0-9, - and ., the key of letters, digits, -, _ and .",
);
