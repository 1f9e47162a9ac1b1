//! Tokens as issuers sign them, and as attackers change them.

use std::sync::LazyLock;

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaEncoding, RsaKeyPair,
    },
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use super::{Identity, Issuer, Jwt, Keyring, Priority, Refusal, Token};
use crate::topic::TopicName;

mod fetched;
mod hostile;
mod key_files;

pub(crate) const SECRET: &str = "a secret of at least thirty-two bytes";
/// An issuer that signs by [`SECRET`], and whose clock is right.
pub(crate) const SHARED: &str = r#"{"algorithms": ["HS256"], "keyFile": "s/k", "leewayMillis": 0}"#;

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// An issuer with a key pair.
struct Signer {
    algorithm: &'static str,
    sign: Sign,
    pem: String,
    jwk: Value,
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token of these parts, as they are.
pub(crate) fn token(header: &str, claims: &str, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", encoded(header), encoded(claims));
    let signature = sign(signed.as_bytes());
    format!("{signed}.{}", encoded(signature))
}

fn by_secret(algorithm: hmac::Algorithm, secret: &str) -> impl Fn(&[u8]) -> Vec<u8> {
    let key = hmac::Key::new(algorithm, secret.as_bytes());
    move |message| hmac::sign(&key, message).as_ref().to_vec()
}

/// A token signed by [`SECRET`].
pub(crate) fn shared(claims: &Value) -> String {
    token(r#"{"alg":"HS256"}"#, &claims.to_string(), by_secret(hmac::HMAC_SHA256, SECRET))
}

/// The keyring of one issuer.
pub(crate) fn keyring(settings: &str, keys: &str) -> Keyring {
    Keyring::new(vec![issuer(settings, keys).expect("keys")])
}

fn issuer(settings: &str, keys: &str) -> Result<Issuer, String> {
    Issuer::read(&serde_json::from_str(settings).expect("settings"), keys)
}

/// An identity that ends at a whole second, without any bound on its topics.
pub(crate) fn identity(user: &str, end_millis: u64) -> Identity {
    let token = shared(&json!({"sub": user, "exp": end_millis / 1_000}));
    keyring(SHARED, SECRET).verify(&Token::new(&token), 0).expect("a good token")
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

fn der(key: &impl AsDer<PublicKeyX509Der<'static>>) -> Vec<u8> {
    key.as_der().expect("a key").as_ref().to_vec()
}

fn rsa(algorithm: &'static str, encoding: &'static dyn RsaEncoding) -> Signer {
    // It takes a while to make one.
    static PAIR: LazyLock<RsaKeyPair> =
        LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).expect("a key"));
    let pair = &*PAIR;
    // RSAPublicKey of RFC 8017, appendix A.1.1, whose lengths are those of a key of 2,048 bits.
    let own = pair.public_key().as_ref();
    let (n, e) = (&own[9..265], &own[267..]);
    let jwk = json!({"kty": "RSA", "use": "sig", "n": encoded(n), "e": encoded(e)});
    let pem = pem(&der(pair.public_key()));
    let sign = move |message: &[u8]| {
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(encoding, &SystemRandom::new(), message, &mut signature).expect("signs");
        signature
    };
    Signer { algorithm, sign: Box::new(sign), pem, jwk }
}

fn ecdsa(algorithm: &'static str, curve: &str, signing: &'static EcdsaSigningAlgorithm) -> Signer {
    let pair = EcdsaKeyPair::generate(signing).expect("a key");
    let point = &pair.public_key().as_ref()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    let jwk = json!({"kty": "EC", "crv": curve, "x": encoded(x), "y": encoded(y)});
    let pem = pem(&der(pair.public_key()));
    let sign =
        move |message: &[u8]| pair.sign(&SystemRandom::new(), message).expect("signs").as_ref().to_vec();
    Signer { algorithm, sign: Box::new(sign), pem, jwk }
}

fn eddsa() -> Signer {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a key");
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": encoded(pair.public_key().as_ref())});
    let pem = pem(&der(pair.public_key()));
    Signer {
        algorithm: "EdDSA",
        sign: Box::new(move |message| pair.sign(message).as_ref().to_vec()),
        pem,
        jwk,
    }
}

fn rs256() -> Signer {
    rsa("RS256", &signature::RSA_PKCS1_SHA256)
}

fn es256() -> Signer {
    ecdsa("ES256", "P-256", &signature::ECDSA_P256_SHA256_FIXED_SIGNING)
}

impl Signer {
    fn token(&self, claims: &Value) -> String {
        token(&json!({"alg": self.algorithm}).to_string(), &claims.to_string(), &self.sign)
    }

