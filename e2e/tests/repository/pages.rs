//! Reads the pages for people: README.md and docs/*.md.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// One page.
pub(crate) struct Page {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// The repository.
pub(crate) fn root() -> PathBuf {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.ancestors().find(|dir| dir.join("docs/ARCHITECTURE.md").exists()).unwrap().to_owned()
}

/// Every page, README.md first.
pub(crate) fn all() -> Vec<Page> {
    let mut paths = vec![root().join("README.md")];
    for directory in ["docs", "docs/decisions"] {
        let mut found: Vec<_> =
            fs::read_dir(root().join(directory)).unwrap().map(|entry| entry.unwrap().path()).collect();
        found.retain(|path| path.extension().is_some_and(|ending| ending == "md"));
        found.sort();
        paths.extend(found);
    }
    paths.into_iter().map(|path| Page { text: fs::read_to_string(&path).unwrap(), path }).collect()
}

/// The text of one page.
pub(crate) fn page(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// The text under a heading, up to the next heading of its level or above.
pub(crate) fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let start = text.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no heading {heading:?}"));
    let body = &text[start + heading.len() + 2..];
    let level = heading.bytes().take_while(|byte| *byte == b'#').count();
    let mut at = 0;
    for line in body.split_inclusive('\n') {
        let hashes = line.bytes().take_while(|byte| *byte == b'#').count();
        if (1..=level).contains(&hashes) {
            break;
        }
        at += line.len();
    }
    &body[..at]
}

/// Words `--like-this` of a text.
pub(crate) fn flags(text: &str) -> BTreeSet<String> {
    let is_flag = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let words = text.split(|c: char| !is_flag(c)).filter(|word| word.len() > 2 && word.starts_with("--"));
    words.filter(|word| word.as_bytes()[2].is_ascii_lowercase()).map(str::to_owned).collect()
}

/// The words that follow `command` wherever a page has it as a command: up to the end of its code span or line.
pub(crate) fn invocations<'a>(text: &'a str, command: &str) -> Vec<&'a str> {
    let pattern = format!("{command} ");
    text.match_indices(&pattern)
        .filter(|(at, _)| {
            !text[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '-' || c == '/' || c == '=')
        })
        .map(|(at, _)| text[at + pattern.len()..].split(['`', '\n']).next().unwrap())
        .collect()
}

/// Compares the flags of a program in all pages with those of its `--help`: a flag on a command line must exist, and
/// the table in the program's section of docs/CONFIGURATION.md must have exactly these flags.
pub(crate) fn check_flags(program: &str, help: &str) {
    let known = flags(help);
    let text = page("docs/CONFIGURATION.md");
    let rows = section(&text, &format!("## {program}")).lines().filter_map(|line| line.strip_prefix("| `--"));
    let described: BTreeSet<_> =
        rows.flat_map(|row| flags(&format!("--{}", row.split('`').next().unwrap()))).collect();
    for page in all() {
        for words in invocations(&page.text, program) {
            let unknown: Vec<_> = flags(words).difference(&known).cloned().collect();
            assert!(unknown.is_empty(), "{}: {program} has no {unknown:?}", page.path.display());
        }
    }
    let standard = ["--help", "--version"].map(str::to_owned);
    let expected: BTreeSet<_> = known.into_iter().filter(|flag| !standard.contains(flag)).collect();
    assert_eq!(described, expected, "docs/CONFIGURATION.md, section {program}, against its --help");
}

/// Names like `prefix_...` in a text, without the endings that samples of OpenMetrics add to a metric's name.
pub(crate) fn metrics(text: &str, prefix: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c: char| !is_name(c)).filter(|word| word.starts_with(prefix));
    words.map(str::to_owned).collect()
}

/// The samples' names of a scrape.
pub(crate) fn scraped(text: &str) -> BTreeSet<String> {
    let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    samples.map(|line| line.split(['{', ' ']).next().unwrap().to_owned()).collect()
}
