//! Directories in the cache of the project that other package managers fill.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::tools::Tools;

/// A directory that `make` fills with what a list of packages names, once for each content of the list. An environment of
/// Python has its own path in it and cannot be moved, so a mark with the list says that the directory is complete.
pub(crate) fn directory(name: &str, list: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let directory = cluster::cache()?.join(name);
    let mark = directory.join(".whole");
    if fs::read_to_string(&mark).is_ok_and(|made_from| made_from == list) {
        return Ok(directory);
    }
    if directory.exists() {
        fs::remove_dir_all(&directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    make(&directory)?;
    fs::write(&mark, list).with_context(|| format!("cannot write {}", mark.display()))?;
    Ok(directory)
}

/// The Python interpreter of an environment that has the packages of a list with their hashes.
pub(crate) fn python(tools: &Tools, name: &str, requirements: &str) -> Result<PathBuf> {
    let log = |part: &str| tools.reports().join(format!("steps/{name}-{part}.log"));
    let directory = directory(name, requirements, |directory| {
        let mut make = cluster::run::tied("python3");
        make.args(["-m", "venv"]).arg(directory);
        tools.progress.long("making a Python environment (once)", &mut make, &log("venv"))?;
        let list = directory.join("requirements.txt");
        fs::write(&list, requirements).with_context(|| format!("cannot write {}", list.display()))?;
        let mut pip = cluster::run::tied(directory.join("bin/python"));
        pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--require-hashes"]);
        let what = format!("installing packages for {name} (once)");
        tools.progress.long(&what, pip.arg("--requirement").arg(list), &log("pip"))
    })?;
    Ok(directory.join("bin/python"))
}
