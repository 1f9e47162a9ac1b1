//! Tokens that nobody signed who may, and good ones beside them.

use std::{
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
        RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaEncoding, RsaKeyPair,
    },
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

/// Issuers with keys of each type, as the list of the configuration.
pub(crate) const ISSUERS: &str = r#"[
  {"issuer": "rsa", "audience": "chat", "algorithms": ["RS256"], "keyFile": "tokens/rsa.pem", "leewayMillis": 0},
  {"issuer": "ec", "audience": "chat", "algorithms": ["ES256"], "keyFile": "tokens/ec.json", "leewayMillis": 0},
  {"issuer": "shared", "audience": "chat", "algorithms": ["HS256"], "keyFile": "tokens/secret", "leewayMillis": 0}
]"#;
/// The shared secret of an issuer.
pub(crate) const SECRET: &str = "a secret of at least thirty-two bytes";

pub(crate) fn seconds_from_now(seconds: u64) -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time since 1970").as_secs() + seconds
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token with these parts as they are, and a signature over them.
fn token(header: &str, claims: &str, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", encoded(header), encoded(claims));
    let signature = encoded(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

/// The keys of the issuers, and those of an attacker.
struct Keys {
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    own: EcdsaKeyPair,
    own_rsa: RsaKeyPair,
}

fn by_rsa(pair: &RsaKeyPair, encoding: &'static dyn RsaEncoding) -> impl Fn(&[u8]) -> Vec<u8> {
    move |message| {
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(encoding, &SystemRandom::new(), message, &mut signature).expect("a signature");
        signature
    }
}

fn by_ec(pair: &EcdsaKeyPair) -> impl Fn(&[u8]) -> Vec<u8> {
    move |message| pair.sign(&SystemRandom::new(), message).expect("a signature").as_ref().to_vec()
}

fn by_secret(secret: &[u8]) -> impl Fn(&[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    move |message| hmac::sign(&key, message).as_ref().to_vec()
}

fn jwk(pair: &EcdsaKeyPair, id: &str) -> Value {
    let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
    json!({"kty": "EC", "crv": "P-256", "kid": id, "x": encoded(x), "y": encoded(y)})
}

impl Keys {
    fn make() -> Self {
        let ec = || EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        let rsa = || RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
        Self { rsa: rsa(), ec: ec(), own: ec(), own_rsa: rsa() }
    }

    fn rsa_pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = self.rsa.public_key().as_der().expect("a key");
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der.as_ref()))
    }
}

/// The keys of this process.
fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(Keys::make)
}

