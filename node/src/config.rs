//! The configuration file: read at the start and again when it changes.
//!
//! Changes are found by comparing the content every two seconds. A ConfigMap volume swaps a symlink above the file, so
//! watching inodes would need care; comparing a few kilobytes needs none.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use node_core::config::{NodeConfig, nearest};
use serde_json::Value;

use crate::environment::Setting;

/// How often the file is compared with what was last read.
pub const POLL: Duration = Duration::from_secs(2);

/// Longest configuration file in bytes: what a ConfigMap can hold.
const MAX_BYTES: u64 = 1 << 20;

/// A file with every key and its default.
pub const DEFAULT: &str = include_str!("default.yaml");

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
    /// A key that the environment sets is wrong.
    #[error("{0}")]
    Environment(String),
    /// Values are wrong.
    #[error("the configuration {} is wrong: {}", path.display(), errors.join(". "))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// One sentence per error.
        errors: Vec<String>,
    },
}

/// Reads and checks a configuration file, with what the environment sets.
///
/// # Errors
/// See [`ConfigError`].
pub fn load(path: &Path, settings: &[Setting]) -> Result<NodeConfig, ConfigError> {
    parse(path, &read(path)?, settings)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let at = |source| ConfigError::Read { path: path.to_owned(), source };
    let read = shell::file::read_text(path, MAX_BYTES).map_err(at)?;
    read.ok_or_else(|| ConfigError::Size { path: path.to_owned() })
}

fn parse(path: &Path, text: &str, settings: &[Setting]) -> Result<NodeConfig, ConfigError> {
    let wrong =
        |error: &serde_saphyr::Error| ConfigError::Parse { path: path.to_owned(), message: sentence(error) };
    let own: NodeConfig = serde_saphyr::from_str(text).map_err(|error| wrong(&error))?;
    let config = if settings.is_empty() {
        own
    } else {
        let file: Value = serde_saphyr::from_str(text).map_err(|error| wrong(&error))?;
        with_settings(file, settings)?.unwrap_or(own)
    };
    let errors = config.validate();
    if errors.is_empty() { Ok(config) } else { Err(ConfigError::Invalid { path: path.to_owned(), errors }) }
}

/// A configuration without a file, with what the environment sets.
///
/// # Errors
/// When a key that the environment sets is wrong.
pub fn without_file(config: NodeConfig, settings: &[Setting]) -> Result<NodeConfig, ConfigError> {
    let file = serde_json::to_value(&config).map_err(|error| ConfigError::Environment(error.to_string()))?;
    Ok(with_settings(file, settings)?.unwrap_or(config))
}

/// A file with what the environment sets, one key after the other, so that it is known which one is wrong. None without any.
fn with_settings(mut file: Value, settings: &[Setting]) -> Result<Option<NodeConfig>, ConfigError> {
    let mut config = None;
    for setting in settings {
        setting.put(&mut file).map_err(ConfigError::Environment)?;
        // YAML's reader tells which key it does not know. JSON is almost YAML: control characters beyond ASCII, which
        // JSON leaves as they are, have to be escaped.
        let text =
            serde_saphyr::to_string(&file).map_err(|error| ConfigError::Environment(error.to_string()))?;
        let read = serde_saphyr::from_str(&text);
        config = Some(read.map_err(|error| ConfigError::Environment(about(setting, &error)))?);
    }
    Ok(config)
}

/// What is wrong about a file, in one line: its place, and for an unknown key the one that was meant.
fn sentence(error: &serde_saphyr::Error) -> String {
    let error = error.without_snippet();
    if let serde_saphyr::Error::SerdeUnknownField { field, expected, location } = error {
        let place = format!("line {}, column {}", location.line(), location.column());
        return format!("{place}: there is no key {field} here; {}", meant(field, expected));
    }
    error.to_string().replace('\n', " ")
}

/// The key that was meant, or those that there are.
fn meant(field: &str, expected: &[&str]) -> String {
    match nearest(field, expected.iter().copied()) {
        Some(key) => format!("did you mean {key}?"),
        None => match elsewhere(field) {
            Some(path) => format!("did you mean {path}?"),
            None => format!("there are {}", expected.join(", ")),
        },
    }
}

/// A key of this name in another group.
fn elsewhere(field: &str) -> Option<String> {
    let file: Value = serde_saphyr::from_str(DEFAULT).ok()?;
    let groups = file.as_object()?.iter().filter_map(|(name, group)| Some((name, group.as_object()?)));
    let keys = groups.flat_map(|(name, group)| group.keys().map(move |key| (name, key)));
    keys.into_iter().find(|(_, key)| key.as_str() == field).map(|(name, key)| format!("{name}.{key}"))
}

fn about(setting: &Setting, error: &serde_saphyr::Error) -> String {
    let name = &setting.name;
    match error.without_snippet() {
        serde_saphyr::Error::SerdeUnknownField { field, expected, .. } => {
            match nearest(field, expected.iter().copied()) {
                Some(key) => {
                    format!(
                        "{name}: sets no key that there is; did you mean {}?",
                        setting.renamed(field, key)
                    )
                }
                None => format!("{name}: sets no key that there is; {}", meant(field, expected)),
            }
        }
        // The message would repeat the value.
        _ => format!("{name}: has a value that its key cannot have; write it as in the file"),
    }
}

/// Finds changes of a configuration file.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    seen: Option<String>,
    settings: Vec<Setting>,
}

