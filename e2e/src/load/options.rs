//! The options of a load run, as flags and as a value for tests.

use super::dialect::DialectName;
use super::scenario::Scenario;
use anyhow::{Context, bail, ensure};
use rustls::pki_types::ServerName;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

/// Load a server with light WebSocket clients: open loop, every delivery accounted for.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "loadgen", args_override_self = true)]
pub struct Options {
    /// What to do; it sets the defaults of the flags that have none here
    #[arg(long, value_enum, default_value_t)]
    pub scenario: Scenario,
    /// The protocol of the server
    #[arg(long, value_enum, default_value_t)]
    pub dialect: DialectName,
    /// Where to connect, `ws://ADDRESS:PORT/PATH`, or `wss://` with `--tls-ca`; several are used in turn; the dialect knows a path
    #[arg(long, value_delimiter = ',', default_value = "ws://127.0.0.1:4000")]
    pub url: Vec<String>,
    /// Connections to hold
    #[arg(long)]
    pub connections: Option<u32>,
    /// Rooms they are spread over evenly
    #[arg(long)]
    pub rooms: Option<u32>,
    /// Members of a room, when the rooms are not numbered
    #[arg(long, default_value_t = 100)]
    pub room_size: u32,
    /// Publishes per second in total, of which `max` begins with this; 0 only holds the connections
    #[arg(long)]
    pub rate: Option<f64>,
    /// Seconds of publishing, counted from when all connections have joined
    #[arg(long)]
    pub duration: Option<f64>,
    /// Seconds of publishing at `--rate` whose latency and CPU time are left out, as a server is cold at first
    #[arg(long, default_value_t = 0.0)]
    pub warmup: f64,
    /// The same as `--duration` in minutes
    #[arg(long, conflicts_with = "duration")]
    pub hold: Option<f64>,
    /// Connections opened per second
    #[arg(long)]
    pub connect_rate: Option<f64>,
    /// Connections opened before each pause; 0 makes none
    #[arg(long)]
    pub batch: Option<u32>,
    /// Seconds of each pause
    #[arg(long, default_value_t = 1.0)]
    pub batch_pause: f64,
    /// Seconds that a connection may take to be in its room
    #[arg(long, default_value_t = 10.0)]
    pub connect_timeout: f64,
    /// Bytes of a publish's JSON payload (at least 61)
    #[arg(long, default_value_t = 128)]
    pub payload: usize,
    /// Publishes that a connection sends in one write when it is its turn
    #[arg(long, default_value_t = 1)]
    pub burst_size: u32,
    /// Local addresses to connect from, in turn, and ranges of them as in 127.0.0.2-40; one address reaches
    /// one server address about 28,000 times
    #[arg(long, value_delimiter = ',')]
    pub source_addresses: Vec<Sources>,
    /// Name of room 0 is this and `0`
    #[arg(long, default_value = "room:load-")]
    pub topic_prefix: String,
    /// Connect and join again when a connection ends, after phoenix.js' delays
    #[arg(long)]
    pub reconnect: bool,
    /// Seconds between a connection's heartbeats, where clients send them; 0 sends none
    #[arg(long, default_value_t = 30.0)]
    pub heartbeat: f64,
    /// Connections ended and opened again per second
    #[arg(long)]
    pub churn_rate: Option<f64>,
    /// Fraction of the connections that stop reading once they have joined
    #[arg(long)]
    pub slow_fraction: Option<f64>,
    /// How many bursts or storms
    #[arg(long)]
    pub repeats: Option<u32>,
    /// Seconds of one step of `max`
    #[arg(long, default_value_t = 3.0)]
    pub step: f64,
    /// Highest rate that `max` tries, publishes per second
    #[arg(long)]
    pub max_rate: Option<f64>,
    /// How close `max` comes to the highest rate, as a fraction of it
    #[arg(long, default_value_t = 0.05)]
    pub precision: f64,
    /// Lost deliveries that do not fail the run
    #[arg(long, default_value_t = 0)]
    pub max_lost: u64,
    /// Highest 99th percentile of the latency that passes, milliseconds: of deliveries, and of the time to the
    /// last receiver in `burst`; `max` searches below it
    #[arg(long)]
    pub max_p99_ms: Option<f64>,
    /// Deliveries per second that `max` has to find
    #[arg(long)]
    pub min_deliveries: Option<f64>,
    /// Memory (PSS) of the server per joined connection that passes, bytes
    #[arg(long)]
    pub max_bytes_per_connection: Option<f64>,
    /// Seconds until all are back that pass in `storm`
    #[arg(long)]
    pub max_back: Option<f64>,
    /// Growth of the server's memory (PSS) after the first quarter of the publishing that passes, percent
    #[arg(long)]
    pub max_growth: Option<f64>,
    /// Seconds without an arrival after which deliveries and connections that are on their way are given up
    #[arg(long)]
    pub settle: Option<f64>,
    /// Worker threads at least; more are started when descriptor tables are too small
    #[arg(long, default_value_t = 1)]
    pub workers: u32,
    /// Microseconds between looks at the sockets, so that the server's sends wake nobody; adds as much latency
    /// at most; 0 waits for events
    #[arg(long, default_value_t = 0.0)]
    pub poll: f64,
    /// Where to write the report as JSON
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Where to write the report as one HTML page
    #[arg(long)]
    pub html: Option<PathBuf>,
    /// Prometheus endpoints of the nodes; the report has what their counters grew by
    #[arg(long, value_delimiter = ',')]
    pub metrics_url: Vec<String>,
    /// Process whose CPU time and memory is measured, with its descendants
    #[arg(long)]
    pub server_pid: Option<u32>,
    /// Tell the server's time in user space from the kernel's by perf(1), which needs root; ticks of the kernel are far
    /// off for a load on a schedule
    #[arg(long, requires = "server_pid")]
    pub perf: bool,
    /// Seconds between samples of memory, descriptors and utilization
    #[arg(long, default_value_t = 60.0)]
    pub sample_interval: f64,
    /// A file with a token in each line: connections hand them over in turn, as phoenix.js does with `authToken`
    #[arg(long)]
    pub tokens: Option<PathBuf>,
    /// Ask for compression (permessage-deflate); a server that does not agree on it is an error
    #[arg(long)]
    pub deflate: bool,
    /// Certificates of CAs, in PEM: a `wss://` server has to show a certificate of one of them. TLS 1.3 is spoken, with
    /// AES-128-GCM and X25519
    #[arg(long)]
    pub tls_ca: Option<PathBuf>,
    /// Resume with the server's tickets where there are some, so that only the first handshakes are full ones
    #[arg(long, requires = "tls_ca")]
    pub tls_resume: bool,
    /// Key of the application on a Pusher server
    #[arg(long, default_value = "app-key")]
    pub pusher_key: String,
    /// Secret of the application on a Pusher server
    #[arg(long, default_value = "app-secret")]
    pub pusher_secret: String,
}

