//! The loads that servers are measured with, and the numbers of the generator's report that count.

use anyhow::{Result, bail};
use serde_json::Value;

use crate::peers::{BARE, DEFLATE, NAMED_ONLY, NATS_TLS, NCHAN_TLS, OURS, TLS, TOKENS, UWS_TLS};

/// Publishes per second times room size: the same for every `fanout`.
const DELIVERIES_PER_SECOND: u32 = 50_000;
/// Bytes of a payload: the least that the generator's stamp needs.
const PAYLOAD_BYTES: u32 = 61;
/// Bytes that Phoenix puts around a payload on its way to a member: `[null,null,"room:load-12","load",` and `]`.
const PHOENIX_BYTES: u32 = 34;

/// Ours without TLS and with it, and others with TLS.
const WITH_TLS: [&str; 5] = [OURS, TLS, UWS_TLS, NCHAN_TLS, NATS_TLS];
/// Connections per second over TLS, which leaves every server and the generator time on two cores.
const TLS_CONNECT_RATE: u32 = 1_000;

/// Bytes of a MiB.
const MIB: f64 = 1_048_576.0;
/// Microseconds of a second.
const MICROS_PER_SECOND: f64 = 1e6;

/// Whether a lower or a higher figure is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Less is better: it is a cost.
    Less,
    /// More is better: it is a capacity.
    More,
}

/// The source of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Source {
    /// A number of the report (RFC 6901).
    At(&'static str),
    /// How often per second of a core something can be done that takes so many microseconds of it.
    PerCore(&'static str),
    /// The highest memory of any sample, less the memory when all had joined, MiB.
    PeakGrowth,
}

/// One number of a report.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// Its name, as the head of a column.
    pub name: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Its source.
    pub source: Source,
    /// Whether less or more of it is better.
    pub better: Better,
}

impl Figure {
    /// Its value in a report.
    #[must_use]
    pub fn of(&self, report: &Value) -> Option<f64> {
        match self.source {
            Source::At(pointer) => report.pointer(pointer)?.as_f64(),
            Source::PerCore(pointer) => Some(MICROS_PER_SECOND / report.pointer(pointer)?.as_f64()?),
            Source::PeakGrowth => {
                let before = report.pointer("/server/ramped/pss_bytes")?.as_f64()?;
                let samples = report.get("samples")?.as_array()?;
                let seen = samples.iter().filter_map(|sample| sample.pointer("/server/pss_bytes")?.as_f64());
                Some((seen.fold(before, f64::max) - before) / MIB)
            }
        }
    }
}

/// A kind of load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scenario {
    /// Its name in commands and records.
    pub name: &'static str,
    /// The group that a command runs.
    pub group: Group,
    /// A heading that says what happens.
    pub title: &'static str,
    /// The generator's name for it.
    pub kind: &'static str,
    /// Connections.
    pub connections: u32,
    /// Rooms that they are spread over.
    pub rooms: u32,
    /// Publishes per second; 0 where the scenario has its own.
    pub rate: u32,
    /// Seconds of publishing before the measurement.
    pub warmup: u32,
    /// Seconds of publishing.
    pub seconds: u32,
    /// Connections opened per second.
    pub connect_rate: u32,
    /// Bytes of a payload.
    pub payload: u32,
    /// Further flags of the generator.
    pub flags: &'static [&'static str],
    /// The figures, the one that is compared first.
    pub figures: &'static [Figure],
    /// Servers that it is for; empty: all.
    pub only: &'static [&'static str],
}

/// Scenarios that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Beside other servers.
    Peers,
    /// Beside a bare send(2) loop.
    Send,
    /// Loads for ours alone.
    Alone,
    /// With TLS, beside other servers with TLS.
    Tls,
}

