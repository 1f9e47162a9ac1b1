//! What `promtool check metrics` says of a scrape.

use std::{
    io::Write,
    process::{Command, Stdio},
};

/// Its complaints; none when a scrape is as it should be.
///
/// promtool reads the text format of before OpenMetrics, where a counter's help and type have its `_total` too. All else that the
/// programs say is the same in both.
pub(crate) fn complaints(scrape: &str) -> String {
    let mut text = String::new();
    let lines: Vec<_> = scrape.lines().collect();
    let counters: Vec<_> =
        lines.iter().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    for line in &lines {
        let words: Vec<_> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", what @ ("HELP" | "TYPE"), name, rest] if counters.contains(&name) => {
                text.push_str(&format!("# {what} {name}_total {rest}\n"));
            }
            _ => text.push_str(&format!("{line}\n")),
        }
    }
    let mut promtool = Command::new("/usr/bin/promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the Debian package prometheus is installed");
    promtool.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads all");
    let output = promtool.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert_eq!(output.status.success(), said.is_empty(), "{said}");
    said
}
