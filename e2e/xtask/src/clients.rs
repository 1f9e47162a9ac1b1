//! The step with stock clients in languages other than JavaScript: what each needs is installed or built by the tools of its
//! own language, once, and Node's test runner starts the drivers.

use std::{path::PathBuf, process::Command};

use anyhow::Result;
use cluster::check_go;

use crate::{artifacts, cached, tools::Tools};

/// The Python clients and what they need.
const REQUIREMENTS: &str = include_str!("../../clients/python/requirements.txt");
/// The client of the Java driver.
const POM: &str = include_str!("../../clients/java/pom.xml");
/// The plugin that copies a client with all that it needs.
const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";

/// The tests of all of these clients.
pub(crate) fn step(tools: &Tools) -> Result<Command> {
    let mut test = tools.program("node", &["--test"]);
    test.current_dir(clients(tools))
        .env("CHANNEL_NODE", artifacts::target().join("debug/channel-node"))
        .env("CLIENTS_PYTHON", cached::python(tools, "python-clients", REQUIREMENTS)?)
        .env("CLIENTS_JARS", jars(tools)?)
        .env("CLIENTS_GO", driver_in_go(tools)?)
        .env("CLIENTS_RUST", driver_in_rust(tools)?);
    Ok(test)
}

fn clients(tools: &Tools) -> PathBuf {
    tools.repository.join("e2e/clients")
}

fn log(tools: &Tools, language: &str) -> PathBuf {
    tools.reports().join(format!("steps/clients-{language}.log"))
}

fn jars(tools: &Tools) -> Result<PathBuf> {
    cached::directory("java-clients", POM, |directory| {
        let mut maven = tools.program("mvn", &["--quiet", "--batch-mode", COPY, "-DincludeScope=runtime"]);
        maven.arg(format!("-DoutputDirectory={}", directory.display()));
        maven.current_dir(clients(tools).join("java"));
        tools.progress.long("fetching a Java client (once)", &mut maven, &log(tools, "java"))
    })
}

fn driver_in_go(tools: &Tools) -> Result<PathBuf> {
    check_go()?;
    let binary = tools.reports().join("clients-go");
    let mut build = tools.program("go", &["build", "-o"]);
    build.arg(&binary).arg(".").current_dir(clients(tools).join("go"));
    tools.progress.long("building the driver in Go", &mut build, &log(tools, "go"))?;
    Ok(binary)
}

/// Its dependencies stay in the cache: a new checkout need not build them again.
fn driver_in_rust(tools: &Tools) -> Result<PathBuf> {
    let target = cluster::cache()?.join("rust-clients");
    let mut build = tools.program("cargo", &["build", "--locked"]);
    build.env("CARGO_TARGET_DIR", &target).current_dir(clients(tools).join("rust"));
    tools.progress.long("building the driver in Rust", &mut build, &log(tools, "rust"))?;
    Ok(target.join("debug/clients"))
}
