//! `fuzz`: the targets of `node/core/fuzz`, built with stable Rust and run by libFuzzer.
//!
//! rustc's coverage pass and libFuzzer, which is the crate libfuzzer-sys, are all that coverage-guided fuzzing needs:
//! no nightly and no cargo-fuzz. There is no address sanitizer, which only nightly has: the core crates have no
//! `unsafe`, and debug assertions and overflow checks are on.

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use cluster::{packages, run};

use crate::{artifacts, cli::Fuzz, tools::Tools};

/// All targets, which run when the command line names none.
const TARGETS: [&str; 12] = [
    "config", "deflate", "envelope", "frame", "longpoll", "msgpack", "origin", "protocol", "proxy", "record",
    "shard", "token",
];
/// How long each target runs in the step of `cargo xtask test`, at the lowest priority beside other steps.
const STEP_SECONDS: u64 = 120;
/// Seed of the step's runs.
const STEP_SEED: u32 = 1;
/// How many targets run at a time: one per core.
const JOBS: usize = 2;
/// An input that takes longer than this, in seconds, is a finding: usually all take less than a millisecond, on a
/// busy machine ten.
const INPUT_LIMIT_SECONDS: u32 = 20;
/// When a target takes more memory than this, in MiB, that is a finding: usually all stay below 100.
const MEMORY_LIMIT_MIB: u32 = 1_024;
/// Longest input in bytes: about 200 operations of a shard, or a request head of the longest kind.
const INPUT_BYTES: u32 = 12_288;
/// How long a target may take to end and report when its time is over.
const GRACE: Duration = Duration::from_secs(60);
/// Pause between two looks at the running targets.
const POLL: Duration = Duration::from_millis(200);
/// These count edges and report comparisons in libFuzzer's way. There is one codegen unit, so that the pass sees all
/// of a crate.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

/// Runs the command.
pub(crate) fn fuzz(wanted: &Fuzz) -> Result<ExitCode> {
    let tools = Tools::new()?;
    packages::ensure(&[packages::BUILD], &tools.progress)?;
    let targets = match &wanted.target {
        None => TARGETS.to_vec(),
        Some(name) => vec![known(name)?],
    };
    let programs = build(&tools)?;
    if let Some(input) = &wanted.input {
        let [target] = targets.as_slice() else { bail!("--input is one target's: name it with --target") };
        let status = Command::new(programs.join(target)).arg(input).status()?;
        return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    run_all(&tools, &programs, &targets, wanted.seconds, wanted.jobs.max(1), Luck::Random)?;
    Ok(ExitCode::SUCCESS)
}

/// The step: all targets, each with one seed.
pub(crate) fn step(tools: &Tools) -> Result<()> {
    let programs = build(tools)?;
    run_all(tools, &programs, &TARGETS, STEP_SECONDS, JOBS, Luck::Same)
}

/// The seed and the inputs to begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Luck {
    /// Another seed each time, and the inputs that were found before: to find more.
    Random,
    /// One seed, and the kept corpus alone: a step that judges a change must not depend on earlier runs.
    Same,
}

fn known(name: &str) -> Result<&'static str> {
    let found = TARGETS.iter().copied().find(|target| *target == name);
    found.with_context(|| format!("no fuzz target {name:?}; there are {}", TARGETS.join(", ")))
}

fn crate_directory(tools: &Tools) -> PathBuf {
    tools.repository.join("node/core/fuzz")
}

fn output_directory() -> PathBuf {
    artifacts::target().join("fuzz")
}

/// Builds all targets; the directory of their programs.
fn build(tools: &Tools) -> Result<PathBuf> {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    let mut build = tools.program("cargo", &["build", "--release", "--locked", "--target", &triple]);
    // With a target named, the flags do not affect build scripts and macros, which run without libFuzzer.
    build.arg("--target-dir").arg(output_directory()).env("RUSTFLAGS", format!("{flags} {FLAGS}"));
    build.current_dir(crate_directory(tools));
    let log = tools.reports().join("steps/fuzz-build.log");
    tools.progress.long("building the fuzz targets (Rust, release)", &mut build, &log)?;
    Ok(output_directory().join(triple).join("release"))
}

/// A running target.
struct Running {
    target: &'static str,
    child: Child,
    log: PathBuf,
    since: Instant,
}

/// How often a target was run, and its finding.
struct Outcome {
    target: &'static str,
    executions: u64,
    finding: Option<String>,
}

fn run_all(
    tools: &Tools,
    programs: &Path,
    targets: &[&'static str],
    seconds: u64,
    jobs: usize,
    luck: Luck,
) -> Result<()> {
    let what = format!("fuzzing {} for {seconds} s each, {jobs} at a time", targets.join(", "));
    tools.progress.say(&what);
    let mut waiting: VecDeque<_> = targets.iter().copied().collect();
    let mut running: Vec<Running> = Vec::new();
    let mut outcomes = Vec::new();
    while !(waiting.is_empty() && running.is_empty()) {
        while running.len() < jobs
            && let Some(target) = waiting.pop_front()
        {
            running.push(start(tools, programs, target, seconds, luck)?);
        }
        thread::sleep(POLL);
        let limit = Duration::from_secs(seconds) + GRACE;
        for index in (0..running.len()).rev() {
            let one = &mut running[index];
            let ended = one.child.try_wait()?;
            if ended.is_none() && one.since.elapsed() < limit {
                continue;
            }
            let mut one = running.swap_remove(index);
            if ended.is_none() {
                one.child.kill()?;
                one.child.wait()?;
            }
            let outcome = judge(&one, ended.map(|status| status.success()))?;
            tools.progress.say(&outcome.sentence());
            outcomes.push(outcome);
        }
    }
    let findings: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.finding.as_deref()).collect();
    ensure!(findings.is_empty(), "{}", findings.join("\n"));
    Ok(())
}

