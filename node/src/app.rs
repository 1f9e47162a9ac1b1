//! What the threads of a node share: its configuration, its shards and where it is in its life.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use node_core::{
    addresses::Addresses,
    admin::{self, Counters, DrainStatus, Gauges, NodePhase, Stats},
    api::keys::Keys,
    config::{Auth, NodeConfig},
    counters::{self, BusCounters},
    dashboard::{
        history::{History, Lately, Sample},
        hits,
    },
    route::Registry,
    shard::{Latencies, Mail, PolicyCounts, Recent},
};

use crate::{
    api_counts::Counts as ApiCounts,
    api_keys::KeysError,
    bus::BusState,
    drain::Departure,
    hook_counts::Counts as HookCounts,
    jwks::Listed,
    mailbox::ShardHandle,
    memory::Budget,
    near::Near,
    secrets::SecretFile,
    sysinfo,
    token_keys::KeyError,
    transport::{self, TicketsError, TlsError},
};

/// Version of this binary.
pub const BUILD: &str = env!("CARGO_PKG_VERSION");

/// Random per process start.
pub type BootId = u128;

/// The shared state of one node.
#[derive(Debug)]
pub struct App {
    /// Random per process start.
    pub boot_id: BootId,
    /// When the process started.
    pub started: Instant,
    /// Name of the node.
    pub node_name: String,
    /// The configuration now in force.
    pub config: ArcSwap<NodeConfig>,
    /// Overrides [`node_core::config::Limits::max_connections`], also of a changed file.
    pub max_connections: Option<u32>,
    /// What decides about [`node_core::config::Limits::memory_budget`], also of a changed file.
    pub memory: Budget,
    /// Connections that the descriptor tables hold ([`node_core::layout::connections`]).
    pub descriptor_room: u64,
    /// The shards.
    pub shards: Vec<ShardHandle>,
    /// The topics with members on any shard.
    pub topics: Arc<Registry>,
    /// The client addresses with connections on any shard that are counted.
    pub addresses: Arc<Addresses>,
    /// What is known of limits that are nearly reached.
    pub near: Near,
    /// The last minute.
    pub history: Mutex<History>,
    /// How far the node has left.
    pub drain: Departure,
    /// What the shards tell load balancers: see [`App::tell_ready`].
    pub ready: Arc<AtomicBool>,
    /// The bus, when one is configured.
    pub bus: Option<Arc<BusState>>,
    /// The admin token; none opens the admin API, which only dev mode does.
    pub token: Option<SecretFile>,
    /// The keys of the server API.
    pub api_keys: ArcSwap<Keys>,
    /// What is counted of questions to the backend.
    pub hook_counts: HookCounts,
    /// What the server API counts.
    pub api_counts: ApiCounts,
    /// Where keys of tokens are fetched.
    pub key_sources: Arc<ArcSwap<Listed>>,
    /// The certificate of the public port, where clients speak TLS.
    pub tls: Option<Arc<transport::Identity>>,
    /// Configuration files taken.
    pub reloads: AtomicU64,
    /// Configuration files refused.
    pub reload_failures: AtomicU64,
}

impl App {
    /// The counters of all shards.
    pub fn counters(&self) -> counters::Counters {
        let mut sum = counters::Counters::ZERO;
        for shard in &self.shards {
            sum.add(&shard.stats().load());
        }
        // A room on two shards is one room.
        sum.rooms = self.topics.topics().into();
        sum
    }

    /// The counters of the bus; zero without one.
    pub fn bus_counters(&self) -> BusCounters {
        self.bus.as_ref().map(|bus| bus.counts.load()).unwrap_or_default()
    }

    /// Memory that clients make the node hold and that no shard counts, in bytes by kind.
    pub fn common_memory(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let tokens = self.config.load().auth.keys.held_bytes();
        let addresses = self.addresses.held_bytes();
        [("topics", self.topics.bytes()), ("addresses", addresses), ("tokens", tokens)].into_iter()
    }

    /// Busy fraction of the busiest shard over the last second, 0 to 1.
    pub fn utilization(&self) -> f64 {
        self.shards.iter().map(|shard| shard.stats().utilization()).fold(0.0, f64::max)
    }

