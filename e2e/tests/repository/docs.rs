//! Commands, links, manifests, keys, defaults and the words of the status in the pages are compared with the code.
//! Metrics and flags of the two programs are compared in `node/tests/node/docs.rs` and `operator/tests/operator/docs.rs`.

use crate::pages;
use crate::rust;
use clap::CommandFactory;
use crds::ChannelCluster;
use node_core::config::NodeConfig;
use operator_core::validate::{Credentials, Fetched, OperatorEnv, validate};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};

use crate::pages::{Page, flags, invocations, page, section};
use crate::rust::Value;

#[test]
fn every_command_of_the_xtask_exists_with_its_flags() {
    let xtask = xtask::command();
    let mut seen = 0;
    for Page { path, text } in pages::all() {
        for line in invocations(&text, "cargo xtask") {
            // Words after `--` are for the program that the xtask starts.
            let mut words = line.split(" -- ").next().unwrap().split_whitespace().peekable();
            let mut command = &xtask;
            while let Some(next) = words.peek().and_then(|word| command.find_subcommand(word)) {
                command = next;
                words.next();
            }
            let is_help = line == "help";
            assert!(
                is_help || command.get_name() != xtask.get_name(),
                "{}: no command `cargo xtask {line}`",
                path.display()
            );
            let own = command.get_arguments().filter_map(|argument| argument.get_long());
            let mut known: BTreeSet<_> = own.map(|name| format!("--{name}")).collect();
            if command.get_name() == "load" {
                known.extend(flags(&loadgen_help()));
            }
            let used = flags(&words.collect::<Vec<_>>().join(" "));
            let unknown: Vec<_> = used.difference(&known).collect();
            assert!(unknown.is_empty(), "{}: `cargo xtask {line}` has no {unknown:?}", path.display());
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
            let written: Json = serde_saphyr::from_str(manifest).unwrap();
            let read = serde_json::to_value(&cluster).unwrap();
            assert_eq!(unknown("", &written, &read), Vec::<String>::new(), "{at}: unknown fields");
            cluster.metadata.namespace = Some("default".to_owned());
            let keys = ["username", "password"].map(str::to_owned);
            let credentials = Credentials { keys: keys.into(), labelled: true, servers: None };
            let keys = ["id.pem", "ca.crt"].map(str::to_owned);
            let token_keys = Credentials { keys: keys.into(), labelled: true, servers: None };
            let certificate = Credentials {
                keys: ["tls.crt", "tls.key", "ca.crt"].map(str::to_owned).into(),
                ..token_keys.clone()
            };
            let api_keys = Credentials { keys: ["keys.yaml".to_owned()].into(), ..token_keys.clone() };
            let hooks = Credentials { keys: ["signing-key".to_owned()].into(), ..token_keys.clone() };
            let named_secrets = [
                ("token-keys".to_owned(), token_keys),
                ("chat-tls".to_owned(), certificate),
                ("chat-api-keys".to_owned(), api_keys),
                ("chat-hooks".to_owned(), hooks),
            ]
            .into();
            let fetched = Fetched { credentials: Some(credentials), named_secrets, ..Fetched::default() };
            validate(&cluster, &env, &fetched).unwrap_or_else(|all| panic!("{at}: {all:?}\n{manifest}"));
            seen += 1;
        }
    }
    assert!(seen >= 2, "only {seen} manifests: is the search broken?");
}

