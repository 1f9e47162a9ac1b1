//! The figures of the dashboard, for its own script: they follow the page, and may be others in the next version.

use std::{collections::BTreeSet, time::Instant};

use node_core::{
    admin::{NodePhase, RebalanceStatus},
    counters::Limit,
    dashboard::{
        health::{self, Concern, Seen},
        history::{History, Lately},
        hits::{self, HITS},
    },
    ledger::Kind,
};
use serde::Serialize;

use super::top::TopRooms;
use crate::{
    api::Api,
    app::{App, BUILD},
    bus::fleet::{Line, Sum},
    mailbox::ShardHandle,
    sysinfo,
};

/// All of them.
#[derive(Debug, Serialize)]
pub(super) struct Data {
    node: String,
    cluster: String,
    namespace: String,
    build: &'static str,
    uptime_seconds: u64,
    /// Whether the visitor has a session that can be ended.
    login: bool,
    health: Health,
    fleet: Fleet,
    figures: Figures,
    shards: Vec<Shard>,
    memory: Memory,
    limits: Vec<Reached>,
    tuning: Vec<Tuning>,
    moves: Moves,
    top_rooms: TopRooms,
}

#[derive(Debug, Serialize)]
struct Health {
    healthy: bool,
    sentence: String,
    /// More about each reason, with figures.
    details: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Fleet {
    nodes: u64,
    connections: u64,
    rooms: u64,
    writes_per_second: u64,
    /// Whether there may be nodes that this one has not heard of.
    partial: bool,
    list: Vec<Node>,
    silent: Vec<Silent>,
}

#[derive(Debug, Serialize)]
struct Node {
    node: String,
    phase: NodePhase,
    connections: u64,
    rooms: u64,
    writes_per_second: u64,
    utilization: f64,
    hot: bool,
}

#[derive(Debug, Serialize)]
struct Silent {
    node: String,
    seconds: u64,
}

#[derive(Debug, Serialize)]
struct Figures {
    connections: u64,
    connections_limit: u32,
    rooms: u64,
    memberships: u64,
    writes_per_second: f64,
    messages_per_second: f64,
    /// None while no message came within the last minute.
    writes_per_message: Option<f64>,
    utilization: f64,
    oldest_queued_millis: u64,
    send_queue_bytes: u64,
    handshake_p99_millis: u64,
    /// None without a bus.
    bus_connected: Option<bool>,
}

#[derive(Debug, Serialize)]
struct Shard {
    shard: u8,
    connections: u64,
    writes_per_second: u64,
    utilization: f64,
    hot: bool,
}

#[derive(Debug, Serialize)]
struct Memory {
    /// None where nothing bounds it.
    budget_bytes: Option<u64>,
    held_bytes: u64,
    /// Of the shard that is nearest to its part, 1 being all of it.
    used_ratio: f64,
    resident_bytes: u64,
    /// None where nothing but the machine bounds it.
    limit_bytes: Option<u64>,
    kinds: Vec<Held>,
}

#[derive(Debug, Serialize)]
struct Held {
    kind: &'static str,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Reached {
    limit: &'static str,
    of_node: bool,
    in_last_minute: u64,
    since_start: u64,
}

#[derive(Debug, Serialize)]
struct Tuning {
    name: String,
    /// None where nobody asked for a value.
    asked: Option<String>,
    got: Option<String>,
    as_asked: bool,
}

#[derive(Debug, Serialize)]
struct Moves {
    phase: NodePhase,
    ready: bool,
    connections: u64,
    /// None while nothing is moved.
    operation: Option<Operation>,
    /// The last one, also when it has ended; none before the first.
    last: Option<Operation>,
}

#[derive(Debug, Serialize)]
struct Operation {
    operation: String,
    moved: u64,
    moved_writes_per_second: u64,
    done: bool,
}

/// The figures of this moment.
pub(super) fn data(app: &App, api: &Api, top_rooms: TopRooms) -> Data {
    let (lately, fleet) = (app.lately(), fleet(api));
    let config = app.config.load();
    Data {
        node: app.node_name.clone(),
        cluster: config.fixed.cluster.name.clone(),
        namespace: config.fixed.cluster.namespace.clone(),
        build: BUILD,
        uptime_seconds: app.started.elapsed().as_secs(),
        login: app.token.is_some(),
        health: health(app, &lately, &fleet),
        fleet,
        figures: figures(app, &lately),
        shards: shards(app),
        memory: memory(app),
        limits: limits(app, &lately),
        tuning: tuning(app),
        moves: moves(app),
        top_rooms,
    }
}

fn fleet(api: &Api) -> Fleet {
    let (now, partial) = (Instant::now(), api.knows_part());
    let mut known = api.fleet();
    let Sum { nodes, connections, rooms, writes_per_second, list } = known.sum(now);
    let silent = known.silent().map(|silent| Silent {
        node: silent.node.clone(),
        seconds: now.saturating_duration_since(silent.heard).as_secs(),
    });
    let row = |line: Line| Node {
        hot: line.utilization > health::HOT,
        node: line.node,
        phase: line.phase,
        connections: line.connections,
        rooms: line.rooms,
        writes_per_second: line.writes_per_second,
        utilization: line.utilization,
    };
    let silent = silent.collect();
    Fleet {
        nodes,
        connections,
        rooms,
        writes_per_second,
        partial,
        list: list.into_iter().map(row).collect(),
        silent,
    }
}

/// The use of memory of the shard that is nearest to its part of the budget, 1 being all of it.
fn memory_used(app: &App) -> f64 {
    app.near.ratios().into_iter().find(|(limit, _)| *limit == Limit::Memory).map_or(0.0, |(_, ratio)| ratio)
}

fn health(app: &App, lately: &Lately, fleet: &Fleet) -> Health {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a ratio of thousandths")]
    let memory_permille = (memory_used(app) * 1_000.0).round() as u64;
    let hit: Vec<_> = History::hit_limits(lately).collect();
    let concerns = health::concerns(&Seen {
        phase: app.phase(),
        moving: app.drain.is_moving(app.now_millis()),
        bus: app.bus.as_ref().map(|bus| bus.connected()),
        silent: fleet.silent.len(),
        utilization: lately.utilization,
        memory_permille,
        hit: !hit.is_empty(),
    });
    let details = concerns.iter().filter_map(|concern| match concern {
        Concern::Starting | Concern::Moving => None,
        Concern::Draining => Some(format!("{} connections are left.", app.counters().connections)),
        Concern::BusAway => app
            .bus
            .as_ref()
            .map(|bus| format!("It heard nothing over the bus for {} s.", bus.stats().silent_millis / 1_000)),
        Concern::Silent => {
            let names: Vec<_> = fleet.silent.iter().map(|silent| silent.node.as_str()).collect();
            Some(format!("Not heard of for five seconds or more: {}.", names.join(", ")))
        }
        Concern::HotShard => Some(format!(
            "The busiest shard worked for {:.0} % of the last ten seconds.",
            lately.utilization * 100.0
        )),
        Concern::Memory => {
            Some(format!("A shard uses {:.0} % of its part of the memory budget.", memory_used(app) * 100.0))
        }
        Concern::Limit => Some(format!("Reached: {}.", hit.join(", "))),
    });
    Health { healthy: concerns.is_empty(), sentence: health::sentence(&concerns), details: details.collect() }
}

fn figures(app: &App, lately: &Lately) -> Figures {
    let (sum, recent) = (app.counters(), app.recent());
    Figures {
        connections: sum.connections,
        connections_limit: app.config.load().limits.max_connections,
        rooms: sum.rooms,
        memberships: sum.memberships,
        writes_per_second: lately.writes_per_second,
        messages_per_second: lately.messages_per_second,
        writes_per_message: lately.writes_per_message,
        utilization: app.utilization(),
        oldest_queued_millis: recent.oldest_queued_millis,
        send_queue_bytes: sum.send_queue_bytes,
        handshake_p99_millis: recent.handshake_p99_millis,
        bus_connected: app.bus.as_ref().map(|bus| bus.connected()),
    }
}

fn shards(app: &App) -> Vec<Shard> {
    let of = |shard: &ShardHandle| {
        let (stats, utilization) = (shard.stats(), shard.stats().utilization());
        Shard {
            shard: shard.index(),
            connections: stats.load().connections,
            writes_per_second: stats.writes_per_second(),
            utilization,
            hot: utilization > health::HOT,
        }
    };
    app.shards.iter().map(of).collect()
}

fn memory(app: &App) -> Memory {
    let sum = app.counters();
    let kinds = Kind::ALL.iter().map(|kind| Held { kind: kind.label(), bytes: sum.memory[*kind as usize] });
    let kinds: Vec<_> = kinds.chain(app.common_memory().map(|(kind, bytes)| Held { kind, bytes })).collect();
    let limit = app.memory.limit_bytes();
    Memory {
        budget_bytes: app.config.load().limits.memory_budget,
        held_bytes: kinds.iter().map(|held| held.bytes).sum(),
        used_ratio: memory_used(app),
        resident_bytes: sysinfo::rss_bytes(),
        limit_bytes: (limit > 0).then_some(limit),
        kinds,
    }
}

fn limits(app: &App, lately: &Lately) -> Vec<Reached> {
    let counts = hits::counts(&app.counters(), &app.bus_counters());
    let rows = HITS.iter().zip(counts).zip(lately.hits);
    rows.map(|((hit, since_start), in_last_minute)| Reached {
        limit: hit.limit,
        of_node: hit.of_node,
        in_last_minute,
        since_start,
    })
    .collect()
}

fn tuning(app: &App) -> Vec<Tuning> {
    let fixed = &app.config.load().fixed;
    let got = sysinfo::sysctls(&fixed.sysctls);
    let soft = sysinfo::nofile().soft;
    let word = |value: u64| if value == u64::MAX { "unlimited".to_owned() } else { value.to_string() };
    let nofile = Tuning {
        name: "open files".to_owned(),
        asked: fixed.nofile.map(word),
        got: Some(word(soft)),
        as_asked: fixed.nofile.is_none_or(|asked| soft >= asked),
    };
    let asked_for = fixed.sysctls.keys().chain(got.keys()).collect::<BTreeSet<_>>();
    let sysctls = asked_for.into_iter().map(|name| {
        let (asked, got) = (fixed.sysctls.get(name).map(|value| sysinfo::normal(value)), got.get(name));
        let as_asked = asked.as_ref().is_none_or(|asked| got == Some(asked));
        Tuning { name: name.clone(), asked, got: got.cloned(), as_asked }
    });
    std::iter::once(nofile).chain(sysctls).collect()
}

fn moves(app: &App) -> Moves {
    let operation = |status: RebalanceStatus| Operation {
        operation: status.operation,
        moved: status.moved,
        moved_writes_per_second: status.moved_writes_per_second,
        done: status.done,
    };
    let last = app.drain.last_rebalance(&app.shards);
    Moves {
        phase: app.phase(),
        ready: app.is_ready(),
        connections: app.counters().connections,
        operation: app.drain.rebalance(app.now_millis(), &app.shards).map(operation),
        last: (!last.operation.is_empty()).then(|| operation(last)),
    }
}
