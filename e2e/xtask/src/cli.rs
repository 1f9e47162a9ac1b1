//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use cluster::Instance;

/// The one way to run things
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a real Kubernetes cluster on this machine, install ChannelCluster and the chat sample
    Up(Up),
    /// End an instance and remove all of it, also after a crash
    Down {
        #[command(flatten)]
        on: On,
        /// Every instance
        #[arg(long)]
        all: bool,
    },
    /// Drive a fleet. Further flags are those of the load generator: --connections N --rooms R --rate PUBLISHES_PER_S
    /// --duration S and more
    Load(Load),
    /// Measure our node beside other servers on this machine
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
    /// Run every check and test; the last line counts them
    Test {
        /// Only the steps whose name holds this; cluster: all that need the cluster
        #[arg(long, value_name = "TEXT")]
        only: Option<String>,
        /// Leave the cluster running
        #[arg(long)]
        keep: bool,
    },
    /// Break a fleet of the running instance test in random ways while clients talk; each loss needs a cause
    Soak(Soak),
    /// Let a real KEDA scale a fleet of a running instance out and in, by its writes/s; each node that goes is drained first
    Keda {
        #[command(flatten)]
        on: On,
    },
    /// Run the fuzz targets of node/core/fuzz on inputs that libFuzzer makes of the kept corpus
    Fuzz(Fuzz),
    /// Run the cases of the Autobahn test suite against the node's bare WebSocket codec
    Autobahn,
    /// Hold counted instructions and bytes of the node to their baselines
    Gates {
        /// Accept the figures as they are now
        #[arg(long)]
        record: bool,
    },
    /// Let the operator and other autoscalers decide over traces of load in virtual time; writes docs/JUDGEMENT.md
    Judge(Judge),
    /// Measure what thousands of fleets cost the operator, with a real API server and without a cluster
    Size(Size),
    /// Copy all logs of an instance to target/e2e/logs
    Logs {
        #[command(flatten)]
        on: On,
    },
    /// Write the CRD of the chart anew from the types
    Crdgen,
    /// Build the images into target/images and print their names
    Build {
        /// Compile faster, run slower
        #[arg(long)]
        quick: bool,
    },
    /// Build kubectl-channels and install it, so that `kubectl channels` finds it
    Cli {
        /// Where to (default: the directory of cargo's programs)
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
    },
    /// Run kubectl on an instance; its own flags go behind --, as in: cargo xtask kubectl -- get pods --all-namespaces
    Kubectl {
        #[command(flatten)]
        on: On,
        /// Words for kubectl
        #[arg(value_name = "WORD")]
        words: Vec<String>,
    },
}

/// The instance that a command is about.
#[derive(Args, Debug)]
pub(crate) struct On {
    /// demo or test: each has its own addresses and state; scratch is for the test of `down`
    #[arg(long, value_name = "NAME", default_value = "demo", value_parser = Instance::named)]
    pub(crate) instance: Instance,
}

#[derive(Args, Debug)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) on: On,
    /// Install into the cluster of this kubectl context instead of starting one; a release or a chat there that is not from
    /// cargo xtask is refused
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// With --context: the place of the images in a registry
    #[arg(long, value_name = "HOST/PATH")]
    pub(crate) registry: Option<String>,
    /// Port of the chat page on 127.0.0.1
    #[arg(long, value_name = "N", default_value_t = 8080)]
    pub(crate) port: u16,
    /// Only the cluster: no chart, no sample
    #[arg(long)]
    pub(crate) bare: bool,
    /// The chart, but no sample
    #[arg(long)]
    pub(crate) no_sample: bool,
    /// Compile faster, run slower: for trying a change
    #[arg(long)]
    pub(crate) quick: bool,
}

/// Own flags of `load`: they are taken wherever they stand, see [`own_first`].
pub(crate) const OF_LOAD: [&str; 3] = ["instance", "namespace", "name"];

