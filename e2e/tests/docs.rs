//! The pages for people stay true: commands, links, manifests, keys, defaults and the words of the status are held to the
//! code. Metrics and flags of the two programs are held to it in `node/tests/docs.rs` and `operator/tests/docs.rs`.
#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

use clap::CommandFactory;
use crds::ChannelCluster;
use node_core::config::NodeConfig;
use operator_core::validate::{Credentials, Fetched, OperatorEnv, validate};
use serde_json::Value;
use std::collections::BTreeSet;

#[path = "support/pages.rs"]
mod pages;
use pages::{Page, flags, invocations, page, section};

#[test]
fn every_command_of_the_xtask_exists_with_its_flags() {
    let words: BTreeSet<_> = xtask::HELP
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(|word| !word.is_empty()))
        .chain(["help"])
        .collect();
    let own = flags(xtask::HELP);
    let load: BTreeSet<_> = own.union(&flags(&loadgen_help())).cloned().collect();
    let mut seen = 0;
    for Page { path, text } in pages::all() {
        for command in invocations(&text, "cargo xtask") {
            let (word, rest) = command.split_once(' ').unwrap_or((command, ""));
            assert!(words.contains(word), "{}: no command `cargo xtask {word}`", path.display());
            // What stands behind `--` is for the program behind the xtask.
            let used = flags(rest.split(" -- ").next().unwrap());
            let known = if word == "load" { &load } else { &own };
            let unknown: Vec<_> = used.difference(known).collect();
            assert!(unknown.is_empty(), "{}: cargo xtask {word} has no {unknown:?}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 10, "only {seen} commands: is the search broken?");
}

fn loadgen_help() -> String {
    e2e::load::Options::command().render_long_help().to_string()
}

#[test]
fn every_flag_of_the_load_generator_is_described() {
    pages::check_flags("loadgen", &loadgen_help());
}

#[test]
fn every_step_of_the_test_command_is_in_its_table() {
    let table = section(&page("docs/TESTING.md"), "## The steps of `cargo xtask test`").to_owned();
    let rows: Vec<_> = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next()).collect();
    let steps = xtask::steps();
    assert!(steps.len() > 5, "{steps:?}");
    for step in &steps {
        assert!(rows.contains(step), "docs/TESTING.md has no row for the step {step:?}: {rows:?}");
    }
}

#[test]
fn every_link_leads_somewhere() {
    let mut seen = 0;
    for Page { path, text } in pages::all() {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http://") || link.starts_with("https://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link} leads nowhere", path.display());
            if !heading.is_empty() {
                let text = std::fs::read_to_string(&target).unwrap();
                let found =
                    text.lines().filter(|line| line.starts_with('#')).any(|line| anchor(line) == heading);
                assert!(found, "{}: {link}: no such heading", path.display());
            }
            seen += 1;
        }
    }
    assert!(seen > 10, "only {seen} links: is the search broken?");
}

/// The anchor that GitHub gives a heading.
fn anchor(line: &str) -> String {
    let text = line.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The fenced blocks of a page in one language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect()
}

#[test]
fn every_manifest_can_be_applied() {
    let env = OperatorEnv {
        node_image: "channel-node".to_owned(),
        nats_image: "nats-server".to_owned(),
        server_minor: 34,
        namespace: "channelcluster-system".to_owned(),
        allowed_images: Vec::new(),
    };
    let mut seen = 0;
    for Page { path, text } in pages::all() {
        let documents = blocks(&text, "yaml").into_iter().flat_map(|block| block.split("\n---\n"));
        for manifest in documents.filter(|text| text.contains("kind: ChannelCluster")) {
            let at = path.display();
            let mut cluster: ChannelCluster =
                serde_saphyr::from_str(manifest).unwrap_or_else(|error| panic!("{at}: {error}\n{manifest}"));
            let written: Value = serde_saphyr::from_str(manifest).unwrap();
            let read = serde_json::to_value(&cluster).unwrap();
            assert_eq!(unknown("", &written, &read), Vec::<String>::new(), "{at}: unknown fields");
            cluster.metadata.namespace = Some("default".to_owned());
            let keys = ["username", "password"].map(str::to_owned);
            let credentials = Credentials { keys: keys.into(), labelled: true, servers: None };
            let fetched = Fetched { credentials: Some(credentials), ..Fetched::default() };
            validate(&cluster, &env, &fetched).unwrap_or_else(|all| panic!("{at}: {all:?}\n{manifest}"));
            seen += 1;
        }
    }
    assert!(seen >= 2, "only {seen} manifests: is the search broken?");
}

