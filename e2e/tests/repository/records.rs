//! Records of decisions and pages repeat constants of the code in words. The two sides of each pair here are changed
//! together or not at all.

use crate::pages;
use crate::pages::page;

/// A file, a text that it must contain, a page, and words of the page that are true because of that text.
const PAIRS: [(&str, &str, &str, &str); 20] = [
    (
        "node/core/src/route.rs",
        "const STRIPES: usize = 64;",
        "001-shared-room-registry",
        "One lock of 1 in 64 stripes",
    ),
    (
        "operator/src/lease.rs",
        "LEASE_DURATION: Duration = Duration::from_secs(15)",
        "002-operator-lease",
        "15 s long",
    ),
    (
        "operator/src/lease.rs",
        "RETRY_PERIOD: Duration = Duration::from_secs(2)",
        "002-operator-lease",
        "renewed each 2 s",
    ),
    (
        "operator/src/lease.rs",
        "RENEW_DEADLINE: Duration = Duration::from_secs(10)",
        "002-operator-lease",
        "given up after 10 s",
    ),
    (
        "operator/src/fleet.rs",
        "const FAST: Duration = Duration::from_secs(2)",
        "003-operator-pace",
        "Each 2 s for fleets",
    ),
    ("operator/src/fleet.rs", "const SMALL_FLEET: usize = 32;", "003-operator-pace", "of up to 32 nodes"),
    (
        "operator/src/fleet.rs",
        "const SLOW: Duration = Duration::from_secs(5)",
        "003-operator-pace",
        "above that each 5 s",
    ),
    (
        "node/core/src/session/conn.rs",
        "(size_of::<Conn>(), entry), (64, 64)",
        "004-slot-in-a-nested-epoll",
        "A connection is a slot of 64 bytes",
    ),
    (
        "node/src/transport/plain.rs",
        "const COPY_BYTES: usize = 16 * 1024;",
        "005-one-flush-per-turn",
        "copied together up to 16 KiB",
    ),
    (
        "node/core/src/egress/pass.rs",
        "const SHORT_PASS_WRITES: usize = 512;",
        "005-one-flush-per-turn",
        "up to 512 connections",
    ),
    (
        "node/core/src/egress/pass.rs",
        "const SHORT_PASS_MILLIS: u64 = 5;",
        "005-one-flush-per-turn",
        "of up to 5 ms",
    ),
    (
        "node/core/src/egress/pass.rs",
        "const MAX_PAUSE_MILLIS: u64 = 20;",
        "005-one-flush-per-turn",
        "20 ms at most",
    ),
    (
        "node/core/src/limits.rs",
        "BACKLOG_FRAMES: u64 = 262_144;",
        "005-one-flush-per-turn",
        "once 262,144 frames wait",
    ),
    (
        "node/core/src/limits.rs",
        "FLUSHES_PER_TURN: usize = 1_024;",
        "005-one-flush-per-turn",
        "writes 1,024 connections at most",
    ),
    (
        "node/src/allocator.rs",
        "background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0",
        "006-jemalloc",
        "`background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0`",
    ),
    (
        "operator/core/src/footprint.rs",
        "const CONNECTION_HEADROOM: u64 = 2;",
        "007-caps-per-node",
        "at twice `capacity.connections`",
    ),
    (
        "node/src/bus/connect.rs",
        "const MAX_PAUSE: Duration = Duration::from_millis(200);",
        "008-drop-what-the-bus-cannot-take",
        "from 50 ms to 200 ms",
    ),
    (
        "node/src/bus/connect.rs",
        "const MAX_LOGIN_PAUSE: Duration = Duration::from_secs(2);",
        "008-drop-what-the-bus-cannot-take",
        "up to 2 s after connections that did not last",
    ),
    (
        "node/core/src/placement.rs",
        "const SLACK: u32 = 16;",
        "009-descriptor-tables-and-handover",
        "more than 16 and a fiftieth",
    ),
    (
        "node/core/src/placement.rs",
        "const SLACK_FRACTION: u32 = 50;",
        "009-descriptor-tables-and-handover",
        "more than 16 and a fiftieth",
    ),
];

/// The words of a text, however its lines are broken.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn records_say_what_the_constants_say() {
    for (file, definition, record, words) in PAIRS {
        assert!(
            page(file).contains(definition),
            "{file} no longer has `{definition}`: change {record} and this"
        );
        let text = flat(&page(&format!("docs/decisions/{record}.md")));
        assert!(text.contains(words), "{record} no longer says {words:?}: {file} has `{definition}`");
    }
}

/// A file that a page names must exist in the repository.
#[test]
fn every_file_that_a_page_names_exists() {
    let endings = ["rs", "yaml", "md", "json", "toml", "xml", "mjs", "tpl"];
    let mut seen = 0;
    for pages::Page { path, text } in pages::all() {
        for name in text.split('`').skip(1).step_by(2) {
            let file = name.split("::").next().unwrap();
            let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
            let is_file = file.contains('/') && file.chars().all(plain) && !file.starts_with('/');
            // Files that a run leaves behind need not exist.
            if !is_file || file.starts_with("target/") || !endings.contains(&file.rsplit('.').next().unwrap())
            {
                continue;
            }
            assert!(pages::root().join(file).exists(), "{}: no file {file}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} files: is the search broken?");
}

/// Both pages say the same about what a member misses.
#[test]
fn what_a_member_misses_is_said_once() {
    let (architecture, protocol) = (flat(&page("docs/ARCHITECTURE.md")), flat(&page("docs/PROTOCOL.md")));
    assert!(protocol.contains("A member misses a message when its node is cut off from NATS"));
    assert!(
        architecture.contains("What other nodes said is lost while the bus is away or behind, and counted")
    );
}
