//! The Secret of a cluster. It is made once and then kept: of what is in it, the operator changes only the keys of tickets.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::meta::meta;
use crate::hash::short_hash;
use crate::names::{ADMIN_TOKEN_KEY, Component, NATS_PASSWORD_KEY, TICKET_KEYS};
use crate::validate::ValidatedCluster;

/// The Secret with a random admin token, a random NATS password and a list of keys of the nodes' TLS tickets.
///
/// NATS reads the password from its environment with the grammar of its configuration file, in which a value that
/// begins with a digit is a number; a letter in front keeps it a string. Token and password must consist of letters and
/// digits.
#[must_use]
pub fn secret(cluster: &ValidatedCluster, admin_token: &str, nats_password: &str, tickets: &str) -> Secret {
    let data = BTreeMap::from([
        (ADMIN_TOKEN_KEY.to_owned(), admin_token.to_owned()),
        (NATS_PASSWORD_KEY.to_owned(), format!("p{nats_password}")),
        (TICKET_KEYS.to_owned(), tickets.to_owned()),
    ]);
    Secret {
        metadata: meta(cluster, cluster.names.secret(), Component::Node),
        string_data: Some(data),
        type_: Some("Opaque".to_owned()),
        ..Default::default()
    }
}

/// A hash that differs when the NATS password does. The admin token, 190 random bits, is hashed with it, so that
/// nobody can guess a weak password of the user's from the annotation that shows this hash.
#[must_use]
pub fn mark(data: &BTreeMap<String, ByteString>) -> String {
    let value = |key: &str| data.get(key).map(|value| value.0.as_slice()).unwrap_or_default();
    short_hash(&[value(ADMIN_TOKEN_KEY), b"\n", value(NATS_PASSWORD_KEY)].concat())
}
