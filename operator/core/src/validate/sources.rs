//! Checks `autoscaling.schedule`, and the Prometheus of `autoscaling.metrics` with its Secrets.

use crds::{ChannelClusterSpec, Prometheus};

use super::Fetched;
use super::context::Problem;
use crate::names::{CREDENTIALS_LABEL, Names, SERVERS_ANNOTATION};
use crate::schedule::Entry;
use crate::source::{DEFAULT_SCRAPE_MILLIS, DEFAULT_TIMEOUT_MILLIS, PrometheusSource, Queries};

/// Reads the entries of the schedule.
pub(super) fn schedule(spec: &ChannelClusterSpec, problems: &mut Vec<Problem>) -> Vec<Entry> {
    let mut entries = Vec::with_capacity(spec.autoscaling.schedule.len());
    for (index, entry) in spec.autoscaling.schedule.iter().enumerate() {
        match Entry::new(entry) {
            Ok(entry) => entries.push(entry),
            Err(why) => {
                let message = format!("autoscaling.schedule[{index}].{why}");
                problems.push(Problem::new("InvalidSchedule", message));
            }
        }
    }
    entries
}

/// The Prometheus that is asked instead of the nodes, if one is. As with the credentials of NATS, each Secret has to agree
/// to be used, and to be shown to this server.
pub(super) fn prometheus(
    spec: &ChannelClusterSpec,
    namespace: &str,
    names: &Names,
    fetched: &Fetched,
    problems: &mut Vec<Problem>,
) -> Option<PrometheusSource> {
    let prometheus = spec.autoscaling.prometheus()?;
    for (field, name, keys) in prometheus.secrets() {
        check(prometheus, (field, name, &keys), fetched, problems);
    }
    let millis = |duration: Option<crds::Duration>| duration.map(crds::Duration::as_millis);
    let scrape_millis = millis(prometheus.scrape_interval).unwrap_or(DEFAULT_SCRAPE_MILLIS);
    let own = Queries::own(namespace, names, scrape_millis);
    let or = |query: &Option<String>, own: String| query.clone().unwrap_or(own);
    Some(PrometheusSource {
        url: prometheus.url.trim_end_matches('/').to_owned(),
        queries: Queries {
            writes: or(&prometheus.query, own.writes),
            connections: or(&prometheus.connections_query, own.connections),
            timestamps: or(&prometheus.timestamp_query, own.timestamps),
        },
        scrape_millis,
        timeout_millis: millis(prometheus.timeout).unwrap_or(DEFAULT_TIMEOUT_MILLIS),
        auth: prometheus.auth.clone(),
        tls: prometheus.tls.clone(),
    })
}