/// Paths of `written` that `read` does not have: fields that were ignored.
fn unknown(at: &str, written: &Value, read: &Value) -> Vec<String> {
    match (written, read) {
        (Value::Object(written), Value::Object(read)) => written
            .iter()
            .flat_map(|(key, value)| match read.get(key) {
                Some(known) => unknown(&format!("{at}.{key}"), value, known),
                None => vec![format!("{at}.{key}")],
            })
            .collect(),
        (Value::Array(written), Value::Array(read)) => {
            written.iter().zip(read).flat_map(|(written, read)| unknown(at, written, read)).collect()
        }
        _ => Vec::new(),
    }
}

#[test]
fn the_nodes_file_is_shown_with_every_key_and_default() {
    let text = page("docs/CONFIGURATION.md");
    let shown = blocks(section(&text, "## node.yaml"), "yaml")[0];
    let config: NodeConfig = serde_saphyr::from_str(shown).unwrap();
    assert_eq!(config.validate(), Vec::<String>::new());
    let written: Value = serde_saphyr::from_str(shown).unwrap();
    let mut defaults = serde_json::to_value(NodeConfig::default()).unwrap();
    // Left out of a file unless it is set.
    let limits = NodeConfig::default().limits;
    defaults["limits"]["maxRooms"] = limits.rooms().into();
    defaults["limits"]["busMessageAgeMillis"] = limits.bus_message_age().into();
    defaults["limits"]["messagesPerSecond"] = limits.messages_per_second.into();
    defaults["limits"]["bytesPerSecond"] = limits.bytes_per_second.into();
    // What it is by default the node finds out.
    defaults["limits"]["memoryBudget"] = written["limits"]["memoryBudget"].clone();
    assert_eq!(unknown("", &defaults, &written), Vec::<String>::new(), "keys that the page lacks");
    // Shown with another value than the default: what has none that is useful to see.
    for key in ["version", "cluster", "bus", "sysctls", "nofile", "auth"] {
        defaults[key] = written[key].clone();
    }
    for key in ["policies", "topics", "ackEvents"] {
        defaults["rooms"][key] = written["rooms"][key].clone();
    }
    assert_eq!(unequal("", &defaults, &written), Vec::<String>::new(), "values that are not the default");
}

fn unequal(at: &str, left: &Value, right: &Value) -> Vec<String> {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            left.iter().flat_map(|(key, value)| unequal(&format!("{at}.{key}"), value, &right[key])).collect()
        }
        _ if left == right => Vec::new(),
        _ => vec![format!("{at}: {left} is shown as {right}")],
    }
}

#[test]
fn every_limit_of_the_node_has_its_row_with_its_default() {
    let text = page("docs/LIMITS.md");
    let rows: Vec<_> =
        text.lines().filter(|line| line.starts_with("| ")).map(|l| l.replace(',', "")).collect();
    let mut limits = serde_json::to_value(node_core::config::Limits::default()).unwrap();
    let default = NodeConfig::default().limits;
    limits["maxRooms"] = default.rooms().into();
    limits["busMessageAgeMillis"] = default.bus_message_age().into();
    limits["messagesPerSecond"] = default.messages_per_second.into();
    limits["bytesPerSecond"] = default.bytes_per_second.into();
    for (key, value) in limits.as_object().unwrap() {
        let name = format!("`limits.{key}`");
        let row = rows.iter().find(|row| row.contains(&name));
        let row = row.unwrap_or_else(|| panic!("docs/LIMITS.md has no row for {name}"));
        assert!(row.contains(&format!("| {value} ")), "{name} is {value} by default: {row}");
    }
}

