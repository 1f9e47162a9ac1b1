//! A token and a file of keys: each is read or refused, and nobody gets in who cannot sign.

use crate::auth::{Algorithm, Endpoint, Issuer, Jwt, Keyring, Template, Token, fresh_seconds};

/// Issuers whose keys are the fuzzed file.
const SETTINGS: [&str; 2] = [
    r#"{"algorithms": ["HS256", "HS384", "HS512"], "keyFile": "s/k", "topics": ["user:{sub}:*"]}"#,
    r#"{"algorithms": ["RS256", "PS512", "ES256", "ES512", "EdDSA"], "keyFile": "s/k", "topicsClaim": "rooms"}"#,
];
/// An issuer whose key nobody can guess, and the one token that it has signed.
const KNOWN: (&str, &str) =
    (r#"{"algorithms": ["HS256"], "keyFile": "s/k"}"#, "a secret of at least thirty-two bytes");
const SIGNED: &str =
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1IiwiZXhwIjo5OTk5OTk5OTk5fQ.wTwe--DCzi895beo7cEy6HDNS6VEGdWCC8uv3sEx07M";
/// The time in milliseconds since 1970.
const NOW: u64 = 1_800_000_000_000;

fn issuer(settings: &str, keys: &str) -> Result<Issuer, String> {
    let settings: Jwt = serde_json::from_str(settings).expect("settings");
    Issuer::read(&settings, keys)
}

/// The first line is a token, and what follows is a file of keys, or a set that was fetched. The token is taken for a
/// pattern of topics, the URL of keys and a header about their age too.
pub(super) fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (line, keys) = text.split_once('\n').unwrap_or((text, ""));
    let token = Token::new(line);
    for settings in SETTINGS {
        let Ok(issuer) = issuer(settings, keys) else { continue };
        if let Ok(identity) = Keyring::new(vec![issuer]).verify(&token, NOW) {
            assert!(identity.expires_at_millis() > NOW && !identity.user().is_empty());
            assert!(identity.is_same_user(&identity.clone()));
        }
    }
    let (settings, secret) = KNOWN;
    let known = Keyring::new(vec![issuer(settings, secret).expect("a good secret")]);
    for is_again in [false, true] {
        let known = known.identify(&token, NOW, u64::MAX).map(|verified| verified.known);
        assert_eq!(known.ok(), (line == SIGNED).then_some(is_again), "{line}");
    }
    Template::parse(line).ok();
    Issuer::check_fetched(Algorithm::ALL, keys).ok();
    if let Ok(endpoint) = Endpoint::parse(line) {
        assert!(
            line.contains(&endpoint.host)
                && line.contains(&endpoint.authority)
                && endpoint.target.starts_with('/')
        );
    }
    assert!(
        fresh_seconds(Some(line), Some(line))
            .is_none_or(|fresh| fresh < u64::MAX || line.contains("max-age"))
    );
}
