//! `test`: everything, in one order, with one line at the end.
//!
//! A failed step does not stop the others, but those that need the cluster are failed without being
//! run when it did not start.

use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};
use cluster::{
    Instance, Tool, packages,
    run::{self, Progress},
};

use crate::{artifacts, install, options::Options, root, schemas, steps};

/// How long the API server may take to say that it is ready.
const ANSWER_LIMIT: &str = "10s";
/// Instance that the tests run on.
pub(crate) const INSTANCE: &str = "test";

/// How many tests a step stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// Itself.
    One,
    /// What cargo's test programs print.
    Cargo,
    /// What Node's test runner prints.
    Node,
}

/// When a step can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Always.
    Nothing,
    /// When it can become root.
    Root,
    /// Only on the running instance.
    Cluster,
}

/// What a step does.
pub(crate) enum Action {
    /// Runs a program.
    Program(fn(&Tools) -> Result<Command>),
    /// Runs code of this crate.
    Code(fn(&Tools) -> Result<()>),
}

/// One row of the table in `steps.rs`.
pub(crate) struct Step {
    /// What is said while it runs, and the name of its log.
    pub(crate) name: &'static str,
    pub(crate) needs: Needs,
    pub(crate) count: Count,
    pub(crate) action: Action,
}

/// What steps use.
pub(crate) struct Tools {
    pub(crate) repository: PathBuf,
    pub(crate) instance: Instance,
    pub(crate) progress: Progress,
    /// A copy of this program: cargo replaces the original when a step builds it with other features.
    program: PathBuf,
}

impl Tools {
    pub(crate) fn new() -> Result<Self> {
        let reports = artifacts::target().join("e2e");
        fs::create_dir_all(&reports).with_context(|| format!("cannot create {}", reports.display()))?;
        let program = reports.join("xtask");
        // An earlier copy may still run, for example as the relay of a demo.
        fs::remove_file(&program).ok();
        fs::copy("/proc/self/exe", &program)
            .with_context(|| format!("cannot write {}", program.display()))?;
        Ok(Self {
            repository: artifacts::repository(),
            instance: Instance::named(INSTANCE)?,
            progress: Progress::new(),
            program,
        })
    }

    /// Directory of reports and logs.
    pub(crate) fn reports(&self) -> PathBuf {
        artifacts::target().join("e2e")
    }

    /// What a step printed.
    fn step_log(&self, step: &str) -> PathBuf {
        self.reports().join("steps").join(format!("{}.log", step.replace(' ', "-")))
    }

    /// A program that runs in the repository.
    pub(crate) fn program(&self, name: &str, args: &[&str]) -> Command {
        let mut command = run::tied(name);
        command.args(args).current_dir(&self.repository);
        command
    }

    /// This very program with other words, so that each may become root by itself.
    pub(crate) fn xtask(&self, args: &[&str]) -> Command {
        let mut command = run::tied(&self.program);
        command.args(args).args(["--instance", self.instance.name()]).current_dir(&self.repository);
        command
    }

    /// Runs kubectl with the user's copy of the kubeconfig: only root sees the instance's own state.
    fn kubectl<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Result<String> {
        let mut command = run::tied(Tool::Kube.path()?);
        command.arg("kubectl").arg("--kubeconfig").arg(artifacts::kubeconfig(&self.instance));
        run::output(command.args(args))
    }

    fn cluster_answers(&self) -> Result<()> {
        self.kubectl(["get", "--raw", "/readyz", "--request-timeout", ANSWER_LIMIT]).map(drop)
    }

