//! The keys of issuers, as they stand in the files of a Secret: a shared secret, public keys in PEM (RFC 7468), or a
//! JWK Set (RFC 7517); or as they are fetched, which is a JWK Set too.
//!
//! A key is read for the algorithms that the configuration lists and that fit its type, and verifies by no others. An
//! issuer has either shared secrets or public keys, so that a public key, which everybody may know, can never be taken
//! for a secret.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    hmac,
    signature::{self, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents, VerificationAlgorithm},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{algorithm::Algorithm, refresh::Freshness, rights::Rights, settings::Jwt, verified::Verified};

/// Most keys of an issuer: large identity providers publish about ten at a time.
const MAX_KEYS: usize = 32;
/// Fewest bytes of a shared secret, as RFC 7518, section 3.2, wants for SHA-256: tokens are known to clients, who can try
/// out secrets at home.
const LEAST_SECRET_BYTES: usize = 32;
/// Longest id of a key in bytes.
const KID_BYTES: usize = 256;

/// The issuers whose tokens are taken, with their keys. Equal are those that were read at the same moment.
#[derive(Clone, Default)]
pub struct Keyring(Option<Arc<Ring>>);

struct Ring {
    issuers: Box<[Issuer]>,
    verified: Verified,
}

impl Keyring {
    /// No issuer.
    pub const NONE: Self = Self(None);

    /// These issuers, in the order of the configuration.
    #[must_use]
    pub fn new(issuers: Vec<Issuer>) -> Self {
        Self(Some(Arc::new(Ring { issuers: issuers.into(), verified: Verified::default() })))
    }

    pub(super) fn issuers(&self) -> &[Issuer] {
        self.0.as_ref().map_or(&[], |ring| &ring.issuers)
    }

    /// The tokens that were verified by these keys.
    pub(super) fn verified(&self) -> Option<&Verified> {
        self.0.as_ref().map(|ring| &ring.verified)
    }

    /// Memory in bytes of what is remembered of tokens. All who have this keyring share it.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.verified().map_or(0, Verified::held_bytes)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({} issuers)", self.issuers().len())
    }
}

impl PartialEq for Keyring {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(one), Some(another)) => Arc::ptr_eq(one, another),
            _ => false,
        }
    }
}

/// An issuer with its keys.
pub struct Issuer {
    pub(super) name: Option<Arc<str>>,
    pub(super) audience: Option<String>,
    pub(super) leeway_millis: u64,
    pub(super) user_claim: String,
    /// The topics that may be joined, and those that may be published on.
    pub(super) joins: Rights,
    pub(super) publishes: Rights,
    /// The claim that names the priority.
    pub(super) priority_claim: Option<String>,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) keys: Vec<Key>,
    /// How old the keys are, when they are fetched.
    pub(super) freshness: Option<Arc<Freshness>>,
}

/// A key, with the ways to verify by it.
pub(super) struct Key {
    /// Its name in headers of tokens, if it has one.
    pub(super) id: Option<String>,
    pub(super) ways: Vec<(Algorithm, Way)>,
}

/// How a signature is verified.
pub(super) enum Way {
    /// By a shared secret.
    Secret(Box<hmac::Key>),
    /// By a public key.
    Public(ParsedPublicKey),
}

impl Way {
    /// Whether this is the signature of the message.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Self::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }
}

impl Issuer {
    /// Reads the keys of an issuer, whose settings passed the check of the configuration, from the text of its file.
    ///
    /// # Errors
    /// What is wrong with the text, to be put after the name of the file. Nothing of the text is repeated.
    pub fn read(settings: &Jwt, text: &str) -> Result<Self, String> {
        let algorithms = &settings.algorithms;
        let shared = algorithms.iter().any(|algorithm| algorithm.is_shared());
        let text = text.trim();
        let keys = if text.starts_with('{') {
            jwk_set(text, algorithms)?
        } else if shared {
            vec![shared_secret(text, algorithms)?]
        } else {
            pem(text, algorithms)?
        };
        Self::with(settings, counted(keys, algorithms)?, None)
    }

    /// An issuer whose keys are fetched, from the last JWK Set that passed [`Issuer::check_fetched`]. Before the first it
    /// has no keys, and nothing can be said about its tokens.
    ///
    /// # Errors
    /// As [`Issuer::read`].
    pub fn fetched(settings: &Jwt, set: Option<&str>, freshness: Arc<Freshness>) -> Result<Self, String> {
        let keys = set.map(|set| fetched_set(set, &settings.algorithms)).transpose()?;
        Self::with(settings, keys.unwrap_or_default(), Some(freshness))
    }

    /// Whether this is a JWK Set with keys of an issuer.
    ///
    /// # Errors
    /// What is wrong with it, to be put after its name. Nothing of the text is repeated.
    pub fn check_fetched(algorithms: &[Algorithm], set: &str) -> Result<(), String> {
        fetched_set(set, algorithms).map(drop)
    }