/// Every Rust source of the programs.
fn sources() -> Vec<String> {
    let mut directories: Vec<_> =
        ["node/src", "node/core/src", "node/shell/src", "operator/src", "operator/core/src", "crds/src"]
            .map(|d| pages::root().join(d))
            .into();
    let mut texts = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                texts.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }
    texts
}

/// What a row of LIMITS.md may say for a constant's value: as it is, and in larger units.
fn readings(expression: &str) -> Vec<String> {
    let text = expression.replace('_', "");
    let inside =
        |name: &str| text.strip_prefix(name).and_then(|rest| rest.strip_suffix(')')).map(str::to_owned);
    let seconds = inside("Duration::fromsecs(");
    let number = seconds.clone().or_else(|| inside("Duration::frommillis(")).unwrap_or(text);
    let Some(value) = number
        .split(" * ")
        .map(|factor| match factor.split_once(" << ") {
            Some((base, shift)) => Some(base.parse::<u64>().ok()? << shift.parse::<u32>().ok()?),
            None => factor.parse().ok(),
        })
        .product::<Option<u64>>()
    else {
        return Vec::new();
    };
    if seconds.is_some() {
        return vec![format!("{value} s")];
    }
    let plain = [format!("{value} "), format!("{value},"), format!("{value};")];
    let larger = [(1 << 10, "KiB"), (1 << 20, "MiB"), (1_000, "s")];
    let larger = larger.iter().filter(|(unit, _)| value % unit == 0 && value > 0);
    plain.into_iter().chain(larger.map(|(unit, name)| format!("{} {name}", value / unit))).collect()
}

#[test]
fn every_constant_of_the_limits_is_as_the_page_says() {
    let sources = sources();
    let text = page("docs/LIMITS.md");
    let mut seen = 0;
    for row in text.lines().filter(|line| line.starts_with("| ")) {
        let Some(name) = row.split("[`").nth(1).and_then(|rest| rest.split("`]").next()) else { continue };
        let said = row.split(" | ").nth(1).unwrap().replace(',', "") + " ";
        let definition = format!("const {name}: ");
        let values: Vec<_> = sources
            .iter()
            .flat_map(|text| text.split(&definition).skip(1))
            .filter_map(|rest| rest.split(" = ").nth(1)?.split(';').next())
            .flat_map(readings)
            .collect();
        assert!(!values.is_empty(), "{name} is no constant with a value that this test can read");
        assert!(
            values.iter().any(|value| said.contains(value.as_str())),
            "{name} is {values:?}, the page says {said:?}"
        );
        seen += 1;
    }
    assert!(seen > 30, "only {seen} constants: is the search broken?");
}

#[test]
fn every_value_of_the_chart_is_described() {
    let values: Value = serde_saphyr::from_str(&page("charts/channelcluster/values.yaml")).unwrap();
    let text = page("docs/CONFIGURATION.md");
    let described: BTreeSet<_> = section(&text, "## Chart values")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    for name in &described {
        let pointer = format!("/{}", name.replace('.', "/"));
        assert!(values.pointer(&pointer).is_some(), "the chart has no value {name}");
    }
    for name in leaves("", &values) {
        let known = name.match_indices('.').map(|(at, _)| &name[..at]).chain([name.as_str()]);
        let is_described = known.clone().any(|name| described.contains(name));
        assert!(is_described, "docs/CONFIGURATION.md does not describe the chart's value {name}");
    }
}