#[derive(Args, Debug)]
pub(crate) struct Load {
    #[command(flatten)]
    pub(crate) on: On,
    /// Namespace of the ChannelCluster
    #[arg(long, value_name = "NS", default_value = "default")]
    pub(crate) namespace: String,
    /// Name of the ChannelCluster
    #[arg(long, value_name = "CC", default_value = "chat")]
    pub(crate) name: String,
    /// Flags of the load generator
    #[arg(last = true, value_name = "FLAG")]
    pub(crate) flags: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Judge {
    /// Seed of the traces; the page has seed 1
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Only traces whose name holds this; the page stays as it is
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Option<String>,
    /// Only the operator; the page stays as it is
    #[arg(long)]
    pub(crate) operator: bool,
    /// Random traces instead, from the seed on, until the operator has looked so many times; the page stays as it is
    #[arg(long, value_name = "STEPS", conflicts_with_all = ["only", "operator"])]
    pub(crate) random: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct Soak {
    /// How long (default 20)
    #[arg(long, value_name = "M")]
    minutes: Option<String>,
    /// The same faults again (default: said at the start)
    #[arg(long, value_name = "S")]
    seed: Option<String>,
    /// Only these: delete-pod, kill-node, freeze-node, delete-nats, freeze-nats, kill-api, kill-operator, scale, cut-bus,
    /// cut-clients, cut-admin
    #[arg(long, value_name = "A,B")]
    faults: Option<String>,
    /// Clients that talk (default 300)
    #[arg(long, value_name = "N")]
    clients: Option<String>,
    /// Clients in a room (default 10)
    #[arg(long, value_name = "N")]
    room_size: Option<String>,
    /// Messages of a client in a second (default 0.5)
    #[arg(long, value_name = "R")]
    rate: Option<String>,
    /// Directory of the report (default target/soak)
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) report: Option<PathBuf>,
}

impl Soak {
    /// The flags that are there, without the directory of the report, for the program behind.
    pub(crate) fn flags(&self) -> Vec<String> {
        let all = [
            ("minutes", &self.minutes),
            ("seed", &self.seed),
            ("faults", &self.faults),
            ("clients", &self.clients),
            ("room-size", &self.room_size),
            ("rate", &self.rate),
        ];
        given(&all)
    }
}

#[derive(Args, Debug)]
pub(crate) struct Fuzz {
    /// One of config, deflate, envelope, frame, longpoll, msgpack, origin, protocol, proxy, record, shard, token (default: all)
    #[arg(long, value_name = "NAME")]
    pub(crate) target: Option<String>,
    /// Each target
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub(crate) seconds: u64,
    /// At a time
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) jobs: usize,
    /// Run one input of --target, such as a finding
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Beside uWebSockets, tungstenite, nchan, NATS, Socket.IO and Sockudo
    Peers(Campaign),
    /// Beside a bare send(2) loop, one to eight messages at a time
    Send(Campaign),
    /// Loads that only our node can carry
    Alone(Campaign),
    /// With TLS, beside ourselves without it and beside uWebSockets, nchan and NATS with it
    Tls(Campaign),
    /// Print the results so far
    Show(Results),
    /// Write the results into docs/BENCHMARKS.md, with plots
    Page(Results),
}

#[derive(Args, Debug)]
pub(crate) struct Size {
    /// ChannelClusters (default 2000)
    #[arg(long, value_name = "N")]
    fleets: Option<String>,
    /// Nodes of each (default 5)
    #[arg(long, value_name = "N")]
    nodes: Option<String>,
    /// Pods, and as many Secrets, that are nobody's (default 100000)
    #[arg(long, value_name = "N")]
    foreign: Option<String>,
    /// Seconds for which the operator is looked at when nothing happens (default 60)
    #[arg(long, value_name = "S")]
    rest: Option<String>,
    /// Changes of one ChannelCluster that are timed, each time (default 20)
    #[arg(long, value_name = "N")]
    changes: Option<String>,
}

impl Size {
    /// The flags that are there, for the program behind.
    pub(crate) fn flags(&self) -> Vec<String> {
        let all = [
            ("fleets", &self.fleets),
            ("nodes", &self.nodes),
            ("foreign", &self.foreign),
            ("rest", &self.rest),
            ("changes", &self.changes),
        ];
        given(&all)
    }
}

