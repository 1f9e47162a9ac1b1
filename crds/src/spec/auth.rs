//! Who may connect.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{quantity::Duration, rules};

/// Who may connect.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[x_kube(validation = rules::AUTH_SOMEBODY)]
#[x_kube(validation = rules::AUTH_ANONYMOUS_TOPICS)]
#[x_kube(validation = rules::AUTH_ANONYMOUS_TOPICS_FORM)]
#[x_kube(validation = rules::AUTH_TOKEN_PARAM)]
#[x_kube(validation = rules::AUTH_TOKEN_PARAM_FORM)]
#[x_kube(validation = rules::AUTH_EXPIRY)]
#[x_kube(validation = rules::expiry_warning())]
#[x_kube(validation = rules::JWT_ISSUERS)]
#[x_kube(validation = rules::AUTH_ORIGINS)]
#[x_kube(validation = rules::AUTH_HOSTS)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// Let everybody connect without credentials. With `jwt` too, a token may be given, and has to be good then.
    #[serde(default)]
    pub anonymous: bool,
    /// Topics that connections without a token may join, each exact or a prefix followed by `*`; unset: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = keys::LIST_ITEMS), inner(length(min = 1, max = keys::MAX_TOPIC_BYTES)))]
    pub anonymous_topics: Vec<String>,
    /// Issuers of JSON Web Tokens that clients may connect with. Without `anonymous` nobody connects without a token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = keys::MAX_ISSUERS))]
    pub jwt: Vec<Jwt>,
    /// A parameter of the query in which clients may give their token, beside the `authToken` of phoenix.js and the header
    /// `Authorization: Bearer`. Proxies write such parameters into their logs; unset: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub token_param: Option<String>,
    /// How long before the end of its token a client is told, 1s to 1h, by the event `token_expiring` on the topic
    /// `phoenix`; unset: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "Duration::text_schema")]
    pub expiry_warning: Option<Duration>,
    /// What ends with a token: the connection (`Close`, also when unset), or its channels (`EndChannels`), so that clients
    /// join again with another token in the join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_expiry: Option<OnExpiry>,
    /// Origins that may connect, as browsers send them: `https://HOST[:PORT]`, `https://*.HOST` for one label or more before
    /// it, `null`, `file://`, `chrome-extension://ID` and the like; `*` allows all. Where any is listed the list alone counts;
    /// without any, pages of the host that the client addressed may.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(min = 1, max = 255)))]
    pub allowed_origins: Vec<String>,
    /// Hosts that clients may address, without port: names, `*.NAME` for one label or more before it, addresses. Requests to
    /// others are answered 421. Without any every host is served; list yours where no origins are listed, or pages whose
    /// name was made to lead to the fleet count as its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 255)))]
    pub served_hosts: Vec<String>,
}

/// What ends with a token.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum OnExpiry {
    /// The connection.
    #[default]
    Close,
    /// The channels of the connection.
    EndChannels,
}

/// An issuer of JSON Web Tokens.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[x_kube(validation = rules::JWT_ALGORITHMS)]
#[x_kube(validation = rules::JWT_KEYS)]
#[x_kube(validation = rules::JWT_KEY_FORM)]
#[x_kube(validation = rules::JWT_KEYS_BY_URL)]
#[x_kube(validation = rules::jwt_topics("topics"))]
#[x_kube(validation = rules::jwt_topics_reserved("topics"))]
#[x_kube(validation = rules::jwt_topics("publish"))]
#[x_kube(validation = rules::jwt_topics_reserved("publish"))]
#[x_kube(validation = rules::jwt_leeway())]
#[serde(rename_all = "camelCase")]
pub struct Jwt {
    /// The claim `iss` of its tokens. Unset, it is not looked at, which only the one entry of a list may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = keys::MAX_CLAIM_BYTES))]
    pub issuer: Option<String>,
    /// What the claim `aud` of its tokens must be or contain. Unset, tokens that have an audience are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = keys::MAX_CLAIM_BYTES))]
    pub audience: Option<String>,
    /// Algorithms that it signs by: those with a shared secret (`HS256` and the like), or those with a public key.
    #[schemars(length(min = 1, max = 13))]
    pub algorithms: Vec<Algorithm>,
    /// The Secret with its keys, which needs the label `channelcluster.io/credentials: "true"`. A change of it counts
    /// within about a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeyRef>,
    /// Where the nodes fetch its public keys, instead of `secretRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<Jwks>,
    /// By how much its clock may differ, 0s to 10m; unset: 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "Duration::text_schema")]
    pub leeway: Option<Duration>,
    /// The claims that say who a client is and what it may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<Claims>,
    /// Topics that holders of its tokens may join, each exact or a prefix followed by `*`; `{NAME}` stands for the claim
    /// of this name, as in `user:{sub}:*`. With neither this nor `claims.topics` all topics may be joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = keys::LIST_ITEMS), inner(length(min = 1, max = keys::MAX_TOPIC_BYTES)))]
    pub topics: Option<Vec<String>>,
    /// Topics that holders of its tokens may publish on, in the same form, as members and as the policies of rooms say.
    /// With neither this nor `claims.publish` those are all that they have joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = keys::LIST_ITEMS), inner(length(min = 1, max = keys::MAX_TOPIC_BYTES)))]
    pub publish: Option<Vec<String>>,
}

