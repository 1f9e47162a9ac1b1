//! The unit tests: every test program of the workspace, two at a time, the slowest ones first. Cargo would run one after the
//! other, and some of them wait for most of their time.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
};

use anyhow::{Context, Result, ensure};
use cluster::{
    Tool,
    run::{self, Progress},
};
use serde_json::Value;

use crate::tools::Tools;

/// Name of the step.
pub(crate) const UNITS: &str = "unit tests";
/// Programs that run at a time: one per core.
const AT_A_TIME: usize = 2;
/// How the examples in doc comments are called.
const DOC: &str = "doc";
/// The programs that take longest, from minutes to half a minute.
const SLOWEST: [&str; 5] = ["attacks", "node", "load", "operator", "operator_core"];

/// A test program.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    /// Name of the test, library or binary.
    name: String,
    executable: PathBuf,
    /// Directory of the package, in which cargo runs its tests.
    package: PathBuf,
}

/// Builds all of them and runs them. What they printed is in the log of the step.
pub(crate) fn step(tools: &Tools) -> Result<()> {
    let logs = tools.reports().join("steps/units");
    let all = |words: &[&str]| tools.cargo_test(None, &[], words);
    let mut build = all(&["--no-run"]);
    tools.progress.long("building the unit tests (Rust)", &mut build, &logs.join("build.log"))?;
    let listed = run::output(&mut all(&["--no-run", "--message-format=json"]))?;
    let mut programs = programs(&listed)?;
    ensure!(!programs.is_empty(), "cargo built no test program");
    programs.sort_by_key(|one| SLOWEST.iter().position(|slow| *slow == one.name).unwrap_or(SLOWEST.len()));
    // Those of the node's bus run against the NATS server that is in the images.
    let nats = Tool::Nats.ready(&tools.progress)?;
    let mut ran = run_all(programs, &tools.progress, &logs, &nats);
    let doc = logs.join("doc.log");
    let examples = tools.progress.long("examples in doc comments", &mut all(&["--doc"]), &doc);
    ran.push(Ran { name: DOC.to_owned(), log: doc, ended: examples });
    let log = tools.step_log(UNITS);
    let mut failed = Vec::new();
    let mut printed = String::new();
    for Ran { name, log, ended } in ran {
        // Not all that a test prints need be UTF-8, and a program that was killed has printed no result.
        let said = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
        let ended = ended.and_then(|()| {
            ensure!(said.contains("test result: ") || name == DOC, "it told no result");
            Ok(())
        });
        printed.push_str(&format!("Running {name}\n{said}\n"));
        if let Err(error) = ended {
            printed.push_str(&format!("test {name} (the program) ... FAILED\n"));
            failed.push(format!("{name}: {error:#}; see {}", log.display()));
        }
    }
    fs::write(&log, printed).with_context(|| format!("cannot write {}", log.display()))?;
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

/// The test programs in what cargo says with `--message-format=json`.
fn programs(listed: &str) -> Result<Vec<Program>> {
    let mut found = Vec::new();
    for line in listed.lines().filter(|line| line.starts_with('{')) {
        let said: Value = serde_json::from_str(line).with_context(|| format!("cargo said {line}"))?;
        let is_test = said["reason"] == "compiler-artifact" && said["profile"]["test"] == true;
        let (true, Some(executable)) = (is_test, said["executable"].as_str()) else { continue };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let package = Path::new(&text(&said["manifest_path"])).parent().map(Path::to_owned);
        found.push(Program {
            name: text(&said["target"]["name"]),
            executable: executable.into(),
            package: package.with_context(|| format!("cargo named no package of {executable}"))?,
        });
    }
    Ok(found)
}

/// A program that has ended.
struct Ran {
    name: String,
    log: PathBuf,
    ended: Result<()>,
}

fn run_all(programs: Vec<Program>, progress: &Progress, logs: &Path, nats: &Path) -> Vec<Ran> {
    let (waiting, ran) = (Mutex::new(programs.into_iter().enumerate()), Mutex::new(Vec::new()));
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some((number, program)) = next() {
                    let name = format!("{number}-{}", program.name);
                    let log = logs.join(format!("{name}.log"));
                    let mut command = run::tied(&program.executable);
                    command.current_dir(&program.package).env("CARGO_MANIFEST_DIR", &program.package);
                    command.env("NATS_SERVER", nats);
                    let ended = progress.long(&format!("{UNITS}: {name}"), &mut command, &log);
                    ran.lock().unwrap_or_else(PoisonError::into_inner).push(Ran { name, log, ended });
                }
            });
        }
    });
    ran.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_are_told_from_others() {
        let said = r#"{"reason":"compiler-artifact","manifest_path":"/a/node/Cargo.toml","target":{"name":"attacks"},"profile":{"test":true},"executable":"/t/attacks-1"}
{"reason":"compiler-artifact","manifest_path":"/a/node/Cargo.toml","target":{"name":"node"},"profile":{"test":false},"executable":"/t/channel-node"}
{"reason":"compiler-artifact","manifest_path":"/a/node/Cargo.toml","target":{"name":"node"},"profile":{"test":true},"executable":null}
{"reason":"build-finished","success":true}"#;
        let attacks = Program {
            name: "attacks".to_owned(),
            executable: "/t/attacks-1".into(),
            package: "/a/node".into(),
        };
        assert_eq!(programs(said).expect("read"), [attacks]);
        assert!(programs("{\"reason\":").is_err());
    }
}
