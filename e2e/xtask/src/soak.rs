//! `soak`: random faults on a fleet of the `test` instance while clients talk.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use cluster::{Instance, run::Progress};

use crate::{artifacts, cli::Soak, root, tools::INSTANCE};

/// Runs the command; its flags go to the program.
pub(crate) fn soak(wanted: &Soak) -> Result<ExitCode> {
    let progress = Progress::new();
    let _sudo = root::ask_early()?;
    let target = artifacts::target();
    let mut build = Command::new("cargo");
    build.args(["build", "--package", "e2e", "--bin", "soak", "--target-dir"]);
    build.arg(&target).current_dir(artifacts::repository());
    progress.long("building the soak (Rust)", &mut build, &target.join("soak-build.log"))?;
    if let Some(code) = root::as_root()? {
        return Ok(code);
    }
    Instance::attach(INSTANCE)?;
    let mut soak = Command::new(target.join("debug/soak"));
    soak.arg("--report").arg(wanted.report.clone().unwrap_or_else(|| target.join("soak")));
    let status = soak.args(wanted.flags()).status().context("cannot start the soak")?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}
