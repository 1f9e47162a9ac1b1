//! Directories of installed peers, in the user's cache beside the tools of the cluster.
//!
//! The name of a directory holds the version; a mark in it says that it is whole.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use cluster::run::Progress;

/// File that says that a directory is whole.
const WHOLE: &str = ".whole";

/// Where a peer of this version is, whether or not it is there.
///
/// # Errors
/// When there is no cache directory.
fn directory(name: &str, version: &str) -> Result<PathBuf> {
    Ok(cluster::cache()?.join("bench").join(format!("{name}-{version}")))
}

/// The directory of a peer that is there.
///
/// # Errors
/// When it is not installed.
pub fn installed(name: &str, version: &str) -> Result<PathBuf> {
    let directory = directory(name, version)?;
    ensure!(directory.join(WHOLE).exists(), "{name} {version} is not installed");
    Ok(directory)
}

/// The directory of a peer, filled by `fill` when it is not there yet.
///
/// A virtual environment holds its own path, so that it cannot be filled elsewhere and moved: a mark says that
/// the directory is whole, and one without it is begun anew.
///
/// # Errors
/// Those of `fill`, and of the file system.
pub fn ready(
    name: &str,
    version: &str,
    progress: &Progress,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let directory = directory(name, version)?;
    let mark = directory.join(WHOLE);
    if mark.exists() {
        return Ok(directory);
    }
    if directory.exists() {
        progress.say(&format!("{name} {version}: an unfinished installation is begun anew"));
        fs::remove_dir_all(&directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    fill(&directory).with_context(|| format!("cannot install {name} {version}"))?;
    fs::write(&mark, "").with_context(|| format!("cannot write {}", mark.display()))?;
    Ok(directory)
}

/// Where the output of one installer goes.
///
/// # Errors
/// When there is no cache directory.
pub fn log(name: &str) -> Result<PathBuf> {
    Ok(cluster::cache()?.join("bench").join(format!("{name}.log")))
}