/// Paths of `written` that `read` does not have: fields that were ignored.
fn unknown(at: &str, written: &Json, read: &Json) -> Vec<String> {
    match (written, read) {
        (Json::Object(written), Json::Object(read)) => written
            .iter()
            .flat_map(|(key, value)| match read.get(key) {
                Some(known) => unknown(&format!("{at}.{key}"), value, known),
                None => vec![format!("{at}.{key}")],
            })
            .collect(),
        (Json::Array(written), Json::Array(read)) => {
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
    let written: Json = serde_saphyr::from_str(shown).unwrap();
    let mut defaults = serde_json::to_value(NodeConfig::default()).unwrap();
    // These keys are left out of a file unless they are set.
    let limits = NodeConfig::default().limits;
    defaults["limits"]["maxRooms"] = limits.rooms().into();
    defaults["limits"]["busMessageAgeMillis"] = limits.bus_message_age().into();
    defaults["limits"]["messagesPerSecond"] = limits.messages_per_second.into();
    defaults["limits"]["bytesPerSecond"] = limits.bytes_per_second.into();
    // The node finds out by itself what this is by default.
    defaults["limits"]["memoryBudget"] = written["limits"]["memoryBudget"].clone();
    assert_eq!(unknown("", &defaults, &written), Vec::<String>::new(), "keys that the page lacks");
    // These are shown with another value than the default, because the default would show nothing useful.
    for key in ["version", "cluster", "bus", "sysctls", "nofile", "auth"] {
        defaults[key] = written[key].clone();
    }
    for key in ["policies", "topics", "ackEvents"] {
        defaults["rooms"][key] = written["rooms"][key].clone();
    }
    assert_eq!(unequal("", &defaults, &written), Vec::<String>::new(), "values that are not the default");
}

fn unequal(at: &str, left: &Json, right: &Json) -> Vec<String> {
    match (left, right) {
        (Json::Object(left), Json::Object(right)) => {
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

/// The constants of the programs.
fn constants() -> Vec<BTreeMap<String, Vec<Value>>> {
    [
        "node/src",
        "node/core/src",
        "node/keys/src",
        "node/shell/src",
        "operator/src",
        "operator/core/src",
        "crds/src",
    ]
    .iter()
    .flat_map(|directory| rust::files(&pages::root().join(directory)))
    .map(|path| rust::constants(&path))
    .collect()
}

/// How a row of LIMITS.md may write a constant's value: as it is, and in larger units.
fn readings(value: &Value) -> Vec<String> {
    let larger = |value: u64, units: &[(u64, &str)]| -> Vec<String> {
        let whole = units.iter().filter(|(unit, _)| value.is_multiple_of(*unit) && value > 0);
        whole.map(|(unit, name)| format!("{} {name}", value / unit)).collect()
    };
    match *value {
        Value::Milliseconds(value) => larger(value, &[(1, "ms"), (1_000, "s")]),
        Value::Number(value) => {
            let plain = [format!("{value} "), format!("{value};")];
            let larger = larger(value, &[(1 << 10, "KiB"), (1 << 20, "MiB"), (1_000, "s")]);
            plain.into_iter().chain(larger).collect()
        }
    }
}

#[test]
fn every_constant_of_the_limits_is_as_the_page_says() {
    let constants = constants();
    let text = page("docs/LIMITS.md");
    let mut seen = 0;
    for row in text.lines().filter(|line| line.starts_with("| ")) {
        let Some(name) = row.split("[`").nth(1).and_then(|rest| rest.split("`]").next()) else { continue };
        let said = row.split(" | ").nth(1).unwrap().replace(',', "") + " ";
        let values: Vec<_> = constants.iter().filter_map(|of| of.get(name)).flatten().collect();
        assert!(!values.is_empty(), "{name} is no constant with a value that this test can read");
        assert!(
            values.iter().flat_map(|value| readings(value)).any(|value| said.contains(&value)),
            "{name} is {values:?}, the page says {said:?}"
        );
        seen += 1;
    }
    assert!(seen > 30, "only {seen} constants: is the search broken?");
}

#[test]
fn every_value_of_the_chart_is_described() {
    let values: Json = serde_saphyr::from_str(&page("charts/channelcluster/values.yaml")).unwrap();
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

fn leaves(at: &str, value: &Json) -> Vec<String> {
    match value {
        Json::Object(map) if !map.is_empty() => map
            .iter()
            .flat_map(|(key, value)| {
                leaves(&if at.is_empty() { key.clone() } else { format!("{at}.{key}") }, value)
            })
            .collect(),
        _ => vec![at.to_owned()],
    }
}

/// CamelCase words in quotes: conditions, reasons, rules and reasons of Events are written so in the code.
fn spoken(file: &str) -> BTreeSet<String> {
    let word = |text: &String| {
        text.len() > 2
            && text.starts_with(|c: char| c.is_ascii_uppercase())
            && text.chars().all(|c| c.is_ascii_alphanumeric())
    };
    rust::texts(&pages::root().join(file)).into_iter().filter(word).collect()
}

#[test]
fn every_word_of_the_status_and_of_events_is_explained() {
    let text = page("docs/OPERATIONS.md");
    let explained: BTreeSet<_> = text.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    for (file, least) in [
        ("operator/core/src/conditions.rs", 22),
        ("operator/core/src/autoscale/rule.rs", 15),
        ("operator/core/src/contest.rs", 1),
        ("operator/core/src/operations/drain.rs", 5),
        ("operator/core/src/operations/drain/pacing.rs", 1),
        ("operator/core/src/operations/drain/words.rs", 4),
        ("operator/core/src/operations/leave.rs", 2),
        ("operator/core/src/operations/rebalance.rs", 4),
        ("operator/core/src/hindrance/reason.rs", 22),
        ("operator/core/src/validate.rs", 8),
        ("operator/core/src/validate/shape.rs", 2),
        ("operator/core/src/validate/sources.rs", 5),
    ] {
        let words = spoken(file);
        assert!(words.len() >= least, "{file}: only {words:?}");
        let missing: Vec<_> = words.iter().filter(|word| !explained.contains(word.as_str())).collect();
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

/// A claim about security is worth as much as the test that shows it.
#[test]
fn every_test_that_the_security_page_names_exists() {
    let text = page("docs/SECURITY.md");
    let mut seen = 0;
    for named in text.split('`').filter(|span| span.contains("::")) {
        let (file, test) = named.split_once("::").unwrap();
        assert!(rust::tests(&pages::root().join(file)).contains(test), "{file} has no test {test}");
        seen += 1;
    }
    assert!(seen >= 5, "only {seen} tests: is the search broken?");
}

/// The test that a recipe names fails when a step of the recipe is forgotten.
#[test]
fn every_test_that_a_recipe_names_exists() {
    let text = page("docs/EXTENDING.md");
    let files = [
        "e2e/tests/repository/docs.rs",
        "node/tests/node/docs.rs",
        "crds/tests/crd.rs",
        "node/core/src/session/lifecycle.rs",
    ];
    let tests: BTreeSet<_> = files.iter().flat_map(|file| rust::tests(&pages::root().join(file))).collect();
    let mut seen = 0;
    for named in text.split("(`").skip(1).filter_map(|rest| rest.split('`').next()) {
        if named.contains('_') && !named.contains(['/', '.']) {
            assert!(tests.contains(named), "no test {named}");
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
