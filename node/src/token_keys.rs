//! The keys of the issuers of tokens: files of mounted Secrets, read at the start and again when they change, and sets
//! that are fetched.
//!
//! As with the configuration, the contents are compared. Issuers and their keys take effect together: while the files of
//! a new list of issuers cannot be read, the former list stays in force with the keys that it has. Keys that are fetched
//! are not waited for.

use std::{
    hash::{BuildHasher, RandomState},
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use node_core::{
    auth::{Issuer, Jwt, Keyring},
    config::Auth,
};

use crate::{
    jwks::{Fetched, Listed, Sources},
    secrets::{SecretError, SecretFile},
};

/// Longest file of keys in bytes: 32 keys as large identity providers publish them, with their certificates.
const KEY_FILE_BYTES: u64 = 256 * 1024;

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] SecretError),
    /// A file holds something else than the keys of its issuer.
    #[error("the file {} of auth.jwt {why}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do. Nothing of the file is repeated.
        why: String,
    },
}

/// The keys of an issuer as they were found.
#[derive(Debug, Hash)]
enum Found {
    /// What this file holds.
    File(PathBuf, String),
    Fetched(Fetched),
}

/// Finds changes of the keys of tokens.
#[derive(Debug)]
pub struct KeyWatch {
    dir: PathBuf,
    /// Who shall be allowed to connect, with or without the keys that this needs.
    wanted: Auth,
    sources: Sources,
    /// A hash of the keys as they were taken last, or found wrong. None: they are to be read anew.
    seen: Option<u64>,
    hasher: RandomState,
    /// The last error, so that it is told once.
    told: Option<String>,
}