impl Jwt {
    /// The Secrets that it names, with the field of each.
    pub fn secrets(&self) -> impl Iterator<Item = (&'static str, &SecretKeyRef)> {
        let authorities = self.jwks.as_ref().and_then(|jwks| jwks.ca_secret_ref.as_ref());
        let keys = self.secret_ref.as_ref().map(|reference| ("secretRef", reference));
        keys.into_iter().chain(authorities.map(|reference| ("jwks.caSecretRef", reference)))
    }
}

/// A JWK Set that the nodes fetch.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[x_kube(validation = rules::jwks_url())]
#[x_kube(validation = rules::JWKS_AUTHORITIES)]
#[x_kube(validation = rules::JWKS_AUTHORITIES_FORM)]
#[x_kube(validation = rules::jwks_refresh())]
#[serde(rename_all = "camelCase")]
pub struct Jwks {
    /// The URL, `https://HOST[:PORT][/PATH]`. `http://` only for a Service of this cluster, `NAME.NAMESPACE.svc`, or for
    /// `localhost` in the pod. Redirects are not followed.
    #[schemars(length(min = 1, max = keys::MAX_URL_BYTES))]
    pub url: String,
    /// The Secret with the certificates of the authorities, in PEM, of which one must vouch for the server; it needs the
    /// label of `secretRef`. Unset: those that browsers trust, as of the node's release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
    /// Longest time between two fetches, 10s to 24h, and so the longest time for which a key is good that the issuer has
    /// taken back; unset: 5m. A new key counts at once, by the first token that names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "Duration::text_schema")]
    pub refresh: Option<Duration>,
}

/// Names of claims.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Claims {
    /// The claim that names the user; unset: `sub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = keys::MAX_CLAIM_BYTES))]
    pub user: Option<String>,
    /// A claim with a list of topics that may be joined, each exact or a prefix followed by `*`; unset: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = keys::MAX_CLAIM_BYTES))]
    pub topics: Option<String>,
    /// A claim with a list of topics that may be published on, in the same form; unset: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = keys::MAX_CLAIM_BYTES))]
    pub publish: Option<String>,
    /// A claim with `low`, `normal` or `high`, by which connections are refused when a node's memory is short: those of low
    /// priority first, and those of high priority last. Any other value, and none, counts as `normal`; unset: all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = keys::MAX_CLAIM_BYTES))]
    pub priority: Option<String>,
}

/// A key of a Secret of the same namespace.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq)]
pub struct SecretKeyRef {
    /// The name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it: a shared secret of at least 32 bytes, public keys in PEM, or a JWK Set.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// An algorithm by which tokens are signed, as RFC 7518 and RFC 8037 name it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    #[serde(rename = "HS256")]
    Hs256,
    /// HMAC with SHA-384.
    #[serde(rename = "HS384")]
    Hs384,
    /// HMAC with SHA-512.
    #[serde(rename = "HS512")]
    Hs512,
    /// RSA, PKCS #1 v1.5, with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// RSA, PKCS #1 v1.5, with SHA-384.
    #[serde(rename = "RS384")]
    Rs384,
    /// RSA, PKCS #1 v1.5, with SHA-512.
    #[serde(rename = "RS512")]
    Rs512,
    /// RSA, PSS, with SHA-256.
    #[serde(rename = "PS256")]
    Ps256,
    /// RSA, PSS, with SHA-384.
    #[serde(rename = "PS384")]
    Ps384,
    /// RSA, PSS, with SHA-512.
    #[serde(rename = "PS512")]
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// ECDSA on P-384 with SHA-384.
    #[serde(rename = "ES384")]
    Es384,
    /// ECDSA on P-521 with SHA-512.
    #[serde(rename = "ES512")]
    Es512,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}
