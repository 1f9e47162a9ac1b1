//! The program as people start it: help, completion, exit codes.

use std::process::{Command, Output};

fn channels(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-channels"));
    command.args(words).env("KUBECONFIG", "/nowhere/config").env_remove("KUBERNETES_SERVICE_HOST");
    command.output().unwrap()
}

#[test]
fn the_definitions_hold() {
    kubectl_channels::command().debug_assert();
}

#[test]
fn every_command_has_help_with_an_example() {
    for command in kubectl_channels::command().get_subcommands() {
        let nested = command.get_subcommands().map(|nested| vec![command.get_name(), nested.get_name()]);
        for words in nested.chain([vec![command.get_name()]]) {
            let output = channels(&[&words[..], &["--help"]].concat());
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success());
            assert!(text.contains("Example") && text.contains("kubectl channels"), "{text}");
        }
    }
}

#[test]
fn a_script_of_each_shell_knows_the_commands() {
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let output = channels(&["completion", shell]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("explain"), "{shell}: {text}");
    }
}

#[test]
fn exit_codes_tell_a_wrong_command_line_from_a_failure() {
    let wrong = channels(&["sttaus"]);
    assert_eq!(wrong.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("status"), "{wrong:?}");
    assert_eq!(channels(&["top", "--interval", "0"]).status.code(), Some(64));
    let unreachable = channels(&["status"]);
    assert_eq!(unreachable.status.code(), Some(1));
    let said = String::from_utf8_lossy(&unreachable.stderr).into_owned();
    assert!(said.starts_with("error: ") && said.contains("--kubeconfig"), "{said}");
    let missing = channels(&["status", "--kubeconfig", "/nowhere/other"]);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nowhere/other"), "{missing:?}");
    let plan = ["plan", "--publishes-per-second", "1", "--room-size", "2", "--peak-connections", "3"];
    assert_eq!(channels(&plan).status.code(), Some(0), "it needs no cluster");
}

#[test]
fn a_context_that_is_not_there_lists_those_that_are() {
    let config = "\
apiVersion: v1
kind: Config
clusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]
users: [{name: a, user: {}}]
contexts: [{name: kind-a, context: {cluster: a, user: a}}]
current-context: kind-a
";
    let path = std::env::temp_dir().join(format!("channels-kubeconfig-{}", std::process::id()));
    std::fs::write(&path, config).unwrap();
    let file = path.to_str().unwrap();
    let wrong = channels(&["status", "--kubeconfig", file, "--context", "kind"]);
    let dead = channels(&["status", "--kubeconfig", file]);
    std::fs::remove_file(&path).unwrap();
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(said.contains("\"kind\"") && said.contains("kind-a"), "{said}");
    let said = String::from_utf8_lossy(&dead.stderr).into_owned();
    assert_eq!(dead.status.code(), Some(1));
    assert!(said.contains("does not answer") && said.contains("--context"), "{said}");
}
