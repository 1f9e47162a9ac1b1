//! Keys of the configuration file that the environment sets: `CHANNEL_NODE__LIMITS__MAX_CONNECTIONS=5000` is
//! `limits.maxConnections: 5000`. They go before the file, and flags go before them.
//!
//! The two lines make the prefix one that Kubernetes gives to no variable of its own: for a Service named `channel-node`
//! it sets `CHANNEL_NODE_PORT` and others.

use std::ffi::OsString;

use serde_json::Value;

/// The beginning of the names of these variables.
pub const PREFIX: &str = "CHANNEL_NODE__";
/// What stands between a group of keys and a key in it.
const SEPARATOR: &str = "__";

/// A key that the environment sets.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Name of the variable.
    pub name: String,
    /// The key, as the file has it, with its groups before it.
    pub path: Vec<String>,
    /// Its value.
    pub value: Value,
}

/// Reads the settings among all variables, in the order of their names.
///
/// # Errors
/// A sentence about one that cannot be read. No value is repeated.
pub fn settings(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Vec<Setting>, String> {
    let mut settings = Vec::new();
    for (name, text) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)).map(str::to_owned) else {
            continue;
        };
        let path: Vec<String> = name[PREFIX.len()..].split(SEPARATOR).map(key).collect();
        if path.iter().any(String::is_empty) {
            return Err(format!(
                "{name}: names no key; write {PREFIX}LIMITS{SEPARATOR}MAX_CONNECTIONS or the like"
            ));
        }
        let value = text.to_str().and_then(|text| serde_saphyr::from_str(text).ok());
        let value = value.ok_or_else(|| {
            format!(
                "{name}: is no value of YAML; write a number, true, false, a text or a list as in the file"
            )
        })?;
        settings.push(Setting { name, path, value });
    }
    settings.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(settings)
}

/// The key of the file that a part of a name means: `MAX_CONNECTIONS` is `maxConnections`.
fn key(part: &str) -> String {
    let mut words = part.split('_').map(str::to_ascii_lowercase);
    let mut key = words.next().unwrap_or_default();
    for word in words {
        let mut letters = word.chars();
        key.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        key.push_str(letters.as_str());
    }
    key
}

/// The inverse of [`key`].
pub(crate) fn part(key: &str) -> String {
    let mut part = String::new();
    for letter in key.chars() {
        if letter.is_ascii_uppercase() {
            part.push('_');
        }
        part.push(letter.to_ascii_uppercase());
    }
    part
}

impl Setting {
    /// The name that the variable should have where the key `wrong` in it should be `right`.
    pub(crate) fn renamed(&self, wrong: &str, right: &str) -> String {
        let rename = |key: &String| part(if key == wrong { right } else { key });
        let parts: Vec<_> = self.path.iter().map(rename).collect();
        format!("{PREFIX}{}", parts.join(SEPARATOR))
    }

    /// Puts the key into a file.
    ///
    /// # Errors
    /// When something that it names as a group is none.
    pub(crate) fn put(&self, file: &mut Value) -> Result<(), String> {
        let mut place = file;
        for key in &self.path {
            if place.is_null() {
                *place = Value::Object(serde_json::Map::new());
            }
            let Some(group) = place.as_object_mut() else {
                return Err(format!("{}: goes through a key that is no group of keys", self.name));
            };
            place = group.entry(key.as_str()).or_insert(Value::Null);
        }
        *place = self.value.clone();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Vec<Setting>, String> {
        settings(variables.iter().map(|(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn a_variable_is_a_key_of_the_file() {
        let all = read(&[
            ("PATH", "/bin"),
            ("CHANNEL_NODE_PORT", "tcp://10.0.0.1:80"),
            ("CHANNEL_NODE__PATH", "/live"),
            ("CHANNEL_NODE__LIMITS__MAX_CONNECTIONS_PER_ADDRESS", "5"),
            ("CHANNEL_NODE__AUTH__ANONYMOUS", "true"),
            ("CHANNEL_NODE__TRUSTED_PROXIES", "[10.0.0.0/8]"),
        ])
        .unwrap();
        let mut file = json!({"limits": {"maxRooms": 7}, "auth": null});
        all.iter().for_each(|setting| setting.put(&mut file).unwrap());
        let expected = json!({"limits": {"maxRooms": 7, "maxConnectionsPerAddress": 5}, "auth": {"anonymous": true},
            "path": "/live", "trustedProxies": ["10.0.0.0/8"]});
        assert_eq!(file, expected);
        assert_eq!(all[1].renamed("limits", "rooms"), "CHANNEL_NODE__ROOMS__MAX_CONNECTIONS_PER_ADDRESS");
    }

    #[test]
    fn what_cannot_be_read_is_told_without_its_value() {
        for (name, value) in [
            ("CHANNEL_NODE__", "secret"),
            ("CHANNEL_NODE__LIMITS__", "secret"),
            ("CHANNEL_NODE__PATH", "[secret"),
        ] {
            let error = read(&[(name, value)]).unwrap_err();
            assert!(error.starts_with(&format!("{name}: ")) && !error.contains("secret"), "{error}");
        }
        let setting = &read(&[("CHANNEL_NODE__PATH__X", "1")]).unwrap()[0];
        assert!(setting.put(&mut json!({"path": "/socket"})).unwrap_err().contains("CHANNEL_NODE__PATH__X"));
    }
}
