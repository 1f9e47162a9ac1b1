//! From a token to an identity: the form, the issuer, the signature, and only then what the claims say.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value};

use super::{
    algorithm::Algorithm,
    identity::Identity,
    keyring::{Issuer, Keyring, Way},
    priority::Priority,
    rights::claim_text,
    token::Token,
    verified::Digest,
};

/// Longest token in bytes. Those of identity providers with many groups have 2 to 4 KB.
pub(super) const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// Most keys by which one token is tried. A header that names no key may fit several.
const MAX_TRIES: usize = 4;
/// Longest name of a user in bytes.
const MAX_USER_BYTES: usize = 255;
/// The latest time that is told from later ones, in seconds: the year 33,658.
const LATEST_SECONDS: f64 = 1e12;

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is longer than [`MAX_TOKEN_BYTES`].
    TooLong,
    /// It is no token in compact form with JSON in its parts, or its header asks for something that is not known here.
    Malformed,
    /// It is signed by nothing, or by an algorithm that its issuer does not sign by.
    Algorithm,
    /// Its issuer is not declared.
    Issuer,
    /// Its issuer has no key of that name, or so many that fit that the header has to name one.
    Key,
    /// Its key is not known, and may be among those that the issuer has by now: they could not be fetched yet.
    Unknown,
    /// No key that fits has signed it.
    Signature,
    /// It is meant for somebody else.
    Audience,
    /// A claim is missing, or has another form than it must have.
    Claims,
    /// Its time is over.
    Expired,
    /// Its time has not come.
    Early,
}

/// The header of a token (RFC 7515, section 4.1). Others of its members say where keys may be had, or hold some: they
/// are not read.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
}

/// A token in its parts.
struct Parts<'a> {
    header: Header,
    claims: Map<String, Value>,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Parts<'a> {
    fn read(token: &'a Token) -> Result<Self, Refusal> {
        let text = token.text();
        if text.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::TooLong);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(Refusal::Malformed)?;
        // A further dot would be no letter of base64url.
        let (header, claims) = signed.split_once('.').ok_or(Refusal::Malformed)?;
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| Refusal::Malformed)?;
        // It would have to be understood, and no extension is.
        if header.crit.is_some() {
            return Err(Refusal::Malformed);
        }
        let claims = serde_json::from_slice(&decode(claims)?).map_err(|_| Refusal::Malformed)?;
        Ok(Self { header, claims, signed, signature: decode(signature)? })
    }
}

fn decode(part: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Malformed)
}

/// An identity, and whether the token was verified before.
#[derive(Debug)]
pub struct Verification {
    /// What the token says about its holder.
    pub identity: Arc<Identity>,
    /// The token was verified before by the same keys, and not again.
    pub known: bool,
}

impl Keyring {
    /// Verifies a token at a time in milliseconds since 1970, unless it is known. `budget` is the memory budget of the node
    /// in bytes, of which a part is for tokens that are remembered.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn identify(&self, token: &Token, now_millis: u64, budget: u64) -> Result<Verification, Refusal> {
        let Some(verified) = self.verified() else { return Err(Refusal::Issuer) };
        if token.text().len() > MAX_TOKEN_BYTES {
            return Err(Refusal::TooLong);
        }
        let digest = Digest::of(token);
        if let Some(identity) = verified.find(digest, now_millis) {
            return Ok(Verification { identity, known: true });
        }
        let identity = Arc::new(self.verify(token, now_millis)?);
        verified.insert(digest, &identity, budget);
        Ok(Verification { identity, known: false })
    }

    /// Verifies a token at a time in milliseconds since 1970.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn verify(&self, token: &Token, now_millis: u64) -> Result<Identity, Refusal> {
        let parts = Parts::read(token)?;
        let named = parts.claims.get("iss").and_then(Value::as_str);
        let is_named = |issuer: &&Issuer| issuer.name.is_none() || issuer.name.as_deref() == named;
        let issuer = self.issuers().iter().find(is_named).ok_or(Refusal::Issuer)?;
        issuer.check_signature(&parts, now_millis)?;
        issuer.identity(&parts.claims, now_millis)
    }
}

