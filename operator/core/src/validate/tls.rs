//! The Secrets with the certificate of the nodes, and with the CAs of clients.

use crds::ChannelClusterSpec;

use super::Fetched;
use super::context::Problem;
use super::value::TlsSecrets;
use crate::names::CREDENTIALS_LABEL;

/// Keys of a Secret of type `kubernetes.io/tls`.
const CERTIFICATE_KEYS: [&str; 2] = ["tls.crt", "tls.key"];
/// The key with the CAs of clients.
pub(crate) const CA_KEY: &str = "ca.crt";

/// The Secrets that the nodes mount for `expose.tls`. They have to agree, as others do, or anybody who may edit a ChannelCluster
/// could have nodes answer with the certificate of something else in the namespace.
pub(super) fn secrets(
    spec: &ChannelClusterSpec,
    fetched: &Fetched,
    problems: &mut Vec<Problem>,
) -> Option<TlsSecrets> {
    let tls = spec.expose.tls.as_ref()?;
    check(&tls.secret_name, "secretName", &CERTIFICATE_KEYS, fetched, problems);
    if let Some(name) = &tls.client_ca_secret_name {
        check(name, "clientCaSecretName", &[CA_KEY], fetched, problems);
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
            format!("the Secret {name:?} of expose.tls.{field} does not exist here: create it with {wanted} and the label {CREDENTIALS_LABEL}=true"),
        )),
        // Without the label not even the Secret's keys are told.
        Some(secret) if !secret.labelled => problems.push(Problem::new(
            "SecretNotLabelled",
            format!("the Secret {name:?} of expose.tls.{field} does not say that ChannelClusters may use it: kubectl label secret {name} {CREDENTIALS_LABEL}=true, or set it in the secretTemplate of its Certificate"),
        )),
        Some(secret) => {
            for key in keys.iter().filter(|key| !secret.keys.contains(**key)) {
                problems.push(Problem::new(
                    "SecretIncomplete",
                    format!("the Secret {name:?} of expose.tls.{field} has no key {key}: it must have {wanted}"),
                ));
            }
        }
    }
}
