//! The dashboards that the chart ships, and a real Prometheus that answers what their panels ask.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::pages::page;

/// Debian's package `prometheus`.
const PROMETHEUS: &str = "/usr/bin/prometheus";
/// A test that has not seen what it waits for by then has failed.
const HANG: Duration = Duration::from_secs(120);
/// What Grafana puts in place of the variables of a dashboard, when all of each are chosen.
const VARIABLES: [(&str, &str); 3] = [("$__rate_interval", "10s"), ("$namespace", ".*"), ("$cluster", ".*")];

/// One query of a panel.
pub(crate) struct Query {
    pub(crate) panel: String,
    pub(crate) expr: String,
}

/// The queries of a dashboard, and that its panels are laid out and drawn as Grafana wants it.
pub(crate) fn queries(dashboard: &str) -> Vec<Query> {
    let text = page(&format!("charts/channelcluster/files/dashboards/{dashboard}.json"));
    let whole: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(whole["uid"], format!("channelcluster-{dashboard}").as_str());
    let panels = whole["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "an id is there twice");
    let mut queries = Vec::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap().to_owned();
        let place = &panel["gridPos"];
        assert!(
            place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap() <= 24,
            "{title} is too far right"
        );
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title} has no unit");
        for target in panel["targets"].as_array().unwrap() {
            assert!(!target["legendFormat"].as_str().unwrap().is_empty(), "{title} names no series");
            let mut expr = target["expr"].as_str().unwrap().to_owned();
            for (variable, value) in VARIABLES {
                expr = expr.replace(variable, value);
            }
            assert!(!expr.contains('$'), "{title}: an unknown variable in {expr}");
            queries.push(Query { panel: title.clone(), expr });
        }
    }
    assert!(queries.len() > 10, "{dashboard}: only {} queries", queries.len());
    queries
}

/// A real Prometheus that scrapes each second.
pub(crate) struct Prometheus {
    process: Child,
    address: SocketAddr,
    files: PathBuf,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
        fs::remove_dir_all(&self.files).ok();
    }
}

impl Prometheus {
    /// Starts one with these targets, each with the labels that a monitor gives it.
    pub(crate) fn start(name: &str, targets: &[(SocketAddr, Value)]) -> Self {
        let files = std::env::temp_dir().join(format!("channel-{name}-{}", std::process::id()));
        fs::remove_dir_all(&files).ok();
        fs::create_dir_all(&files).unwrap();
        let targets: Vec<_> = targets
            .iter()
            .map(|(address, labels)| json!({"targets": [address.to_string()], "labels": labels}))
            .collect();
        let scrape = json!({"job_name": name, "honor_labels": true, "static_configs": targets});
        let config = json!({"global": {"scrape_interval": "1s"}, "scrape_configs": [scrape]});
        fs::write(files.join("prometheus.yaml"), config.to_string()).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let process = Command::new(PROMETHEUS)
            .arg(format!("--config.file={}", files.join("prometheus.yaml").display()))
            .arg(format!("--storage.tsdb.path={}", files.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(files.join("log")).unwrap())
            .spawn()
            .expect("the Debian package prometheus is installed");
        Self { process, address, files }
    }

    /// The samples that an instant query gives; none while it does not answer.
    pub(crate) fn query(&self, expr: &str) -> Option<Vec<Value>> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        let encoded: String = expr.bytes().map(|byte| format!("%{byte:02X}")).collect();
        write!(stream, "GET /api/v1/query?query={encoded} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        let body: Value = serde_json::from_str(body).ok()?;
        if body["status"] == "error" && body["errorType"] == "bad_data" {
            panic!("{expr}: {body}");
        }
        body["data"]["result"].as_array().cloned()
    }

    /// Asks until every query has a sample, but for those of panels in `empty`, which must be none of them in the end.
    pub(crate) fn until_all_have_samples(&self, queries: &[Query], empty: &[&str]) {
        let started = Instant::now();
        let (none, some): (Vec<_>, Vec<_>) =
            queries.iter().partition(|query| empty.contains(&query.panel.as_str()));
        for Query { panel, expr } in some {
            while self.query(expr).is_none_or(|samples| samples.is_empty()) {
                assert!(started.elapsed() < HANG, "{panel}: no sample of {expr}");
                sleep(Duration::from_millis(200));
            }
        }
        for Query { panel, expr } in none {
            assert!(self.query(expr).is_some(), "{panel}: no answer to {expr}");
        }
    }
}
