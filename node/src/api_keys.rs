//! The file of API keys, read at the start and again when it changes.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use node_core::api::keys::{FILE_BYTES, KeyFile, Keys};

/// Why API keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read.
    #[error("cannot read the API keys {}: {source}; mount the Secret there, or leave out --api-keys", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file is something else.
    #[error("the API keys {}: {why}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do. No digest is repeated.
        why: String,
    },
}

/// Finds changes of the file.
#[derive(Debug)]
pub struct KeyWatch {
    path: PathBuf,
    /// The text as it was read last; none when there was no file.
    seen: Option<String>,
    /// The last error, so that it is told once.
    told: Option<String>,
}

impl KeyWatch {
    /// Watches for changes of the keys from now on, and reads them. Without a file there are no keys. A node with a bad file
    /// serves clients all the same.
    pub fn start(path: &Path) -> (Self, Result<Arc<Keys>, KeysError>) {
        let mut watch = Self { path: path.to_owned(), seen: None, told: None };
        let keys = watch.read().and_then(|text| {
            watch.seen = text;
            watch.parse()
        });
        watch.told = keys.as_ref().err().map(ToString::to_string);
        (watch, keys.map(Arc::new))
    }

    /// The keys when they have changed since the last call. The same error is reported once.
    pub fn changed(&mut self) -> Option<Result<Arc<Keys>, KeysError>> {
        let read = match self.read() {
            Ok(text) if text == self.seen => return None,
            Ok(text) => {
                self.seen = text;
                self.parse()
            }
            Err(error) => Err(error),
        };
        match read {
            Ok(keys) => {
                self.told = None;
                Some(Ok(Arc::new(keys)))
            }
            Err(error) => {
                let text = Some(error.to_string());
                (std::mem::replace(&mut self.told, text.clone()) != text).then_some(Err(error))
            }
        }
    }

    fn read(&self) -> Result<Option<String>, KeysError> {
        match shell::file::read_text(&self.path, FILE_BYTES) {
            Ok(Some(text)) => Ok(Some(text)),
            Ok(None) => {
                let why = format!("holds more than {FILE_BYTES} bytes, or no text; list fewer keys");
                Err(KeysError::Wrong { path: self.path.clone(), why })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(KeysError::Read { path: self.path.clone(), source }),
        }
    }

    fn parse(&self) -> Result<Keys, KeysError> {
        let Some(text) = &self.seen else { return Ok(Keys::default()) };
        let wrong = |why| KeysError::Wrong { path: self.path.clone(), why };
        let file: KeyFile = serde_saphyr::from_str(text).map_err(|error| {
            // The parser shows the text around what is wrong, which is digests.
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default().to_owned();
            wrong(format!("{first}; write keys: and a list of name, sha256 and scopes"))
        })?;
        Keys::read(file).map_err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use node_core::api::keys::{Refused, digest};

    use super::*;
    use crate::test_dir::TestDir;

    const ONE: &str = "one-key-of-a-good-length";
    const TWO: &str = "two-key-of-a-good-length";

    #[test]
    fn keys_are_read_when_the_file_changes_and_a_bad_one_changes_nothing() {
        let dir = TestDir::new("api-keys");
        let path = dir.path().join("keys.yaml");
        let (mut watch, keys) = KeyWatch::start(&path);
        assert!(keys.unwrap().is_empty() && watch.changed().is_none());
        let line = |name: &str, key: &str| {
            format!("- {{name: {name}, sha256: {}, scopes: [publish]}}\n", digest(key.as_bytes()))
        };
        fs::write(&path, format!("keys:\n{}", line("a", ONE))).unwrap();
        let keys = watch.changed().unwrap().unwrap();
        assert!(keys.find(ONE.as_bytes(), 0).is_ok() && watch.changed().is_none());
        fs::write(&path, "keys: [{name: a}]").unwrap();
        let error = watch.changed().unwrap().unwrap_err().to_string();
        assert!(error.contains("keys.yaml") && error.contains("scopes"), "{error}");
        assert!(watch.changed().is_none());
        fs::write(&path, format!("keys:\n{}{}", line("a", ONE), line("b", TWO))).unwrap();
        assert_eq!(watch.changed().unwrap().unwrap().len(), 2);
        fs::remove_file(&path).unwrap();
        assert_eq!(watch.changed().unwrap().unwrap().find(ONE.as_bytes(), 0), Err(Refused::Unknown));
        fs::write(&path, "keys: []").unwrap();
        assert!(KeyWatch::start(&path).1.unwrap().is_empty());
        fs::write(&path, "x").unwrap();
        let (mut watch, keys) = KeyWatch::start(&path);
        assert!(keys.is_err() && watch.changed().is_none(), "it is told once");
    }
}