impl Watch {
    /// Reads and checks the file, and watches for changes from that content on. What the environment sets stays as it is.
    ///
    /// # Errors
    /// As [`load`].
    pub fn start(path: &Path, settings: Vec<Setting>) -> Result<(NodeConfig, Self), ConfigError> {
        let text = read(path)?;
        let config = parse(path, &text, &settings)?;
        Ok((config, Watch { path: path.to_owned(), seen: Some(text), settings }))
    }

    /// The new configuration if the file changed since the last call. The same bad content is reported once.
    pub fn changed(&mut self) -> Option<Result<NodeConfig, ConfigError>> {
        match read(&self.path) {
            Ok(text) if self.seen.as_ref() == Some(&text) => None,
            Ok(text) => {
                let parsed = parse(&self.path, &text, &self.settings);
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
    use crate::{environment::settings, test_dir::TestDir};

    #[test]
    fn a_file_as_the_operator_writes_it_is_read() {
        let text = "version: 1\ncluster: {namespace: prod, name: chat}\nrooms:\n  maxMembers: 150\n  onFull: Reject\n  \
                    policies:\n  - topics: \"live:*\"\n    publish: Nobody\nauth: {anonymous: true}\nbus:\n  nats:\n    \
                    urls: [\"nats://chat-nats:4222\"]\n    user: channel-node\nsysctls: {net.ipv4.tcp_fin_timeout: \"30\"}\n";
        let config = parse(Path::new("node.yaml"), text, &[]).unwrap();
        assert_eq!((config.rooms.max_members, config.fixed.cluster.name.as_str()), (150, "chat"));
        assert!(config.fixed.bus.is_some());
        let rendered = serde_saphyr::to_string(&config).unwrap();
        assert_eq!(parse(Path::new("again.yaml"), &rendered, &[]).unwrap(), config);
    }

    #[test]
    fn errors_name_file_and_key() {
        for (text, part) in [
            (
                "rooms: {maxMember: 3}",
                "line 1, column 9: there is no key maxMember here; did you mean maxMembers?",
            ),
            (
                "rooms:\n  ackEvent: []",
                "line 2, column 3: there is no key ackEvent here; did you mean ackEvents?",
            ),
            ("romos: {}", "there is no key romos here; did you mean rooms?"),
            ("maxConnections: 3", "did you mean limits.maxConnections?"),
            ("limits: {xyz: 3}", "there is no key xyz here; there are maxFrameBytes,"),
            ("rooms: {maxMembers: many}", "line 1"),
            ("auth: {anonymous: true}\npath: x", "path: \"x\" is not a mount"),
            ("rooms: [", "line"),
        ] {
            let message = parse(Path::new("node.yaml"), text, &[]).unwrap_err().to_string();
            assert!(message.contains("node.yaml") && message.contains(part), "{text}: {message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn the_environment_goes_before_the_file_and_is_refused_by_its_name() {
        let file = "auth: {anonymous: true}\nlimits: {maxRooms: 7}";
        let with = |name: &str, value: &str| {
            let settings = settings([(name.into(), value.into())]).unwrap();
            parse(Path::new("node.yaml"), file, &settings).map_err(|error| error.to_string())
        };
        let limits = with("CHANNEL_NODE__LIMITS__MAX_CONNECTIONS", "5").unwrap().limits;
        assert_eq!((limits.max_connections, limits.max_rooms), (5, Some(7)));
        for (name, value, part) in [
            (
                "CHANNEL_NODE__LIMITS__MAX_CONECTIONS",
                "5",
                "CHANNEL_NODE__LIMITS__MAX_CONECTIONS: sets no key that there is; did you mean \
                 CHANNEL_NODE__LIMITS__MAX_CONNECTIONS?",
            ),
            ("CHANNEL_NODE__LIMIT__MAX_ROOMS", "5", "did you mean CHANNEL_NODE__LIMITS__MAX_ROOMS?"),
            ("CHANNEL_NODE__MAX_CONNECTIONS", "5", "did you mean limits.maxConnections?"),
            ("CHANNEL_NODE__LIMITS__MAX_ROOMS", "many", "CHANNEL_NODE__LIMITS__MAX_ROOMS: has a value that"),
            ("CHANNEL_NODE__LIMITS__MAX_ROOMS", "0", "limits.maxRooms: 0 is out of range"),
        ] {
            let error = with(name, value).unwrap_err();
            assert!(error.contains(part), "{name}: {error}");
        }
    }

    #[test]
    fn the_environment_goes_with_a_file_that_has_control_characters() {
        let file = r#"{auth: {anonymous: true}, rooms: {topics: ["\x81\x9f\x7f\uFEFF\L*"]}}"#;
        let settings = settings([("CHANNEL_NODE__LIMITS__MAX_ROOMS".into(), "7".into())]).unwrap();
        let alone = parse(Path::new("node.yaml"), file, &[]).unwrap();
        let both = parse(Path::new("node.yaml"), file, &settings).unwrap();
        assert_eq!((&both.rooms, both.limits.max_rooms), (&alone.rooms, Some(7)));
    }

    #[test]
    fn the_default_file_has_the_defaults() {
        let config: NodeConfig = serde_saphyr::from_str(DEFAULT).unwrap();
        let mut defaults = NodeConfig::default();
        // What is written in the file is what it is without being written.
        defaults.limits.bus_message_age_millis = Some(defaults.limits.bus_message_age());
        assert_eq!(config, defaults);
        let errors = config.validate();
        assert!(errors.len() == 1 && errors[0].contains("auth"), "{errors:?}");
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
        let (first, mut watch) = Watch::start(&dir.path().join("node.yaml"), Vec::new()).unwrap();
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
