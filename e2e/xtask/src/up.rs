//! `up`: from a bare machine to a live chat page.

use std::process::ExitCode;

use anyhow::Result;
use cluster::{packages, run::Progress};

use crate::{artifacts, options::Options, root};

/// Runs the command.
pub(crate) fn up(options: &mut Options) -> Result<ExitCode> {
    let instance = options.instance("demo")?;
    let bare = options.flag("bare");
    options.finish()?;
    let progress = Progress::new();
    packages::ensure(&[packages::BUILD, packages::RUN], &progress)?;
    let parts = artifacts::parts(&progress)?;
    if let Some(code) = root::as_root()? {
        return Ok(code);
    }
    instance.start(&parts, &progress)?;
    if bare {
        println!("{}", instance.kubectl(["get", "nodes,pods", "-A", "-o", "wide"])?);
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::SUCCESS)
}
