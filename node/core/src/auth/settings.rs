//! The keys of the configuration about an issuer of tokens.

use serde::{Deserialize, Serialize};

use super::algorithm::Algorithm;

/// An issuer whose tokens clients may connect with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Jwt {
    /// The claim `iss` of its tokens. Unset it is not looked at, which only the one issuer of a list may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// What the claim `aud` of its tokens must name. Unset, tokens with an audience are meant for somebody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// The algorithms that it signs by: either with a shared secret or with keys of which the public ones are here.
    pub algorithms: Vec<Algorithm>,
    /// File of its keys, as a path below the directory of all keys: `SECRET/KEY`. It has either this or [`Jwt::jwks`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<String>,
    /// Where its public keys are fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<Jwks>,
    /// By how much its clock may differ; milliseconds. None is [`keys::TOKEN_LEEWAY_MILLIS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leeway_millis: Option<u64>,
    /// The claim that names the user.
    #[serde(default = "usual_claim", skip_serializing_if = "is_usual_claim")]
    pub user_claim: String,
    /// A claim with a list of patterns of topics that may be joined, and one of those that may be published on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topics_claim: Option<String>,
    /// See [`Jwt::topics_claim`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish_claim: Option<String>,
    /// A claim that names the priority, by which connections are refused when memory is short: `low`, `normal` or `high`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_claim: Option<String>,
    /// Patterns of topics that may be joined, in which `{NAME}` stands for a claim. With neither this nor
    /// [`Jwt::topics_claim`] every topic may be joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topics: Option<Vec<String>>,
    /// The same for topics that may be published on, by their members and as their policies say. With neither this nor
    /// [`Jwt::publish_claim`] those are all that were joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<Vec<String>>,
}

/// A JWK Set (RFC 7517) that is fetched by its URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Jwks {
    /// The URL, as [`super::Endpoint::parse`] takes it.
    pub url: String,
    /// File of the authorities that may vouch for its server, in PEM, as a path like [`Jwt::key_file`]. Unset, those
    /// that browsers trust may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// Longest time between two fetches; milliseconds. None is [`keys::TOKEN_KEYS_REFRESH_MILLIS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_millis: Option<u64>,
}

impl Jwks {
    /// The longest time between two fetches in milliseconds.
    #[must_use]
    pub fn refresh(&self) -> u64 {
        self.refresh_millis.unwrap_or(keys::TOKEN_KEYS_REFRESH_MILLIS.usual)
    }
}

/// The claim that names the user unless said otherwise: the subject of RFC 7519, section 4.1.2.
pub const USER_CLAIM: &str = "sub";

fn usual_claim() -> String {
    USER_CLAIM.to_owned()
}

fn is_usual_claim(claim: &str) -> bool {
    claim == USER_CLAIM
}

impl Jwt {
    /// By how many milliseconds its clock may differ.
    #[must_use]
    pub fn leeway(&self) -> u64 {
        self.leeway_millis.unwrap_or(keys::TOKEN_LEEWAY_MILLIS.usual)
    }
}
