//! Secrets, read from the files of a mounted Kubernetes Secret.
//!
//! Each use reads the file anew, so a rotated secret counts at once; the files are small and the uses are rare (an admin
//! request, a reconnect of the bus). A secret's value never enters a log line or an error.

use std::{
    io,
    path::{Path, PathBuf},
};

use axum::http::{HeaderMap, header};
use subtle::ConstantTimeEq;

/// Longest token, password or user name in bytes.
pub const CREDENTIAL_BYTES: u64 = 4_096;

/// Why a secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the secret {}: {source}; mount the Secret there", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file holds nothing, or more than a secret.
    #[error("the secret {} must hold 1 to {most} bytes of text", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// The most bytes that it may hold.
        most: u64,
    },
}

/// One secret in its file.
#[derive(Debug, Clone)]
pub struct SecretFile {
    path: PathBuf,
    most: u64,
}

impl SecretFile {
    /// The secret in `dir` under a key of the Kubernetes Secret, of at most `most` bytes.
    pub fn new(dir: &Path, key: &str, most: u64) -> Self {
        SecretFile { path: dir.join(key), most }
    }

    /// The secret in a file, of at most `most` bytes.
    pub const fn at(path: PathBuf, most: u64) -> Self {
        SecretFile { path, most }
    }

    /// The value as it is now, without surrounding blanks and line ends.
    ///
    /// # Errors
    /// When the file is missing, empty, too long or no text.
    pub fn read(&self) -> Result<String, SecretError> {
        let at = |source| SecretError::Read { path: self.path.clone(), source };
        let size = || SecretError::Size { path: self.path.clone(), most: self.most };
        let text = shell::file::read_text(&self.path, self.most).map_err(at)?.ok_or_else(size)?;
        match text.trim() {
            "" => Err(size()),
            value => Ok(value.to_owned()),
        }
    }
}

/// Compares in a time that does not depend on what the bytes are, so that a token cannot be guessed byte by byte. The length
/// of the secret, which is no secret, may show.
pub fn equal(given: &[u8], secret: &[u8]) -> bool {
    !secret.is_empty() && bool::from(given.ct_eq(secret))
}

/// The credential of a Bearer header; the scheme's case does not matter (RFC 9110, section 11.1).
pub fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_the_same_bytes_are_equal() {
        assert!(equal(b"token", b"token"));
        for (given, secret) in
            [("token", "tokem"), ("tok", "token"), ("tokentoken", "token"), ("", ""), ("", "a")]
        {
            assert!(!equal(given.as_bytes(), secret.as_bytes()), "{given} {secret}");
        }
    }

    #[test]
    fn a_rotated_secret_is_read_anew_and_a_bad_one_is_named() {
        let dir = crate::test_dir::TestDir::new("secrets");
        let secret = SecretFile::new(dir.path(), "admin-token", 4);
        assert!(secret.read().unwrap_err().to_string().contains("admin-token"));
        fs::write(dir.path().join("admin-token"), "one\n").unwrap();
        assert_eq!(secret.read().unwrap(), "one");
        fs::write(dir.path().join("admin-token"), "two").unwrap();
        assert_eq!(secret.read().unwrap(), "two");
        for bad in [" \n", "three"] {
            fs::write(dir.path().join("admin-token"), bad).unwrap();
            let error = secret.read().unwrap_err().to_string();
            assert!(error.contains("1 to 4 bytes") && !error.contains("three"), "{error}");
        }
    }
}
