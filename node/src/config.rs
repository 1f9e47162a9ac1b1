//! The configuration file: read at the start and again when it changes.
//!
//! Changes are found by comparing the content every two seconds. A ConfigMap volume swaps a symlink above the file, so
//! watching inodes would need care; comparing a few kilobytes needs none.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use node_core::config::NodeConfig;

/// How often the file is compared with what was last read.
pub const POLL: Duration = Duration::from_secs(2);

/// Longest configuration file in bytes: what a ConfigMap can hold.
const MAX_BYTES: u64 = 1 << 20;

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}; name a readable file", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file is too long.
    #[error("the configuration {} is longer than {MAX_BYTES} bytes", path.display())]
    Size {
        /// The file.
        path: PathBuf,
    },
    /// The file is not YAML of this shape.
    #[error("the configuration {} cannot be understood: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The fault, and its place in the file.
        message: String,
    },
    /// Values are wrong.
    #[error("the configuration {} is wrong: {}", path.display(), errors.join(". "))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// One sentence per error.
        errors: Vec<String>,
    },
}

/// Reads and checks a configuration file.
///
/// # Errors
/// See [`ConfigError`].
pub fn load(path: &Path) -> Result<NodeConfig, ConfigError> {
    parse(path, &read(path)?)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let at = |source| ConfigError::Read { path: path.to_owned(), source };
    let read = shell::file::read_text(path, MAX_BYTES).map_err(at)?;
    read.ok_or_else(|| ConfigError::Size { path: path.to_owned() })
}

fn parse(path: &Path, text: &str) -> Result<NodeConfig, ConfigError> {
    let config: NodeConfig = serde_saphyr::from_str(text).map_err(|error| ConfigError::Parse {
        path: path.to_owned(),
        message: error.without_snippet().to_string().replace('\n', " "),
    })?;
    let errors = config.validate();
    if errors.is_empty() { Ok(config) } else { Err(ConfigError::Invalid { path: path.to_owned(), errors }) }
}

/// Finds changes of a configuration file.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    seen: Option<String>,
}

impl Watch {
    /// Reads and checks the file, and watches for changes from that content on.
    ///
    /// # Errors
    /// As [`load`].
    pub fn start(path: &Path) -> Result<(NodeConfig, Self), ConfigError> {
        let text = read(path)?;
        let config = parse(path, &text)?;
        Ok((config, Watch { path: path.to_owned(), seen: Some(text) }))
    }

    /// The new configuration if the file changed since the last call. The same bad content is reported once.
    pub fn changed(&mut self) -> Option<Result<NodeConfig, ConfigError>> {
        match read(&self.path) {
            Ok(text) if self.seen.as_ref() == Some(&text) => None,
            Ok(text) => {
                let parsed = parse(&self.path, &text);
                self.seen = Some(text);
                Some(parsed)
            }
            Err(error) => self.seen.take().map(|_| Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::test_dir::TestDir;

    #[test]
    fn a_file_as_the_operator_writes_it_is_read() {
        let text = "version: 1\ncluster: {namespace: prod, name: chat}\nrooms:\n  maxMembers: 150\n  onFull: Reject\n  \
                    policies:\n  - topics: \"live:*\"\n    publish: Nobody\nauth: {anonymous: true}\nbus:\n  nats:\n    \
                    urls: [\"nats://chat-nats:4222\"]\n    user: channel-node\nsysctls: {net.ipv4.tcp_fin_timeout: \"30\"}\n";
        let config = parse(Path::new("node.yaml"), text).unwrap();
        assert_eq!((config.rooms.max_members, config.fixed.cluster.name.as_str()), (150, "chat"));
        assert!(config.fixed.bus.is_some());
        let rendered = serde_saphyr::to_string(&config).unwrap();
        assert_eq!(parse(Path::new("again.yaml"), &rendered).unwrap(), config);
    }

    #[test]
    fn errors_name_file_and_key() {
        for (text, part) in [
            ("rooms: {maxMember: 3}", "maxMember"),
            ("rooms: {maxMembers: many}", "line 1"),
            ("auth: {anonymous: true}\npath: x", "path: \"x\" is not a mount"),
            ("rooms: [", "line"),
        ] {
            let message = parse(Path::new("node.yaml"), text).unwrap_err().to_string();
            assert!(message.contains("node.yaml") && message.contains(part), "{text}: {message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn a_change_through_swapped_symlinks_is_seen_once_and_a_bad_file_is_told_once() {
        let dir = TestDir::new("config");
        let version = |name: &str, text: &str| {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("node.yaml"), text).unwrap();
            let fresh = dir.path().join("..data_tmp");
            std::os::unix::fs::symlink(name, &fresh).unwrap();
            fs::rename(fresh, dir.path().join("..data")).unwrap();
        };
        version("v1", "auth: {anonymous: true}");
        std::os::unix::fs::symlink("..data/node.yaml", dir.path().join("node.yaml")).unwrap();
        let (first, mut watch) = Watch::start(&dir.path().join("node.yaml")).unwrap();
        assert!(!first.chat_page);
        assert!(watch.changed().is_none());
        version("v2", "auth: {anonymous: true}\nchatPage: true");
        assert!(watch.changed().unwrap().unwrap().chat_page);
        assert!(watch.changed().is_none());
        version("v3", "auth: {anonymous: maybe}");
        assert!(watch.changed().unwrap().is_err());
        assert!(watch.changed().is_none());
        fs::remove_file(dir.path().join("..data")).unwrap();
        assert!(matches!(watch.changed(), Some(Err(ConfigError::Read { .. }))));
        assert!(watch.changed().is_none());
        version("v4", "auth: {anonymous: true}");
        assert!(watch.changed().unwrap().is_ok());
    }
}
