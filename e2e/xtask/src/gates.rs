//! `gates`: figures of the node that noise cannot change, compared with recorded ones.
//!
//! The figures are instructions counted by callgrind and bytes counted by an allocator, both with fixed keys and
//! inputs. A worse figure fails, and so does a better one: it has to be recorded as the new baseline, or the gain
//! could be lost unnoticed.

use std::{collections::BTreeMap, fmt, fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail, ensure};
use cluster::{packages, run};
use serde_json::Value;

use crate::tools::Tools;

/// How far a figure may be from its baseline, in percent: more than another version of a dependency or of the C
/// library usually changes, and less than anybody would give away knowingly.
const BOUND_PERCENT: u64 = 3;
/// Version of gungraun's runner, which must be that of the library, `gungraun` in Cargo.toml.
const RUNNER: &str = "0.20.0";
/// The compiler that a baseline must exist for, as major.minor.
const PINNED_RUSTC: &str = env!("CARGO_PKG_RUST_VERSION");
/// How to accept figures.
const RECORD: &str = "cargo xtask gates --record";

/// Figures by their name.
type Figures = BTreeMap<String, u64>;
/// Recorded figures, by compiler and target: another compiler makes other instructions.
type Baselines = BTreeMap<String, Figures>;

/// Runs the command.
pub(crate) fn gates(record: bool) -> Result<ExitCode> {
    let tools = Tools::new()?;
    packages::ensure(&[packages::BUILD, packages::GATES], &tools.progress)?;
    if !record {
        hold(&tools)?;
        return Ok(ExitCode::SUCCESS);
    }
    let figures = measure(&tools)?;
    let compiler = Compiler::ask(&tools)?;
    let mut baselines = read(&tools)?;
    let lines = compare(baselines.get(&compiler.key), &figures);
    say::out!("{}", table(&lines));
    baselines.insert(compiler.key, figures);
    let path = path(&tools);
    fs::write(&path, format!("{}\n", serde_json::to_string_pretty(&baselines)?))
        .with_context(|| format!("cannot write {}", path.display()))?;
    say::out!("recorded in {}; say in the commit why they changed", path.display());
    Ok(ExitCode::SUCCESS)
}

/// The step: measures, prints, compares.
pub(crate) fn hold(tools: &Tools) -> Result<()> {
    let figures = measure(tools)?;
    let compiler = Compiler::ask(tools)?;
    let baselines = read(tools)?;
    let baseline = baselines.get(&compiler.key);
    let lines = compare(baseline, &figures);
    say::out!("{}", table(&lines));
    judge(&compiler, baseline.is_some(), &lines)
}

/// Fails when a line is out of bounds, or when the pinned compiler has no baseline at all. With another compiler the
/// figures are only shown: a person who tries a new Rust learns what it changes and is not stopped by it.
fn judge(compiler: &Compiler, known: bool, lines: &[Line]) -> Result<()> {
    if !known {
        let sentence = format!("there is no baseline for rustc {}: record one with `{RECORD}`", compiler.key);
        ensure!(!compiler.is_pinned(), sentence);
        say::out!("{sentence}; only rustc {PINNED_RUSTC} must have one, so nothing was judged");
        return Ok(());
    }
    let wrong: Vec<_> = lines.iter().filter_map(Line::complaint).collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// The compiler that is used here.
struct Compiler {
    /// Release and target.
    key: String,
}

impl Compiler {
    fn ask(tools: &Tools) -> Result<Self> {
        Self::parse(&run::output(&mut tools.program("rustc", &["--version", "--verbose"]))?)
    }

    fn parse(said: &str) -> Result<Self> {
        let value = |name| said.lines().find_map(|line| line.strip_prefix(name));
        match (value("release: "), value("host: ")) {
            (Some(release), Some(host)) => Ok(Self { key: format!("{release} {host}") }),
            _ => bail!("`rustc --version --verbose` told no release and host: {said}"),
        }
    }

    fn is_pinned(&self) -> bool {
        self.key.strip_prefix(PINNED_RUSTC).is_some_and(|rest| rest.starts_with(['.', ' ']))
    }
}

/// One figure beside its baseline.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    name: String,
    was: Option<u64>,
    is: Option<u64>,
}

