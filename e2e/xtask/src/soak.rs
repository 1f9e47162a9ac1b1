//! `soak`: random faults on a fleet of the `test` instance while clients talk.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use cluster::{
    Instance,
    run::{self, Progress},
};

use crate::{artifacts, cli::Soak, root, tools::INSTANCE};

/// Runs the command; its flags go to the program.
pub(crate) fn soak(wanted: &Soak) -> Result<ExitCode> {
    let progress = Progress::new();
    let _sudo = root::ask_early()?;
    let programs = artifacts::programs(&["soak"], &progress)?;
    if let Some(code) = root::as_root()? {
        return Ok(code);
    }
    Instance::attach(INSTANCE)?;
    let mut soak = Command::new(programs.join("soak"));
    soak.arg("--report").arg(wanted.report.clone().unwrap_or_else(|| artifacts::target().join("soak")));
    let status = soak.args(wanted.flags()).status().context("cannot start the soak")?;
    Ok(run::code(status).into())
}
