//! The table of `cargo xtask test`: a new kind of check is a new row.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result};
use cluster::{Tool, packages, run};

use crate::{
    artifacts, autobahn, clients, fuzz, gates, install, root,
    step::{Action, Count, Lane, Needs, Step, UP},
    tools::Tools,
    units,
};

/// Name of the step that ends the cluster.
pub(crate) const DOWN: &str = "cluster down";
/// Name of the first step that waits for some of its time.
const CLIENTS: &str = "stock clients and browser";
/// Version of cargo-deny that is installed if there is none.
const CARGO_DENY: &str = "0.20.2";
/// All steps. Those of the front lane are in their order: quick ones first.
pub(crate) fn all() -> Vec<Step> {
    let step = |name, needs, count, action| Step { name, needs, count, lane: Lane::Front, action };
    let counted = |name, action| step(name, Needs::Nothing, Count::Cargo, Action::Program(action));
    let simple = |name, action| step(name, Needs::Nothing, Count::One, Action::Program(action));
    let code = |name, action| step(name, Needs::Nothing, Count::One, Action::Code(action));
    let back = |name, beside, action| Step { lane: Lane::Back(beside), ..code(name, action) };
    vec![
        // The steps of the back lane come first in the table, because that lane begins at once.
        back("programs in Go", None, programs_in_go),
        back("dependency rules", None, dependency_rules),
        // It counts instructions and bytes, which others on the machine do not change.
        back("gates", None, gates::hold),
        back("fuzz", Some(CLIENTS), fuzz::step),
        simple("format", |t| Ok(t.program("cargo", &["fmt", "--all", "--check"]))),
        simple("lints", |t| {
            let args = ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
            Ok(t.program("cargo", &args))
        }),
        step(units::UNITS, Needs::Nothing, Count::Cargo, Action::Code(units::step)),
        simple("npm packages", |t| Ok(in_js(t, &["ci", "--no-audit", "--no-fund"]))),
        // A test of the node is built with the node itself, as the unit tests built it.
        simple("node binary", |t| Ok(t.cargo_test(None, &["node"], &["--no-run"]))),
        code("autobahn", autobahn::step),
        step(CLIENTS, Needs::Nothing, Count::Node, Action::Program(stock_clients)),
        step("stock clients in other languages", Needs::Nothing, Count::Node, Action::Program(clients::step)),
        code("chart lint", chart_lint),
        counted("api server", api_server),
        step("down after sigkill", Needs::Root, Count::Cargo, Action::Program(down_after_sigkill)),
        // Its images are made of what the unit tests were built with: optimizing would take longer than all of the tests.
        step(
            UP,
            Needs::Root,
            Count::One,
            Action::Program(|t| Ok(t.xtask(&["up", "--no-sample", "--quick"]))),
        ),
        step("chart schemas", Needs::Cluster, Count::One, Action::Code(Tools::check_schemas)),
        step(
            "end to end",
            Needs::Cluster,
            Count::Cargo,
            Action::Program(|t| {
                let test = t.cargo_test(Some("e2e/cluster"), &["cluster"], &["--", "--test-threads=2"]);
                Ok(root::test_runner(test))
            }),
        ),
        step(DOWN, Needs::Root, Count::One, Action::Program(|t| Ok(t.xtask(&["down"])))),
    ]
}

/// Programs of others that later steps need, in the order in which they are needed.
fn programs_in_go(tools: &Tools) -> Result<()> {
    let beside = [Tool::Kubeconform, Tool::GitOps];
    for tool in [Tool::Nats, Tool::Kube, Tool::Helm, Tool::CoreDns, Tool::Pause].into_iter().chain(beside) {
        tool.ready(&tools.progress)?;
    }
    Ok(())
}

/// The tests of an API server.
fn api_server(tools: &Tools) -> Result<Command> {
    // Otherwise the tests would build this themselves, for minutes and without a word.
    Tool::Kube.ready(&tools.progress)?;
    cluster::helm(&tools.progress)?;
    Ok(tools.cargo_test(Some("apiserver/apiserver"), &["apiserver"], &["--", "--test-threads=3"]))
}

fn down_after_sigkill(tools: &Tools) -> Result<Command> {
    // These are built as the user: the test runs as root, and what it builds would belong to root.
    artifacts::parts(&tools.progress)?;
    artifacts::product(artifacts::Profile::Quick, &tools.progress)?;
    cluster::helm(&tools.progress)?;
    let words = ["--", "--test-threads=1", "--nocapture"];
    Ok(root::test_runner(tools.cargo_test(Some("xtask/cluster"), &["down_after_sigkill"], &words)))
}

/// Licences, sources and banned crates: cargo-deny finds .deny.toml by itself. The advisory database is a git clone:
/// docs/SECURITY.md says when it is looked at.
fn dependency_rules(tools: &Tools) -> Result<()> {
    let program = if packages::has("cargo-deny") {
        PathBuf::from("cargo-deny")
    } else {
        // cargo-deny reads a few hundred files: to optimize it would take longer than it ever works.
        tools.installed("cargo-deny", CARGO_DENY, "2 minutes", &["--debug"])?
    };
    let args = ["--all-features", "check", "bans", "licenses", "sources"];
    run::output(&mut tools.program(&program.display().to_string(), &args))
        .map(drop)
        .context("see .deny.toml for the rules and their reasons")
}

/// npm in the directory of the tests that run on Node.
fn in_js(tools: &Tools, args: &[&str]) -> Command {
    let mut command = tools.program("npm", args);
    command.current_dir(tools.repository.join("e2e/js"));
    command.env("CHANNEL_NODE", artifacts::target().join("debug/channel-node"));
    command
}

/// Some of them speak to two nodes, which need a NATS server between them.
fn stock_clients(tools: &Tools) -> Result<Command> {
    let mut command = in_js(tools, &["test"]);
    command.env("NATS_SERVER", Tool::Nats.ready(&tools.progress)?);
    Ok(command)
}

fn chart_lint(tools: &Tools) -> Result<()> {
    let mut helm = cluster::helm(&tools.progress)?;
    run::output(helm.args(["lint", "--strict"]).arg(install::chart()))?;
    tools.rendered_chart().map(drop)
}