impl Line {
    /// Why the figure is not accepted, with the remedy.
    fn complaint(&self) -> Option<String> {
        let Self { name, was, is } = self;
        let (was, is) = match (*was, *is) {
            (Some(was), Some(is)) if was.abs_diff(is) * 100 <= was * BOUND_PERCENT => return None,
            (Some(was), Some(is)) => (was, is),
            (None, Some(is)) => {
                return Some(format!("{name}: {is} is new; record it with `{RECORD}`"));
            }
            _ => {
                return Some(format!(
                    "{name}: was not measured; if it is meant, record that with `{RECORD}`"
                ));
            }
        };
        let change = percent(was, is);
        let remedy = if is > was {
            "find out why; if it is worth it, record it and say why in the commit"
        } else {
            "better; record it, so that it stays so"
        };
        Some(format!(
            "{name}: {was} became {is} ({change}, the bound is {BOUND_PERCENT} %): {remedy}: `{RECORD}`"
        ))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |figure: Option<u64>| figure.map_or_else(|| "-".to_owned(), |figure| figure.to_string());
        let change = self.was.zip(self.is).map_or_else(String::new, |(was, is)| percent(was, is));
        write!(f, "{:<48} {:>12} {:>12} {change:>9}", self.name, text(self.was), text(self.is))
    }
}

/// A change in percent, with its sign.
fn percent(was: u64, is: u64) -> String {
    let change = (is as f64 - was as f64) * 100.0 / was.max(1) as f64;
    format!("{change:+.2} %")
}

/// A line for every name in the baseline or the figures.
fn compare(baseline: Option<&Figures>, figures: &Figures) -> Vec<Line> {
    let known = baseline.into_iter().flat_map(BTreeMap::keys);
    let mut names: Vec<_> = known.chain(figures.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let line = |name: &String| Line {
        name: name.clone(),
        was: baseline.and_then(|baseline| baseline.get(name)).copied(),
        is: figures.get(name).copied(),
    };
    names.into_iter().map(line).collect()
}

fn table(lines: &[Line]) -> String {
    let head = format!("{:<48} {:>12} {:>12} {:>9}", "figure", "was", "is", "change");
    std::iter::once(head).chain(lines.iter().map(ToString::to_string)).collect::<Vec<_>>().join("\n")
}

fn path(tools: &Tools) -> PathBuf {
    tools.repository.join("node/core/benches/baseline.json")
}

fn read(tools: &Tools) -> Result<Baselines> {
    let path = path(tools);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} holds no baselines", path.display()))
}

fn measure(tools: &Tools) -> Result<Figures> {
    let mut figures = bytes(tools)?;
    let mut instructions = instructions(tools)?;
    ensure!(!figures.is_empty() && !instructions.is_empty(), "nothing was counted");
    figures.append(&mut instructions);
    Ok(figures)
}

/// The memory that connections cost. The features are those of the step before, so that nothing is built twice.
fn bytes(tools: &Tools) -> Result<Figures> {
    let tests =
        ["--workspace", "--features", "node/nats-server", "--test", "memory", "--test", "idle_memory"];
    build(tools, "bytes", &[&["test", "--no-run"], &tests[..]].concat())?;
    tools.progress.say("counting bytes");
    let mut test =
        tools.program("cargo", &[&["test", "--quiet"], &tests[..], &["--", "--nocapture"]].concat());
    Ok(figures_of_tests(&run::output(&mut test)?))
}

/// Lines like `figure NAME NUMBER`.
fn figures_of_tests(said: &str) -> Figures {
    let figure = |line: &str| {
        let (name, number) = line.strip_prefix("figure ")?.split_once(' ')?;
        Some((name.to_owned(), number.parse().ok()?))
    };
    said.lines().filter_map(figure).collect()
}

/// The instructions of the most frequent operations.
fn instructions(tools: &Tools) -> Result<Figures> {
    let bench = ["bench", "--package", "node-core", "--bench", "instructions"];
    build(tools, "instructions", &[&bench[..], &["--no-run"]].concat())?;
    // The runner reads a few small files: to optimize it would take longer than it ever works.
    let runner = tools.installed("gungraun-runner", RUNNER, "1 minute", &["--debug"])?;
    tools.progress.say("counting instructions");
    let mut count = tools.program("cargo", &[&bench[..], &["--", "--output-format=json"]].concat());
    figures_of_benches(&run::output(count.env("GUNGRAUN_RUNNER", runner))?)
}

