//! `load`: the load generator, run in the client namespace of an instance.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use cluster::{
    Instance,
    run::{self, Progress},
};

use crate::{artifacts, cli::Load, root};

/// Runs the command; flags that are not its own go to the generator.
pub(crate) fn load(wanted: &Load) -> Result<ExitCode> {
    let Load { on, namespace, name, flags } = wanted;
    let instance = &on.instance;
    let has = |flag: &str| flags.iter().any(|word| word.split('=').next() == Some(flag));
    let progress = Progress::new();
    let _sudo = root::ask_early()?;
    let target = artifacts::target();
    let mut build = Command::new("cargo");
    build.args(["build", "--release", "--package", "e2e", "--bin", "loadgen", "--target-dir"]).arg(&target);
    build.current_dir(artifacts::repository());
    progress.long(
        "building the load generator (Rust, release)",
        &mut build,
        &target.join("loadgen-build.log"),
    )?;
    if let Some(code) = root::as_root()? {
        return Ok(code);
    }
    Instance::attach(instance.name())?;
    let mut load = instance.client_command(target.join("release/loadgen"));
    if !has("--url") {
        let address = instance.service_address(namespace, name).with_context(|| {
            format!("no ChannelCluster {name} in namespace {namespace} of instance {}", instance.name())
        })?;
        load.args(["--url", &format!("ws://{address}/socket/websocket")]);
    }
    if !has("--source-addresses") {
        load.args(["--source-addresses", &instance.client_addresses().join(",")]);
    }
    let status = load.args(flags).status().context("cannot start the load generator")?;
    Ok(run::code(status).into())
}