/// One address, or a range of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources(Vec<IpAddr>);

impl Sources {
    /// The addresses.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.0
    }
}

impl FromStr for Sources {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Sources> {
        let Some((first, last)) = text.split_once('-') else {
            let address = text.parse().with_context(|| format!("{text} is no IP address"))?;
            return Ok(Sources(vec![address]));
        };
        let first: Ipv4Addr = first.parse().with_context(|| format!("{first} is no IPv4 address"))?;
        let last = match last.parse::<u8>() {
            Ok(last) => Ipv4Addr::new(first.octets()[0], first.octets()[1], first.octets()[2], last),
            Err(_) => {
                last.parse().with_context(|| format!("{last} is no IPv4 address or last part of one"))?
            }
        };
        ensure!(
            first <= last && last.to_bits() - first.to_bits() < 1 << 16,
            "{text} is no range of addresses"
        );
        Ok(Sources((first.to_bits()..=last.to_bits()).map(|bits| Ipv4Addr::from_bits(bits).into()).collect()))
    }
}

/// One address to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Resolved address.
    pub address: SocketAddr,
    /// Value of the Host header.
    pub host: String,
    /// Path with query as given; empty when the dialect chooses it.
    pub path: String,
    /// The name of the server's certificate, where it speaks TLS.
    pub tls: Option<ServerName<'static>>,
}

impl Options {
    /// Checks the numbers and resolves the addresses.
    ///
    /// # Errors
    /// Names the flag that cannot be used and what it takes.
    pub fn targets(&self) -> anyhow::Result<Vec<Target>> {
        for (flag, value) in [
            ("--connections", self.connections),
            ("--rooms", self.rooms),
            ("--room-size", Some(self.room_size)),
            ("--burst-size", Some(self.burst_size)),
            ("--repeats", self.repeats),
        ] {
            ensure!(value != Some(0), "{flag} must be at least 1");
        }
        for (flag, value) in [
            ("--rate", self.rate),
            ("--duration", self.duration),
            ("--warmup", Some(self.warmup)),
            ("--hold", self.hold),
            ("--settle", self.settle),
            ("--batch-pause", Some(self.batch_pause)),
            ("--heartbeat", Some(self.heartbeat)),
            ("--poll", Some(self.poll)),
            ("--churn-rate", self.churn_rate),
            ("--slow-fraction", self.slow_fraction),
        ] {
            let good = value.is_none_or(|value| value.is_finite() && value >= 0.0);
            ensure!(good, "{flag} must be a number of at least 0");
        }
        for (flag, value) in [
            ("--connect-rate", self.connect_rate),
            ("--connect-timeout", Some(self.connect_timeout)),
            ("--step", Some(self.step)),
            ("--precision", Some(self.precision)),
            ("--sample-interval", Some(self.sample_interval)),
            ("--max-rate", self.max_rate),
            ("--max-p99-ms", self.max_p99_ms),
        ] {
            ensure!(value.is_none_or(|value| value > 0.0), "{flag} must be above 0");
        }
        ensure!(self.slow_fraction.is_none_or(|fraction| fraction <= 0.5), "--slow-fraction is at most 0.5");
        ensure!(
            self.topic_prefix.bytes().all(|b| b.is_ascii_graphic() && !b"\"\\?&#% ".contains(&b)),
            "--topic-prefix takes printable ASCII without quotes, backslashes, spaces and ?&#%"
        );
        ensure!(!self.url.is_empty(), "--url needs at least one address");
        self.url.iter().map(|url| Target::parse(url)).collect()
    }
}

