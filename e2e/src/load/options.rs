//! What a load run is asked to do, as flags and as a value for tests.

use anyhow::{Context, bail, ensure};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

/// Load a fleet with Phoenix clients: open loop, every delivery accounted for.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "loadgen", args_override_self = true)]
pub struct Options {
    /// Where to connect, `ws://ADDRESS:PORT/PATH`; several are used in turn
    #[arg(long, value_delimiter = ',', default_value = "ws://127.0.0.1:4000/socket/websocket")]
    pub url: Vec<String>,
    /// Connections to hold
    #[arg(long, default_value_t = 1000)]
    pub connections: u32,
    /// Rooms they are spread over evenly
    #[arg(long, default_value_t = 10)]
    pub rooms: u32,
    /// Publishes per second in total; 0 only holds the connections
    #[arg(long, default_value_t = 100.0)]
    pub rate: f64,
    /// Seconds of publishing, counted from when all connections have joined
    #[arg(long, default_value_t = 30.0)]
    pub duration: f64,
    /// Connections opened per second
    #[arg(long, default_value_t = 1000.0)]
    pub connect_rate: f64,
    /// Bytes of a publish's JSON payload (at least 61)
    #[arg(long, default_value_t = 128)]
    pub payload: usize,
    /// Local addresses to connect from, in turn; one address reaches one server address about 28,000 times
    #[arg(long, value_delimiter = ',')]
    pub source_addresses: Vec<IpAddr>,
    /// Name of room 0 is this and `0`
    #[arg(long, default_value = "room:load-")]
    pub topic_prefix: String,
    /// Connect and join again when a connection ends, after phoenix.js' delays
    #[arg(long)]
    pub reconnect: bool,
    /// Lost deliveries that do not fail the run
    #[arg(long, default_value_t = 0)]
    pub max_lost: u64,
    /// Seconds without an arrival after which deliveries and connections that are on their way are given up
    #[arg(long, default_value_t = 5.0)]
    pub settle: f64,
    /// Worker threads at least; more are started when descriptor tables are too small
    #[arg(long, default_value_t = 1)]
    pub workers: u32,
    /// Where to write the report as JSON
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Prometheus endpoints of the nodes; the report has what their counters grew by
    #[arg(long, value_delimiter = ',')]
    pub metrics_url: Vec<String>,
}

/// One address to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Resolved address.
    pub address: SocketAddr,
    /// Value of the Host header.
    pub host: String,
    /// Path with query; `vsn=2.0.0` is added as phoenix.js does.
    pub path: String,
}

impl Options {
    /// Checks the numbers and resolves the addresses.
    ///
    /// # Errors
    /// Names the flag that cannot be used and what it takes.
    pub fn targets(&self) -> anyhow::Result<Vec<Target>> {
        ensure!(self.connections > 0, "--connections must be at least 1");
        ensure!(self.rooms > 0, "--rooms must be at least 1");
        for (flag, value) in [("--rate", self.rate), ("--duration", self.duration), ("--settle", self.settle)]
        {
            ensure!(value.is_finite() && value >= 0.0, "{flag} must be a number of at least 0");
        }
        ensure!(self.connect_rate > 0.0, "--connect-rate must be above 0");
        ensure!(
            self.topic_prefix.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\'),
            "--topic-prefix takes printable ASCII without quotes, backslashes and spaces"
        );
        ensure!(!self.url.is_empty(), "--url needs at least one address");
        self.url.iter().map(|url| Target::parse(url)).collect()
    }
}

impl Target {
    /// Reads a `ws://` URL and resolves its host.
    ///
    /// # Errors
    /// When it is no such URL or the host has no address.
    pub fn parse(url: &str) -> anyhow::Result<Target> {
        let Some(rest) = url.strip_prefix("ws://") else {
            bail!("--url {url}: only ws:// is spoken, as in ws://127.0.0.1:4000/socket/websocket")
        };
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let with_port = if host.rsplit(']').next().is_some_and(|end| end.contains(':')) {
            host.to_owned()
        } else {
            format!("{host}:80")
        };
        let address = with_port
            .to_socket_addrs()
            .with_context(|| format!("--url {url}: {host} cannot be resolved"))?
            .next()
            .with_context(|| format!("--url {url}: {host} has no address"))?;
        let path = if path.is_empty() { "/socket/websocket" } else { path };
        let joint = if path.contains('?') { '&' } else { '?' };
        Ok(Target { address, host: host.to_owned(), path: format!("{path}{joint}vsn=2.0.0") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn urls_are_resolved_and_versioned() {
        let target = Target::parse("ws://127.0.0.1:4000/socket/websocket").unwrap();
        assert_eq!(target.address, "127.0.0.1:4000".parse().unwrap());
        assert_eq!(target.path, "/socket/websocket?vsn=2.0.0");
        assert_eq!(Target::parse("ws://[::1]/x?a=1").unwrap().path, "/x?a=1&vsn=2.0.0");
        assert_eq!(Target::parse("ws://[::1]/x").unwrap().address.port(), 80);
        assert!(Target::parse("http://127.0.0.1/").is_err());
    }

    #[test]
    fn senseless_numbers_are_refused() {
        for bad in
            [["--connections", "0"], ["--rate", "NaN"], ["--connect-rate", "0"], ["--topic-prefix", "a b"]]
        {
            let options = Options::parse_from(["loadgen"].into_iter().chain(bad));
            assert!(options.targets().is_err(), "{bad:?}");
        }
    }
}
