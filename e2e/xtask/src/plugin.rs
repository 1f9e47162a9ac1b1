//! `cli`: kubectl-channels in a directory where kubectl finds it.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use cluster::{
    packages,
    run::{self, Progress},
};

use crate::artifacts;

/// Name of the program, by which kubectl finds it.
const PROGRAM: &str = "kubectl-channels";

/// Builds the program and puts it into a directory.
///
/// # Errors
/// When it cannot be built, or the directory cannot be written to.
pub(crate) fn install(to: Option<&Path>) -> Result<ExitCode> {
    let progress = Progress::new();
    packages::ensure(&[packages::BUILD], &progress)?;
    let directory = match to {
        Some(directory) => directory.to_owned(),
        None => cargos_programs().context("there is no HOME: say where to by --to DIR")?,
    };
    let mut build = run::tied("cargo");
    build.args(["build", "--release", "--package", PROGRAM]).current_dir(artifacts::repository());
    let log = artifacts::target().join("cli-build.log");
    progress.long(
        "building kubectl-channels (Rust, release; the first time about 3 minutes)",
        &mut build,
        &log,
    )?;
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let place = directory.join(PROGRAM);
    put(&artifacts::target().join("release").join(PROGRAM), &place)
        .with_context(|| format!("cannot write {}: say where to by --to DIR", place.display()))?;
    say::out!("installed {}", place.display());
    if !is_in_path(&directory) {
        say::out!("kubectl looks for it in the directories of PATH: add {}", directory.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes beside the place and renames, so that a program that runs goes on with its own file.
fn put(from: &Path, place: &Path) -> std::io::Result<()> {
    let beside = place.with_extension("new");
    std::fs::copy(from, &beside)?;
    std::fs::rename(&beside, place)
}

/// Where cargo puts programs that it installs.
fn cargos_programs() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    Some(std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)?.join("bin"))
}

fn is_in_path(directory: &Path) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|one| one == directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_takes_the_place_of_the_one_before() {
        let directory = std::env::temp_dir().join(format!("plugin-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("made");
        let (from, place) = (directory.join("built"), directory.join(PROGRAM));
        std::fs::write(&place, "old").expect("written");
        std::fs::write(&from, "new").expect("written");
        put(&from, &place).expect("put");
        let text = std::fs::read_to_string(&place).expect("read");
        let left = std::fs::read_dir(&directory).expect("read").count();
        std::fs::remove_dir_all(&directory).expect("removed");
        assert_eq!((text.as_str(), left), ("new", 2), "nothing is left beside it");
    }
}