impl Issuer {
    fn check_signature(&self, parts: &Parts<'_>, now_millis: u64) -> Result<(), Refusal> {
        let algorithm = Algorithm::parse(&parts.header.alg).ok_or(Refusal::Algorithm)?;
        if !self.algorithms.contains(&algorithm) {
            return Err(Refusal::Algorithm);
        }
        let by_algorithm = self.keys.iter().filter_map(|key| {
            let (_, way) = key.ways.iter().find(|(of, _)| *of == algorithm)?;
            Some((key.id.as_deref(), way))
        });
        let by_algorithm: Vec<_> = by_algorithm.collect();
        if by_algorithm.is_empty() {
            return Err(self.without_key(now_millis).unwrap_or(Refusal::Algorithm));
        }
        let asked = parts.header.kid.as_deref();
        // The names are compared and used for nothing else.
        let is_meant = |id: Option<&str>| id.is_none() || asked.is_none() || id == asked;
        let fitting: Vec<_> = by_algorithm.into_iter().filter(|(id, _)| is_meant(*id)).collect();
        if fitting.is_empty() {
            return Err(self.without_key(now_millis).unwrap_or(Refusal::Key));
        }
        if fitting.len() > MAX_TRIES {
            return Err(Refusal::Key);
        }
        let mut ways = fitting.into_iter().map(|(_, way)| way);
        let verified = ways.any(|way: &Way| way.verifies(parts.signed.as_bytes(), &parts.signature));
        verified.then_some(()).ok_or(Refusal::Signature)
    }

    /// What is said of a token without a key, if its key may come yet.
    fn without_key(&self, now_millis: u64) -> Option<Refusal> {
        let will_be_fetched = self.freshness.as_ref().is_some_and(|freshness| freshness.want(now_millis));
        will_be_fetched.then_some(Refusal::Unknown)
    }

    /// What verified claims say.
    fn identity(&self, claims: &Map<String, Value>, now_millis: u64) -> Result<Identity, Refusal> {
        if !self.is_meant(claims.get("aud")) {
            return Err(Refusal::Audience);
        }
        // Without an end a token could never be taken back.
        let end = time(claims, "exp")?.ok_or(Refusal::Claims)?.saturating_add(self.leeway_millis);
        if now_millis >= end {
            return Err(Refusal::Expired);
        }
        if time(claims, "nbf")?.is_some_and(|begin| begin > now_millis.saturating_add(self.leeway_millis)) {
            return Err(Refusal::Early);
        }
        let user = claim_text(claims, &self.user_claim).filter(|user| user.len() <= MAX_USER_BYTES);
        Ok(Identity {
            issuer: self.name.clone(),
            user: user.ok_or(Refusal::Claims)?.into(),
            expires_at_millis: end,
            joins: self.joins.grants(claims).ok_or(Refusal::Claims)?,
            publishes: self.publishes.grants(claims).ok_or(Refusal::Claims)?,
            priority: Priority::of(self.priority_claim.as_ref().and_then(|name| claims.get(name))),
        })
    }

    /// Whether a token with this audience is for this fleet. Without an audience of our own it is for us only when it has
    /// none (RFC 7519, section 4.1.3).
    fn is_meant(&self, audience: Option<&Value>) -> bool {
        match (audience, self.audience.as_deref()) {
            (None | Some(Value::Null), own) => own.is_none(),
            (Some(Value::String(one)), Some(own)) => one == own,
            (Some(Value::Array(all)), Some(own)) => all.iter().any(|one| one.as_str() == Some(own)),
            (Some(_), _) => false,
        }
    }
}

/// A NumericDate (RFC 7519, section 2) in milliseconds since 1970, if there is one.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<u64>, Refusal> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let seconds = value.as_f64().ok_or(Refusal::Claims)?;
            // What is left is a number from 0 to 10^15.
            Ok(Some((seconds.clamp(0.0, LATEST_SECONDS) * 1_000.0) as u64))
        }
    }
}