impl KeyWatch {
    /// Reads the keys that `auth` needs, in files below `dir`, and watches for changes from then on.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn start(dir: &Path, auth: &mut Auth) -> Result<Self, KeyError> {
        let (dir, wanted, sources) = (dir.to_owned(), auth.clone(), Sources::new(dir));
        let mut watch = KeyWatch { dir, wanted, sources, seen: None, hasher: RandomState::new(), told: None };
        watch.sources.want(&auth.jwt);
        let found = watch.find()?;
        auth.keys = watch.keys(&found)?;
        watch.seen = Some(watch.hasher.hash_one(&found));
        Ok(watch)
    }

    /// The sources of keys that are fetched.
    pub fn sources(&self) -> Arc<ArcSwap<Listed>> {
        self.sources.listed()
    }

    /// Begins to fetch what is to be fetched and is not yet, on the runtime of the caller.
    pub fn fetch(&mut self) {
        self.sources.run();
    }

    /// Waits until keys have come that were fetched.
    pub async fn fetched(&self) {
        self.sources.changed().await;
    }

    /// Another configuration says who may connect.
    pub fn want(&mut self, auth: &Auth) {
        self.wanted = auth.clone();
        self.sources.want(&auth.jwt);
        self.seen = None;
    }

    /// Who may connect from now on, with the keys for it, when that has changed since the last call. The same error is
    /// reported once.
    pub fn changed(&mut self) -> Option<Result<Auth, KeyError>> {
        let read = match self.find() {
            Ok(found) => {
                let seen = Some(self.hasher.hash_one(&found));
                if std::mem::replace(&mut self.seen, seen) == seen {
                    return None;
                }
                self.keys(&found)
            }
            Err(error) => {
                // Once the file is back its keys are read, also when they are the former ones.
                self.seen = None;
                Err(error)
            }
        };
        match read {
            Ok(keys) => {
                self.told = None;
                Some(Ok(Auth { keys, ..self.wanted.clone() }))
            }
            Err(error) => {
                let text = error.to_string();
                let is_new = self.told.as_ref() != Some(&text);
                self.told = Some(text);
                is_new.then_some(Err(error))
            }
        }
    }

    fn find(&self) -> Result<Vec<Found>, KeyError> {
        // The check of the configuration lets each entry have a file or a URL.
        let of = |jwt: &Jwt| -> Option<Result<Found, KeyError>> {
            let Some(file) = &jwt.key_file else {
                return self.sources.fetched(jwt).map(|set| Ok(Found::Fetched(set)));
            };
            let text = SecretFile::new(&self.dir, file, KEY_FILE_BYTES).read();
            Some(text.map(|text| Found::File(self.dir.join(file), text)).map_err(KeyError::from))
        };
        self.wanted.jwt.iter().filter_map(of).collect()
    }

    fn keys(&self, found: &[Found]) -> Result<Keyring, KeyError> {
        if found.is_empty() {
            return Ok(Keyring::NONE);
        }
        let issuer = |(jwt, found): (&Jwt, &Found)| match found {
            Found::File(path, text) => {
                Issuer::read(jwt, text).map_err(|why| KeyError::Wrong { path: path.clone(), why })
            }
            Found::Fetched(set) => {
                set.issuer(jwt).map_err(|why| KeyError::Wrong { path: PathBuf::from("that is fetched"), why })
            }
        };
        let issuers: Result<Vec<_>, _> = self.wanted.jwt.iter().zip(found).map(issuer).collect();
        Ok(Keyring::new(issuers?))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::test_dir::TestDir;

    fn auth(key_file: &str) -> Auth {
        serde_saphyr::from_str(&format!("jwt: [{{algorithms: [HS256], keyFile: {key_file}}}]")).unwrap()
    }

    #[test]
    fn keys_are_read_at_the_start_and_when_they_change_and_bad_ones_are_told_once() {
        let dir = TestDir::new("token-keys");
        let write = |name: &str, text: &str| {
            fs::create_dir_all(dir.path().join("s")).unwrap();
            fs::write(dir.path().join("s").join(name), text).unwrap();
        };
        let missing = KeyWatch::start(dir.path(), &mut auth("s/k")).unwrap_err().to_string();
        assert!(missing.contains("s/k") && missing.contains("mount the Secret"), "{missing}");
        write("k", &"one".repeat(20));
        let mut started = auth("s/k");
        let mut watch = KeyWatch::start(dir.path(), &mut started).unwrap();
        assert_ne!(started.keys, Keyring::NONE);
        assert!(watch.changed().is_none());
        write("k", &"two".repeat(20));
        let rotated = watch.changed().unwrap().unwrap();
        assert!(rotated.keys != started.keys && rotated.jwt == started.jwt);
        assert!(watch.changed().is_none());

        write("k", "a short secret");
        let short = watch.changed().unwrap().unwrap_err().to_string();
        assert!(short.contains("s/k") && !short.contains("a short secret"), "{short}");
        assert!(watch.changed().is_none());
        fs::remove_file(dir.path().join("s/k")).unwrap();
        assert!(watch.changed().unwrap().is_err());
        assert!(watch.changed().is_none());
        write("k", &"two".repeat(20));
        assert!(watch.changed().unwrap().is_ok(), "the keys are there again");
        assert!(!format!("{watch:?} {rotated:?}").contains("two"), "a secret in debug output");
    }

    #[test]
    fn another_list_of_issuers_counts_once_its_keys_can_be_read() {
        let dir = TestDir::new("token-keys-wanted");
        let mut none = Auth { anonymous: true, ..Auth::default() };
        let mut watch = KeyWatch::start(dir.path(), &mut none).unwrap();
        assert!(watch.changed().is_none());
        watch.want(&auth("s/k"));
        assert!(watch.changed().unwrap().is_err(), "its Secret is not mounted yet");
        fs::create_dir(dir.path().join("s")).unwrap();
        fs::write(dir.path().join("s/k"), "k".repeat(32)).unwrap();
        assert_eq!(watch.changed().unwrap().unwrap().jwt.len(), 1);
        watch.want(&none);
        assert!(watch.changed().unwrap().unwrap().jwt.is_empty());
        assert!(watch.changed().is_none());
    }
}
