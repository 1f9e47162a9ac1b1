//! The command line.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use clap::{Parser, ValueEnum, error::ErrorKind};
use node_core::{
    layout::{Asked, Tables},
    limits::MAX_SHARDS,
};
use shell::socket::everywhere;

/// Exit code for a wrong flag or configuration value (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;

/// A WebSocket node that speaks Phoenix Channels.
#[derive(Debug, Clone, Parser)]
#[command(name = "channel-node", version, about)]
pub struct Args {
    /// One complete node on this machine: no cluster, no bus, no authentication. For development.
    #[arg(long, conflicts_with_all = ["config", "secrets"])]
    pub dev: bool,

    /// The configuration file (YAML). A running node picks up changes of it.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["dev", "check_config", "print_default_config"])]
    pub config: Option<PathBuf>,

    /// Directory of the node's secrets: admin-token, nats-password, tls-ticket-keys.
    #[arg(long, value_name = "DIR", requires = "config", required_unless_present_any = ["dev", "check_config", "print_default_config"])]
    pub secrets: Option<PathBuf>,

    /// Directory of the credentials of your own NATS (username, password); used when it exists.
    #[arg(long, value_name = "DIR", default_value = "/etc/channelcluster/nats")]
    pub nats_credentials: PathBuf,

    /// Directory of the keys of tokens: a file SECRET/KEY for each entry of auth.jwt.
    #[arg(long, value_name = "DIR", default_value = "/etc/channelcluster/jwt")]
    pub token_keys: PathBuf,

    /// File of the keys of the server API; used when it exists. A running node picks up changes of it.
    #[arg(long, value_name = "FILE", default_value = "/etc/channelcluster/api/keys.yaml")]
    pub api_keys: PathBuf,

    /// Directory of the Secret of hooks: signing-key, and ca.crt where the backend's certificate is of an authority of your own.
    #[arg(long, value_name = "DIR", default_value = "/etc/channelcluster/hooks")]
    pub hook_secrets: PathBuf,

    /// Address of a port for the server API alone, which the admin port has too [default: none].
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    pub api: Option<SocketAddr>,

    /// Directory of the certificate of the public port and its key: tls.crt and tls.key, as in a Secret of type
    /// kubernetes.io/tls. Clients speak TLS then. A running node picks up changes of the files.
    #[arg(long, value_name = "DIR")]
    pub tls: Option<PathBuf>,

    /// Oldest version of TLS that is spoken.
    #[arg(long, value_name = "VERSION", requires = "tls", default_value = "1.3")]
    pub tls_min_version: TlsVersion,

    /// File with the certificates of CAs (PEM). Clients are then asked for a certificate of one of them. A running node
    /// picks up changes of it.
    #[arg(long, value_name = "FILE", requires = "tls")]
    pub tls_client_ca: Option<PathBuf>,

    /// Whether clients have to show a certificate of --tls-client-ca. One that is shown is verified in any case.
    #[arg(long, value_name = "WHETHER", requires = "tls_client_ca", default_value = "required")]
    pub tls_client_certificates: ClientCertificates,

    /// Check a configuration file, say everything that is wrong with it, and exit.
    #[arg(long, value_name = "FILE", exclusive = true)]
    pub check_config: Option<PathBuf>,

    /// Print a configuration file with every key and its default, and exit.
    #[arg(long, exclusive = true)]
    pub print_default_config: bool,

    /// Address of the public port [default: [::]:4000, which is all addresses of IPv6 and IPv4; with --dev
    /// 127.0.0.1:4000 and [::1]:4000].
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    pub listen: Option<SocketAddr>,

    /// Address of the admin port [default: [::]:9400; with --dev 127.0.0.1:9400 and [::1]:9400].
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    pub admin: Option<SocketAddr>,

    /// Mount of the socket, overriding the configuration: clients connect to PATH/websocket.
    #[arg(long, value_name = "PATH")]
    pub path: Option<String>,

    /// Shards, each a thread with its own connections [default: one per CPU that this process may use].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_SHARDS)))]
    pub shards: Option<u8>,

    /// Connections that the node must be able to hold, also beyond its limit of open files; more are refused.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: Option<u32>,

    /// Memory that clients can make the node hold, in bytes or like 64Mi, overriding the configuration [default: half of the
    /// cgroup's limit or of the machine's memory].
    #[arg(long, value_name = "BYTES", value_parser = crate::memory::bytes)]
    pub memory_budget: Option<u64>,

    /// Whether each shard has a descriptor table of its own, and so the limit of open files for itself.
    #[arg(long, value_name = "WHOSE", default_value = "auto")]
    pub descriptor_tables: DescriptorTables,

    /// Name of this node.
    #[arg(long, value_name = "NAME", env = "POD_NAME", default_value = "local")]
    pub node_name: String,

    /// How log lines look [default: json, with --dev text].
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,

    /// What is logged, as a tracing filter.
    #[arg(long, value_name = "FILTER", env = "CHANNEL_LOG", default_value = "info,async_nats=off")]
    pub log: String,
}

