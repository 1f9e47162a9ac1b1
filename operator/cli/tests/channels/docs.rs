//! The page of the commands names all of them with their flags, and each command line of any page can be given.

use crate::pages::{self, Page, flags, invocations, page, section};
use clap::Parser;
use kubectl_channels::args::Args;
use std::collections::BTreeSet;

#[test]
fn every_command_line_of_the_pages_can_be_given() {
    let mut seen = 0;
    for Page { path, text } in pages::all() {
        for line in invocations(&text, "kubectl channels") {
            // What follows is for the shell.
            let words = line.split(['>', '|', '#', ')']).next().unwrap().split_whitespace();
            let parsed = Args::try_parse_from(["kubectl-channels"].into_iter().chain(words));
            if let Err(error) = parsed {
                assert!(!error.use_stderr(), "{}: kubectl channels {line}: {error}", path.display());
            }
            seen += 1;
        }
    }
    assert!(seen >= 10, "only {seen} command lines: is the search broken?");
}

#[test]
fn every_command_has_its_section_with_its_flags_and_no_others() {
    let text = page("docs/CLI.md");
    let known = |command: &clap::Command, global: bool| -> BTreeSet<String> {
        let arguments = command.get_arguments().filter(|argument| argument.is_global_set() == global);
        arguments.filter_map(|argument| argument.get_long()).map(|name| format!("--{name}")).collect()
    };
    let described = |heading: &str| -> BTreeSet<String> {
        let rows = section(&text, heading).lines().filter_map(|line| line.strip_prefix("| `"));
        rows.flat_map(|row| flags(row.split('`').next().unwrap())).collect()
    };
    let all = kubectl_channels::command();
    assert_eq!(described("## For all commands"), known(&all, true));
    for command in all.get_subcommands() {
        let nested = command.get_subcommands().flat_map(|command| known(command, false));
        let all = known(command, false).into_iter().chain(nested);
        let own: BTreeSet<_> = all.filter(|flag| flag != "--help").collect();
        assert_eq!(described(&format!("## {}", command.get_name())), own, "{}", command.get_name());
    }
}

#[test]
fn every_exit_code_is_in_the_page() {
    let text = page("docs/CLI.md");
    let codes = section(&text, "## Exit codes");
    for code in
        [kubectl_channels::FINE, kubectl_channels::FAILED, kubectl_channels::FOUND, kubectl_channels::USAGE]
    {
        assert!(codes.contains(&format!("\n| {code} | ")), "{code}: {codes}");
    }
}
