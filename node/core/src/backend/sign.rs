//! Signatures of what is sent to a backend, as Standard Webhooks 1.0.0 has them: any library for it verifies them.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// What stands before a key of this kind.
const PREFIX: &str = "whsec_";
/// Bytes that a key has at least, and at most, by the specification.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Most keys of a file: the one that signs, and those that the backend still takes while keys are exchanged.
const MOST_KEYS: usize = 4;

/// The keys that sign. All of them do, so that a backend which has one of them takes what it is sent.
#[derive(Clone)]
pub struct SigningKeys(Vec<Hmac<Sha256>>);

impl std::fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKeys({})", self.0.len())
    }
}

impl SigningKeys {
    /// Reads keys, one in each line: `whsec_` and 24 to 64 bytes in base64.
    ///
    /// # Errors
    /// What is wrong, without the text itself.
    pub fn read(text: &str) -> Result<Self, &'static str> {
        let keys: Option<Vec<_>> = text.split_whitespace().map(key).collect();
        let keys = keys.ok_or("has a line that is no whsec_ with 24 to 64 bytes in base64")?;
        match keys.len() {
            0 => Err("has no key"),
            1..=MOST_KEYS => Ok(Self(keys)),
            _ => Err("has more than 4 keys"),
        }
    }

    /// The value of the header `webhook-signature`.
    #[must_use]
    pub fn sign(&self, id: &str, unix_seconds: u64, body: &[u8]) -> String {
        let signed = self.0.iter().map(|key| {
            let mut mac = key.clone();
            mac.update(format!("{id}.{unix_seconds}.").as_bytes());
            mac.update(body);
            format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
        });
        signed.collect::<Vec<_>>().join(" ")
    }
}

fn key(line: &str) -> Option<Hmac<Sha256>> {
    let bytes = STANDARD.decode(line.strip_prefix(PREFIX)?).ok()?;
    KEY_BYTES.contains(&bytes.len()).then(|| Hmac::new_from_slice(&bytes).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key, id, time, body and signature of the specification's own example.
    #[test]
    fn the_example_of_the_specification_is_signed_so() {
        let keys = SigningKeys::read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let signature = keys.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn every_key_signs_and_a_bad_file_is_told_without_its_text() {
        let one = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let two = format!("{one}\n\n{one}");
        let signature = SigningKeys::read(&two).unwrap().sign("a", 1, b"");
        assert_eq!(signature.split(' ').count(), 2);
        assert!(SigningKeys::read(&[one; 5].join("\n")).is_err());
        for bad in ["", "\n", "secret", "whsec_", "whsec_c2hvcnQ=", "whsec_not base64"] {
            let why = SigningKeys::read(bad).unwrap_err();
            assert!(bad.is_empty() || !why.contains("secret"), "{why}");
        }
    }
}
