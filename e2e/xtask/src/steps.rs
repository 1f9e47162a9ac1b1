//! The table of `cargo xtask test`: a new kind of check is a new row.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result};
use cluster::{Tool, packages, run};

use crate::{
    artifacts, fuzz, gates, install, root,
    test::{Action, Count, Needs, Step, Tools},
};

/// Name of the step that starts the cluster. Its images go without link-time optimization, which takes longer
/// than all of the tests and changes no behaviour.
pub(crate) const UP: &str = "cluster up";
/// Name of the step that ends it.
pub(crate) const DOWN: &str = "cluster down";
/// Version of cargo-deny that is installed where none is.
const CARGO_DENY: &str = "0.20.2";

/// All steps, in order: quick ones first.
pub(crate) fn all() -> Vec<Step> {
    let step = |name, needs, count, action| Step { name, needs, count, action };
    let counted = |name, action| step(name, Needs::Nothing, Count::Cargo, Action::Program(action));
    let simple = |name, action| step(name, Needs::Nothing, Count::One, Action::Program(action));
    let on_cluster = |name, count, action| step(name, Needs::Cluster, count, Action::Program(action));
    vec![
        simple("format", |t| Ok(t.program("cargo", &["fmt", "--all", "--check"]))),
        simple("lints", |t| {
            let args = ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
            Ok(t.program("cargo", &args))
        }),
        counted("unit tests", unit_tests),
        step("gates", Needs::Nothing, Count::One, Action::Code(gates::hold)),
        step("fuzz", Needs::Nothing, Count::One, Action::Code(fuzz::step)),
        simple("npm packages", |t| Ok(in_js(t, &["ci", "--no-audit", "--no-fund"]))),
        simple("node binary", |t| Ok(t.program("cargo", &["build", "--bin", "channel-node"]))),
        step(
            "stock clients and browser",
            Needs::Nothing,
            Count::Node,
            Action::Program(|t| Ok(in_js(t, &["test"]))),
        ),
        step("dependency rules", Needs::Nothing, Count::One, Action::Code(dependency_rules)),
        step("chart lint", Needs::Nothing, Count::One, Action::Code(chart_lint)),
        counted("api server", |t| {
            // The tests would build them themselves, where nobody sees that it takes minutes.
            Tool::Kube.ready(&t.progress)?;
            install::helm(&t.progress)?;
            let args = ["test", "--package", "apiserver", "--features", "apiserver", "--no-fail-fast"];
            let mut command = t.program("cargo", &args);
            command.args(["--", "--test-threads=2"]);
            Ok(command)
        }),
        step(
            "down after sigkill",
            Needs::Root,
            Count::Cargo,
            Action::Program(|t| {
                // As the user: the test runs as root, and what it builds would belong to root.
                artifacts::parts(&t.progress)?;
                artifacts::product(artifacts::Profile::Quick, &t.progress)?;
                install::helm(&t.progress)?;
                let mut command = root::test_runner(
                    t.program("cargo", &["test", "--package", "xtask", "--features", "cluster"]),
                );
                command.args(["--test", "down_after_sigkill", "--", "--test-threads=1", "--nocapture"]);
                Ok(command)
            }),
        ),
        step(
            UP,
            Needs::Root,
            Count::One,
            Action::Program(|t| Ok(t.xtask(&["up", "--no-sample", "--quick"]))),
        ),
        step("chart schemas", Needs::Cluster, Count::One, Action::Code(Tools::check_schemas)),
        on_cluster("end to end", Count::Cargo, |t| {
            let mut command =
                root::test_runner(t.program("cargo", &["test", "--package", "e2e", "--features", "cluster"]));
            command.args(["--no-fail-fast", "--", "--test-threads=1"]);
            Ok(command)
        }),
        step(DOWN, Needs::Root, Count::One, Action::Program(|t| Ok(t.xtask(&["down"])))),
    ]
}

/// The node's tests of its bus run against the NATS server that the images are made of.
fn unit_tests(tools: &Tools) -> Result<Command> {
    let features = ["--features", "node/nats-server"];
    let mut command = tools.program("cargo", &["test", "--workspace", "--no-fail-fast"]);
    command.args(features).env("NATS_SERVER", Tool::Nats.ready(&tools.progress)?);
    Ok(command)
}

/// Licences, sources and banned crates: cargo-deny finds .deny.toml by itself. The advisory database is a git clone: docs/SECURITY.md says when it is looked at.
fn dependency_rules(tools: &Tools) -> Result<()> {
    let program = if packages::has("cargo-deny") {
        PathBuf::from("cargo-deny")
    } else {
        installed(tools, "cargo-deny", CARGO_DENY, "3 minutes", &[])?
    };
    let args = ["--all-features", "check", "bans", "licenses", "sources"];
    run::output(&mut tools.program(&program.display().to_string(), &args))
        .map(drop)
        .context("see .deny.toml for the rules and their reasons")
}

/// A program that cargo installs into the cache of the project, once per version.
pub(crate) fn installed(
    tools: &Tools,
    name: &str,
    version: &str,
    takes: &str,
    flags: &[&str],
) -> Result<PathBuf> {
    let root = cluster::cache()?.join(format!("{name}-{version}"));
    let binary = root.join("bin").join(name);
    if !binary.exists() {
        let mut install = tools.program("cargo", &["install", "--locked", "--version", version, name]);
        install.args(flags).arg("--root");
        let log = tools.reports().join(format!("steps/{name}.log"));
        let what = format!("installing {name} {version} (once, about {takes})");
        tools.progress.long(&what, install.arg(&root), &log)?;
    }
    Ok(binary)
}

/// npm in the directory of the tests that run on Node.
fn in_js(tools: &Tools, args: &[&str]) -> Command {
    let mut command = tools.program("npm", args);
    command.current_dir(tools.repository.join("e2e/js"));
    command.env("CHANNEL_NODE", artifacts::target().join("debug/channel-node"));
    command
}

fn chart_lint(tools: &Tools) -> Result<()> {
    let mut helm = install::helm(&tools.progress)?;
    run::output(helm.args(["lint", "--strict"]).arg(install::chart()))?;
    tools.rendered_chart().map(drop)
}
