//! The commands of the README's table, run as they are written, with `--instance test` where one has to be named.
//!
//! Some are not run here, because each has a test of its own: `up` and `down` are the first and last steps of `cargo
//! xtask test` and are run by `e2e/xtask/tests/down_after_sigkill.rs`; `test` is the command that runs this test. `up
//! --context` needs a cluster that is not ours; its steps (chart, sample, readiness) are those of `up`. `channel-node
//! --dev` is in `node/tests/node/docs.rs`.

use cluster::Instance;
use e2e::fleet::{HANG_GUARD, Turn, eventually};
use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    sync::mpsc,
};

use crate::pages;

/// Commands that another test runs, see above.
const ELSEWHERE: [&str; 3] = ["up", "down", "test"];

/// The sample in the default namespace, where the README's commands look for it; removed when dropped.
struct Sample(Instance);

impl Sample {
    fn apply() -> Self {
        let instance = Instance::attach("test").unwrap();
        let sample = Self(instance);
        sample.0.apply(&pages::page("docs/samples/chat.yaml")).unwrap();
        eventually("the sample is Ready", || {
            let cluster = sample.0.kubectl_json(["get", "channelcluster", "chat"])?;
            let conditions = cluster["status"]["conditions"].as_array().cloned().unwrap_or_default();
            Ok(conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True").then_some(()))
        })
        .unwrap();
        sample
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        let delete =
            ["delete", "channelcluster", "chat", "--ignore-not-found", "--wait=true", "--timeout=120s"];
        if let Err(error) = self.0.kubectl(delete) {
            eprintln!("the sample stays: {error:#}");
        }
    }
}

/// A command of the README for the instance `test`, run as the user who started the tests.
fn on_test_instance(words: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(pages::root()).args(["xtask", words[0], "--instance", "test"]).args(&words[1..]);
    let id = |name: &str| std::env::var(name).ok().and_then(|id| id.parse().ok());
    if let (Some(user), Some(group)) = (id("SUDO_UID"), id("SUDO_GID")) {
        command.uid(user).gid(group); // files that the command builds must not belong to root
    }
    command
}

/// Runs a command to its end; returns its output.
fn output(words: &[&str]) -> String {
    let output = on_test_instance(words).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{words:?}: {}\n{said}\n{printed}", output.status);
    printed
}

/// The first two lines of a command that goes on for ever.
fn first_lines(words: &[&str]) -> Vec<String> {
    // The command has a process group of its own, because kubectl is a child of the xtask, and the xtask one of
    // cargo.
    let mut child = on_test_instance(words).stdout(Stdio::piped()).process_group(0).spawn().unwrap();
    let (tell, told) = mpsc::channel();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(tell.send(line))));
    let seen = (0..2).map(|_| told.recv_timeout(HANG_GUARD)).collect::<Result<Vec<_>, _>>();
    let group = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
    child.wait().unwrap();
    seen.unwrap_or_else(|_| panic!("{words:?} says nothing"))
}

#[test]
fn the_commands_of_the_readme_work_as_written() {
    let _turn = Turn::alone();
    let readme = pages::page("README.md");
    let table = pages::section(&readme, "## Then");
    let rows: Vec<_> = table.lines().filter(|line| line.starts_with("| ")).collect();
    let commands: Vec<Vec<&str>> = rows
        .iter()
        .flat_map(|row| pages::invocations(row, "cargo xtask"))
        .map(|command| command.split(' ').collect::<Vec<_>>())
        .filter(|words| !ELSEWHERE.contains(&words[0]))
        .collect();
    assert!(commands.len() >= 4, "{commands:?}");
    let _sample = Sample::apply();
    let mut checked = 0;
    for words in &commands {
        let says = match words[0] {
            "kubectl" if words.contains(&"-w") => first_lines(words).concat(),
            _ => output(words),
        };
        let expected: &[&str] = match words[..] {
            ["load", ..] => &["deliveries", "\npassed"],
            ["kubectl", .., "jsonpath={.status.decisions}"] => &["["],
            ["kubectl", .., "cc,pods"] => &["READY", "chat-node-", "chat-nats-"],
            ["kubectl", .., "-w"] => &["WRITES/S", "chat"],
            _ => panic!("say here what {words:?} is to print"),
        };
        for part in expected {
            assert!(says.contains(part), "{words:?} does not say {part:?}:\n{says}");
        }
        checked += 1;
    }
    assert_eq!(checked, commands.len());
}
