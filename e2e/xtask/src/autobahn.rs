//! `autobahn`: the cases of the Autobahn test suite against the node's bare WebSocket codec, each to be passed strictly.
//!
//! The suite's own runner needs Python 2. The package kosoku runs the suite's case files on Python 3.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, ExitCode, Stdio},
};

use anyhow::{Context, Result};
use cluster::{packages, run};

use crate::{artifacts, cached, tools::Tools};

/// Version of kosoku, as in the requirements.
const KOSOKU: &str = "0.1.0";
/// The package that pip installs, with its hashes.
const REQUIREMENTS: &str = include_str!("../assets/autobahn/requirements.txt");
/// The program that runs the cases.
const SCRIPT: &str = include_str!("../assets/autobahn/run.py");
/// Cases with small messages.
const SMALL: [&str; 8] = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"];
/// Cases with messages of up to 16 MiB, and all about compression, with a thousand messages each.
const LARGE: [&str; 3] = ["9.*", "12.*", "13.*"];
/// Of the cases about compression, for each kind of data and for each offer one with messages of 16 bytes to 16 KiB, whole or
/// in fragments.
const COMPRESSED: [&str; 12] = [
    "12.1.1", "12.2.4", "12.3.11", "12.4.5", "12.5.12", "13.1.1", "13.2.4", "13.3.5", "13.4.11", "13.5.12",
    "13.6.4", "13.7.11",
];

/// Runs the command: all cases.
pub(crate) fn autobahn() -> Result<ExitCode> {
    let tools = Tools::new()?;
    packages::ensure(&[packages::BUILD, packages::PYTHON], &tools.progress)?;
    run_cases(&tools, SMALL.into_iter().chain(LARGE))?;
    Ok(ExitCode::SUCCESS)
}

/// The step: the cases with small messages, and a part of those about compression.
pub(crate) fn step(tools: &Tools) -> Result<()> {
    run_cases(tools, SMALL.into_iter().chain(COMPRESSED))
}

fn run_cases(tools: &Tools, cases: impl IntoIterator<Item = &'static str>) -> Result<()> {
    let python = cached::python(tools, &format!("kosoku-{KOSOKU}"), REQUIREMENTS)?;
    let mut build = tools.program("cargo", &["build", "--workspace", "--example", "echo"]);
    build.args(["--features", artifacts::FEATURES]);
    tools.progress.long("building the echo server", &mut build, &log(tools, "echo"))?;
    let echo = Echo::start()?;
    let script = tools.reports().join("autobahn.py");
    fs::write(&script, SCRIPT).with_context(|| format!("cannot write {}", script.display()))?;
    let mut suite = run::tied(python);
    suite.arg(script).arg(&echo.address).args(cases);
    tools.progress.long("Autobahn cases", &mut suite, &log(tools, "autobahn-cases"))?;
    say::out!("{}", run::tail(&log(tools, "autobahn-cases")));
    Ok(())
}

fn log(tools: &Tools, name: &str) -> PathBuf {
    tools.reports().join(format!("steps/{name}.log"))
}

/// The running echo server; ended when dropped.
struct Echo {
    child: Child,
    address: String,
}

impl Echo {
    /// Starts the server, which says where it listens.
    fn start() -> Result<Self> {
        let program = artifacts::target().join("debug/examples/echo");
        let mut child = run::tied(&program)
            .arg("0")
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut address = String::new();
        let said = child.stdout.take().map(|out| BufReader::new(out).read_line(&mut address));
        said.transpose().context("the echo server says nothing")?;
        Ok(Self { child, address: address.trim().to_owned() })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