fn check(
    prometheus: &Prometheus,
    (field, name, keys): (&str, &str, &[&str]),
    fetched: &Fetched,
    problems: &mut Vec<Problem>,
) {
    let place = format!("the Secret {name:?} of autoscaling.metrics.prometheus.{field}");
    let wanted = keys.join(" and ");
    let Some(secret) = fetched.named_secrets.get(name) else {
        problems.push(Problem::new(
            "SecretNotFound",
            format!(
                "{place} does not exist here: create it with {wanted} and the label {CREDENTIALS_LABEL}=true"
            ),
        ));
        return;
    };
    if !secret.labelled {
        // Without the label not even the Secret's keys are told.
        problems.push(Problem::new(
            "SecretNotLabelled",
            format!("{place} does not say that ChannelClusters may use it: kubectl label secret {name} {CREDENTIALS_LABEL}=true"),
        ));
        return;
    }
    if let Some(key) = keys.iter().find(|key| !secret.keys.contains(**key)) {
        problems.push(Problem::new(
            "SecretIncomplete",
            format!("{place} has no key {key}: it must have {wanted}"),
        ));
    }
    if let Some(servers) = &secret.servers
        && !servers.contains(&prometheus.url)
    {
        problems.push(Problem::new(
            "ServerNotAllowed",
            format!(
                "{place} may not be shown to {}: add that to the Secret's annotation {SERVERS_ANNOTATION}, or name another",
                prometheus.url
            ),
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::fixtures::{cluster, env};
    use crate::validate::{Credentials, Fetched, ValidatedCluster, validate};

    fn checked(autoscaling: &str, secrets: &[(&str, Credentials)]) -> Result<ValidatedCluster, Vec<String>> {
        let spec = format!(
            "{{targetConnections: 1000, rooms: {{maxMembers: 150}}, auth: {{anonymous: true}}, autoscaling: {autoscaling}}}"
        );
        let named_secrets: BTreeMap<_, _> =
            secrets.iter().map(|(name, secret)| ((*name).to_owned(), secret.clone())).collect();
        let fetched = Fetched { named_secrets, ..Fetched::default() };
        let words =
            |all: Vec<_>| all.into_iter().map(|p: super::Problem| format!("{}: {}", p.reason, p.message));
        validate(&cluster(&spec), &env(), &fetched).map_err(|all| words(all).collect())
    }

    fn secret(keys: &[&str]) -> Credentials {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        Credentials { keys, labelled: true, servers: None }
    }

    const LOGIN: &str = "{metrics: {source: Prometheus, prometheus: {url: \"https://prometheus.example.org/\", \
        timeout: 2s, scrapeInterval: 10s, auth: {basicSecretRef: {name: login}}}}}";

    #[test]
    fn a_schedule_that_cannot_be_read_names_its_entry() {
        let good = "{cron: \"0 8 * * *\", duration: 1h, minNodes: 3}";
        let valid = checked(&format!("{{schedule: [{good}]}}"), &[]).expect("valid");
        assert_eq!(valid.schedule.len(), 1);
        let wrong = checked(
            &format!(
                "{{schedule: [{good}, {{cron: \"0 8 31 2 *\", timeZone: Mars, duration: 1h, minNodes: 3}}]}}"
            ),
            &[],
        );
        let wrong = wrong.expect_err("never comes").join(" ");
        assert!(
            wrong.starts_with("InvalidSchedule: autoscaling.schedule[1].cron \"0 8 31 2 *\" never comes"),
            "{wrong}"
        );
    }

    #[test]
    fn the_source_is_the_nodes_unless_the_manifest_says_so() {
        assert_eq!(checked("{}", &[]).expect("valid").prometheus, None);
        assert_eq!(checked("{metrics: {source: Nodes}}", &[]).expect("valid").prometheus, None);
        let prometheus =
            checked(LOGIN, &[("login", secret(&["username", "password"]))]).expect("valid").prometheus;
        let prometheus = prometheus.expect("the source");
        assert_eq!((&*prometheus.url, prometheus.timeout_millis), ("https://prometheus.example.org", 2_000));
        assert!(prometheus.queries.writes.contains("[40000ms]"), "{:?}", prometheus.queries);
        let own = LOGIN.replace("timeout: 2s", "query: sum(x) by (pod)");
        let own = checked(&own, &[("login", secret(&["username", "password"]))]).expect("valid").prometheus;
        assert_eq!(own.map(|p| p.queries.writes).as_deref(), Some("sum(x) by (pod)"));
    }

    #[test]
    fn a_secret_has_to_agree_to_be_shown_to_a_prometheus() {
        let login = secret(&["username", "password"]);
        let unlabelled = Credentials { labelled: false, ..login.clone() };
        let of_another = Credentials { servers: Some(vec!["https://other/".to_owned()]), ..login.clone() };
        let of_this =
            Credentials { servers: Some(vec!["https://prometheus.example.org/".to_owned()]), ..login };
        let refused =
            |secrets: &[(&str, Credentials)]| checked(LOGIN, secrets).expect_err("refused").join(" ");
        assert!(refused(&[]).starts_with("SecretNotFound: the Secret \"login\" of autoscaling.metrics"));
        assert!(refused(&[("login", unlabelled)]).starts_with("SecretNotLabelled"));
        assert!(refused(&[("login", secret(&["username"]))]).starts_with("SecretIncomplete"));
        assert!(refused(&[("login", of_another)]).starts_with("ServerNotAllowed"));
        checked(LOGIN, &[("login", of_this)]).expect("meant for it");
    }
}
