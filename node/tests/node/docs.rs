//! The pages for people name this program's metrics and flags, all of them and no others.

use crate::{pages, support::promtool};
use node_core::dashboard::{health::Concern, hits::HITS};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::Command,
};

use crate::support::{
    process::{Process, command},
    tls::Certificate,
};

#[test]
fn every_metric_is_in_the_page_and_no_other() {
    let dir = std::env::temp_dir().join(format!("channel-node-docs-{:x}", rand::random::<u64>()));
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("admin-token"), "token").unwrap();
    fs::write(dir.join("nats-password"), "password").unwrap();
    // Metrics of the bus, and of keys that are fetched, are there when these are configured, reached or not, and that of a
    // certificate where there is one.
    let certificate = Certificate::of("one");
    let config = "\
auth: {anonymous: true, jwt: [{algorithms: [RS256], jwks: {url: \"http://127.0.0.1:1/\"}}]}
bus: {nats: {urls: [\"nats://127.0.0.1:1\"], user: channel-node}}
";
    fs::write(dir.join("node.yaml"), config).unwrap();
    let mut command = command();
    command.arg("--config").arg(dir.join("node.yaml")).arg("--secrets").arg(&dir);
    command.arg("--tls").arg(certificate.path());
    let node = Process::start(command);
    let (status, text) = node.ask("GET", "/metrics", None, "");
    assert_eq!(status, 200);
    fs::remove_dir_all(&dir).unwrap();
    let prefix = "channelcluster_node_";
    assert_eq!(pages::metrics(&pages::page("docs/METRICS.md"), prefix), pages::scraped(&text));
    assert_eq!(promtool::complaints(&text), "");
    let without = text.replace("# HELP channelcluster_node_writes ", "# ");
    assert_eq!(promtool::complaints(&without), "channelcluster_node_writes_total no help text\n");
}

/// The tables of a limit's default and range, and the constants that the node and the manifest read.
#[test]
fn every_key_that_is_a_limit_has_its_range_and_default_in_the_page() {
    let text = pages::page("docs/LIMITS.md").replace(',', "");
    let mut seen = 0;
    for key in keys::rows() {
        if !key.name.starts_with("limits.") && key.name != "rooms.maxMembers" {
            continue;
        }
        let begins = format!("| `{}`", key.name);
        let row = text.lines().find(|line| line.starts_with(&begins));
        let row = row.unwrap_or_else(|| panic!("docs/LIMITS.md has no row for {}", key.name));
        let cells: Vec<_> = row.split(" | ").collect();
        if let Some(usual) = key.usual {
            assert_eq!(cells[1], usual.to_string(), "the default of {}", key.name);
        }
        let (least, most) = (key.node.least, key.node.most);
        let range = match key.name {
            "limits.pingIntervalMillis" => {
                format!("{least} to `idleTimeoutMillis` - {}", keys::PING_SLACK_MILLIS)
            }
            "limits.memoryBudget" => format!("{least} to 2^{}", most.ilog2()),
            "limits.bytesPerSecond" => format!("{least} {} to {most}", keys::LEAST_BYTES_PER_SECOND),
            _ => format!("{least} to {most}"),
        };
        let (node, manifest) = cells[3].split_once(" (manifest: ").unwrap_or((cells[3], ""));
        assert_eq!(node, range, "the range of {}", key.name);
        if key.node != key.manifest {
            let (least, most) = (key.manifest.least, key.manifest.most);
            let in_words = key.name == "limits.idleTimeoutMillis" && (least, most) == (35_000, 3_600_000);
            let range = if in_words { "35s to 1h)".to_owned() } else { format!("{least} to {most})") };
            assert_eq!(manifest, range, "the range of {} in a manifest", key.name);
        }
        seen += 1;
    }
    assert!(seen > 10, "only {seen} keys: is the search broken?");
}

/// The file that the node prints has the keys that the page shows, which has them all; and a wrong variable is refused.
#[test]
fn the_default_file_has_every_key() {
    let run = |arguments: &[&str], variable: (&str, &str)| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_channel-node"));
        let output = command.args(arguments).env(variable.0, variable.1).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), said)
    };
    let (code, printed) = run(&["--print-default-config"], ("HOME", "/"));
    assert_eq!(code, Some(0));
    let page = pages::page("docs/CONFIGURATION.md");
    let shown = page.split("## node.yaml").nth(1).unwrap().split("```yaml\n").nth(1).unwrap();
    let shown = shown.split("```").next().unwrap();
    let mut seen = 0;
    for word in shown.split(|c: char| c.is_whitespace() || "{}[]".contains(c)) {
        let Some(key) = word.strip_suffix(':').filter(|key| key.chars().all(char::is_alphanumeric)) else {
            continue;
        };
        assert!(printed.contains(&format!("{key}:")), "the printed file has no {key}");
        seen += 1;
    }
    assert!(seen > 50, "only {seen} keys: is the search broken?");
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/node.yaml");
    let check = |name, value| run(&["--check-config", sample], (name, value));
    assert_eq!(check("CHANNEL_NODE__LIMITS__MAX_ROOMS", "9").0, Some(0));
    let (code, said) = check("CHANNEL_NODE__LIMITS__MAX_ROMS", "9");
    assert!(code == Some(64) && said.contains("did you mean CHANNEL_NODE__LIMITS__MAX_ROOMS?"), "{said}");
}

#[test]
fn every_reason_of_the_dashboard_is_in_the_page() {
    let text = pages::page("docs/OPERATIONS.md");
    for concern in Concern::ALL {
        let row = format!("\n| {} | ", concern.words());
        assert!(text.contains(&row), "docs/OPERATIONS.md has no row for {concern:?}");
    }
    for hit in HITS.iter().filter(|hit| hit.of_node) {
        let section = text.split("## The dashboard").nth(1).unwrap().split("\n## ").next().unwrap();
        assert!(
            section.contains(hit.limit),
            "docs/OPERATIONS.md does not name {} as a limit of a node",
            hit.limit
        );
    }
}

#[test]
fn every_flag_is_in_the_page_and_no_other() {
    let help = Command::new(env!("CARGO_BIN_EXE_channel-node")).arg("--help").output().unwrap();
    pages::check_flags("channel-node", &String::from_utf8(help.stdout).unwrap());
}

/// `cargo run --release --bin channel-node -- ...` of the README, with the debug binary and ports of the kernel's
/// choice.
#[test]
fn the_readmes_one_node_serves_its_chat_page() {
    let readme = pages::page("README.md");
    let words = pages::invocations(&readme, "cargo run --release --bin channel-node --");
    assert_eq!(words.len(), 1, "{words:?}");
    let mut command = command();
    command.args(words[0].split_whitespace());
    let node = Process::start(command);
    let mut stream = TcpStream::connect(node.listen).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("</html>"), "{answer:.200}");
}