/// One summary of a benchmark per line.
fn figures_of_benches(said: &str) -> Result<Figures> {
    let figure = |line| -> Result<(String, u64)> {
        let summary: Value = serde_json::from_str(line)?;
        let text = |key: &str| summary[key].as_str().with_context(|| format!("a benchmark without {key}"));
        let name = format!("{}_{}_instructions", text("function_name")?, text("id")?);
        let total = &summary["profiles"][0]["data"]["total"]["metrics"]["Ir"]["values"]["new"];
        Ok((name.clone(), total.as_u64().with_context(|| format!("{name}: no instructions"))?))
    };
    said.lines().filter(|line| line.starts_with('{')).map(figure).collect()
}

/// Builds with progress and a log, so that the run after it prints figures only.
fn build(tools: &Tools, what: &str, words: &[&str]) -> Result<()> {
    let log = tools.reports().join(format!("steps/gates-{what}.log"));
    tools.progress.long(&format!("building what counts {what}"), &mut tools.program("cargo", words), &log)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(was: Option<u64>, is: Option<u64>) -> Line {
        Line { name: "x".to_owned(), was, is }
    }

    fn compiler(key: &str) -> Compiler {
        Compiler { key: key.to_owned() }
    }

    #[test]
    fn a_figure_is_free_within_the_bound_and_not_beyond_it_on_either_side() {
        for is in [970, 1_000, 1_030] {
            assert_eq!(line(Some(1_000), Some(is)).complaint(), None, "{is}");
        }
        let worse = line(Some(1_000), Some(1_031)).complaint().expect("beyond");
        assert!(worse.contains("1000 became 1031 (+3.10 %") && worse.contains(RECORD), "{worse}");
        let better = line(Some(1_000), Some(969)).complaint().expect("beyond");
        assert!(better.contains("better") && better.contains(RECORD), "{better}");
        // A count of a few must be exact.
        assert!(line(Some(1), Some(2)).complaint().is_some());
        assert_eq!(line(Some(0), Some(0)).complaint(), None);
    }

    #[test]
    fn new_and_missing_figures_are_told() {
        let baseline = Figures::from([("a".to_owned(), 1), ("b".to_owned(), 2)]);
        let figures = Figures::from([("b".to_owned(), 2), ("c".to_owned(), 3)]);
        let complaints: Vec<_> =
            compare(Some(&baseline), &figures).iter().filter_map(Line::complaint).collect();
        assert_eq!(complaints.len(), 2, "{complaints:?}");
        assert!(complaints[0].starts_with("a: was not measured") && complaints[1].starts_with("c: 3 is new"));
    }

    #[test]
    fn only_the_pinned_compiler_must_have_a_baseline() {
        let said = "rustc 1.95.0 (59807616e 2026-04-14)\nhost: x86_64-unknown-linux-gnu\nrelease: 1.95.0\n";
        assert_eq!(Compiler::parse(said).expect("parsed").key, "1.95.0 x86_64-unknown-linux-gnu");
        assert!(Compiler::parse("rustc 1").is_err());
        let pinned = compiler(&format!("{PINNED_RUSTC}.7 x"));
        let other = compiler(&format!("{PINNED_RUSTC}0.0 x"));
        assert!(pinned.is_pinned() && !other.is_pinned());
        let error = judge(&pinned, false, &[]).expect_err("no baseline").to_string();
        assert!(error.contains(RECORD), "{error}");
        assert!(judge(&other, false, &[line(None, Some(1))]).is_ok());
        assert!(judge(&other, true, &[line(Some(1), Some(2))]).is_err());
    }

    #[test]
    fn figures_are_read_from_what_tests_and_benches_print() {
        let said = "test figures ... \nfigure idle_bytes 12\nfigure x\nok\n";
        assert_eq!(figures_of_tests(said), Figures::from([("idle_bytes".to_owned(), 12)]));
        let said = r#"{"function_name":"f","id":"i","profiles":[{"data":{"total":{"metrics":{"Ir":{"values":{"new":452,"old":1}}}}}}]}"#;
        let figures = figures_of_benches(said).expect("parsed");
        assert_eq!(figures, Figures::from([("f_i_instructions".to_owned(), 452)]));
        assert!(figures_of_benches(r#"{"function_name":"f","id":"i"}"#).is_err());
    }

    #[test]
    fn the_runner_is_of_the_librarys_version() {
        let library = format!("name = \"gungraun\"\nversion = \"{RUNNER}\"");
        assert!(include_str!("../../../Cargo.lock").contains(&library), "RUNNER is not {library}");
    }
}
