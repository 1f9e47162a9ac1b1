//! Tokens that must not get in, each kind once.

use super::*;
use crate::auth::verify::MAX_TOKEN_BYTES;

const STRICT: &str = r#"{"issuer": "i", "audience": "a", "algorithms": ["HS256"], "keyFile": "s/k",
    "topicsClaim": "rooms", "leewayMillis": 0}"#;
const NOW: u64 = 1_000;

/// Claims that are good, with one of them changed.
fn claims(change: (&str, Value)) -> Value {
    let mut claims = json!({"iss": "i", "aud": "a", "sub": "u", "exp": NOW + 1});
    claims[change.0] = change.1;
    claims
}

fn good() -> Value {
    claims(("x", Value::Null))
}

#[test]
fn claims_that_say_the_wrong_thing_are_refused() {
    let ring = keyring(STRICT, SECRET);
    assert!(verify(&ring, &shared(&good()), NOW).is_ok());
    let many: Vec<_> = (0..65).map(|n| n.to_string()).collect();
    for (change, refusal) in [
        (("iss", json!("j")), Refusal::Issuer),
        (("iss", Value::Null), Refusal::Issuer),
        (("iss", json!(["i"])), Refusal::Issuer),
        (("aud", json!("b")), Refusal::Audience),
        (("aud", Value::Null), Refusal::Audience),
        (("exp", json!(NOW)), Refusal::Expired),
        (("exp", json!(-1)), Refusal::Expired),
        (("exp", Value::Null), Refusal::Claims),
        (("exp", json!("9999999999")), Refusal::Claims),
        (("exp", json!([9_999_999_999_u64])), Refusal::Claims),
        (("nbf", json!(NOW + 1)), Refusal::Early),
        (("nbf", json!("0")), Refusal::Claims),
        (("sub", Value::Null), Refusal::Claims),
        (("sub", json!("")), Refusal::Claims),
        (("sub", json!(true)), Refusal::Claims),
        (("sub", json!({"sub": "u"})), Refusal::Claims),
        (("sub", json!("u".repeat(256))), Refusal::Claims),
        (("rooms", json!("room:1")), Refusal::Claims),
        (("rooms", json!([1])), Refusal::Claims),
        (("rooms", json!(["a*b"])), Refusal::Claims),
        (("rooms", json!([""])), Refusal::Claims),
        (("rooms", json!(many)), Refusal::Claims),
    ] {
        let claims = claims(change);
        assert_eq!(verify(&ring, &shared(&claims), NOW), Err(refusal), "{claims}");
    }
}