    /// The chart as Kubernetes objects, written to a file.
    pub(crate) fn rendered_chart(&self) -> Result<PathBuf> {
        let mut helm = install::helm(&self.progress)?;
        helm.args(["template", "channelcluster"])
            .arg(install::chart())
            .args(["--namespace", install::NAMESPACE]);
        for image in ["image", "nodeImage", "natsImage"] {
            helm.args([
                "--set-string",
                &format!("operator.{image}=channelcluster.io/{}:0", image.to_lowercase()),
            ]);
        }
        let path = self.reports().join("chart.yaml");
        fs::create_dir_all(self.reports())?;
        fs::write(&path, run::output(&mut helm)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Checks the rendered chart and the sample against the schemas that the API server publishes.
    pub(crate) fn check_schemas(&self) -> Result<()> {
        let chart = self.rendered_chart()?;
        let directory = self.reports().join("schemas");
        schemas::write(|path| self.kubectl(["get", "--raw", path]), &directory)?;
        let location = format!("{}/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json", directory.display());
        let mut check = run::tied(Tool::Kubeconform.ready(&self.progress)?);
        check.args([
            "-strict",
            "-summary",
            "-skip",
            "CustomResourceDefinition",
            "-schema-location",
            &location,
        ]);
        check.arg(&chart).arg(self.repository.join("docs/samples"));
        run::output(&mut check)?;
        // The API server's own judgement knows the CEL rules too. Its namespace exists: the chart is installed.
        let dry =
            ["apply", "--dry-run=server", "--server-side", "--force-conflicts", "--validate=strict", "-f"];
        for path in [chart, self.repository.join("docs/samples")] {
            let path = path.display().to_string();
            self.kubectl(dry.iter().copied().chain([path.as_str()]))?;
        }
        Ok(())
    }
}

/// How a step ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
}

/// Runs the command.
pub(crate) fn test(options: &mut Options) -> Result<ExitCode> {
    let only = options.value("only");
    let keep = options.flag("keep");
    options.finish()?;
    let tools = Tools::new()?;
    let chosen = chosen(steps::all(), only.as_deref(), keep)?;
    let rooted = chosen.iter().any(|step| step.needs != Needs::Nothing);
    let _sudo = rooted.then(root::ask_early).transpose()?;
    packages::ensure(&[packages::BUILD, packages::RUN, packages::TEST, packages::GATES], &tools.progress)?;
    rust_components(&tools);
    let mut total = Tally::default();
    let mut failures = Vec::new();
    for step in chosen {
        let (tally, error) = run_step(&step, &tools);
        total.passed += tally.passed;
        total.failed += tally.failed;
        if let Some(error) = error {
            tools.progress.say(&format!("FAILED {}: {error:#}", step.name));
            failures.push((step.name, format!("{error:#}")));
            if step.needs == Needs::Cluster {
                let collected = tools.xtask(&["logs"]).status();
                if let Err(error) = collected {
                    tools.progress.say(&format!("the logs could not be collected: {error}"));
                }
            }
        }
    }
    if !failures.is_empty() {
        // Once more at the end: of a long run often only the end is kept.
        for (step, error) in &failures {
            let said = fs::read_to_string(tools.step_log(step));
            say::out!("\n{step}:\n{}", said.map_or_else(|_| error.clone(), |said| excerpt(&said)));
        }
        let steps: Vec<_> = failures.iter().map(|(step, _)| *step).collect();
        say::out!("failed steps: {}; their logs are in {}", steps.join(", "), tools.reports().display());
    }
    say::out!("{} passed, {} failed", total.passed, total.failed);
    Ok(if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The steps that `--only` and `--keep` leave. `--only cluster` takes all that need the cluster along, whatever
/// their names are.
fn chosen(all: Vec<Step>, only: Option<&str>, keep: bool) -> Result<Vec<Step>> {
    let names = all.iter().map(|step| step.name).collect::<Vec<_>>().join(", ");
    let wanted = |step: &Step, only: &str| {
        step.name.contains(only) || (only == "cluster" && step.needs == Needs::Cluster)
    };
    let chosen: Vec<_> = all
        .into_iter()
        .filter(|step| only.is_none_or(|only| wanted(step, only)))
        .filter(|step| !(keep && step.name == steps::DOWN))
        .collect();
    anyhow::ensure!(!chosen.is_empty(), "no step is called {:?}; the steps are: {names}", only.unwrap_or(""));
    Ok(chosen)
}

/// Rust's formatter and linter, which rustup's minimal profile leaves out. Where they cannot be added, the steps that
/// need them fail and say so.
fn rust_components(tools: &Tools) {
    let programs = [("cargo-fmt", "rustfmt"), ("cargo-clippy", "clippy")];
    let missing: Vec<_> =
        programs.iter().filter(|(program, _)| !packages::has(program)).map(|(_, name)| *name).collect();
    if missing.is_empty() || !packages::has("rustup") {
        return;
    }
    let mut add = tools.program("rustup", &["component", "add"]);
    let log = tools.reports().join("steps/rustup.log");
    let what = format!("adding to the Rust toolchain: {}", missing.join(" "));
    if let Err(error) = tools.progress.long(&what, add.args(&missing), &log) {
        tools.progress.say(&format!("{error:#}"));
    }
}

fn run_step(step: &Step, tools: &Tools) -> (Tally, Option<anyhow::Error>) {
    let log = tools.step_log(step.name);
    // Counts are read from it: an earlier run's must not be taken for this one's.
    fs::remove_file(&log).ok();
    let cluster = if step.needs == Needs::Cluster { tools.cluster_answers() } else { Ok(()) };
    let result = if let Err(error) = cluster {
        Err(error.context(format!("no cluster answers, see the step {:?}", steps::UP)))
    } else {
        match &step.action {
            Action::Code(code) => {
                tools.progress.say(step.name);
                code(tools)
            }
            Action::Program(make) => {
                make(tools).and_then(|mut command| tools.progress.long(step.name, &mut command, &log))
            }
        }
    };
    let said = fs::read_to_string(&log).unwrap_or_default();
    let mut tally = count(step.count, &said);
    match &result {
        // A step that proves nothing must not look like a success.
        Ok(()) if tally.passed == 0 && step.count != Count::One => {
            tally.failed += 1;
            return (tally, Some(anyhow::anyhow!("it ran no test; see {}", log.display())));
        }
        Ok(()) => {}
        Err(_) => {
            tally = Tally {
                passed: if step.count == Count::One { 0 } else { tally.passed },
                failed: tally.failed.max(1),
            }
        }
    }
    (tally, result.err())
}

/// Most lines of a failed step that are said again at the end.
const EXCERPT_LINES: usize = 60;

/// The lines of a test runner's output that say what failed and why; the last lines where it does not tell.
fn excerpt(said: &str) -> String {
    let names = |line: &&str| {
        let line = line.trim_start();
        (line.starts_with("test ") && line.ends_with("FAILED"))
            || line.starts_with("not ok ")
            || line.starts_with("✖ ")
    };
    // Cargo quotes what a failed test printed under `---- name stdout ----`, up to the list of the failures.
    let mut quoted = false;
    let quotes = said.lines().filter(|line| {
        quoted = (quoted && *line != "failures:") || line.starts_with("---- ");
        quoted && !line.is_empty()
    });
    let mut lines: Vec<_> = said.lines().filter(names).chain(quotes).take(EXCERPT_LINES).collect();
    if lines.is_empty() {
        let all: Vec<_> = said.lines().collect();
        lines = all[all.len().saturating_sub(EXCERPT_LINES)..].to_vec();
    }
    lines.join("\n")
}

/// Reads the counts out of a test runner's output.
fn count(count: Count, said: &str) -> Tally {
    let number = |text: &str| text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0);
    match count {
        Count::One => Tally { passed: 1, failed: 0 },
        Count::Cargo => said
            .lines()
            .filter_map(|line| line.trim().strip_prefix("test result: "))
            .filter_map(|line| line.split_once(". "))
            .fold(Tally::default(), |sum, (_, figures)| {
                let mut parts = figures.split("; ");
                Tally {
                    passed: sum.passed + parts.next().map_or(0, number),
                    failed: sum.failed + parts.next().map_or(0, number),
                }
            }),
        Count::Node => {
            // The TAP reporter says "# pass 3", the one for terminals "ℹ pass 3".
            let figure = |name: &str| -> u64 {
                said.lines()
                    .filter_map(|line| line.strip_prefix("# ").or_else(|| line.strip_prefix("ℹ ")))
                    .filter_map(|line| line.strip_prefix(name))
                    .map(number)
                    .sum()
            };
            Tally { passed: figure("pass "), failed: figure("fail ") }
        }
    }
}

/// Collects the logs of an instance (`logs`); a command of its own because it needs root.
pub(crate) fn logs(options: &mut Options) -> Result<ExitCode> {
    let instance = options.instance("demo")?;
    options.finish()?;
    if let Some(code) = root::as_root()? {
        return Ok(code);
    }
    let directory = crate::up::logs(&instance);
    instance.collect_logs(&directory)?;
    say::out!("{}", directory.display());
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_results_are_summed() {
        let said = "test result: ok. 3 passed; 0 failed; 0 ignored\n x\ntest result: FAILED. 1 passed; 2 failed; 0 ignored\n";
        assert_eq!(count(Count::Cargo, said), Tally { passed: 4, failed: 2 });
    }

    #[test]
    fn failed_tests_are_named_with_their_words() {
        let said = "test a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\nthread 'b' panicked\n\n\
                    failures:\n    b\n\ntest result: FAILED. 1 passed; 1 failed;\n";
        assert_eq!(excerpt(said), "test b ... FAILED\n---- b stdout ----\nthread 'b' panicked");
        assert_eq!(excerpt("# pass 1\nnot ok 2 - chats\n"), "not ok 2 - chats");
        assert_eq!(excerpt("error: could not compile\n"), "error: could not compile");
    }

    #[test]
    fn both_reporters_of_node_are_read() {
        assert_eq!(count(Count::Node, "# tests 4\n# pass 3\n# fail 1\n"), Tally { passed: 3, failed: 1 });
        assert_eq!(count(Count::Node, "ℹ tests 2\nℹ pass 2\nℹ fail 0\n"), Tally { passed: 2, failed: 0 });
    }

    fn names(only: &str, keep: bool) -> Vec<&'static str> {
        let steps = chosen(steps::all(), Some(only), keep).expect("some");
        steps.iter().map(|step| step.name).collect()
    }

    #[test]
    fn the_cluster_is_chosen_with_all_that_need_it() {
        assert_eq!(names("cluster", false), [steps::UP, "chart schemas", "end to end", steps::DOWN]);
        assert_eq!(names("cluster", true), [steps::UP, "chart schemas", "end to end"]);
        assert_eq!(names("lint", false), ["lints", "chart lint"]);
    }

    #[test]
    fn a_step_that_does_not_exist_is_no_success() {
        let error = chosen(steps::all(), Some("lnits"), false).err().expect("refused").to_string();
        assert!(error.contains("lnits") && error.contains("unit tests"), "{error}");
    }

    #[test]
    fn a_runner_that_says_nothing_counts_nothing() {
        assert_eq!(count(Count::Cargo, "error: could not compile\n"), Tally::default());
    }
}