const CPU: Figure = Figure {
    name: "CPU per delivery",
    unit: "µs",
    source: Source::At("/cpu_us_per_delivery"),
    better: Better::Less,
};
const USER: Figure = Figure { name: "of it user space", source: Source::At("/user_us_per_delivery"), ..CPU };
const P99: Figure = Figure { name: "p99", unit: "ms", source: Source::At("/latency/p99_ms"), ..CPU };
const CEILING: Figure = Figure {
    name: "deliveries",
    unit: "1/s",
    source: Source::At("/max/deliveries_per_second"),
    better: Better::More,
};
const CPU_AT_CEILING: Figure = Figure { source: Source::At("/max/cpu_us_per_delivery"), ..CPU };
const LAST: Figure =
    Figure { name: "to the last receiver", unit: "ms", source: Source::At("/bursts/last_median_ms"), ..CPU };
const IDLE: Figure =
    Figure { name: "memory", unit: "B", source: Source::At("/server/pss_bytes_per_connection"), ..CPU };
const IDLE_AT_REST: Figure =
    Figure { name: "memory at rest", source: Source::At("/server/pss_bytes_per_connection_at_end"), ..IDLE };
const CPU_PER_CONNECT: Figure =
    Figure { name: "CPU per connect and join", source: Source::At("/server/cpu_us_per_connect"), ..CPU };
const CONNECTS: Figure = Figure {
    name: "connects per core",
    unit: "1/s",
    source: Source::PerCore("/server/cpu_us_per_connect"),
    better: Better::More,
};
const JOINED: Figure =
    Figure { name: "connected and joined", unit: "p99 ms", source: Source::At("/connect/p99_ms"), ..CPU };
const ALL_IN: Figure =
    Figure { name: "until all had joined", unit: "s", source: Source::At("/ramp_seconds"), ..CPU };
const FAILED: Figure =
    Figure { name: "failed connects", unit: "", source: Source::At("/counters/failed_connects"), ..CPU };
const ALL_BACK: Figure =
    Figure { name: "until all were back", unit: "s", source: Source::At("/storms/0/back_seconds"), ..CPU };
const BACK: Figure = Figure { name: "back", unit: "p99 ms", source: Source::At("/reconnect/p99_ms"), ..CPU };
const GROWTH: Figure = Figure { name: "memory grew by", unit: "MiB", source: Source::PeakGrowth, ..CPU };

const FANOUT: Scenario = Scenario {
    name: "fanout-100",
    group: Group::Peers,
    title: "Fan-out, rooms of 100: 5,000 connections, 50,000 deliveries/s for 5 s after a warm-up of 2 s",
    kind: "fanout",
    connections: 5_000,
    rooms: 50,
    rate: DELIVERIES_PER_SECOND / 100,
    warmup: 2,
    seconds: 5,
    connect_rate: 2_500,
    payload: PAYLOAD_BYTES,
    flags: &[],
    figures: &[CPU, USER, P99],
    only: &[],
};
const SEND: Scenario = Scenario {
    name: "send-1",
    group: Group::Send,
    title: "One message at a time, rooms of 100",
    warmup: 0,
    only: &["channel-node", "bare"],
    ..FANOUT
};
const MAX: Scenario = Scenario {
    name: "max-100ms",
    title: "Most deliveries/s with p99 below 100 ms, rooms of 100",
    kind: "max",
    rate: 400,
    warmup: 0,
    flags: &["--max-p99-ms", "100", "--step", "2", "--precision", "0.08"],
    figures: &[CEILING, CPU_AT_CEILING],
    ..FANOUT
};
const IDLE_10K: Scenario = Scenario {
    name: "idle",
    title: "Memory per idle member of a room: 10,000 connections",
    kind: "idle",
    connections: 10_000,
    rooms: 100,
    rate: 0,
    warmup: 0,
    seconds: 2,
    figures: &[IDLE],
    ..FANOUT
};