    /// Figures of the last second, each of the shard where it is worst.
    pub fn recent(&self) -> Recent {
        self.shards.iter().map(|shard| shard.stats().recent()).fold(Recent::default(), |worst, of| Recent {
            handshake_p99_millis: worst.handshake_p99_millis.max(of.handshake_p99_millis),
            oldest_queued_millis: worst.oldest_queued_millis.max(of.oldest_queued_millis),
        })
    }

    /// Notes how the node does now; the pulse does once a second.
    pub fn note(&self, sum: &counters::Counters) {
        let bus = self.bus_counters();
        let sample = Sample {
            millis: self.now_millis(),
            writes: sum.writes,
            messages: sum.publishes + self.api_counts.publications() + bus.received,
            utilization: self.utilization(),
            hits: hits::counts(sum, &bus),
        };
        self.history.lock().unwrap_or_else(PoisonError::into_inner).observe(sample);
    }

    /// What the last minute shows.
    pub fn lately(&self) -> Lately {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).lately()
    }

    /// Times of all shards.
    pub fn latencies(&self) -> Latencies {
        self.shards.iter().map(|shard| shard.stats().latencies()).fold(Latencies::default(), |mut sum, of| {
            sum.fan_out.add(&of.fan_out);
            sum.queue_age.add(&of.queue_age);
            sum
        })
    }

    /// What all shards have counted for each policy of rooms, by its pattern.
    pub fn by_policy(&self) -> BTreeMap<String, PolicyCounts> {
        let mut sums = BTreeMap::<_, PolicyCounts>::new();
        for shard in &self.shards {
            for (name, counts) in shard.stats().by_policy().iter() {
                sums.entry(name.to_owned()).or_default().add(counts);
            }
        }
        sums
    }

    /// Milliseconds since the process started.
    pub fn now_millis(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The highest use of memory of a shard since the last call, in thousandths of what it may hold.
    pub fn take_memory_permille(&self) -> u64 {
        self.shards.iter().map(|shard| shard.stats().take_memory_permille()).max().unwrap_or(0)
    }

    /// Where the node is in its life. The loss of a bus that was once connected changes nothing here: clients of this
    /// node are better served than sent away.
    pub fn phase(&self) -> NodePhase {
        let started = self.bus.as_ref().is_none_or(|bus| bus.ever_connected());
        self.drain.phase(self.counters().connections, started)
    }

    /// Whether the node is in service: it serves, and moves nobody to other nodes.
    pub fn is_ready(&self) -> bool {
        self.phase() == NodePhase::Serving && !self.drain.is_moving(self.now_millis())
    }

    /// Lets the public port say whether the node is in service, as `/readyz` does. To be called when that may have changed;
    /// the pulse does once a second.
    pub fn tell_ready(&self) {
        self.ready.store(self.is_ready(), Relaxed);
    }

    /// Everything the operator reads.
    pub fn stats(&self) -> Stats {
        let sum = self.counters();
        let config = self.config.load();
        Stats {
            version: admin::VERSION,
            boot_id: format!("{:032x}", self.boot_id),
            monotonic_millis: self.now_millis(),
            node: self.node_name.clone(),
            build: BUILD.to_owned(),
            phase: self.phase(),
            bus_connected: self.bus.as_ref().map(|bus| bus.connected()),
            rebalance: self.drain.rebalance(self.now_millis(), &self.shards),
            bus: self.bus.as_ref().map(|bus| bus.stats()),
            counters: Counters::of(&sum, &self.bus_counters()),
            gauges: Gauges {
                connections: sum.connections,
                rooms: sum.rooms,
                memberships: sum.memberships,
                send_queue_bytes: sum.send_queue_bytes,
                utilization: self.utilization(),
                cpu_seconds: sysinfo::cpu_seconds(),
                oldest_queued_millis: self.recent().oldest_queued_millis,
                handshake_p99_millis: self.recent().handshake_p99_millis,
                rss_bytes: sysinfo::rss_bytes(),
                memory_limit_bytes: self.memory.limit_bytes(),
                nofile: sysinfo::nofile(),
                descriptor_room: self.descriptor_room,
                sysctls: sysinfo::sysctls(&config.fixed.sysctls),
            },
        }
    }

    /// The answer to a drain order.
    pub fn drain_status(&self) -> DrainStatus {
        DrainStatus { version: admin::VERSION, phase: self.phase(), connections: self.counters().connections }
    }

    /// Puts a changed file into force: the reloadable part of a good one, without `auth`, for which there is
    /// [`App::take_auth`]. A bad one is counted and told, and the old configuration stays. The shards are told by [`App::tell_config`].
    pub fn reload(&self, changed: Result<NodeConfig, crate::config::ConfigError>) {
        match changed {
            Ok(new) => {
                let old = self.config.load_full();
                if new.fixed != old.fixed {
                    tracing::warn!(
                        "the new configuration changes restart keys, which wait for a new process"
                    );
                }
                let mut new = new.reload_onto(&old);
                // It needs keys, and waits for them.
                new.auth = old.auth.clone();
                new.limits.max_connections = self.max_connections.unwrap_or(new.limits.max_connections);
                self.memory.apply(&mut new);
                if let Some(bus) = &self.bus {
                    bus.most_millis.store(new.limits.bus_message_age(), Relaxed);
                    bus.set_max_frame_bytes(new.limits.max_frame_bytes);
                }
                self.config.store(Arc::new(new));
                self.reloads.fetch_add(1, Relaxed);
                tracing::info!("configuration reloaded");
            }
            Err(error) => {
                self.reload_failures.fetch_add(1, Relaxed);
                tracing::error!(%error, "the new configuration is not used, the old one stays");
            }
        }
    }

    /// Puts into force who may connect, with the keys that this needs. Where they cannot be read, the former stays, which
    /// is counted and told. The shards are told by [`App::tell_config`].
    pub fn take_auth(&self, changed: Result<Auth, KeyError>) {
        match changed {
            Ok(auth) => {
                let config = NodeConfig { auth, ..NodeConfig::clone(&self.config.load()) };
                self.config.store(Arc::new(config));
                tracing::info!("auth and the keys of tokens are read");
            }
            Err(error) => {
                self.reload_failures.fetch_add(1, Relaxed);
                tracing::error!(%error, "the new auth is not used, the old one stays with its keys");
            }
        }
    }

    /// Puts the keys of the server API into force that the node begins with; without good ones it serves clients all the same.
    pub fn begin_with(&self, keys: Result<Arc<Keys>, KeysError>) {
        match keys {
            Ok(keys) => self.api_keys.store(keys),
            bad => self.take_api_keys(bad),
        }
    }

    /// Puts changed keys of the server API into force. Where they cannot be read, the former stay, which is counted and told.
    pub fn take_api_keys(&self, changed: Result<Arc<Keys>, KeysError>) {
        match changed {
            Ok(keys) => {
                tracing::info!(keys = keys.len(), "the API keys are read");
                self.api_keys.store(keys);
                self.reloads.fetch_add(1, Relaxed);
            }
            Err(error) => {
                self.reload_failures.fetch_add(1, Relaxed);
                tracing::error!(%error, "the new API keys are not used, the old ones stay");
            }
        }
    }

    /// Notes that another certificate is in force on the public port, or that it cannot be used and the former stays.
    pub fn note_certificate(&self, changed: Result<(), TlsError>) {
        match changed {
            Ok(()) => {
                self.reloads.fetch_add(1, Relaxed);
                tracing::info!("the certificate of the public port is read");
            }
            Err(error) => {
                self.reload_failures.fetch_add(1, Relaxed);
                tracing::error!(%error, "the new certificate is not used, the old one stays");
            }
        }
    }

    /// Notes that other keys of TLS tickets are in force, or that they cannot be used. TLS goes on in both cases.
    pub fn note_tickets(&self, changed: Result<(), TicketsError>) {
        match changed {
            Ok(()) => {
                self.reloads.fetch_add(1, Relaxed);
                tracing::info!("the keys of TLS tickets are read");
            }
            Err(error) => {
                self.reload_failures.fetch_add(1, Relaxed);
                tracing::error!(%error, "the keys of TLS tickets are not used, and those that the node has go on");
            }
        }
    }

    /// Sends the configuration to every shard; returns whether all took it. Sending it again does no harm.
    pub fn tell_config(&self) -> bool {
        let config = self.config.load_full();
        self.tell_shards(|| Mail::Reload(Arc::clone(&config)))
    }

    /// Sends the same mail to every shard; returns whether all took it.
    pub fn tell_shards(&self, mail: impl Fn() -> Mail) -> bool {
        let missed = self.shards.iter().filter(|shard| shard.send(mail()).is_err()).count();
        missed == 0
    }
}
