//! How many kinds of attacks this program has.

use std::{collections::BTreeSet, process::Command};

use super::{forgery, handshakes, smuggled};

/// The least that there may be.
const LEAST: usize = 90;

/// Each test is a kind, except those that say a table of them by turns: there each row is one.
#[test]
fn there_are_at_least_ninety_kinds() {
    fn names<T>(rows: impl IntoIterator<Item = T>, name: impl Fn(T) -> &'static str) -> Vec<&'static str> {
        rows.into_iter().map(name).collect()
    }
    let tables = [
        ("smuggled::requests_with_two_readings", names(smuggled::requests(), |row| row.0)),
        ("smuggled::no_frames_after_the_upgrade", names(smuggled::frames(), |row| row.0)),
        ("handshakes::what_is_no_handshake", names(handshakes::failures(), |row| row.0)),
        ("handshakes::what_may_not_come_in_a_session", names(handshakes::endings(), |row| row.0)),
        ("forged::forged_tokens", names(forgery::all(), |row| row.0)),
    ];
    let program = std::env::current_exe().expect("this program");
    let output = Command::new(program).args(["--list", "--format", "terse"]).output().expect("a list");
    let listed = String::from_utf8(output.stdout).expect("text");
    let tests: BTreeSet<_> = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .filter(|name| !name.starts_with("kinds::"))
        .collect();
    let alone = tests.iter().filter(|name| tables.iter().all(|(table, _)| table != *name));
    let mut kinds: Vec<String> = alone.map(|name| (*name).to_owned()).collect();
    for (table, rows) in &tables {
        assert!(tests.contains(table), "{table} is no test");
        println!("{table}: {} kinds", rows.len());
        kinds.extend(rows.iter().map(|row| format!("{table}: {row}")));
    }
    let distinct: BTreeSet<_> = kinds.iter().collect();
    assert_eq!(distinct.len(), kinds.len(), "two kinds have one name");
    println!("{} kinds of attacks", kinds.len());
    assert!(kinds.len() >= LEAST, "{}", kinds.len());
}