/// Whose descriptor table a shard uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DescriptorTables {
    /// One for the process.
    Shared,
    /// One for each shard: the node holds more connections than its limit of open files.
    PerShard,
    /// Per shard when one table holds fewer connections than `--max-connections` or the configuration says.
    Auto,
}

impl From<DescriptorTables> for Tables {
    fn from(tables: DescriptorTables) -> Self {
        match tables {
            DescriptorTables::Shared => Tables::Shared,
            DescriptorTables::PerShard => Tables::PerShard,
            DescriptorTables::Auto => Tables::Auto,
        }
    }
}

/// The oldest version of TLS that a node speaks with clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TlsVersion {
    /// TLS 1.2, and 1.3 with clients that speak it.
    #[value(name = "1.2")]
    Tls12,
    /// TLS 1.3 alone.
    #[value(name = "1.3")]
    Tls13,
}

/// Whether clients have to show a certificate, where one is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ClientCertificates {
    /// Each client has to.
    Required,
    /// A client may, and one that is no good ends the handshake.
    Optional,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// What to do instead of running: print and exit.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Help or version, asked for.
    Print(String),
    /// One sentence about a wrong flag.
    Wrong(String),
}

impl Args {
    /// Reads the command line, program name first.
    ///
    /// # Errors
    /// An [`Answer`] when the process should not run.
    pub fn read(words: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Args, Answer> {
        Args::try_parse_from(words).map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Answer::Print(error.to_string()),
            _ => Answer::Wrong(sentence(&error.to_string())),
        })
    }

    /// Addresses of the public port. All but the first may be missing here.
    pub fn listen_addrs(&self) -> Vec<SocketAddr> {
        self.listen.map_or_else(|| self.default_addrs(4000), |address| vec![address])
    }

    /// Addresses of the admin port. All but the first may be missing here.
    pub fn admin_addrs(&self) -> Vec<SocketAddr> {
        self.admin.map_or_else(|| self.default_addrs(9400), |address| vec![address])
    }

    /// What was asked for about shards and their descriptor tables; `named` are the connections that the configuration names.
    pub fn layout(&self, named: Option<u32>) -> Asked {
        Asked {
            shards: self.shards,
            max_connections: self.max_connections,
            wished: named,
            tables: self.descriptor_tables.into(),
        }
    }

    fn default_addrs(&self, port: u16) -> Vec<SocketAddr> {
        if self.dev {
            vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]
        } else {
            vec![everywhere(port)]
        }
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write an IP address and a port, like 127.0.0.1:4000".to_owned())
}

/// clap's message (cause, tip, usage, hint) as one line: cause and tip.
fn sentence(message: &str) -> String {
    let told = message.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let parts: Vec<&str> = told.filter(|line| !line.is_empty() && !line.starts_with("For more")).collect();
    let text = parts.join(" ");
    format!("{}; see channel-node --help", text.strip_prefix("error: ").unwrap_or(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Args, Answer> {
        Args::read(line.split(' ').map(Into::into))
    }

    fn wrong(line: &str) -> String {
        match read(line) {
            Err(Answer::Wrong(text)) => text,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn dev_listens_on_loopback_and_a_cluster_node_everywhere() {
        let dev = read("channel-node --dev").unwrap();
        let written =
            |addresses: Vec<SocketAddr>| addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(written(dev.listen_addrs()), ["127.0.0.1:4000", "[::1]:4000"]);
        assert_eq!(written(dev.admin_addrs()), ["127.0.0.1:9400", "[::1]:9400"]);
        let node = read("channel-node --config c.yaml --secrets s --admin [::1]:1").unwrap();
        assert_eq!(written(node.listen_addrs()), ["[::]:4000"]);
        assert_eq!(written(node.admin_addrs()), ["[::1]:1"]);
    }

    #[test]
    fn a_wrong_flag_is_told_in_one_sentence_with_its_remedy() {
        for (line, flag, remedy) in [
            ("channel-node --dev --listen localhost", "--listen", "like 127.0.0.1:4000"),
            ("channel-node --dev --shards 0", "--shards", "1..=128"),
            ("channel-node --dev --lisen 127.0.0.1:1", "--lisen", "--listen"),
            ("channel-node --dev --config c.yaml", "--dev", "cannot be used with"),
            ("channel-node --dev --memory-budget 64MB", "--memory-budget", "64Mi"),
            ("channel-node", "--config", "required"),
            ("channel-node --config c.yaml", "--secrets", "required"),
            ("channel-node --dev --log-format xml", "--log-format", "text, json"),
            ("channel-node --dev --tls t --tls-min-version 1.1", "--tls-min-version", "1.2, 1.3"),
            ("channel-node --dev --tls-min-version 1.2", "--tls", "required"),
            ("channel-node --dev --tls t --tls-client-certificates optional", "--tls-client-ca", "required"),
        ] {
            let text = wrong(line);
            assert!(text.contains(flag) && text.contains(remedy) && !text.contains('\n'), "{line}: {text}");
        }
    }

    #[test]
    fn help_is_not_an_error() {
        assert!(matches!(read("channel-node --help"), Err(Answer::Print(text)) if text.contains("--dev")));
    }
}
