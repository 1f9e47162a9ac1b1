//! Our node where each client has to bring a token, signed by RS256 with a key of 2,048 bits.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, anyhow};
use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};

use super::{
    Start, TOKENS,
    channel_node::{Configured, TOKEN_KEYS},
};

/// How long tokens are valid, seconds, and up to which age a file of them is used again.
const VALID: u64 = 86_400;
const REUSED: Duration = Duration::from_secs(VALID / 2);

pub(super) const CHANNEL_NODE: Configured = Configured {
    name: TOKENS,
    settings: "release build with its default limits; each client has an RS256 token (2,048 bits) of its own",
    config: "\
auth:
  jwt:
  - {issuer: bench, algorithms: [RS256], keyFile: bench/key.pem, topics: [\"room:*\"]}
",
    prepare,
    generator_flags: |start| vec!["--tokens".into(), kept(start).join("tokens").into()],
};

fn prepare(start: &Start<'_>) -> Result<()> {
    let kept = kept(start);
    if !is_fresh(&kept) {
        make(&kept, start.connections)?;
    }
    let keys = start.directory.join(TOKEN_KEYS).join("bench");
    fs::create_dir_all(&keys)?;
    fs::copy(kept.join("key.pem"), keys.join("key.pem"))?;
    Ok(())
}

/// Where the key and the tokens are kept from run to run, since a signature takes half a millisecond.
fn kept(start: &Start<'_>) -> PathBuf {
    start.directory.with_file_name(format!("tokens-{}", start.connections))
}

fn is_fresh(kept: &Path) -> bool {
    let written = fs::metadata(kept.join("tokens")).and_then(|file| file.modified());
    written.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < REUSED))
}

/// Makes a key and `count` tokens, of as many users.
fn make(kept: &Path, count: u32) -> Result<()> {
    fs::create_dir_all(kept).with_context(|| format!("cannot create {}", kept.display()))?;
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| anyhow!("no RSA key can be made"))?;
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| anyhow!("no public key"))?;
    let pem = STANDARD.encode(der.as_ref());
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{pem}\n-----END PUBLIC KEY-----\n");
    fs::write(kept.join("key.pem"), pem)?;
    let until = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + VALID;
    let tokens = (0..count).map(|user| signed(&pair, user, until)).collect::<Result<Vec<_>>>()?;
    fs::write(kept.join("tokens"), tokens.join("\n"))?;
    Ok(())
}

fn signed(pair: &RsaKeyPair, user: u32, until: u64) -> Result<String> {
    let claims = serde_json::json!({"iss": "bench", "sub": format!("user-{user}"), "exp": until});
    let [header, claims] =
        [r#"{"alg":"RS256","typ":"JWT"}"#, &claims.to_string()].map(|part| URL_SAFE_NO_PAD.encode(part));
    let message = format!("{header}.{claims}");
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature)
        .map_err(|_| anyhow!("cannot sign"))?;
    Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