    fn with(settings: &Jwt, keys: Vec<Key>, freshness: Option<Arc<Freshness>>) -> Result<Self, String> {
        Ok(Self {
            name: settings.issuer.as_deref().map(Arc::from),
            audience: settings.audience.clone(),
            leeway_millis: settings.leeway(),
            user_claim: settings.user_claim.clone(),
            joins: Rights::read(settings.topics.as_deref(), settings.topics_claim.as_deref())?,
            publishes: Rights::read(settings.publish.as_deref(), settings.publish_claim.as_deref())?,
            priority_claim: settings.priority_claim.clone(),
            algorithms: settings.algorithms.clone(),
            keys,
            freshness,
        })
    }
}

/// These keys, if there are some and not too many.
fn counted(keys: Vec<Key>, algorithms: &[Algorithm]) -> Result<Vec<Key>, String> {
    if keys.is_empty() {
        let names: Vec<_> = algorithms.iter().map(|algorithm| algorithm.name()).collect();
        return Err(format!("holds no key for {}; add one, or correct algorithms", names.join(", ")));
    }
    if keys.len() > MAX_KEYS {
        return Err(format!("holds {} keys; use at most {MAX_KEYS}", keys.len()));
    }
    Ok(keys)
}

fn shared_secret(text: &str, algorithms: &[Algorithm]) -> Result<Key, String> {
    if text.contains("-----BEGIN ") {
        return Err("holds a key in PEM where the algorithms want a shared secret: whoever knows a public key could sign \
                    tokens by it; list the algorithms of that key"
            .to_owned());
    }
    let ways =
        algorithms.iter().filter_map(|algorithm| Some((*algorithm, secret(*algorithm, text.as_bytes())?)));
    let ways: Vec<_> = ways.collect();
    if ways.is_empty() {
        return Err(too_short());
    }
    Ok(Key { id: None, ways })
}

fn too_short() -> String {
    format!(
        "holds a secret of fewer than {LEAST_SECRET_BYTES} bytes, which can be found by trying; make a longer one"
    )
}

/// The way of an algorithm by a shared secret; none when it has none, or the secret is too short.
fn secret(algorithm: Algorithm, value: &[u8]) -> Option<Way> {
    let hash = match algorithm {
        Algorithm::Hs256 => hmac::HMAC_SHA256,
        Algorithm::Hs384 => hmac::HMAC_SHA384,
        Algorithm::Hs512 => hmac::HMAC_SHA512,
        _ => return None,
    };
    (value.len() >= LEAST_SECRET_BYTES).then(|| Way::Secret(Box::new(hmac::Key::new(hash, value))))
}

/// The public keys of a file in PEM. Text around the blocks is ignored, as RFC 7468 wants it.
fn pem(text: &str, algorithms: &[Algorithm]) -> Result<Vec<Key>, String> {
    let mut keys = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let (label, after) = after.split_once("-----").ok_or("holds a block of PEM without an end")?;
        match label {
            "PUBLIC KEY" | "RSA PUBLIC KEY" => {}
            "CERTIFICATE" => {
                return Err(
                    "holds a certificate; take its public key out by openssl x509 -pubkey -noout".to_owned()
                );
            }
            label if label.ends_with("PRIVATE KEY") => {
                return Err("holds a private key, which only the issuer may have; take its public key out by openssl pkey \
                            -pubout, and replace the private one"
                    .to_owned());
            }
            _ => {
                return Err(
                    "holds PEM that is no public key; begin it with -----BEGIN PUBLIC KEY-----".to_owned()
                );
            }
        }
        let (body, after) = after.split_once("-----END ").ok_or("holds a block of PEM without an end")?;
        let body: String = body.split_ascii_whitespace().collect();
        let der = STANDARD.decode(body).map_err(|_| "holds PEM that is not base64")?;
        let ways: Vec<_> = algorithms
            .iter()
            .filter_map(|algorithm| Some((*algorithm, Way::Public(parsed(*algorithm, &der)?))))
            .collect();
        if ways.is_empty() {
            return Err("holds a public key of another type than the algorithms want".to_owned());
        }
        keys.push(Key { id: None, ways });
        rest = after;
    }
    if keys.is_empty() {
        return Err(
            "holds neither a JWK Set nor PEM; write -----BEGIN PUBLIC KEY----- and the key".to_owned()
        );
    }
    Ok(keys)
}

/// A public key in the encoding of its type, if that is the type of the algorithm.
fn parsed(algorithm: Algorithm, key: &[u8]) -> Option<ParsedPublicKey> {
    let verification: &'static dyn VerificationAlgorithm = match algorithm {
        Algorithm::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
        Algorithm::Es384 => &signature::ECDSA_P384_SHA384_FIXED,
        Algorithm::Es512 => &signature::ECDSA_P521_SHA512_FIXED,
        Algorithm::EdDsa => &signature::ED25519,
        _ => rsa(algorithm)?,
    };
    ParsedPublicKey::new(verification, key).ok()
}

fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

#[derive(Deserialize)]
struct JwkSet<K> {
    keys: Vec<K>,
}

/// The members of a JWK that are read (RFC 7517, section 4; RFC 7518, section 6; RFC 8037).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
    d: Option<IgnoredAny>,
}

