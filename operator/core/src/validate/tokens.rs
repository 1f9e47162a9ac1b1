//! The Secrets with the keys of tokens, and with the authorities by which keys are fetched.

use std::collections::BTreeSet;

use crds::ChannelClusterSpec;

use super::Fetched;
use super::context::Problem;
use crate::names::CREDENTIALS_LABEL;

/// The Secrets that the nodes mount, each once. As with the credentials of NATS the Secret itself has to agree, or anybody
/// who may edit a ChannelCluster could try out guesses at any Secret of the namespace by sending tokens.
pub(super) fn secrets(
    spec: &ChannelClusterSpec,
    fetched: &Fetched,
    problems: &mut Vec<Problem>,
) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let named = spec.auth.iter().flat_map(|auth| &auth.jwt).enumerate().flat_map(|(index, jwt)| {
        jwt.secrets().map(move |(field, reference)| (format!("auth.jwt[{index}].{field}"), reference))
    });
    for (field, reference) in named {
        let (name, key) = (&reference.name, &reference.key);
        let problem = match fetched.named_secrets.get(name) {
            None => Some((
                "SecretNotFound",
                format!(
                    "the Secret {name:?} of {field} does not exist here: create it with the key {key} and the label {CREDENTIALS_LABEL}=true"
                ),
            )),
            // Without the label not even the Secret's keys are told.
            Some(secret) if !secret.labelled => Some((
                "SecretNotLabelled",
                format!(
                    "the Secret {name:?} of {field} does not say that ChannelClusters may use it: kubectl label secret {name} {CREDENTIALS_LABEL}=true"
                ),
            )),
            Some(secret) if !secret.keys.contains(key) => {
                Some(("SecretIncomplete", format!("the Secret {name:?} of {field} has no key {key}: add it")))
            }
            Some(_) => None,
        };
        problems.extend(problem.map(|(reason, message)| Problem::new(reason, message)));
        names.insert(name.clone());
    }
    names
}