    fn settings(&self) -> String {
        json!({"algorithms": [self.algorithm], "keyFile": "s/k"}).to_string()
    }
}

fn verify(keyring: &Keyring, token: &str, now_seconds: u64) -> Result<Identity, Refusal> {
    keyring.verify(&Token::new(token), now_seconds * 1_000)
}

fn may_join(identity: &Identity, topic: &str) -> bool {
    identity.may_join(TopicName::parse(topic).expect("a topic"))
}

#[test]
fn every_algorithm_verifies_by_pem_and_by_jwk() {
    let signers = [
        rs256(),
        rsa("RS384", &signature::RSA_PKCS1_SHA384),
        rsa("RS512", &signature::RSA_PKCS1_SHA512),
        rsa("PS256", &signature::RSA_PSS_SHA256),
        rsa("PS384", &signature::RSA_PSS_SHA384),
        rsa("PS512", &signature::RSA_PSS_SHA512),
        es256(),
        ecdsa("ES384", "P-384", &signature::ECDSA_P384_SHA384_FIXED_SIGNING),
        ecdsa("ES512", "P-521", &signature::ECDSA_P521_SHA512_FIXED_SIGNING),
        eddsa(),
    ];
    let claims = json!({"sub": "ann", "exp": 1_000});
    for signer in &signers {
        for keys in [signer.pem.clone(), json!({"keys": [signer.jwk]}).to_string()] {
            let ring = keyring(&signer.settings(), &keys);
            let identity = verify(&ring, &signer.token(&claims), 999);
            assert_eq!(identity.as_ref().map(Identity::user), Ok("ann"), "{} {keys}", signer.algorithm);
            for other in signers.iter().filter(|other| other.algorithm != signer.algorithm) {
                assert_eq!(verify(&ring, &other.token(&claims), 999), Err(Refusal::Algorithm));
            }
        }
    }
    for (name, algorithm) in
        [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)]
    {
        let jwk = json!({"keys": [{"kty": "oct", "k": encoded(SECRET)}]}).to_string();
        let signed =
            token(&json!({"alg": name}).to_string(), &claims.to_string(), by_secret(algorithm, SECRET));
        for keys in [SECRET, &format!("{SECRET}\n"), &jwk] {
            let ring = keyring(&json!({"algorithms": [name], "keyFile": "s/k"}).to_string(), keys);
            assert!(verify(&ring, &signed, 999).is_ok(), "{name}");
        }
    }
}

