//! Directories of installed peers, in the user's cache beside the tools of the cluster.
//!
//! The name of a directory has the version in it; a mark file says that it is complete.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use cluster::run::Progress;

/// The file that says that a directory is complete.
const WHOLE: &str = ".whole";

/// The directory of a peer of this version, whether or not it exists.
///
/// # Errors
/// When there is no cache directory.
fn directory(name: &str, version: &str) -> Result<PathBuf> {
    Ok(cluster::cache()?.join("bench").join(format!("{name}-{version}")))
}

/// The directory of a peer that is installed.
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
/// A virtual environment has its own path in it, so it cannot be filled elsewhere and moved: a mark says that the
/// directory is complete, and one without it is begun anew.
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

/// The log file of one installer.
///
/// # Errors
/// When there is no cache directory.
pub fn log(name: &str) -> Result<PathBuf> {
    Ok(cluster::cache()?.join("bench").join(format!("{name}.log")))
}