fn leaves(at: &str, value: &Value) -> Vec<String> {
    match value {
        Value::Object(map) if !map.is_empty() => map
            .iter()
            .flat_map(|(key, value)| {
                leaves(&if at.is_empty() { key.clone() } else { format!("{at}.{key}") }, value)
            })
            .collect(),
        _ => vec![at.to_owned()],
    }
}

/// CamelCase words in quotes: conditions, reasons, rules and reasons of Events are written so in the code.
fn spoken(source: &str) -> BTreeSet<&str> {
    let word = |text: &&str| {
        text.len() > 2
            && text.starts_with(|c: char| c.is_ascii_uppercase())
            && text.chars().all(|c| c.is_ascii_alphanumeric())
    };
    source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|l| l.split('"'))
        .filter(word)
        .collect()
}

#[test]
fn every_word_of_the_status_and_of_events_is_explained() {
    let text = page("docs/OPERATIONS.md");
    let explained: BTreeSet<_> = text.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    for (file, least) in [
        ("operator/core/src/conditions.rs", 25),
        ("operator/core/src/autoscale/rule.rs", 15),
        ("operator/core/src/contest.rs", 1),
        ("operator/core/src/drain.rs", 7),
        ("operator/core/src/hindrance.rs", 22),
        ("operator/core/src/validate.rs", 8),
        ("operator/core/src/validate/shape.rs", 2),
    ] {
        let source = page(file);
        let words = spoken(&source);
        assert!(words.len() >= least, "{file}: only {words:?}");
        let missing: Vec<_> = words.iter().filter(|word| !explained.contains(**word)).collect();
        assert!(missing.is_empty(), "docs/OPERATIONS.md does not explain {missing:?} of {file}");
    }
}

#[test]
fn decisions_are_numbered_once_each() {
    for (number, Page { path, text }) in
        (1..).zip(pages::all().into_iter().filter(|page| page.path.parent().unwrap().ends_with("decisions")))
    {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(name.starts_with(&format!("{number:03}-")), "{name} should have the number {number:03}");
        assert!(text.starts_with(&format!("# {number}. ")), "{name}: its title should begin with {number}.");
    }
}

/// A claim about security is worth what its test is.
#[test]
fn every_test_that_the_security_page_names_exists() {
    let text = page("docs/SECURITY.md");
    let mut seen = 0;
    for named in text.split('`').filter(|span| span.contains("::")) {
        let (file, test) = named.split_once("::").unwrap();
        assert!(page(file).contains(&format!("fn {test}(")), "{file} has no test {test}");
        seen += 1;
    }
    assert!(seen >= 5, "only {seen} tests: is the search broken?");
}

/// Who forgets a step of a recipe is told by the test that the recipe names.
#[test]
fn every_test_that_a_recipe_names_exists() {
    let text = page("docs/EXTENDING.md");
    let tests = ["e2e/tests/docs.rs", "node/tests/docs.rs", "crds/tests/crd.rs"].map(page).concat();
    let mut seen = 0;
    for named in text.split("(`").skip(1).filter_map(|rest| rest.split('`').next()) {
        if named.contains('_') && !named.contains(['/', '.']) {
            assert!(tests.contains(&format!("fn {named}()")), "no test {named}");
            seen += 1;
        }
    }
    assert!(seen >= 7, "only {seen} tests: is the search broken?");
}

#[test]
fn the_rights_on_secrets_are_as_the_security_page_says() {
    let rules = page("charts/channelcluster/templates/rbac.yaml");
    let verbs: BTreeSet<_> = rules
        .split("resources: [secrets]")
        .skip(1)
        .flat_map(|rest| rest.split("verbs: [").nth(1).unwrap().split(']').next().unwrap().split(", "))
        .map(str::to_owned)
        .collect();
    let text = page("docs/SECURITY.md");
    let said = text.split("On Secrets: ").nth(1).unwrap().split('.').next().unwrap();
    let said: BTreeSet<_> = said.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    assert_eq!(verbs, said);
}