/// The keys of a JWK Set that was fetched. As RFC 7517, section 5, wants it, those that cannot be used are left out: it is
/// not ours, and one key of a kind that is new must not take away the others.
fn fetched_set(text: &str, algorithms: &[Algorithm]) -> Result<Vec<Key>, String> {
    let set: JwkSet<&RawValue> = serde_json::from_str(text)
        .map_err(|_| "holds no JWK Set; the URL must lead to {\"keys\": [...]}".to_owned())?;
    let keys = set.keys.into_iter().filter_map(|jwk| {
        let jwk: Jwk = serde_json::from_str(jwk.get()).ok()?;
        let ways = jwk.ways(algorithms).ok().filter(|ways| !ways.is_empty())?;
        Some(Key { id: jwk.kid, ways })
    });
    // One more tells that there are too many.
    counted(keys.take(MAX_KEYS + 1).collect(), algorithms)
}

/// The keys of a JWK Set that fit the algorithms. Others are left out, as RFC 7517, section 5, wants it.
fn jwk_set(text: &str, algorithms: &[Algorithm]) -> Result<Vec<Key>, String> {
    // The reader's own words would repeat what stands in the file.
    let set: JwkSet<Jwk> = serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!(
            "holds no JWK Set: line {line}, column {column}; write {{\"keys\": [...]}} with a kty in each"
        )
    })?;
    let mut keys = Vec::new();
    for (index, jwk) in set.keys.into_iter().enumerate() {
        let ways = jwk.ways(algorithms).map_err(|why| format!("holds the key {index}, which {why}"))?;
        if !ways.is_empty() {
            keys.push(Key { id: jwk.kid, ways });
        }
    }
    Ok(keys)
}

impl Jwk {
    fn ways(&self, algorithms: &[Algorithm]) -> Result<Vec<(Algorithm, Way)>, String> {
        if self.d.is_some() {
            return Err("is a private key, which only the issuer may have; leave its d out, and replace it"
                .to_owned());
        }
        if self.kid.as_ref().is_some_and(|id| id.len() > KID_BYTES) {
            return Err(format!("has a kid above {KID_BYTES} bytes; choose a shorter one"));
        }
        let mut ways = Vec::new();
        if self.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return Ok(ways);
        }
        let is_meant = |algorithm: &&Algorithm| self.alg.as_deref().is_none_or(|alg| alg == algorithm.name());
        for algorithm in algorithms.iter().filter(is_meant) {
            if let Some(way) = self.way(*algorithm)? {
                ways.push((*algorithm, way));
            }
        }
        Ok(ways)
    }

    /// The way of an algorithm by this key; none when it is a key of another type.
    fn way(&self, algorithm: Algorithm) -> Result<Option<Way>, String> {
        let curve = |crv: &str, bytes: usize| -> Result<Option<Vec<u8>>, String> {
            if self.kty != "EC" || self.crv.as_deref() != Some(crv) {
                return Ok(None);
            }
            let (x, y) = (bytes_of(self.x.as_ref(), "x")?, bytes_of(self.y.as_ref(), "y")?);
            if x.len() != bytes || y.len() != bytes {
                return Err(format!("has an x or y of another length than the {bytes} bytes of {crv}"));
            }
            // The uncompressed point of SEC 1, section 2.3.3.
            Ok(Some([vec![4], x, y].concat()))
        };
        let point = match algorithm {
            Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => return self.oct(algorithm),
            Algorithm::Es256 => curve("P-256", 32)?,
            Algorithm::Es384 => curve("P-384", 48)?,
            Algorithm::Es512 => curve("P-521", 66)?,
            Algorithm::EdDsa => {
                let ours = self.kty == "OKP" && self.crv.as_deref() == Some("Ed25519");
                ours.then(|| bytes_of(self.x.as_ref(), "x")).transpose()?
            }
            _ => return self.rsa(algorithm),
        };
        let Some(point) = point else { return Ok(None) };
        let key = parsed(algorithm, &point).ok_or("is no point of its curve")?;
        Ok(Some(Way::Public(key)))
    }

    fn oct(&self, algorithm: Algorithm) -> Result<Option<Way>, String> {
        if self.kty != "oct" {
            return Ok(None);
        }
        let value = bytes_of(self.k.as_ref(), "k")?;
        secret(algorithm, &value).map(Some).ok_or_else(too_short)
    }

    fn rsa(&self, algorithm: Algorithm) -> Result<Option<Way>, String> {
        let Some(parameters) = rsa(algorithm).filter(|_| self.kty == "RSA") else { return Ok(None) };
        let (n, e) = (bytes_of(self.n.as_ref(), "n")?, bytes_of(self.e.as_ref(), "e")?);
        let without_zeros =
            |bytes: Vec<u8>| bytes.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<_>>();
        let components = RsaPublicKeyComponents { n: without_zeros(n), e: without_zeros(e) };
        let key = components.to_parsed_public_key(parameters).map_err(|_| "is no RSA key")?;
        Ok(Some(Way::Public(key)))
    }
}

fn bytes_of(member: Option<&String>, name: &str) -> Result<Vec<u8>, String> {
    let text = member.ok_or_else(|| format!("lacks {name}"))?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("has a {name} that is no base64url without padding"))
}
