//! Makes the settings of a run from the flags and the scenario.

use super::dialect::DialectName;
use super::options::{Options, Sources, Target};
use super::scenario::Scenario;
use super::tls::client_config;
use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::ClientConfig;
use std::fs;
use std::net::IpAddr;
use std::sync::Arc;

/// The settings of a scenario where no flag sets them.
struct Defaults {
    connections: u32,
    /// Members of a room; `None` puts all connections in one.
    room_size: Option<u32>,
    rate: f64,
    duration: f64,
    connect_rate: f64,
    batch: u32,
    settle: f64,
    churn_rate: f64,
    slow_fraction: f64,
    repeats: u32,
    reconnect: bool,
    max_p99_ms: Option<f64>,
}

impl Scenario {
    fn defaults(self, options: &Options) -> Defaults {
        let fanout = Defaults {
            connections: 1000,
            room_size: Some(options.room_size),
            rate: 100.0,
            duration: 30.0,
            connect_rate: 1000.0,
            batch: 0,
            settle: 5.0,
            churn_rate: 0.0,
            slow_fraction: 0.0,
            repeats: 1,
            reconnect: false,
            max_p99_ms: None,
        };
        match self {
            Scenario::Fanout => fanout,
            Scenario::Idle => {
                Defaults { connections: 10_000, rate: 0.0, duration: 10.0, connect_rate: 2000.0, ..fanout }
            }
            Scenario::Max => Defaults {
                connections: 5000,
                connect_rate: 2000.0,
                settle: 30.0,
                reconnect: true,
                max_p99_ms: Some(100.0),
                ..fanout
            },
            Scenario::Burst => Defaults {
                connections: 5000,
                room_size: None,
                rate: 0.0,
                connect_rate: 2000.0,
                settle: 60.0,
                repeats: 10,
                ..fanout
            },
            Scenario::Churn => Defaults { churn_rate: 100.0, reconnect: true, ..fanout },
            Scenario::Slow => Defaults { slow_fraction: 0.05, ..fanout },
            Scenario::Storm => Defaults {
                connections: 5000,
                rate: 10.0,
                duration: 5.0,
                connect_rate: 5000.0,
                settle: 60.0,
                reconnect: true,
                ..fanout
            },
            Scenario::Guide => {
                let connections = options.connections.unwrap_or(100_000);
                Defaults {
                    connections,
                    // One delivery per second and connection.
                    rate: f64::from(connections) / f64::from(options.room_size),
                    duration: 1800.0,
                    connect_rate: 5000.0,
                    batch: 5000,
                    settle: 10.0,
                    ..fanout
                }
            }
        }
    }
}

/// The flags, with the scenario's defaults filled in.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) options: Options,
    pub(super) targets: Vec<Target>,
    /// Set where the targets speak TLS.
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) sources: Vec<IpAddr>,
    /// Subprotocols of a connection, taken in turn; without any, connections ask for none.
    pub(super) subprotocols: Vec<String>,
    pub(super) connections: u32,
    pub(super) rooms: u32,
    pub(super) rate: f64,
    pub(super) duration: f64,
    pub(super) connect_rate: f64,
    /// How long connect, upgrade and join may take together, ns; phoenix.js gives a join 10 s.
    pub(super) connect_timeout_ns: u64,
    pub(super) batch: u32,
    pub(super) settle: f64,
    pub(super) churn_rate: f64,
    /// Every n-th member of a room does not read; 0 is none.
    pub(super) slow_every: u32,
    pub(super) repeats: u32,
    pub(super) reconnect: bool,
    pub(super) burst_size: u32,
    /// Heartbeat interval, ns; 0 is never.
    pub(super) heartbeat_ns: u64,
    /// Time between looks at the sockets, ns; 0 waits for events.
    pub(super) poll_ns: u64,
    pub(super) max_p99_ms: Option<f64>,
}

impl Settings {
    /// Checks the flags and fills in what they leave open.
    ///
    /// # Errors
    /// Names the flag that cannot be used and what it takes.
    pub(super) fn new(options: Options) -> anyhow::Result<Settings> {
        let targets = options.targets()?;
        let defaults = options.scenario.defaults(&options);
        let connections = options.connections.unwrap_or(defaults.connections);
        let by_size = defaults.room_size.map_or(1, |size| connections.div_ceil(size));
        let slow = options.slow_fraction.unwrap_or(defaults.slow_fraction);
        let hold = options.hold.map(|minutes| minutes * 60.0);
        let subprotocols = match &options.tokens {
            None => Vec::new(),
            Some(_) if options.dialect != DialectName::Phoenix => bail!("--tokens is for --dialect phoenix"),
            Some(path) => subprotocols(
                &fs::read_to_string(path).with_context(|| format!("--tokens {}", path.display()))?,
            ),
        };
        let over_tls = targets.iter().filter(|target| target.tls.is_some()).count();
        let tls = match &options.tls_ca {
            _ if ![0, targets.len()].contains(&over_tls) => {
                bail!("--url: all have to be ws://, or all wss://")
            }
            None if over_tls > 0 => bail!("--url with wss:// needs --tls-ca"),
            Some(_) if over_tls == 0 => bail!("--tls-ca is for a --url with wss://"),
            ca => ca.as_ref().map(|ca| client_config(ca, options.tls_resume)).transpose()?,
        };
        Ok(Settings {
            targets,
            tls,
            subprotocols,
            sources: options.source_addresses.iter().flat_map(Sources::addresses).copied().collect(),
            connections,
            rooms: options.rooms.unwrap_or(by_size),
            rate: options.rate.unwrap_or(defaults.rate),
            duration: options.duration.or(hold).unwrap_or(defaults.duration),
            connect_rate: options.connect_rate.unwrap_or(defaults.connect_rate),
            connect_timeout_ns: (options.connect_timeout * 1e9) as u64,
            batch: options.batch.unwrap_or(defaults.batch),
            settle: options.settle.unwrap_or(defaults.settle),
            churn_rate: options.churn_rate.unwrap_or(defaults.churn_rate),
            slow_every: if slow > 0.0 { (1.0 / slow).round() as u32 } else { 0 },
            repeats: options.repeats.unwrap_or(defaults.repeats),
            reconnect: options.reconnect || defaults.reconnect,
            burst_size: options.burst_size,
            heartbeat_ns: (options.heartbeat * 1e9) as u64,
            poll_ns: (options.poll * 1e3) as u64,
            max_p99_ms: options.max_p99_ms.or(defaults.max_p99_ms),
            options,
        })
    }