#[test]
fn a_token_is_good_from_its_beginning_to_its_end_with_the_leeway() {
    let ring = keyring(r#"{"algorithms": ["HS256"], "keyFile": "s/k", "leewayMillis": 5000}"#, SECRET);
    let token = shared(&json!({"sub": "ann", "nbf": 100, "exp": 200.5}));
    let at = |seconds| verify(&ring, &token, seconds).map(|identity| identity.expires_at_millis());
    assert_eq!([at(94), at(95), at(205)], [Err(Refusal::Early), Ok(205_500), Ok(205_500)]);
    assert_eq!([at(206), at(9_999)], [Err(Refusal::Expired); 2]);
    let far = shared(&json!({"sub": 7, "exp": 1e300}));
    let identity = verify(&ring, &far, 0).expect("it ends late");
    assert_eq!((identity.user(), identity.expires_at_millis()), ("7", 1_000_000_000_005_000));
}

#[test]
fn an_issuer_and_an_audience_are_compared_as_they_are_written() {
    let one =
        r#"{"issuer": "https://a.example", "audience": "chat", "algorithms": ["HS256"], "keyFile": "s/k"}"#;
    let other = r#"{"issuer": "https://b.example", "algorithms": ["HS256"], "keyFile": "s/l"}"#;
    let second = "another secret of thirty-two bytes";
    let ring = Keyring::new(vec![issuer(one, SECRET).expect("keys"), issuer(other, second).expect("keys")]);
    let sign = |issuer: &str, audience: Value, secret: &str| {
        let claims = json!({"iss": issuer, "aud": audience, "sub": "u", "exp": 9}).to_string();
        verify(
            &ring,
            &token(r#"{"alg":"HS256","typ":"JWT"}"#, &claims, by_secret(hmac::HMAC_SHA256, secret)),
            1,
        )
    };
    let a = sign("https://a.example", json!("chat"), SECRET).expect("good");
    let b = sign("https://b.example", Value::Null, second).expect("good");
    assert!(sign("https://a.example", json!(["x", "chat"]), SECRET).is_ok());
    assert!(!a.is_same_user(&b) && a.is_same_user(&a.clone()), "the same name of two issuers is two users");
    let refused = |issuer, audience, secret| sign(issuer, audience, secret).expect_err("refused");
    assert_eq!(refused("https://a.example", json!("chat"), second), Refusal::Signature, "the other's key");
    assert_eq!(refused("https://a.example/", json!("chat"), SECRET), Refusal::Issuer);
    assert_eq!(refused("https://b.example", json!("chat"), second), Refusal::Audience, "nobody here is chat");
    for wrong in [Value::Null, json!("Chat"), json!([]), json!(["x"]), json!({"chat": 1}), json!(1)] {
        assert_eq!(refused("https://a.example", wrong.clone(), SECRET), Refusal::Audience, "{wrong}");
    }
}

#[test]
fn topics_are_those_of_the_patterns_and_of_the_claim() {
    let settings = r#"{"algorithms": ["HS256"], "keyFile": "s/k", "topicsClaim": "rooms",
        "topics": ["lobby", "user:{sub}:*", "org:{org}:{sub}", "at:{n}"]}"#;
    let ring = keyring(settings, SECRET);
    let of = |claims: Value| {
        let mut claims = claims;
        claims["exp"] = json!(9);
        verify(&ring, &shared(&claims), 1).expect("good")
    };
    let ann = of(json!({"sub": "ann", "org": "x", "n": 7, "rooms": ["live:*", "room:1"]}));
    for (topic, allowed) in [
        ("lobby", true),
        ("lobby2", false),
        ("user:ann:inbox", true),
        ("user:ann", false),
        ("user:anna:inbox", false),
        ("org:x:ann", true),
        ("org:x:ann2", false),
        ("at:7", true),
        ("live:9", true),
        ("room:1", true),
        ("room:12", false),
        ("$cluster", true),
    ] {
        assert_eq!(may_join(&ann, topic), allowed, "{topic}");
    }
    // A star or braces in a value are letters, and a value never crosses into the topics of another.
    let star = of(json!({"sub": "*", "org": "{sub}"}));
    let joins = |identity: &Identity, topics: &[&str]| {
        topics.iter().filter(|topic| may_join(identity, topic)).count()
    };
    assert_eq!(joins(&star, &["user:*:x", "org:{sub}:*"]), 2);
    assert_eq!(joins(&star, &["user:ann:x", "org:*:ann", "at:", "live:1"]), 0);
    let crossing = of(json!({"sub": "ann:inbox", "org": "x:ann"}));
    assert_eq!(joins(&crossing, &["user:ann:inbox:a", "user:ann:inbox", "org:x:ann:ann:inbox"]), 0);
    let nothing = of(json!({"sub": "b", "org": "", "n": 1.5}));
    assert_eq!(joins(&nothing, &["org::b", "org:b", "at:1.5", "at:1"]), 0);
    let all = verify(&keyring(SHARED, SECRET), &shared(&json!({"sub": "b", "exp": 9})), 1).expect("good");
    assert!(may_join(&all, "whatever"));
}

#[test]
fn rights_to_publish_are_bounded_like_those_to_join_and_apart_from_them() {
    let settings = r#"{"algorithms": ["HS256"], "keyFile": "s/k", "topics": ["room:*"], "publishClaim": "say",
        "publish": ["room:{sub}:*"]}"#;
    let ring = keyring(settings, SECRET);
    let claims = json!({"sub": "ann", "exp": 9, "say": ["room:1", "lobby"]});
    let ann = verify(&ring, &shared(&claims), 1).expect("good");
    for (topic, joins, publishes) in [
        ("room:1", true, true),
        ("room:2", true, false),
        ("room:ann:x", true, true),
        ("room:bob:x", true, false),
        ("lobby", false, true),
    ] {
        assert_eq!((may_join(&ann, topic), ann.may_publish(topic)), (joins, publishes), "{topic}");
    }
    let wrong = json!({"sub": "ann", "exp": 9, "say": "room:1"});
    assert_eq!(verify(&ring, &shared(&wrong), 1), Err(Refusal::Claims));
    assert!(identity("ann", 9_000).may_publish("whatever"));
}

#[test]
fn a_priority_is_read_from_its_claim_where_one_is_named() {
    let settings = r#"{"algorithms": ["HS256"], "keyFile": "s/k", "priorityClaim": "tier"}"#;
    let priority = |settings: &str, tier: Value| {
        let claims = json!({"sub": "ann", "exp": 9, "tier": tier});
        verify(&keyring(settings, SECRET), &shared(&claims), 1).expect("good").priority()
    };
    for (value, expected) in [
        (json!("low"), Priority::Low),
        (json!("normal"), Priority::Normal),
        (json!("high"), Priority::High),
        (json!("gold"), Priority::Normal),
        (json!(3), Priority::Normal),
        (json!(["high"]), Priority::Normal),
        (Value::Null, Priority::Normal),
    ] {
        assert_eq!(priority(settings, value.clone()), expected, "{value}");
        assert_eq!(priority(SHARED, value), Priority::Normal);
    }
    assert_eq!(identity("ann", 9_000).priority(), Priority::Normal);
}

/// A token, and what is made of it, is in no debug output.
#[test]
fn debug_output_has_neither_tokens_nor_keys() {
    let token = Token::new("a.secret.token");
    let ring = keyring(SHARED, SECRET);
    let auth = crate::config::Auth { keys: ring, ..crate::config::Auth::default() };
    let text = format!("{token:?} {auth:?} {:?}", verify(&auth.keys, "a.secret.token", 0));
    assert!(!text.contains("secret"), "{text}");
}
