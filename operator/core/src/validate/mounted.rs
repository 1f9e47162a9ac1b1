//! The Secrets with the certificate of the nodes, with the CAs of clients, with the keys of the server API, and with those that
//! sign what a backend is asked.

use crds::ChannelClusterSpec;

use super::Fetched;
use super::context::Problem;
use super::value::{ApiPort, Mounted, TlsSecrets};
use crate::names::CREDENTIALS_LABEL;

/// Keys of a Secret of type `kubernetes.io/tls`.
const CERTIFICATE_KEYS: [&str; 2] = ["tls.crt", "tls.key"];
/// The key with the CAs of clients.
pub(crate) const CA_KEY: &str = "ca.crt";

/// The key with the keys of the server API.
pub(crate) const API_KEYS_KEY: &str = "keys.yaml";
/// The key of the Secret of hooks.
const SIGNING_KEY: &str = "signing-key";
/// Port of the Service of the server API when none is asked for.
const API_SERVICE_PORT: i32 = 80;

/// The Secrets of all of these.
pub(super) fn secrets(spec: &ChannelClusterSpec, fetched: &Fetched, problems: &mut Vec<Problem>) -> Mounted {
    let tls = tls(spec, fetched, problems);
    let api = api(spec, fetched, problems);
    Mounted { tls, api, hooks: hooks(spec, fetched, problems), ..Mounted::default() }
}

/// The server API, if it is to have a port of its own.
fn api(spec: &ChannelClusterSpec, fetched: &Fetched, problems: &mut Vec<Problem>) -> Option<ApiPort> {
    let api = spec.expose.api.as_ref()?;
    check(&api.secret_name, "expose.api.secretName", &[API_KEYS_KEY], fetched, problems);
    Some(ApiPort { secret: api.secret_name.clone(), port: api.port.unwrap_or(API_SERVICE_PORT) })
}

/// The Secret whose key signs what a backend is asked.
fn hooks(spec: &ChannelClusterSpec, fetched: &Fetched, problems: &mut Vec<Problem>) -> Option<String> {
    let name = &spec.hooks.as_ref()?.secret_name;
    check(name, "hooks.secretName", &[SIGNING_KEY], fetched, problems);
    Some(name.clone())
}

/// The Secrets that the nodes mount for `expose.tls`. They have to agree, as others do, or anybody who may edit a ChannelCluster
/// could have nodes answer with the certificate of something else in the namespace.
fn tls(spec: &ChannelClusterSpec, fetched: &Fetched, problems: &mut Vec<Problem>) -> Option<TlsSecrets> {
    let tls = spec.expose.tls.as_ref()?;
    check(&tls.secret_name, "expose.tls.secretName", &CERTIFICATE_KEYS, fetched, problems);
    if let Some(name) = &tls.client_ca_secret_name {
        check(name, "expose.tls.clientCaSecretName", &[CA_KEY], fetched, problems);
    }
    Some(TlsSecrets {
        certificate: tls.secret_name.clone(),
        client_ca: tls.client_ca_secret_name.clone(),
        client_certificates: tls.client_certificates.unwrap_or_default(),
        min_version: tls.min_version.unwrap_or_default(),
    })
}

fn check(name: &str, field: &str, keys: &[&str], fetched: &Fetched, problems: &mut Vec<Problem>) {
    let wanted = keys.join(" and ");
    match fetched.named_secrets.get(name) {
        None => problems.push(Problem::new(
            "SecretNotFound",
            format!("the Secret {name:?} of {field} does not exist here: create it with {wanted} and the label {CREDENTIALS_LABEL}=true"),
        )),
        // Without the label not even the Secret's keys are told.
        Some(secret) if !secret.labelled => problems.push(Problem::new(
            "SecretNotLabelled",
            format!("the Secret {name:?} of {field} does not say that ChannelClusters may use it: kubectl label secret {name} {CREDENTIALS_LABEL}=true, or set it where the Secret is made (for a Certificate in its secretTemplate)"),
        )),
        Some(secret) => {
            for key in keys.iter().filter(|key| !secret.keys.contains(**key)) {
                problems.push(Problem::new(
                    "SecretIncomplete",
                    format!("the Secret {name:?} of {field} has no key {key}: it must have {wanted}"),
                ));
            }
        }
    }
}
