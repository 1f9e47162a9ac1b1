//! Finds what is wrong with the keys about clients, their tokens and their origins.

use keys::{MAX_CLAIM_BYTES, MAX_ISSUERS};

use super::{at_most, pattern, range, range_of};
use crate::{
    auth::{Endpoint, Jwks, Jwt, Template},
    config::{Auth, OnExpiry},
    ws::{entry, host},
};

/// Longest name of a parameter in bytes, and of a file of keys.
const PARAM_BYTES: usize = 64;
const FILE_BYTES: usize = 512;

pub(super) fn check(auth: &Auth, errors: &mut Vec<String>) {
    if !auth.anonymous && auth.jwt.is_empty() {
        errors.push(
            "auth: nobody could connect; set auth.anonymous to true, or list an issuer of tokens in auth.jwt"
                .to_owned(),
        );
    }
    at_most("auth.anonymousTopics", auth.anonymous_topics.len(), errors);
    for topic in &auth.anonymous_topics {
        pattern("auth.anonymousTopics", topic, errors);
    }
    if !auth.anonymous && !auth.anonymous_topics.is_empty() {
        errors.push(
            "auth.anonymousTopics: nobody connects without a token; set auth.anonymous to true, or remove them"
                .to_owned(),
        );
    }
    if let Some(name) = &auth.token_param {
        param(name, auth, errors);
    }
    if let Some(millis) = auth.expiry_warning_millis {
        range(&keys::EXPIRY_WARNING_MILLIS, millis, errors);
    }
    if auth.jwt.is_empty() && (auth.expiry_warning_millis.is_some() || auth.on_expiry != OnExpiry::Close) {
        errors.push(
            "auth.expiryWarningMillis, auth.onExpiry: no token is taken; list an issuer in auth.jwt, or remove them"
                .to_owned(),
        );
    }
    issuers(&auth.jwt, errors);
    for entry in &auth.allowed_origins {
        if let Err(why) = entry::check_entry(entry) {
            errors.push(format!(
                "auth.allowedOrigins: {entry:?} {why}; list origins as browsers send them, or * for all"
            ));
        }
    }
    for entry in &auth.served_hosts {
        if !host::is_entry(entry) {
            errors.push(format!(
                "auth.servedHosts: {entry:?} is not a host; write a name, *.NAME or an address, without scheme and port"
            ));
        }
    }
}

fn param(name: &str, auth: &Auth, errors: &mut Vec<String>) {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if name.is_empty() || name.len() > PARAM_BYTES || !name.bytes().all(is_letter) || name == "vsn" {
        errors.push(format!(
            "auth.tokenParam: {name:?} is not a parameter for tokens; use up to {PARAM_BYTES} letters, digits, - and _, and \
             not vsn"
        ));
    }
    if auth.jwt.is_empty() {
        errors
            .push("auth.tokenParam: no token is taken; list an issuer in auth.jwt, or remove it".to_owned());
    }
}

fn issuers(all: &[Jwt], errors: &mut Vec<String>) {
    if all.len() > MAX_ISSUERS {
        errors.push(format!("auth.jwt: has {} items; use at most {MAX_ISSUERS}", all.len()));
    }
    for (index, jwt) in all.iter().enumerate() {
        let key = format!("auth.jwt[{index}]");
        let unique = all.iter().filter(|other| other.issuer == jwt.issuer).count() == 1;
        if all.len() > 1 && (jwt.issuer.is_none() || !unique) {
            errors.push(format!(
                "{key}.issuer: does not tell it from the others; give each the iss of its tokens"
            ));
        }
        issuer(&key, jwt, errors);
    }
}

fn issuer(key: &str, jwt: &Jwt, errors: &mut Vec<String>) {
    let names = [
        ("issuer", jwt.issuer.as_deref()),
        ("audience", jwt.audience.as_deref()),
        ("userClaim", Some(&*jwt.user_claim)),
        ("topicsClaim", jwt.topics_claim.as_deref()),
        ("publishClaim", jwt.publish_claim.as_deref()),
        ("priorityClaim", jwt.priority_claim.as_deref()),
    ];
    for (name, value) in names {
        if value.is_some_and(|value| value.is_empty() || value.len() > MAX_CLAIM_BYTES) {
            errors.push(format!(
                "{key}.{name}: must have 1 to {MAX_CLAIM_BYTES} bytes; correct it, or leave it out"
            ));
        }
    }
    let shared = jwt.algorithms.iter().filter(|algorithm| algorithm.is_shared()).count();
    if jwt.algorithms.is_empty() {
        errors.push(format!("{key}.algorithms: is empty; list what the issuer signs by, like RS256"));
    } else if shared > 0 && shared < jwt.algorithms.len() {
        errors.push(format!(
            "{key}.algorithms: mixes shared secrets (HS) with public keys, of which one could be taken for the other; make \
             two entries of it"
        ));
    }
    match (&jwt.key_file, &jwt.jwks) {
        (Some(file), None) => below(&format!("{key}.keyFile"), file, errors),
        (None, Some(jwks)) => by_url(&format!("{key}.jwks"), jwks, shared > 0, errors),
        _ => errors.push(format!(
            "{key}: must have either keyFile or jwks, from where its keys come; add or remove one"
        )),
    }
    range_of(&format!("{key}.leewayMillis"), &keys::TOKEN_LEEWAY_MILLIS, jwt.leeway(), errors);
    for (name, list) in [("topics", &jwt.topics), ("publish", &jwt.publish)] {
        let patterns = list.as_deref().unwrap_or_default();
        at_most(&format!("{key}.{name}"), patterns.len(), errors);
        for text in patterns {
            if let Err(why) = Template::parse(text) {
                errors.push(format!("{key}.{name}: {text:?} {why}"));
            }
        }
    }
}

fn by_url(key: &str, jwks: &Jwks, shared: bool, errors: &mut Vec<String>) {
    if shared {
        errors.push(format!(
            "{key}: is for public keys, and what a URL gives to everybody is no secret; use keyFile for HS algorithms"
        ));
    }
    // The URL is not repeated: some have a password in the wrong place.
    let https = Endpoint::parse(&jwks.url).map(|endpoint| endpoint.https);
    if let Err(why) = https {
        errors.push(format!("{key}.url: {why}"));
    }
    if let Some(file) = &jwks.ca_file {
        below(&format!("{key}.caFile"), file, errors);
        if https == Ok(false) {
            errors.push(format!("{key}.caFile: counts only for https; remove it, or change the url"));
        }
    }
    range_of(&format!("{key}.refreshMillis"), &keys::TOKEN_KEYS_REFRESH_MILLIS, jwks.refresh(), errors);
}

fn below(key: &str, path: &str, errors: &mut Vec<String>) {
    if !is_below(path) {
        errors.push(format!("{key}: is not a file below the directory of keys; write SECRET/KEY"));
    }
}

/// Whether a path leads to a file below the directory that it begins in.
fn is_below(path: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_name = |name: &str| {
        !name.is_empty() && !name.starts_with("..") && name != "." && name.bytes().all(is_letter)
    };
    path.len() <= FILE_BYTES && path.split('/').count() == 2 && path.split('/').all(is_name)
}
