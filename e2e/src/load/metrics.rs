//! How much the nodes' own counters grew during a run, from their Prometheus endpoints.

use anyhow::{Context, ensure};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Longest wait for an endpoint.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer read, bytes.
const MAX_BODY: u64 = 4 << 20;
/// Metrics that are reported.
const PREFIX: &str = "channelcluster_node_";

/// Counters by name, summed over labels and endpoints.
pub(super) type Sums = BTreeMap<String, f64>;

/// Reads all endpoints.
pub(super) fn scrape_all(urls: &[String]) -> anyhow::Result<Sums> {
    let mut sums = Sums::new();
    for url in urls {
        let text = get(url).with_context(|| format!("--metrics-url {url}"))?;
        add(&mut sums, &text);
    }
    Ok(sums)
}

/// How much counters grew between two readings.
pub(super) fn difference(before: &Sums, after: &Sums) -> Sums {
    after.iter().map(|(name, value)| (name.clone(), value - before.get(name).unwrap_or(&0.0))).collect()
}

/// The highest utilization of any shard of the nodes; `None` when no endpoint has it.
pub(super) fn utilization(urls: &[String]) -> Option<f64> {
    urls.iter()
        .filter_map(|url| highest(&get(url).ok()?, "channelcluster_node_utilization_ratio"))
        .reduce(f64::max)
}

/// The highest sample of a gauge.
fn highest(text: &str, name: &str) -> Option<f64> {
    let samples = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(['{', ' ']));
    samples
        .filter_map(|rest| rest.rsplit('}').next()?.split_whitespace().next()?.parse().ok())
        .reduce(f64::max)
}

/// Adds the counters (`*_total`) of one exposition in the Prometheus text format.
fn add(sums: &mut Sums, text: &str) {
    for line in text.lines().filter(|line| line.starts_with(PREFIX)) {
        let end = line.find(['{', ' ']).unwrap_or(line.len());
        let value = line[end..].rsplit_once('}').map_or(&line[end..], |(_, value)| value);
        if let (true, Some(Ok(value))) =
            (line[..end].ends_with("_total"), value.split_whitespace().next().map(str::parse::<f64>))
        {
            *sums.entry(line[..end].to_owned()).or_default() += value;
        }
    }
}

fn get(url: &str) -> anyhow::Result<String> {
    let rest = url.strip_prefix("http://").context("only http:// is spoken")?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = if path.is_empty() { "/metrics" } else { path };
    let address = host.to_socket_addrs()?.next().context("no address")?;
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    // HTTP/1.0: the answer ends with the connection and is not chunked.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: text/plain\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(MAX_BODY).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    ensure!(status == "200", "HTTP status {status}");
    Ok(body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_counts() {
        let text = "# TYPE a gauge\na 0.25\na{shard=\"1\"} 0.75 17\nab 9\n";
        assert_eq!(highest(text, "a"), Some(0.75));
        assert_eq!(highest(text, "c"), None);
    }

    #[test]
    fn counters_are_summed_over_labels() {
        let mut sums = Sums::new();
        add(
            &mut sums,
            "# TYPE channelcluster_node_writes counter\n\
             channelcluster_node_writes_total{shard=\"0\",kind=\"a b}\"} 5\n\
             channelcluster_node_writes_total{shard=\"1\"} 7 1700000000\n\
             channelcluster_node_rooms 3\nother_total 9\n",
        );
        assert_eq!(sums, Sums::from([("channelcluster_node_writes_total".to_owned(), 12.0)]));
        let later = Sums::from([("channelcluster_node_writes_total".to_owned(), 20.0)]);
        assert_eq!(difference(&sums, &later)["channelcluster_node_writes_total"], 8.0);
    }
}
