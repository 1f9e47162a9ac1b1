//! `keda`: a real KEDA on a running instance, for the time of the command.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use cluster::{
    Image, Instance, Tool, packages,
    run::{self, Progress},
};

use crate::{artifacts, root};

/// Runs the command.
pub(crate) fn keda(instance: &Instance) -> Result<ExitCode> {
    let progress = Progress::new();
    let _sudo = root::ask_early()?;
    packages::ensure(&[packages::BUILD, packages::KEDA], &progress)?;
    let programs = artifacts::programs(&["keda", "loadgen"], &progress)?;
    stock_clients(&progress)?;
    let image = |tool: Tool| Image::of_binary(&tool.ready(&progress)?, &artifacts::images());
    let [operator, adapter] = [image(Tool::Keda)?, image(Tool::KedaAdapter)?];
    let sources = Tool::Keda.sources()?;
    if let Some(code) = root::as_root()? {
        return Ok(code);
    }
    Instance::attach(instance.name())?;
    progress.say("loading the images of KEDA");
    instance.import(&operator)?;
    instance.import(&adapter)?;
    let mut keda = Command::new(programs.join("keda"));
    keda.args(["--instance", instance.name()]).arg("--sources").arg(sources);
    keda.args(["--operator-image", &operator.reference, "--adapter-image", &adapter.reference]);
    let status = keda.arg("--loadgen").arg(programs.join("loadgen")).status().context("cannot start it")?;
    Ok(run::code(status).into())
}

/// Installs the stock clients when they are not there.
fn stock_clients(progress: &Progress) -> Result<()> {
    let js = artifacts::repository().join("e2e/js");
    if js.join("node_modules/phoenix").exists() {
        return Ok(());
    }
    let mut npm = run::tied("npm");
    npm.args(["ci", "--no-audit", "--no-fund"]).current_dir(js);
    progress.long("installing the stock clients", &mut npm, &artifacts::target().join("keda-npm.log"))
}