fn start(tools: &Tools, programs: &Path, target: &'static str, seconds: u64, luck: Luck) -> Result<Running> {
    let output = output_directory();
    // libFuzzer writes new inputs to the first directory; it only reads the kept ones.
    let found = match luck {
        Luck::Random => output.join("corpus").join(target),
        Luck::Same => output.join("step").join(target),
    };
    if luck == Luck::Same && found.exists() {
        fs::remove_dir_all(&found).with_context(|| format!("cannot remove {}", found.display()))?;
    }
    let findings = output.join("findings");
    for directory in [&found, &findings] {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    }
    let log = output.join(format!("{target}.log"));
    let file = fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = run::tied(programs.join(target));
    command.args([
        format!("-max_total_time={seconds}"),
        format!("-max_len={INPUT_BYTES}"),
        format!("-timeout={INPUT_LIMIT_SECONDS}"),
        format!("-rss_limit_mb={MEMORY_LIMIT_MIB}"),
        format!("-artifact_prefix={}/{target}-", findings.display()),
        "-print_final_stats=1".to_owned(),
        "-detect_leaks=0".to_owned(),
    ]);
    if luck == Luck::Same {
        command.arg(format!("-seed={STEP_SEED}"));
    }
    let dictionary = crate_directory(tools).join("dictionaries").join(format!("{target}.dict"));
    if dictionary.exists() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    command.arg(&found).arg(crate_directory(tools).join("corpus").join(target));
    command.stdout(file.try_clone()?).stderr(file);
    let child = command.spawn().with_context(|| format!("cannot start the fuzz target {target}"))?;
    Ok(Running { target, child, log, since: Instant::now() })
}

/// Judges a target that has ended. `success` is none when it did not end by itself.
fn judge(one: &Running, success: Option<bool>) -> Result<Outcome> {
    let said = fs::read(&one.log).with_context(|| format!("cannot read {}", one.log.display()))?;
    let said = String::from_utf8_lossy(&said);
    let executions = executions(&said);
    let target = one.target;
    let finding = match success {
        Some(true) if executions == Some(0) || executions.is_none() => Some("it ran nothing".to_owned()),
        Some(true) => None,
        Some(false) => Some(reason(&said)),
        None => Some("it did not end when its time was over".to_owned()),
    };
    let finding = finding.map(|what| {
        let again = artifact(&said).map_or_else(String::new, |path| {
            format!("; once more with `cargo xtask fuzz --target {target} --input {path}`")
        });
        format!("fuzz target {target}: {what}{again}; see {}", one.log.display())
    });
    Ok(Outcome { target, executions: executions.unwrap_or(0), finding })
}

impl Outcome {
    fn sentence(&self) -> String {
        let found = self.finding.as_deref().unwrap_or("nothing found");
        format!("{}: {} executions, {found}", self.target, self.executions)
    }
}

/// libFuzzer's count of runs.
fn executions(said: &str) -> Option<u64> {
    said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))?.trim().parse().ok()
}

/// The file into which libFuzzer wrote the input.
fn artifact(said: &str) -> Option<&str> {
    said.lines().find_map(|line| line.split_once("Test unit written to ")).map(|(_, path)| path.trim())
}

/// The text of the panic, or libFuzzer's own message.
fn reason(said: &str) -> String {
    let lines: Vec<_> = said.lines().collect();
    let panic = lines.iter().position(|line| line.contains("panicked at"));
    if let Some(at) = panic {
        return lines[at..].iter().take(3).map(|line| line.trim()).collect::<Vec<_>>().join(" ");
    }
    let error = lines.iter().find(|line| line.contains("ERROR: libFuzzer"));
    error.map_or_else(|| "it ended with an error".to_owned(), |line| (*line).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "#2\tINITED\nthread '<unnamed>' (1) panicked at src/x.rs:1:2:\nleft is not right\nstack\n\
                        ==1== ERROR: libFuzzer: deadly signal\nartifact_prefix='f/'; Test unit written to f/shard-crash-1\n\
                        stat::number_of_executed_units: 57\n";

    #[test]
    fn what_libfuzzer_says_is_read() {
        assert_eq!(executions(SAID), Some(57));
        assert_eq!(executions("INFO: nothing\n"), None);
        assert_eq!(artifact(SAID), Some("f/shard-crash-1"));
        assert!(reason(SAID).ends_with("src/x.rs:1:2: left is not right stack"), "{}", reason(SAID));
        assert!(reason("==1== ERROR: libFuzzer: timeout after 20 seconds\n").contains("timeout"));
    }

    #[test]
    fn the_targets_are_those_of_the_programs_and_of_the_corpus() {
        let directory = artifacts::repository().join("node/core/fuzz");
        let names = |of: &str| -> Vec<String> {
            let entries = fs::read_dir(directory.join(of)).expect("kept").map(|entry| entry.expect("listed"));
            let mut names: Vec<_> = entries
                .map(|entry| entry.path().file_stem().expect("a name").to_string_lossy().into_owned())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names("fuzz_targets"), TARGETS);
        assert_eq!(names("corpus"), TARGETS);
        assert!(names("dictionaries").iter().all(|name| TARGETS.contains(&name.as_str())));
        let error = known("frames").unwrap_err().to_string();
        assert!(error.contains("frames") && error.contains("protocol"), "{error}");
    }
}