/// All scenarios, in the order of the page.
pub const ALL: [Scenario; 17] = [
    FANOUT,
    Scenario {
        name: "fanout-1000",
        title: "Fan-out, rooms of 1,000: 5,000 connections, 50,000 deliveries/s for 5 s after a warm-up of 2 s",
        rooms: 5,
        rate: DELIVERIES_PER_SECOND / 1000,
        ..FANOUT
    },
    MAX,
    Scenario {
        name: "max-10ms",
        title: "Most deliveries/s with p99 below 10 ms, rooms of 100",
        flags: &["--max-p99-ms", "10", "--step", "2", "--precision", "0.08"],
        ..MAX
    },
    Scenario {
        name: "burst",
        title: "One message to 5,000 members of one room",
        kind: "burst",
        rooms: 1,
        rate: 0,
        warmup: 0,
        figures: &[LAST, CPU],
        ..FANOUT
    },
    IDLE_10K,
    Scenario {
        name: "slow",
        title: "Rooms of 100, of which 5 read nothing: 40,000 deliveries/s of 4 KiB for 12 s, from cold",
        kind: "slow",
        connections: 400,
        rooms: 4,
        rate: 400,
        warmup: 0,
        seconds: 12,
        payload: 4_096,
        flags: &["--slow-fraction", "0.05", "--sample-interval", "1"],
        figures: &[P99, GROWTH, CPU],
        ..FANOUT
    },
    SEND,
    Scenario {
        name: "send-4",
        title: "Four messages at a time, rooms of 100",
        flags: &["--burst-size", "4"],
        ..SEND
    },
    Scenario {
        name: "send-8",
        title: "Eight messages at a time, rooms of 100",
        flags: &["--burst-size", "8"],
        ..SEND
    },
    Scenario {
        name: "idle-100k",
        group: Group::Alone,
        title: "Memory per idle member of a room: 100,000 connections",
        connections: 100_000,
        rooms: 1_000,
        connect_rate: 5_000,
        only: &[OURS],
        ..IDLE_10K
    },
    Scenario {
        name: "deflate-100",
        group: Group::Alone,
        title: "Fan-out of 1 KB of JSON, rooms of 100: 5,000 connections, 50,000 deliveries/s for 5 s, compressed and plain",
        payload: 1_024,
        only: &[OURS, DEFLATE],
        ..FANOUT
    },
    Scenario {
        name: "connect-10000",
        group: Group::Alone,
        title: "Connects with a join: 60,000 at 10,000/s, each with an RS256 token of its own where tokens are needed",
        connections: 60_000,
        rooms: 600,
        connect_rate: 10_000,
        figures: &[ALL_IN, JOINED, FAILED],
        only: &[OURS, TOKENS],
        ..IDLE_10K
    },
    Scenario {
        name: "storm-100k",
        group: Group::Alone,
        title: "100,000 clients are cut at once and come back after phoenix.js' delays",
        kind: "storm",
        connections: 100_000,
        rooms: 1_000,
        rate: 0,
        warmup: 0,
        seconds: 2,
        connect_rate: 5_000,
        flags: &["--repeats", "1"],
        figures: &[ALL_BACK, BACK, FAILED],
        only: &[OURS, TOKENS],
        ..FANOUT
    },
    Scenario {
        name: "tls-100",
        group: Group::Tls,
        title: "Fan-out with TLS 1.3, rooms of 100: 5,000 connections, 50,000 deliveries/s for 5 s after a warm-up of 2 s",
        connect_rate: TLS_CONNECT_RATE,
        only: &WITH_TLS,
        ..FANOUT
    },
    Scenario {
        name: "idle-tls",
        group: Group::Tls,
        title: "Memory per idle member of a room with TLS 1.3: 10,000 connections, 5 s after the last handshake",
        seconds: 5,
        connect_rate: TLS_CONNECT_RATE,
        figures: &[IDLE_AT_REST, IDLE],
        only: &WITH_TLS,
        ..IDLE_10K
    },
    Scenario {
        name: "handshake-tls",
        group: Group::Tls,
        title: "Connects with TLS 1.3, a full handshake and a join each: 10,000 at 1,000/s",
        seconds: 1,
        connect_rate: TLS_CONNECT_RATE,
        figures: &[CPU_PER_CONNECT, CONNECTS, JOINED, FAILED],
        only: &[TLS, NCHAN_TLS],
        ..IDLE_10K
    },
];