    /// When connection `number` is to be opened, ns after the opening began.
    pub(super) fn open_at(&self, number: u32) -> u64 {
        let paused = match self.batch {
            0 => 0.0,
            batch => f64::from(number / batch) * self.options.batch_pause,
        };
        ((f64::from(number) / self.connect_rate + paused) * 1e9) as u64
    }
}

/// A token in each line, as the subprotocols of a Phoenix client with `authToken`: phoenix.js, assets/js/phoenix/socket.js.
fn subprotocols(lines: &str) -> Vec<String> {
    let tokens = lines.lines().filter(|line| !line.is_empty());
    tokens.map(|token| format!("phoenix, base64url.bearer.phx.{}", URL_SAFE_NO_PAD.encode(token))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn tokens_are_handed_over_as_phoenix_js_does() {
        let told = ["phoenix, base64url.bearer.phx.YS5iLmM", "phoenix, base64url.bearer.phx.ZC5lLmY"];
        assert_eq!(subprotocols("a.b.c\n\nd.e.f\n"), told);
    }

    fn settings(flags: &str) -> Settings {
        Settings::new(Options::parse_from(["loadgen"].into_iter().chain(flags.split_whitespace()))).unwrap()
    }

    #[test]
    fn the_default_is_a_fanout_to_rooms_of_100() {
        let plain = settings("");
        assert_eq!((plain.connections, plain.rooms, plain.rate, plain.duration), (1000, 10, 100.0, 30.0));
        assert!(!plain.reconnect && plain.churn_rate == 0.0 && plain.slow_every == 0);
        assert_eq!(settings("--connections 250").rooms, 3);
        assert_eq!(settings("--connections 5000 --room-size 1000").rooms, 5);
    }

    #[test]
    fn the_guide_delivers_one_message_per_second_and_connection() {
        let guide = settings("--scenario guide");
        assert_eq!((guide.connections, guide.rooms, guide.rate), (100_000, 1000, 1000.0));
        assert_eq!(guide.duration, 1800.0);
        assert_eq!(settings("--scenario guide --hold 45").duration, 2700.0);
        let small = settings("--scenario guide --connections 20000 --room-size 50");
        assert_eq!((small.rooms, small.rate), (400, 400.0));
        // 5,000 connections in a second, then a second of pause.
        let seconds = |number| guide.open_at(number) as f64 / 1e9;
        assert_eq!([0, 2_500, 5_000, 10_000].map(seconds), [0.0, 0.5, 2.0, 4.0]);
    }

    #[test]
    fn tls_needs_a_ca_and_the_same_scheme_everywhere() {
        for (flags, why) in [
            ("--url wss://127.0.0.1:1", "needs --tls-ca"),
            ("--tls-ca ca.crt", "for a --url with wss://"),
            ("--tls-ca ca.crt --url wss://127.0.0.1:1,ws://127.0.0.1:2", "all wss://"),
            ("--tls-ca no-such-file --url wss://127.0.0.1:1", "--tls-ca no-such-file"),
        ] {
            let options = Options::parse_from(["loadgen"].into_iter().chain(flags.split_whitespace()));
            let error = Settings::new(options).unwrap_err().to_string();
            assert!(error.contains(why), "{flags}: {error}");
        }
        assert!(settings("").tls.is_none());
    }

    #[test]
    fn flags_override_a_scenario() {
        assert_eq!(settings("--scenario burst").rooms, 1);
        assert_eq!(settings("--scenario max").max_p99_ms, Some(100.0));
        assert_eq!(settings("--scenario max --max-p99-ms 10").max_p99_ms, Some(10.0));
        assert_eq!(settings("--scenario slow").slow_every, 20);
        assert_eq!(settings("--scenario slow --slow-fraction 0.1").slow_every, 10);
        assert!(settings("--scenario churn").reconnect);
        assert_eq!(settings("--scenario idle --rate 5").rate, 5.0);
    }
}
