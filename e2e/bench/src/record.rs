//! Raw results as lines of JSON: the first line describes the campaign, each further one is one run.
//!
//! A line is written when its run is over, so that a broken-off campaign goes on where it stopped.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::environment::Environment;

/// The properties that all runs of one campaign have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Seed of the orders.
    pub seed: u64,
    /// Seconds of publishing, if they are not the scenario's own.
    #[serde(default)]
    pub seconds: Option<u32>,
    /// The machine and the source.
    pub environment: Environment,
    /// Version of each server by name.
    pub versions: BTreeMap<String, String>,
}

/// One run of the generator against one server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Name of the scenario.
    pub scenario: String,
    /// Number of the round, from 0.
    pub round: u32,
    /// Label of the server.
    pub server: String,
    /// Time of the day, UTC, at its end.
    pub at: String,
    /// CPUs that other processes used meanwhile, by which a reader sees that a machine was not quiet.
    #[serde(default)]
    pub cpus_of_others: Option<f64>,
    /// Why there is no report: the server did not start, or the generator could not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The generator's report.
    #[serde(default)]
    pub report: Value,
}

impl Run {
    /// Why the run has no usable result; `None` when it has.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        if self.error.is_some() {
            return self.error.clone();
        }
        let failures = self.report.get("failures").and_then(Value::as_array)?;
        let texts: Vec<_> = failures.iter().filter_map(Value::as_str).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }
}

/// A campaign's file.
pub struct Records {
    path: PathBuf,
    /// The first line.
    pub header: Header,
    /// All runs so far.
    pub runs: Vec<Run>,
}

impl Records {
    /// Reads a campaign. A last line that a crash has cut off is left out.
    ///
    /// # Errors
    /// When there is no such file, or it is something else.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let header = lines.next().with_context(|| format!("{} is empty", path.display()))?;
        let header = serde_json::from_str(header)
            .with_context(|| format!("{} does not begin with a header", path.display()))?;
        let runs = lines.map(serde_json::from_str).collect::<Result<_, _>>();
        let runs = runs.with_context(|| format!("{} has a line that is no run", path.display()))?;
        Ok(Self { path: path.to_owned(), header, runs })
    }

    /// Goes on with a campaign, or begins it when there is no file.
    ///
    /// # Errors
    /// When the file is of another source or machine; says how to begin anew.
    pub fn resume(path: &Path, header: impl FnOnce() -> Result<Header>) -> Result<Self> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
        }
        let wanted = header()?;
        if !path.exists() {
            let records = Self { path: path.to_owned(), header: wanted, runs: Vec::new() };
            records.append(&records.header)?;
            return Ok(records);
        }
        let mut records = Self::read(path)?;
        records.cut_torn_line()?;
        let (old, new) = (&records.header.environment, &wanted.environment);
        ensure!(
            old.commit == new.commit && old.cpu == new.cpu && old.kernel == new.kernel,
            "{} is of commit {} on {} ({}), this is {} on {} ({}): finish it there, or begin anew with --fresh",
            path.display(),
            old.commit,
            old.cpu,
            old.kernel,
            new.commit,
            new.cpu,
            new.kernel
        );
        ensure!(
            records.header.seconds == wanted.seconds,
            "{} is of runs with {}, these would be with {}: use the same --seconds, or begin anew with --fresh",
            path.display(),
            length(records.header.seconds),
            length(wanted.seconds)
        );
        // Servers may be added to a campaign; a server that is in it already keeps the version that was measured.
        for (name, version) in wanted.versions {
            let known = records.header.versions.entry(name.clone()).or_insert_with(|| version.clone());
            ensure!(*known == version, "{name} was {known} in {} and is {version} now", path.display());
        }
        records.rewrite()?;
        Ok(records)
    }

    /// Whether a run is done. A run without a report is not: it is made again.
    #[must_use]
    pub fn has(&self, scenario: &str, round: u32, server: &str) -> bool {
        let is_it = |run: &Run| run.scenario == scenario && run.round == round && run.server == server;
        self.runs.iter().any(|run| run.error.is_none() && is_it(run))
    }

    /// Adds a run.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add(&mut self, run: Run) -> Result<()> {
        self.append(&run)?;
        self.runs.push(run);
        Ok(())
    }

    fn append(&self, line: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path);
        let written = file.as_mut().map(|file| file.write_all(text.as_bytes()));
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error).with_context(|| format!("cannot write {}", self.path.display())),
            Err(error) => anyhow::bail!("cannot open {}: {error}", self.path.display()),
        }
    }

    fn cut_torn_line(&self) -> Result<()> {
        let text = fs::read(&self.path)?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if whole < text.len() {
            OpenOptions::new().write(true).open(&self.path)?.set_len(whole as u64)?;
        }
        Ok(())
    }

    fn rewrite(&self) -> Result<()> {
        let part = self.path.with_extension("part");
        let write = || -> Result<()> {
            let mut file = File::create(&part)?;
            serde_json::to_writer(&mut file, &self.header)?;
            file.write_all(b"\n")?;
            for run in &self.runs {
                serde_json::to_writer(&mut file, run)?;
                file.write_all(b"\n")?;
            }
            fs::rename(&part, &self.path).map_err(Into::into)
        };
        write().with_context(|| format!("cannot write {}", self.path.display()))
    }
}

