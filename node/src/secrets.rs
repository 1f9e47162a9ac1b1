//! Secrets, read from the files of a mounted Kubernetes Secret.
//!
//! Each use reads the file anew, so a rotated secret counts at once; the files are small and the uses are rare (an admin
//! request, a reconnect of the bus). A secret's value never enters a log line or an error.

use std::{
    io,
    path::{Path, PathBuf},
};

use subtle::ConstantTimeEq;

/// Longest secret in bytes.
const MAX_BYTES: u64 = 4_096;

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
    #[error("the secret {} must hold 1 to {MAX_BYTES} bytes of text", path.display())]
    Size {
        /// The file.
        path: PathBuf,
    },
}

/// One secret in its file.
#[derive(Debug, Clone)]
pub struct SecretFile(PathBuf);

impl SecretFile {
    /// The secret in `dir` under a key of the Kubernetes Secret.
    pub fn new(dir: &Path, key: &str) -> Self {
        SecretFile(dir.join(key))
    }

    /// The value as it is now, without surrounding blanks and line ends.
    ///
    /// # Errors
    /// When the file is missing, empty, too long or no text.
    pub fn read(&self) -> Result<String, SecretError> {
        let at = |source| SecretError::Read { path: self.0.clone(), source };
        let read = shell::file::read_text(&self.0, MAX_BYTES).map_err(at)?;
        let text = read.ok_or_else(|| SecretError::Size { path: self.0.clone() })?;
        match text.trim() {
            "" => Err(SecretError::Size { path: self.0.clone() }),
            value => Ok(value.to_owned()),
        }
    }
}

/// Compares in a time that does not depend on what the bytes are, so that a token cannot be guessed byte by byte. The length
/// of the secret, which is no secret, may show.
pub fn equal(given: &[u8], secret: &[u8]) -> bool {
    !secret.is_empty() && bool::from(given.ct_eq(secret))
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
        let secret = SecretFile::new(dir.path(), "admin-token");
        assert!(secret.read().unwrap_err().to_string().contains("admin-token"));
        fs::write(dir.path().join("admin-token"), "one\n").unwrap();
        assert_eq!(secret.read().unwrap(), "one");
        fs::write(dir.path().join("admin-token"), "two").unwrap();
        assert_eq!(secret.read().unwrap(), "two");
        fs::write(dir.path().join("admin-token"), " \n").unwrap();
        assert!(matches!(secret.read(), Err(SecretError::Size { .. })));
    }
}
