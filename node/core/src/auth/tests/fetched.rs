//! Issuers whose keys are fetched: before the first set, and when a token names a key that is not in it.

use std::sync::Arc;

use super::*;
use crate::auth::{Freshness, LEAST_REFRESH_MILLIS};

const NOW: u64 = 1_000_000;

fn settings() -> Jwt {
    let text = r#"{"algorithms": ["ES256", "EdDSA"], "jwks": {"url": "https://id.example/keys"}}"#;
    serde_json::from_str(text).expect("settings")
}

fn named(signer: &Signer, id: &str) -> Value {
    let mut jwk = signer.jwk.clone();
    jwk["kid"] = json!(id);
    jwk
}

fn set(keys: &[Value]) -> String {
    json!({"keys": keys}).to_string()
}

fn ring(set: Option<&str>, freshness: &Arc<Freshness>) -> Keyring {
    let issuer = Issuer::fetched(&settings(), set, Arc::clone(freshness)).expect("keys");
    Keyring::new(vec![issuer])
}

fn by(signer: &Signer, id: &str) -> String {
    let header = json!({"alg": signer.algorithm, "kid": id}).to_string();
    token(&header, &json!({"sub": "u", "exp": NOW + 9}).to_string(), &signer.sign)
}

#[test]
fn before_the_first_set_nothing_is_said_about_a_token_and_nobody_gets_in() {
    let freshness = Arc::<Freshness>::default();
    let ring = ring(None, &freshness);
    let nameless = es256().token(&json!({"sub": "u", "exp": NOW + 9}));
    for token in [by(&es256(), "1"), by(&eddsa(), ""), nameless] {
        assert_eq!(verify(&ring, &token, NOW), Err(Refusal::Unknown));
        assert!(freshness.take_wanted());
    }
    // No set could make these good.
    for (token, refusal) in [
        (by(&rs256(), "1"), Refusal::Algorithm),
        (shared(&json!({"sub": "u", "exp": NOW + 9})), Refusal::Algorithm),
        (token(r#"{"alg":"none"}"#, r#"{"sub":"u"}"#, |_| Vec::new()), Refusal::Algorithm),
        ("a.b.c".to_owned(), Refusal::Malformed),
    ] {
        assert_eq!(verify(&ring, &token, NOW), Err(refusal), "{token}");
    }
    assert!(!freshness.take_wanted());
}

#[test]
fn a_key_that_is_not_in_the_set_is_unknown_until_the_set_is_a_recent_one() {
    let (one, two) = (es256(), eddsa());
    let freshness = Arc::<Freshness>::default();
    freshness.set_fetched(NOW * 1_000);
    let ring = ring(Some(&set(&[named(&one, "1")])), &freshness);
    assert!(verify(&ring, &by(&one, "1"), NOW).is_ok());
    let later = NOW + LEAST_REFRESH_MILLIS / 1_000;
    // Another name, and another algorithm of those that the issuer may change to.
    for (token, refusal) in [(by(&one, "2"), Refusal::Key), (by(&two, "2"), Refusal::Algorithm)] {
        assert_eq!(verify(&ring, &token, later - 1), Err(refusal));
        assert!(!freshness.take_wanted(), "it was asked just now");
        assert_eq!(verify(&ring, &token, later), Err(Refusal::Unknown));
        assert!(freshness.take_wanted());
    }
    // The known key goes on however old it is, and so does what is wrong with a token by it.
    assert_eq!(verify(&ring, &by(&one, "1"), later + 100), Err(Refusal::Expired));
    assert_eq!(verify(&ring, &by(&es256(), "1"), later), Err(Refusal::Signature));
    assert!(!freshness.take_wanted());
}

#[test]
fn keys_of_a_fetched_set_that_cannot_be_used_take_nothing_away_from_the_others() {
    let good = es256();
    let broken = [
        json!(7),
        json!({}),
        json!({"kty": 1}),
        json!({"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ", "kid": "a"}),
        json!({"kty": "EC", "crv": "P-256", "x": "!", "y": "AQ", "kid": "b"}),
        json!({"kty": "oct", "k": encoded(SECRET)}),
        json!({"kty": "RSA", "n": "AQ", "e": "AQAB"}),
        named(&good, &"k".repeat(257)),
    ];
    let private = {
        let mut jwk = named(&good, "1");
        jwk["d"] = json!("hunter2");
        jwk
    };
    let all: Vec<_> = broken.into_iter().chain([private, named(&good, "9")]).collect();
    let ring = ring(Some(&set(&all)), &Arc::default());
    assert!(verify(&ring, &by(&good, "9"), NOW).is_ok());
    assert_eq!(verify(&ring, &by(&good, "1"), NOW), Err(Refusal::Unknown), "a private key is no key here");
}

#[test]
fn a_fetched_set_is_refused_as_a_whole_where_it_has_no_key_or_too_many() {
    let signer = es256();
    let many = set(&vec![signer.jwk.clone(); 33]);
    for (text, part) in [
        ("", "no JWK Set"),
        ("<html>hunter2</html>", "no JWK Set"),
        ("{\"keys\": {}}", "no JWK Set"),
        ("[]", "no JWK Set"),
        ("{}", "no JWK Set"),
        (SECRET, "no JWK Set"),
        (&signer.pem, "no JWK Set"),
        (&set(&[]), "no key for ES256, EdDSA"),
        (&set(&[rs256().jwk]), "no key for ES256, EdDSA"),
        (&many, "33 keys; use at most 32"),
    ] {
        let why = Issuer::check_fetched(&settings().algorithms, text).expect_err(text);
        assert!(why.contains(part) && !why.contains("hunter2"), "{text}: {why}");
    }
    assert_eq!(Issuer::check_fetched(&settings().algorithms, &set(&[signer.jwk])), Ok(()));
}