fn length(seconds: Option<u32>) -> String {
    seconds.map_or_else(|| "the scenarios' own length".to_owned(), |seconds| format!("{seconds} s"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn header() -> Header {
        Header {
            seed: 1,
            seconds: None,
            environment: Environment {
                cpu: "c".into(),
                cpus: 2,
                memory_gib: 8,
                kernel: "6".into(),
                commit: "abc".into(),
                date: "2026-01-01".into(),
                nofile: 20_000,
            },
            versions: BTreeMap::from([("bare".to_owned(), "own".to_owned())]),
        }
    }

    fn run(round: u32, report: Value) -> Run {
        Run {
            scenario: "fanout-100".into(),
            round,
            server: "bare".into(),
            at: "12:00:00".into(),
            cpus_of_others: None,
            error: None,
            report,
        }
    }

    fn file(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("bench-{name}-{}.jsonl", std::process::id()));
        fs::remove_file(&path).ok();
        path
    }

    #[test]
    fn a_broken_off_campaign_goes_on() {
        let path = file("resume");
        let mut records = Records::resume(&path, || Ok(header())).unwrap();
        records.add(run(0, json!({"a": 1}))).unwrap();
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str("{\"scenario\":\"fan");
        fs::write(&path, text).unwrap();
        let mut more = header();
        more.versions.insert("nats".into(), "v2".into());
        let mut again = Records::resume(&path, || Ok(more)).unwrap();
        assert!(again.has("fanout-100", 0, "bare") && !again.has("fanout-100", 1, "bare"));
        again.add(Run { error: Some("no port".into()), ..run(1, Value::Null) }).unwrap();
        assert!(!again.has("fanout-100", 1, "bare"), "to be made again");
        again.add(run(1, json!({}))).unwrap();
        let read = Records::read(&path).unwrap();
        assert_eq!((read.runs.len(), read.header.versions.len()), (3, 2));
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn another_source_is_another_campaign() {
        let path = file("other");
        Records::resume(&path, || Ok(header())).unwrap();
        let mut other = header();
        other.environment.commit = "def".into();
        let error = Records::resume(&path, || Ok(other)).err().unwrap().to_string();
        assert!(error.contains("--fresh") && error.contains("def"), "{error}");
        let error = Records::resume(&path, || Ok(Header { seconds: Some(1), ..header() })).err().unwrap();
        assert!(error.to_string().contains("with 1 s: use the same --seconds"), "{error}");
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_run_with_failures_says_nothing() {
        assert_eq!(run(0, json!({"failures": []})).failure(), None);
        let lost = run(0, json!({"failures": ["3 deliveries lost"]}));
        assert_eq!(lost.failure().as_deref(), Some("3 deliveries lost"));
    }
}
