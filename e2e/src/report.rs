//! The record of elapsed times that the end-to-end tests leave behind: `target/e2e/report.json`.
//!
//! Tests wait for a state and never judge how long it took; a person judges the figures later, over many runs.

use anyhow::Context;
use rustix::fs::{FlockOperation, flock};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

type Figures = BTreeMap<String, BTreeMap<String, Vec<f64>>>;

/// Where reports and screenshots go: `target/e2e` of the workspace, or `CHANNELCLUSTER_REPORTS`.
pub fn directory() -> PathBuf {
    std::env::var_os("CHANNELCLUSTER_REPORTS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/e2e"), PathBuf::from)
}

/// Adds a figure to the report: the `seconds` that `key` took in `test`. Earlier figures of the same name are kept,
/// so that several runs give a distribution. Safe to call from several processes at once.
///
/// # Errors
/// When the report cannot be read or written, or is not what an earlier call wrote.
pub fn record(test: &str, key: &str, seconds: f64) -> anyhow::Result<()> {
    record_in(&directory(), test, key, seconds)
}

fn record_in(directory: &Path, test: &str, key: &str, seconds: f64) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    let path = directory.join("report.json");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    // The lock is freed when the file is closed, also by the death of the process.
    flock(&file, FlockOperation::LockExclusive)?;
    let mut figures = read(&mut file).with_context(|| {
        format!("{} is not a report of figures: remove it to start a new one", path.display())
    })?;
    figures.entry(test.to_owned()).or_default().entry(key.to_owned()).or_default().push(seconds);
    let text = serde_json::to_vec_pretty(&figures)?;
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&text)?;
    Ok(())
}

fn read(file: &mut File) -> anyhow::Result<Figures> {
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(if text.is_empty() { Figures::new() } else { serde_json::from_str(&text)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_from_several_threads_are_all_kept() {
        let unique = format!("channelcluster-report-{:x}", rand::random::<u64>());
        let directory = std::env::temp_dir().join(unique);
        std::thread::scope(|scope| {
            for test in ["a", "b", "c", "d"] {
                let directory = &directory;
                scope.spawn(move || (0..20).for_each(|n| record_in(directory, test, "k", n.into()).unwrap()));
            }
        });
        let mut file = File::open(directory.join("report.json")).unwrap();
        let figures = read(&mut file).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(figures.len(), 4);
        assert!(figures.values().all(|keys| keys["k"].len() == 20), "{figures:?}");
    }
}