#[derive(Args, Debug)]
pub(crate) struct Results {
    /// Raw results; page takes several with commas, a scenario is from the first that has it (default
    /// target/bench/results.jsonl)
    #[arg(long, value_name = "FILE")]
    pub(crate) results: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Campaign {
    #[command(flatten)]
    pub(crate) results: Results,
    /// These servers, and ours; NAME@2 for two workers
    #[arg(long, value_name = "A,B")]
    pub(crate) only: Option<String>,
    /// Only these loads
    #[arg(long, value_name = "A,B")]
    scenario: Option<String>,
    /// Rounds in which each server is measured once (default 15)
    #[arg(long, value_name = "N")]
    pairs: Option<String>,
    /// Of publishing per run
    #[arg(long, value_name = "S")]
    seconds: Option<String>,
    /// Of the order of servers
    #[arg(long, value_name = "N")]
    seed: Option<String>,
    /// Wait before each run, at most so long, until others leave the machine alone
    #[arg(long, value_name = "S")]
    quiet: Option<String>,
    /// Set earlier results aside; otherwise a broken-off run goes on
    #[arg(long)]
    pub(crate) fresh: bool,
}

impl Campaign {
    /// The flags that are there and that only the measurement takes.
    pub(crate) fn flags(&self) -> Vec<String> {
        given(&[
            ("scenario", &self.scenario),
            ("pairs", &self.pairs),
            ("seconds", &self.seconds),
            ("quiet", &self.quiet),
            ("seed", &self.seed),
        ])
    }
}

fn given(flags: &[(&str, &Option<String>)]) -> Vec<String> {
    flags.iter().filter_map(|(name, value)| Some(format!("--{name}={}", value.as_ref()?))).collect()
}

/// Puts the named flags, which take a value, before all other words and `--` between them: then clap reads the former and
/// leaves the latter to the program behind this one.
pub(crate) fn own_first(words: impl IntoIterator<Item = String>, own: &[&str]) -> Vec<String> {
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let name = word.strip_prefix("--").map(|flag| flag.split('=').next().unwrap_or(flag));
        match name {
            Some("help") => first.push(word),
            Some(name) if own.contains(&name) => {
                let value = if word.contains('=') { None } else { words.next() };
                first.push(word);
                first.extend(value);
            }
            _ if word != "--" => rest.push(word),
            _ => {}
        }
    }
    first.push("--".to_owned());
    first.extend(rest);
    first
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Arguments::try_parse_from(["xtask"].into_iter().chain(line.split(' '))).map(|all| all.command)
    }

    #[test]
    fn the_definitions_hold() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn both_forms_switches_and_defaults() {
        let Ok(Command::Up(up)) = parse("up --instance test --port=9 --bare") else { panic!("up") };
        assert_eq!((up.on.instance.name(), up.port, up.bare, up.quick), ("test", 9, true, false));
        let Ok(Command::Down { on, all }) = parse("down") else { panic!("down") };
        assert_eq!((on.instance.name(), all), ("demo", false));
    }

    #[test]
    fn flags_of_the_generator_are_passed_on_as_they_were() {
        let line = "--rate 5 --namespace ns --reconnect --instance=test";
        let words = own_first(line.split(' ').map(str::to_owned), &OF_LOAD);
        let words = ["xtask".to_owned(), "load".to_owned()].into_iter().chain(words);
        let Ok(Command::Load(load)) = Arguments::try_parse_from(words).map(|all| all.command) else {
            panic!("load")
        };
        assert_eq!((load.on.instance.name(), load.namespace.as_str()), ("test", "ns"));
        assert_eq!(load.flags, ["--rate", "5", "--reconnect"]);
    }

    #[test]
    fn flags_of_kubectl_go_behind_two_dashes() {
        let Ok(Command::Kubectl { words, .. }) = parse("kubectl -- get pods --all-namespaces") else {
            panic!("kubectl")
        };
        assert_eq!(words, ["get", "pods", "--all-namespaces"]);
        let said = parse("kubectl get pods --namespace x").unwrap_err().to_string();
        assert!(said.contains("--namespace") && said.contains("'-- --namespace'"), "{said}");
    }

    #[test]
    fn what_is_not_known_is_refused_with_what_is() {
        for (line, named, remedy) in [
            ("up --prot 80", "--prot", "--port"),
            ("up --port x", "--port", "invalid"),
            ("down --instance prod", "prod", "demo, test"),
            ("tset", "tset", "test"),
        ] {
            let said = parse(line).unwrap_err().to_string();
            assert!(said.contains(named) && said.contains(remedy), "{line}: {said}");
        }
    }
}
