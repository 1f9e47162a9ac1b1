//! Flags of the commands: few, so they are read by hand and the xtask stays quick to build.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use cluster::Instance;

/// Flags that take no value.
const SWITCHES: [&str; 8] = ["all", "bare", "no-sample", "keep", "quick", "reconnect", "fresh", "record"];

/// What stands behind a command.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    flags: BTreeMap<String, String>,
    rest: Vec<String>,
}

impl Options {
    /// Reads `--name value`, `--name=value`, switches, and everything behind `--`.
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut options = Self::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            if word == "--" {
                options.rest.extend(words);
                break;
            }
            let Some(name) = word.strip_prefix("--") else {
                options.rest.push(word);
                continue;
            };
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None if SWITCHES.contains(&name) => (name, String::new()),
                None => (name, words.next().with_context(|| format!("--{name} needs a value"))?),
            };
            options.flags.insert(name.to_owned(), value);
        }
        Ok(options)
    }

    /// Takes the value of a flag.
    pub(crate) fn value(&mut self, name: &str) -> Option<String> {
        self.flags.remove(name)
    }

    /// Takes a switch.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        self.flags.remove(name).is_some()
    }

    /// Whether a flag is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.flags.contains_key(name)
    }

    /// Takes `--instance`.
    pub(crate) fn instance(&mut self, default: &str) -> Result<Instance> {
        Instance::named(&self.value("instance").unwrap_or_else(|| default.to_owned()))
    }

    /// Words that are no flags.
    pub(crate) fn rest(&self) -> &[String] {
        &self.rest
    }

    /// Takes all flags as they were given, for a program behind this one.
    pub(crate) fn into_words(self) -> Vec<String> {
        let flags = self.flags.into_iter().flat_map(|(name, value)| {
            let value = if SWITCHES.contains(&name.as_str()) { None } else { Some(value) };
            std::iter::once(format!("--{name}")).chain(value)
        });
        flags.chain(self.rest).collect()
    }

    /// Refuses flags that nobody took, with a remedy.
    pub(crate) fn no_flags(&self, remedy: &str) -> Result<()> {
        match self.flags.keys().next() {
            Some(flag) => bail!("--{flag} is not known here; {remedy}"),
            None => Ok(()),
        }
    }

    /// Refuses what nobody took.
    pub(crate) fn finish(&self) -> Result<()> {
        if let Some(unknown) =
            self.flags.keys().map(|name| format!("--{name}")).chain(self.rest.clone()).next()
        {
            bail!("{unknown} is not known here; `cargo xtask help` tells what is");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Options {
        Options::parse(line.split(' ').map(str::to_owned)).expect("parsed")
    }

    #[test]
    fn both_forms_switches_and_the_rest() {
        let mut options = parse("--instance test --port=9 --bare -- get --all");
        assert_eq!(options.value("instance").as_deref(), Some("test"));
        assert_eq!(options.value("port").as_deref(), Some("9"));
        assert!(options.flag("bare") && !options.flag("all"));
        assert_eq!(options.rest(), ["get", "--all"]);
    }

    #[test]
    fn flags_of_others_are_passed_on_as_they_were() {
        let mut options = parse("--instance test --rate 5 --reconnect");
        options.value("instance");
        assert_eq!(options.into_words(), ["--rate", "5", "--reconnect"]);
    }

    #[test]
    fn what_nobody_took_is_refused() {
        assert!(parse("--prot 80").finish().unwrap_err().to_string().contains("--prot"));
        assert!(Options::parse(["--port".to_owned()]).is_err());
        assert!(
            parse("get pods --namespace x")
                .no_flags("say --")
                .unwrap_err()
                .to_string()
                .contains("--namespace")
        );
        assert!(parse("get pods -- --namespace x").no_flags("say --").is_ok());
    }
}
