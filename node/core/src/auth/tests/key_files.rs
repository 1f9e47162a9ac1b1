//! Files of keys, as people write them.

use super::*;

/// Why the file is refused.
fn refused(settings: &str, keys: &str) -> String {
    issuer(settings, keys).err().unwrap_or_else(|| panic!("taken: {keys}"))
}

#[test]
fn several_keys_of_a_file_are_all_good_so_that_one_can_take_the_place_of_another() {
    let (old, new) = (es256(), eddsa());
    let settings = r#"{"algorithms": ["ES256", "EdDSA"], "keyFile": "s/k"}"#;
    let claims = json!({"sub": "u", "exp": 9});
    let both = format!("the old one\n{}\nand the new one\n{}", old.pem, new.pem);
    let set = json!({"keys": [old.jwk, new.jwk, {"kty": "RSA", "n": "AQ", "e": "AQAB"}, {"kty": "new"}]})
        .to_string();
    for keys in [both, set] {
        let ring = keyring(settings, &keys);
        for signer in [&old, &new] {
            assert!(verify(&ring, &signer.token(&claims), 1).is_ok(), "{}", signer.algorithm);
        }
    }
    let alone = keyring(settings, &new.pem);
    assert_eq!(verify(&alone, &old.token(&claims), 1), Err(Refusal::Algorithm), "it was taken out");
}

#[test]
fn a_key_is_bound_to_its_algorithm_and_to_its_use() {
    let signer = rs256();
    let settings = r#"{"algorithms": ["RS256", "RS384"], "keyFile": "s/k"}"#;
    let claims = json!({"sub": "u", "exp": 9});
    let with = |member: &str, value: &str| {
        let mut jwk = signer.jwk.clone();
        jwk[member] = json!(value);
        json!({"keys": [jwk]}).to_string()
    };
    assert!(verify(&keyring(settings, &with("alg", "RS256")), &signer.token(&claims), 1).is_ok());
    let other = keyring(settings, &with("alg", "RS384"));
    assert_eq!(verify(&other, &signer.token(&claims), 1), Err(Refusal::Algorithm));
    for keys in [with("alg", "RS512"), with("alg", "RSA-OAEP"), with("use", "enc")] {
        assert!(refused(settings, &keys).contains("no key for RS256, RS384"), "{keys}");
    }
}

#[test]
fn a_wrong_file_is_told_with_its_remedy_and_without_its_content() {
    let signer = es256();
    let settings = signer.settings();
    let set = |jwk: Value| json!({"keys": [jwk]}).to_string();
    let ec = |member: &str, value: Value| {
        let mut jwk = signer.jwk.clone();
        jwk[member] = value;
        set(jwk)
    };
    let relabelled = |label: &str| signer.pem.replace("PUBLIC KEY", label);
    let many = json!({"keys": vec![signer.jwk.clone(); 33]}).to_string();
    for (settings, keys, part) in [
        (SHARED, "hunter2", "fewer than 32 bytes"),
        (SHARED, &*set(json!({"kty": "oct", "k": encoded("hunter2")})), "fewer than 32 bytes"),
        (SHARED, &set(json!({"kty": "oct"})), "lacks k"),
        (&settings, "hunter2", "neither a JWK Set nor PEM"),
        (&settings, "{hunter2}", "no JWK Set: line 1"),
        (&settings, r#"{"keys": "hunter2"}"#, "no JWK Set"),
        (&settings, r#"{"keys": [{"kid": "hunter2"}]}"#, "no JWK Set"),
        (&settings, r#"{"keys": []}"#, "no key for ES256"),
        (&settings, &many, "33 keys; use at most 32"),
        (&settings, &ec("d", json!("hunter2")), "private key"),
        (&settings, &ec("x", json!("hunter2=")), "x that is no base64url"),
        (&settings, &ec("x", json!("AQ")), "another length"),
        (&settings, &ec("x", json!(encoded([1; 32]))), "no point"),
        (&settings, &ec("y", Value::Null), "lacks y"),
        (&settings, &ec("kid", json!("k".repeat(257))), "kid above 256 bytes"),
        (&settings, &relabelled("PRIVATE KEY"), "private key"),
        (&settings, &relabelled("EC PRIVATE KEY"), "private key"),
        (&settings, &relabelled("CERTIFICATE"), "openssl x509"),
        (&settings, &relabelled("OTHER"), "no public key"),
        (&settings, "-----BEGIN PUBLIC KEY-----\nhunter2", "without an end"),
        (&settings, "-----BEGIN PUBLIC KEY", "without an end"),
        (&settings, "-----BEGIN PUBLIC KEY-----\nhunter-2\n-----END PUBLIC KEY-----", "not base64"),
        (&settings, &eddsa().pem, "another type"),
        (
            &settings,
            &ecdsa("ES384", "P-384", &signature::ECDSA_P384_SHA384_FIXED_SIGNING).pem,
            "another type",
        ),
    ] {
        let why = refused(settings, keys);
        assert!(why.contains(part) && !why.contains("hunter"), "{keys}: {why}");
    }
}

#[test]
fn the_example_of_rfc_7515_verifies() {
    let jwk = r#"{"keys": [{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}]}"#;
    let settings = r#"{"issuer": "joe", "algorithms": ["HS256"], "keyFile": "s/k", "userClaim": "iss"}"#;
    let ring = keyring(settings, jwk);
    let example = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
                   eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
                   dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    assert_eq!(verify(&ring, example, 1_300_819_379).as_ref().map(Identity::user), Ok("joe"));
    assert_eq!(verify(&ring, example, 1_300_819_390), Err(Refusal::Expired));
}