#[test]
fn what_is_no_token_is_refused() {
    let ring = keyring(STRICT, SECRET);
    let sign = by_secret(hmac::HMAC_SHA256, SECRET);
    let with = |header: &str, claims: &str| token(header, claims, &sign);
    let whole = shared(&good());
    let (head, rest) = whole.split_once('.').expect("parts");
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for text in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "token".to_owned(),
        head.to_owned(),
        format!("{whole}.{head}"),
        format!("{whole}.a.b"),
        format!("{whole}="),
        format!("{whole}\n"),
        format!(" {whole}"),
        format!("{head}=.{rest}"),
        format!("{head}A.{rest}"),
        format!("\u{fc}{whole}"),
        with("HS256", "{}"),
        with("[]", "{}"),
        with("{}", "{}"),
        with(r#"{"alg":256}"#, "{}"),
        with(r#"{"alg":["HS256"]}"#, "{}"),
        with(r#"{"alg":"none","alg":"HS256"}"#, &good().to_string()),
        with(r#"{"alg":"HS256","kid":7}"#, &good().to_string()),
        with(r#"{"alg":"HS256","crit":["exp"],"exp":1}"#, &good().to_string()),
        with(r#"{"alg":"HS256"}"#, "[]"),
        with(r#"{"alg":"HS256"}"#, r#"{"exp":1e999}"#),
        with(r#"{"alg":"HS256"}"#, &deep),
        with(r#"{"alg":"HS256"}"#, &format!(r#"{{"a":{deep}}}"#)),
        with(r#"{"alg":"HS256"}"#, "{\"sub\":\"\\ud83d\"}"),
    ] {
        assert_eq!(verify(&ring, &text, NOW), Err(Refusal::Malformed), "{text}");
    }
    let padded = |bytes: usize| shared(&claims(("pad", json!("p".repeat(bytes)))));
    let long = padded(MAX_TOKEN_BYTES);
    assert_eq!(verify(&ring, &long, NOW), Err(Refusal::TooLong));
    assert!(verify(&ring, &padded(5_900), NOW).is_ok(), "{} bytes fit", padded(5_900).len());
}

#[test]
fn a_signature_by_nothing_or_by_somebody_else_is_refused() {
    let ring = keyring(STRICT, SECRET);
    let text = good().to_string();
    for name in ["none", "None", "nOnE", "", "hs256", "HS384", "RS256", "HS256 "] {
        let header = json!({"alg": name}).to_string();
        let refused = Err(Refusal::Algorithm);
        assert_eq!(verify(&ring, &token(&header, &text, |_| Vec::new()), NOW), refused, "{name}");
        let signed = token(&header, &text, by_secret(hmac::HMAC_SHA256, SECRET));
        assert_eq!(verify(&ring, &signed, NOW), refused, "{name}");
    }
    let whole = shared(&good());
    let (signed, signature) = whole.rsplit_once('.').expect("parts");
    let other = shared(&claims(("sub", json!("admin"))));
    let header = r#"{"alg":"HS256"}"#;
    for text in [
        format!("{signed}."),
        format!("{signed}.{}", encoded([0; 32])),
        format!("{signed}.{}", &signature[..signature.len() - 3]),
        format!("{signed}.{signature}AAAA"),
        format!("{}.{signature}", other.rsplit_once('.').expect("parts").0),
        token(header, &text, by_secret(hmac::HMAC_SHA256, "")),
        token(header, &text, by_secret(hmac::HMAC_SHA256, "a guess of thirty-two bytes or more")),
        token(header, &text, by_secret(hmac::HMAC_SHA384, SECRET)),
        token(header, &text, <[u8]>::to_vec),
    ] {
        assert_eq!(verify(&ring, &text, NOW), Err(Refusal::Signature), "{text}");
    }
}

#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    let signer = rs256();
    let claims = json!({"sub": "admin", "exp": NOW + 1});
    for algorithms in [json!(["RS256"]), json!(["RS256", "PS256", "RS512"])] {
        let settings = json!({"algorithms": algorithms, "keyFile": "s/k"}).to_string();
        let ring = keyring(&settings, &signer.pem);
        assert!(verify(&ring, &signer.token(&claims), NOW).is_ok());
        for secret in [&*signer.pem, signer.pem.trim(), &signer.pem.replace('\n', "")] {
            let forged =
                token(r#"{"alg":"HS256"}"#, &claims.to_string(), by_secret(hmac::HMAC_SHA256, secret));
            assert_eq!(verify(&ring, &forged, NOW), Err(Refusal::Algorithm));
        }
    }
    // Nor is it read where a secret is wanted.
    assert!(issuer(SHARED, &signer.pem).err().is_some_and(|why| why.contains("shared secret")));
    let jwk = json!({"keys": [signer.jwk]}).to_string();
    assert!(issuer(SHARED, &jwk).err().is_some_and(|why| why.contains("no key for HS256")));
    // A key for one way of RSA does not verify the other.
    let ring = keyring(r#"{"algorithms": ["PS256"], "keyFile": "s/k"}"#, &signer.pem);
    assert_eq!(verify(&ring, &signer.token(&claims), NOW), Err(Refusal::Algorithm));
    let header = r#"{"alg":"PS256"}"#;
    assert_eq!(
        verify(&ring, &token(header, &claims.to_string(), &signer.sign), NOW),
        Err(Refusal::Signature)
    );
}

#[test]
fn the_name_of_a_key_is_compared_and_nothing_else() {
    let (one, two, stranger) = (es256(), es256(), es256());
    let named = |signer: &Signer, id: &str| {
        let mut jwk = signer.jwk.clone();
        jwk["kid"] = json!(id);
        jwk
    };
    let set = json!({"keys": [named(&one, "1"), named(&two, "2")]}).to_string();
    let ring = keyring(&one.settings(), &set);
    let claims = json!({"sub": "u", "exp": NOW + 1}).to_string();
    let with = |header: Value, signer: &Signer| {
        verify(&ring, &token(&header.to_string(), &claims, &signer.sign), NOW)
    };
    assert!(with(json!({"alg": "ES256", "kid": "1"}), &one).is_ok());
    assert!(with(json!({"alg": "ES256", "kid": "2"}), &two).is_ok());
    assert!(with(json!({"alg": "ES256"}), &two).is_ok(), "each is tried where none is named");
    assert_eq!(with(json!({"alg": "ES256", "kid": "2"}), &one), Err(Refusal::Signature));
    for id in [
        "",
        "3",
        "../../../dev/null",
        "1' OR '1'='1",
        "https://evil.example/k",
        "1\u{0}",
        "|id",
        &"k".repeat(5_000),
    ] {
        assert_eq!(with(json!({"alg": "ES256", "kid": id}), &stranger), Err(Refusal::Key), "{id}");
    }
    // A header that brings its own key, or says where one may be had, is heard by nobody.
    for (member, value) in [
        ("jwk", named(&stranger, "1")),
        ("jku", json!("https://evil.example/jwks.json")),
        ("x5u", json!("https://evil.example/cert.pem")),
        ("x5c", json!(["AAAA"])),
    ] {
        let mut header = json!({"alg": "ES256", "kid": "1"});
        header[member] = value;
        assert_eq!(with(header, &stranger), Err(Refusal::Signature), "{member}");
    }
    // So many keys that fit that trying them all would be work for an attacker to give.
    let nameless = json!({"keys": vec![one.jwk.clone(); 5]}).to_string();
    let ring = keyring(&one.settings(), &nameless);
    assert_eq!(verify(&ring, &token(r#"{"alg":"ES256"}"#, &claims, &one.sign), NOW), Err(Refusal::Key));
}

#[test]
fn signatures_of_curves_have_one_form() {
    let signer = es256();
    let ring = keyring(&signer.settings(), &signer.pem);
    let claims = json!({"sub": "u", "exp": NOW + 1}).to_string();
    let header = r#"{"alg":"ES256"}"#;
    let good = token(header, &claims, &signer.sign);
    assert!(verify(&ring, &good, NOW).is_ok());
    // Zeros once passed Java (CVE-2022-21449).
    let der = |message: &[u8]| {
        [&[0x30, 0x44, 2, 32][..], &(signer.sign)(message)[..32], &[2, 32], &[1; 32]].concat()
    };
    for forged in [
        token(header, &claims, |_| vec![0; 64]),
        token(header, &claims, |_| vec![0xff; 64]),
        token(header, &claims, |_| Vec::new()),
        token(header, &claims, der),
    ] {
        assert_eq!(verify(&ring, &forged, NOW), Err(Refusal::Signature), "{forged}");
    }
}

/// Whatever is changed in a token, it is refused.
#[test]
fn no_changed_letter_passes() {
    let ring = keyring(STRICT, SECRET);
    let whole = shared(&good());
    for at in 0..whole.len() {
        for letter in [b'A', b'.', b'_', b'='] {
            let mut text = whole.clone().into_bytes();
            if std::mem::replace(&mut text[at], letter) != letter {
                let text = String::from_utf8(text).expect("ASCII");
                assert!(verify(&ring, &text, NOW).is_err(), "{text}");
            }
        }
    }
}

#[test]
fn any_bytes_are_refused_without_a_panic() {
    let ring = keyring(STRICT, SECRET);
    arbtest::arbtest(|u| {
        let parts: [&str; 3] = [u.arbitrary()?, u.arbitrary()?, u.arbitrary()?];
        let raw = parts.join(".");
        let written = parts.map(encoded).join(".");
        assert!(verify(&ring, &raw, NOW).is_err() && verify(&ring, &written, NOW).is_err());
        let _read = issuer(SHARED, parts[0]).is_ok()
            || issuer(r#"{"algorithms": ["ES256"], "keyFile": "s/k"}"#, parts[1]).is_ok();
        Ok(())
    })
    .budget_ms(200);
}