impl Scenario {
    /// Bytes of a payload in this scenario for this dialect.
    ///
    /// Beside the bare loop the bytes on the wire are the same; beside another server, the protocol's own bytes are a
    /// part of that server's cost.
    #[must_use]
    pub fn payload_for(&self, dialect: &str) -> u32 {
        let padded = self.group == Group::Send && dialect != "phoenix";
        self.payload + if padded { PHOENIX_BYTES } else { 0 }
    }

    /// Whether user time is measured apart from the kernel's.
    #[must_use]
    pub fn tells_user_time(&self) -> bool {
        self.figures.contains(&USER)
    }

    /// The servers that the others are compared with. With TLS it is ours with it, and also ours without.
    #[must_use]
    pub fn references(&self) -> &'static [&'static str] {
        match self.group {
            Group::Send => &[BARE],
            Group::Tls => &[OURS, TLS],
            Group::Peers | Group::Alone => &[OURS],
        }
    }

    /// Whether a server takes part. The bare loop is no server, and takes part in one group only; servers with TLS,
    /// tokens or compression take part where they are named.
    #[must_use]
    pub fn is_for(&self, server: &str) -> bool {
        if server == BARE && self.group != Group::Send {
            return false;
        }
        (self.only.is_empty() && !NAMED_ONLY.contains(&server)) || self.only.contains(&server)
    }
}

/// The scenarios of a list of names, or all of a group.
///
/// # Errors
/// When a name is unknown.
pub fn select(names: &[String], group: Group) -> Result<Vec<Scenario>> {
    if names.is_empty() {
        return Ok(ALL.into_iter().filter(|scenario| scenario.group == group).collect());
    }
    let find = |name: &String| match ALL.into_iter().find(|scenario| scenario.name == name) {
        Some(scenario) => Ok(scenario),
        None => {
            let known: Vec<_> = ALL.iter().map(|scenario| scenario.name).collect();
            bail!("no scenario {name:?}; there are {}", known.join(", "))
        }
    };
    names.iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_fanout_makes_as_many_deliveries() {
        for scenario in ALL.iter().filter(|scenario| scenario.kind == "fanout") {
            let members = scenario.connections / scenario.rooms;
            assert_eq!(scenario.rate * members, DELIVERIES_PER_SECOND, "{}", scenario.name);
        }
    }

    #[test]
    fn beside_the_bare_loop_the_bytes_are_equal() {
        let around = r#"[null,null,"room:load-12","load",]"#;
        assert_eq!(around.len(), PHOENIX_BYTES as usize);
        assert_eq!(SEND.payload_for("uws"), SEND.payload_for("phoenix") + PHOENIX_BYTES);
        assert_eq!(FANOUT.payload_for("uws"), FANOUT.payload_for("phoenix"));
    }

    #[test]
    fn a_figure_is_read_by_its_place() {
        assert_eq!(P99.of(&json!({"latency": {"p99_ms": 2}})), Some(2.0));
        assert_eq!(P99.of(&json!({"latency": {}})), None);
        assert_eq!(CONNECTS.of(&json!({"server": {"cpu_us_per_connect": 250}})), Some(4_000.0));
        let sample = |bytes: u64| json!({"server": {"pss_bytes": bytes}});
        let grown = json!({
            "server": {"ramped": {"pss_bytes": 1 << 20}},
            "samples": [sample(1 << 20), sample(3 << 20), {}, sample(2 << 20)],
        });
        assert_eq!(GROWTH.of(&grown), Some(2.0));
        assert!(select(&["fanout-100".to_owned()], Group::Send).unwrap()[0].name == "fanout-100");
        assert_eq!(select(&[], Group::Send).unwrap().len(), 3);
        assert_eq!(select(&[], Group::Tls).unwrap().len(), 3);
        assert!(select(&["x".to_owned()], Group::Peers).unwrap_err().to_string().contains("idle"));
    }
}
