//! Recorded exchanges with Phoenix 1.8.12 on Bandit 1.12.5, replayed against `channel-node --dev`.
//!
//! `node/tests/data/phoenix-transcripts.json` has the lines of each exchange by its name: `open QUERY -> STATUS` is a
//! handshake, `METHOD -> STATUS` another request, `a>` is said by client a, `a<` is heard by it. `@` stands for the random
//! part of a topic. JSON is compared by its values; texts of close reasons and bodies are free. What the node does
//! differently stands in [`tables::DIFFERENT`], and on the page of the protocol with the same reasons.

use std::{collections::BTreeMap, iter::Peekable, slice};

use crate::{
    pages,
    support::process::{Process, command},
};

mod message;
mod rules;
mod tables;
mod wire;

use message::{heard, said};
use wire::{Answer, Heard, Wire};

type Lines<'a> = Peekable<slice::Iter<'a, String>>;

/// Clients of an exchange by their letters.
type Clients = BTreeMap<char, Wire>;

/// The exchanges, each with its lines.
pub(crate) fn exchanges() -> BTreeMap<String, Vec<String>> {
    serde_json::from_str(include_str!("../data/phoenix-transcripts.json")).unwrap()
}

#[test]
fn recorded_exchanges_with_phoenix_are_equal_or_listed_as_different() {
    let mut dev = command();
    dev.arg("--dev");
    let node = Process::start(dev);
    let (mut wrong, mut equal) = (Vec::new(), 0);
    for (number, (name, lines)) in exchanges().iter().enumerate() {
        // Those of long-poll are replayed in `node/tests/node/longpoll.rs`.
        let is_other = name.starts_with("lp/");
        if is_other || tables::NOT_BUILT.iter().any(|(prefix, _)| name.starts_with(prefix)) {
            continue;
        }
        // In the recordings the random part of a topic has nine characters; binary messages carry its length.
        let random = format!("r{number:08}");
        let lines: Vec<_> = lines.iter().map(|line| message::with_topic(line, &random)).collect();
        let listed = tables::DIFFERENT.iter().any(|(listed, _)| listed == name);
        match replay(&node, name, &lines, &random) {
            Ok(()) if listed => wrong.push(format!("{name}: it is equal, and listed as different")),
            Err(difference) if !listed => wrong.push(format!("{name}: {difference}")),
            result => equal += u32::from(result.is_ok()),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(equal > 90, "only {equal} exchanges are equal");
}

/// The page's table of differences names each exchange in its last column and has the reason before it.
#[test]
fn each_listed_difference_is_on_the_page_with_its_reason_and_no_other() {
    let page = pages::page("docs/PROTOCOL.md");
    let mut on_page = BTreeMap::new();
    for line in pages::section(&page, "## Different from Phoenix").lines() {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        if let [_, _, _, reason, names] = cells[..] {
            let names = names.split('`').skip(1).step_by(2);
            on_page.extend(names.map(|name| (name.to_owned(), reason.to_owned())));
        }
    }
    let listed = tables::DIFFERENT.iter().chain(&tables::NOT_BUILT);
    let listed: BTreeMap<_, _> =
        listed.map(|(name, reason)| ((*name).to_owned(), (*reason).to_owned())).collect();
    assert_eq!(on_page, listed);
    let exchanges = exchanges();
    for name in listed.keys() {
        assert!(exchanges.keys().any(|exchange| exchange.starts_with(name)), "no exchange {name}");
    }
}

/// Says what the recording client said and compares what comes. An error says where the two differ.
fn replay(node: &Process, name: &str, lines: &[String], random: &str) -> Result<(), String> {
    let mut clients = Clients::new();
    if !lines[0].contains(" -> ") {
        connect(node, name, &mut clients, random)?;
    }
    let mut opened = ['a', 'b'].into_iter();
    let mut lines: Lines<'_> = lines.iter().peekable();
    while let Some(line) = lines.next() {
        if let Some((request, answer)) = line.split_once(" -> ") {
            let answered = request_of(node, name, request)?;
            let expected: Vec<_> = answer.split(' ').collect();
            if answered.status != expected[0] {
                return Err(format!("{line}: {}", answered.status));
            }
            if let Some(good) = expected.get(1).and_then(|word| word.strip_prefix("accept-ok="))
                && good != if answered.accepted { "True" } else { "False" }
            {
                return Err(format!("{line}: accepted {}", answered.accepted));
            }
            clients.extend(opened.next().map(|letter| (letter, answered.wire)));
        } else if let Some((_, count)) = line.split_once("answers to 100 joins: ") {
            let joined = join_many(clients.get_mut(&'a').unwrap(), random);
            if joined.to_string() != count {
                return Err(format!("{line}: {joined}"));
            }
        } else if let Some((letter, words)) = spoken(line, '>') {
            if name == "v2/too_many_channels" && words.starts_with(r#"["101""#) {
                make_place(clients.get_mut(&'a').unwrap(), random);
            }
            clients.get_mut(&letter).unwrap().send(&said(name, words, random));
            compare(&mut lines, &mut clients)?;
        } else {
            return Err(format!("nobody can read the line {line}"));
        }
    }
    Ok(())
}

/// The client's letter and the words of a line that is said (`>`) or heard (`<`).
fn spoken(line: &str, direction: char) -> Option<(char, &str)> {
    let line = line.trim_start_matches(' ');
    let letter = line.chars().next()?;
    Some((letter, line[letter.len_utf8()..].strip_prefix(direction)?.strip_prefix(' ')?))
}

/// Compares what the clients hear with the lines up to the next one that somebody says.
fn compare(lines: &mut Lines<'_>, clients: &mut Clients) -> Result<(), String> {
    while let Some((letter, words)) = lines.peek().copied().and_then(|line| spoken(line, '<')) {
        lines.next();
        let got = clients.get_mut(&letter).unwrap().hear();
        heard(words, &got).map_err(|difference| format!("{letter} should hear {words}: {difference}"))?;
    }
    Ok(())
}

fn request_of(node: &Process, name: &str, request: &str) -> Result<Answer, String> {
    let (method, query) = match request.split_once(' ').unwrap_or((request, "")) {
        ("open", query) => ("GET", query),
        (method, query) => (method, query),
    };
    Wire::open(node.listen, method, query, &tables::headers(name)).map_err(|error| error.to_string())
}

/// Connects the clients of an exchange that begins after their joins.
fn connect(node: &Process, name: &str, clients: &mut Clients, random: &str) -> Result<(), String> {
    let letters = if name.starts_with("v2/broadcast_") && name != "v2/broadcast_self" { "ab" } else { "a" };
    for (letter, join_ref) in letters.chars().zip(["1", "8"]) {
        let v1 = name.starts_with("v1/") || (name == "v2/broadcast_v1_and_v2" && letter == 'b');
        let query = if v1 { "?vsn=1.0.0" } else { "?vsn=2.0.0" };
        let mut wire = request_of(node, name, &format!("open {query}"))?.wire;
        if tables::has_joined(name) {
            let join = if v1 {
                format!(r#"{{"topic":"room:{random}","event":"phx_join","payload":{{}},"ref":"{join_ref}"}}"#)
            } else {
                format!(r#"["{join_ref}","{join_ref}","room:{random}","phx_join",{{}}]"#)
            };
            wire.send(&wire::text(&join));
            wire.hear();
        }
        clients.insert(letter, wire);
    }
    Ok(())
}

/// Joins 100 rooms, and returns how many joins were granted.
fn join_many(wire: &mut Wire, random: &str) -> usize {
    let join = |number| format!(r#"["{number}","{number}","room:{random}-{number}","phx_join",{{}}]"#);
    let granted = |wire: &mut Wire, number| {
        wire.send(&wire::text(&join(number)));
        matches!(wire.hear(), Heard::Text(text) if text.contains(r#""status":"ok""#))
    };
    (0..100).filter(|number| granted(wire, *number)).count()
}

/// Leaves one of these rooms; both messages about it are passed over.
fn make_place(wire: &mut Wire, random: &str) {
    wire.send(&wire::text(&format!(r#"["0","leave","room:{random}-0","phx_leave",{{}}]"#)));
    (0..2).for_each(|_| drop(wire.hear()));
}
