//! The `channel-operator` program as a child process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustix::process::Signal;
use tokio::net::TcpStream;

use crate::process::Kept;
use crate::rig::free_port;

/// How long the operator's port may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// A running operator. Dropping it kills it.
pub struct Operator {
    process: Kept,
    port: u16,
    log: PathBuf,
}

impl Operator {
    /// Starts an operator that finds its API server by `kubeconfig` and leads in `namespace`, with `more` arguments.
    ///
    /// # Errors
    /// When it cannot be built or started.
    pub async fn start(kubeconfig: &Path, namespace: &str, more: &[&str]) -> Result<Self> {
        let program = tokio::task::spawn_blocking(operator_binary).await??;
        Self::start_program(&program, kubeconfig, namespace, more)
    }

    /// The same with this program.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_program(program: &Path, kubeconfig: &Path, namespace: &str, more: &[&str]) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (port, count) = (free_port()?, COUNT.fetch_add(1, Ordering::Relaxed));
        let directory = kubeconfig.parent().context("a kubeconfig lies in a directory")?;
        let log = directory.join(format!("operator-{count}.log"));
        let kubeconfig = format!("KUBECONFIG={}", kubeconfig.display());
        let mut args: Vec<String> =
            [kubeconfig.as_str(), "CHANNEL_LOG=info,kube=info"].map(Into::into).into();
        args.push(program.display().to_string());
        args.extend([
            "--node-image=channelcluster.io/channel-node:test".into(),
            "--nats-image=channelcluster.io/nats-server:test".into(),
            format!("--namespace={namespace}"),
            format!("--identity={namespace}-operator-{count}"),
            format!("--metrics-addr=127.0.0.1:{port}"),
        ]);
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        let process = Kept::start("channel-operator", Path::new("/usr/bin/env"), &args, log.clone())?;
        Ok(Self { process, port, log })
    }

    /// Its port on loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The operator's log so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Status and text of one of its paths.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        let asked = async {
            let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
            let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            let _connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
            let request = http::Request::get(path).header("host", "operator").body(Empty::<Bytes>::new())?;
            let answer = send.send_request(request).await?;
            let status = answer.status().as_u16();
            let text = answer.into_body().collect().await?.to_bytes();
            anyhow::Ok((status, String::from_utf8_lossy(&text).into_owned()))
        };
        tokio::time::timeout(ANSWER_LIMIT, asked).await.context("the operator's port does not answer")?
    }

    /// Ends it as Kubernetes does (SIGTERM).
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub async fn stop(self) -> Result<()> {
        tokio::task::spawn_blocking(move || self.process.end(Signal::TERM)).await?
    }
}

/// The `channel-operator` program, built now in the same way as the tests.
///
/// # Errors
/// When it cannot be built.
pub fn operator_binary() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let build = || -> Result<PathBuf> {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
        // It is built as by `cargo xtask test`, through a test of the operator: with other packages, or without the
        // tests' own dependencies, the libraries would have other features and everything would be built again.
        let features = ["--workspace", "--features", "node/nats-server,apiserver/apiserver"];
        cluster::run::output(cargo.args(["test", "--no-run"]).args(features).args(["--test", "operator"]))?;
        // A test's own program is in target/debug/deps.
        let own = std::env::current_exe()?;
        let target = own.ancestors().nth(2).context("a test program lies in a target directory")?;
        Ok(target.join("channel-operator"))
    };
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.clone().map_err(anyhow::Error::msg)
}