/// The files that [`ISSUERS`] name, with their content.
pub(crate) fn files() -> [(&'static str, String); 3] {
    let keys = keys();
    let set = json!({"keys": [jwk(&keys.ec, "1"), jwk(&keys.ec, "2")]});
    [("rsa.pem", keys.rsa_pem()), ("ec.json", set.to_string()), ("secret", SECRET.to_owned())]
}

/// A good token of each issuer.
pub(crate) fn good() -> [String; 3] {
    let keys = keys();
    [
        token(r#"{"alg":"RS256"}"#, &claims("rsa").to_string(), by_rsa(&keys.rsa, &RSA_PKCS1_SHA256)),
        token(r#"{"alg":"ES256","kid":"1"}"#, &claims("ec").to_string(), by_ec(&keys.ec)),
        shared_token("ann"),
    ]
}

/// A good token of the issuer with the shared secret for this user.
pub(crate) fn shared_token(user: &str) -> String {
    token(r#"{"alg":"HS256"}"#, &changed("shared", "sub", json!(user)), by_secret(SECRET.as_bytes()))
}

/// Tokens that are not good, each with its kind.
pub(crate) fn all() -> &'static [(&'static str, String)] {
    static ALL: OnceLock<Vec<(&str, String)>> = OnceLock::new();
    ALL.get_or_init(|| confused(keys()).into_iter().chain(twisted(keys())).collect())
}

fn claims(issuer: &str) -> Value {
    json!({"iss": issuer, "aud": "chat", "sub": "ann", "exp": seconds_from_now(3_600)})
}

fn changed(issuer: &str, name: &str, value: Value) -> String {
    let mut claims = claims(issuer);
    claims[name] = value;
    claims.to_string()
}

/// Tokens by which the attacker says that it signed them by something that it may sign by.
fn confused(keys: &Keys) -> Vec<(&'static str, String)> {
    let (rsa, ec) = (claims("rsa").to_string(), claims("ec").to_string());
    let (pem, der) = (keys.rsa_pem(), keys.rsa.public_key().as_ref().to_vec());
    let own = by_ec(&keys.own);
    let header = |more: Value| {
        let mut header = json!({"alg": "ES256", "kid": "1"});
        header.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        header.to_string()
    };
    let mut all = vec![
        ("none", token(r#"{"alg":"none"}"#, &rsa, |_| Vec::new())),
        ("None", token(r#"{"alg":"None"}"#, &rsa, |_| Vec::new())),
        ("NONE with a signature", token(r#"{"alg":"NONE"}"#, &ec, &own)),
        ("an empty algorithm", token(r#"{"alg":""}"#, &rsa, |_| Vec::new())),
        ("no algorithm", token("{}", &rsa, |_| Vec::new())),
        ("two algorithms", token(r#"{"alg":"RS256","alg":"none"}"#, &rsa, |_| Vec::new())),
        ("algorithms in a list", token(r#"{"alg":["RS256","none"]}"#, &rsa, |_| Vec::new())),
        ("the public key in PEM as a secret", token(r#"{"alg":"HS256"}"#, &rsa, by_secret(pem.as_bytes()))),
        ("the same trimmed", token(r#"{"alg":"HS256"}"#, &rsa, by_secret(pem.trim().as_bytes()))),
        ("the public key in DER as a secret", token(r#"{"alg":"HS256"}"#, &rsa, by_secret(&der))),
        ("an empty secret", token(r#"{"alg":"HS256"}"#, &claims("shared").to_string(), by_secret(b""))),
        ("another secret", token(r#"{"alg":"HS256"}"#, &claims("shared").to_string(), by_secret(b"secret"))),
        ("another hash", token(r#"{"alg":"RS512"}"#, &rsa, by_rsa(&keys.rsa, &RSA_PKCS1_SHA512))),
        ("another key", token(r#"{"alg":"RS256"}"#, &rsa, by_rsa(&keys.own_rsa, &RSA_PKCS1_SHA256))),
        ("the key of another issuer", token(r#"{"alg":"RS256"}"#, &ec, by_rsa(&keys.rsa, &RSA_PKCS1_SHA256))),
        ("a key in the header", token(&header(json!({"jwk": jwk(&keys.own, "1")})), &ec, &own)),
        (
            "a place of keys in the header",
            token(&header(json!({"jku": "http://127.0.0.1:1/keys"})), &ec, &own),
        ),
        ("a certificate in the header", token(&header(json!({"x5c": ["AAAA"]})), &ec, &own)),
        ("a place of certificates", token(&header(json!({"x5u": "http://127.0.0.1:1/cert"})), &ec, &own)),
        ("something critical", token(&header(json!({"crit": ["b64"], "b64": false})), &ec, by_ec(&keys.ec))),
        ("zeros", token(&header(json!({})), &ec, |_| vec![0; 64])),
        (
            "r of zero",
            token(&header(json!({})), &ec, |message| {
                [vec![0; 32], by_ec(&keys.ec)(message)[32..].to_vec()].concat()
            }),
        ),
        (
            "a signature in DER",
            token(&header(json!({})), &ec, |_| [&[0x30, 6, 2, 1, 1, 2, 1, 1][..]].concat()),
        ),
        ("no signature", token(&header(json!({})), &ec, |_| Vec::new())),
        ("another curve", {
            let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).expect("a key");
            token(r#"{"alg":"ES384"}"#, &ec, by_ec(&pair))
        }),
    ];
    let long = "k".repeat(6_000);
    let ids = [
        ("a path upwards as the name of a key", "../../../dev/null"),
        ("a path as the name of a key", "/etc/passwd"),
        ("SQL as the name of a key", "1' OR '1'='1"),
        ("a zero byte in the name of a key", "1\u{0}"),
        ("a command as the name of a key", "| id"),
        ("a URL as the name of a key", "http://127.0.0.1:1/"),
        ("a long name of a key", long.as_str()),
        ("an empty name of a key", ""),
    ];
    all.extend(ids.map(|(what, id)| (what, token(&header(json!({"kid": id})), &ec, &own))));
    all
}

/// Tokens that were signed, by whom they must be, and say the wrong thing or are written in another way.
fn twisted(keys: &Keys) -> Vec<(&'static str, String)> {
    let sign = by_ec(&keys.ec);
    let header = r#"{"alg":"ES256","kid":"1"}"#;
    let with = |name: &str, value: Value| token(header, &changed("ec", name, value), &sign);
    let good = token(header, &claims("ec").to_string(), &sign);
    let (signed, signature) = good.rsplit_once('.').expect("a signature");
    let padded = format!("{signed}.{signature}==");
    // The last letter of 64 bytes has four bits that are no part of them.
    let last = if signature.ends_with('A') { "B" } else { "A" };
    let loose: Vec<_> = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".chars().collect();
    let place = loose.iter().position(|letter| signature.ends_with(*letter)).expect("a letter");
    let twin = format!("{signed}.{}{}", &signature[..signature.len() - 1], loose[place ^ 1]);
    let more = |text: &str| token(header, &claims("ec").to_string().replacen('{', text, 1), &sign);
    vec![
        ("expired", with("exp", json!(seconds_from_now(0) - 1))),
        ("no end", with("exp", Value::Null)),
        ("an end in text", with("exp", json!("9999999999"))),
        ("a negative end", with("exp", json!(-9_999_999_999_i64))),
        ("not yet good", with("nbf", json!(seconds_from_now(3_600)))),
        ("for somebody else", with("aud", json!("mail"))),
        ("for nobody", with("aud", Value::Null)),
        ("for a list of others", with("aud", json!(["mail", {"chat": "chat"}]))),
        ("by somebody else", with("iss", json!("nobody"))),
        ("by another issuer of the list", with("iss", json!("rsa"))),
        ("by a list of issuers", with("iss", json!(["ec"]))),
        ("by nobody", with("iss", Value::Null)),
        ("without a user", with("sub", Value::Null)),
        ("with a user of an object", with("sub", json!({"$ne": ""}))),
        ("with padding", padded),
        ("with bits that count for nothing", twin),
        ("with another last letter", format!("{}{last}", &good[..good.len() - 1])),
        ("with the other alphabet", good.replace(['-', '_'], "+")[..].to_owned() + "/"),
        ("with a part more", format!("{good}.{signature}")),
        ("with a part less", signed.to_owned()),
        ("encrypted", "a.b.c.d.e".to_owned()),
        ("as JSON", json!({"payload": "e30", "signatures": []}).to_string()),
        ("too long", token(header, &changed("ec", "x", json!("x".repeat(9_000))), &sign)),
        ("deep", more(&format!("{{\"x\":{}{},", "[".repeat(2_000), "]".repeat(2_000)))),
        ("with a second issuer", {
            let claims = claims("ec").to_string();
            token(header, &format!("{},\"iss\":\"rsa\"}}", claims.trim_end_matches('}')), &sign)
        }),
        ("claims that are no object", token(header, "[]", &sign)),
        ("a header that is no object", token("[]", &claims("ec").to_string(), &sign)),
        ("dots", "..".to_owned()),
        ("nothing", String::new()),
    ]
}