impl Target {
    /// Reads a `ws://` or `wss://` URL and resolves its host.
    ///
    /// # Errors
    /// When it is no such URL or the host has no address.
    pub fn parse(url: &str) -> anyhow::Result<Target> {
        let (rest, over_tls) = match (url.strip_prefix("ws://"), url.strip_prefix("wss://")) {
            (Some(rest), _) => (rest, false),
            (None, Some(rest)) => (rest, true),
            _ => {
                bail!(
                    "--url {url}: only ws:// and wss:// are spoken, as in ws://127.0.0.1:4000/socket/websocket"
                )
            }
        };
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let with_port = if host.rsplit(']').next().is_some_and(|end| end.contains(':')) {
            host.to_owned()
        } else {
            format!("{host}:{}", if over_tls { 443 } else { 80 })
        };
        let address = with_port
            .to_socket_addrs()
            .with_context(|| format!("--url {url}: {host} cannot be resolved"))?
            .next()
            .with_context(|| format!("--url {url}: {host} has no address"))?;
        let name = with_port.rsplit_once(':').map_or("", |(name, _)| name).trim_matches(['[', ']']);
        let name = || ServerName::try_from(name.to_owned()).with_context(|| format!("--url {url}: a name"));
        let tls = over_tls.then(name).transpose()?;
        Ok(Target { address, host: host.to_owned(), path: path.to_owned(), tls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn urls_are_resolved() {
        let target = Target::parse("ws://127.0.0.1:4000/socket/websocket").unwrap();
        assert_eq!(target.address, "127.0.0.1:4000".parse().unwrap());
        assert_eq!(target.path, "/socket/websocket");
        assert_eq!(Target::parse("ws://[::1]/x?a=1").unwrap().path, "/x?a=1");
        assert_eq!(Target::parse("ws://[::1]").unwrap().path, "");
        assert_eq!(Target::parse("ws://[::1]/x").unwrap().address.port(), 80);
        assert!(Target::parse("http://127.0.0.1/").is_err());
        let name = |url: &str| Target::parse(url).unwrap().tls.map(|name| name.to_str().into_owned());
        assert_eq!(name("ws://127.0.0.1/x"), None);
        assert_eq!(name("wss://127.0.0.1:4000/x").as_deref(), Some("127.0.0.1"));
        assert_eq!(name("wss://localhost/x").as_deref(), Some("localhost"));
        assert_eq!(name("wss://[::1]:4000").as_deref(), Some("::1"));
        assert_eq!(Target::parse("wss://[::1]").unwrap().address.port(), 443);
    }

    #[test]
    fn ranges_of_addresses_are_spelled_out() {
        let count = |text: &str| text.parse::<Sources>().map(|sources| sources.0.len());
        assert_eq!(count("127.0.0.2").unwrap(), 1);
        assert_eq!(count("::1").unwrap(), 1);
        assert_eq!(count("127.0.0.2-40").unwrap(), 39);
        assert_eq!(count("127.0.0.250-127.0.1.5").unwrap(), 12);
        for bad in ["127.0.0.9-2", "127.0.0.9-300", "nothing", "1.0.0.0-9.0.0.0"] {
            assert!(count(bad).is_err(), "{bad}");
        }
        let options = Options::parse_from(["loadgen", "--source-addresses", "127.0.0.1,127.0.0.3-5"]);
        assert_eq!(options.source_addresses.iter().map(|s| s.addresses().len()).sum::<usize>(), 4);
    }

    #[test]
    fn senseless_numbers_are_refused() {
        for bad in [
            ["--connections", "0"],
            ["--rate", "NaN"],
            ["--connect-rate", "0"],
            ["--topic-prefix", "a b"],
            ["--burst-size", "0"],
            ["--slow-fraction", "0.9"],
        ] {
            let options = Options::parse_from(["loadgen"].into_iter().chain(bad));
            assert!(options.targets().is_err(), "{bad:?}");
        }
    }
}
