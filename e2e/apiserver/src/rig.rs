//! etcd and kube-apiserver as two child processes in a directory of their own.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cluster::Tool;
use cluster::run::{self, Progress};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams, PostParams};
use kube::{Client, Config};
use rustix::process::Signal;
use serde_json::json;
use tokio::sync::OnceCell;

use crate::identity::{Identity, write_kubeconfig};
use crate::process::Kept;
use crate::proxy::Proxy;

/// How long a component may take to answer.
const COMPONENT_LIMIT: Duration = Duration::from_secs(120);
/// Pause between looks.
const POLL: Duration = Duration::from_millis(100);
/// Ports are taken from here, below those that the kernel gives to outgoing connections (32768 and more): while the
/// API server is down, an outgoing connection to its port could otherwise get that very port as its own, and connect
/// to itself.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// How many sets of ports are tried, since another program may take one between the look and the start.
const ATTEMPTS: usize = 3;
/// The beginning of the directories' names; the number of the process that uses it, and a count, follow.
const DIRECTORY: &str = "channelcluster-apiserver";

/// A running API server with its etcd. Dropping it ends both and removes their data.
pub struct ApiServer {
    directory: PathBuf,
    kube: PathBuf,
    api_port: u16,
    controllers: Option<Kept>,
    api: Option<Kept>,
    // It is dropped after the API server, which would wait for it.
    _etcd: Kept,
}

impl ApiServer {
    /// The API server that the tests of this process share. It stays until the process ends, so no test may end it.
    ///
    /// # Panics
    /// When it cannot be started.
    #[allow(clippy::expect_used, reason = "only tests call it, and none can go on")]
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<ApiServer> = OnceCell::const_new();
        SHARED.get_or_init(|| async { Self::start().await.expect("an API server") }).await
    }

    /// Starts an API server with our CRD.
    ///
    /// # Errors
    /// When a component does not come up; quotes its log.
    pub async fn start() -> Result<Self> {
        sweep();
        let kube = tokio::task::spawn_blocking(|| Tool::Kube.ready(&Progress::new())).await??;
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match Self::attempt(kube.clone()).await {
                Ok(server) => return Ok(server),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no attempt was made")?)
    }

    async fn attempt(kube: PathBuf) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("{DIRECTORY}-{}-{count}", std::process::id()));
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let started = Self::start_in(directory.clone(), kube).await;
        if started.is_err() {
            fs::remove_dir_all(&directory).ok();
        }
        started
    }

    async fn start_in(directory: PathBuf, kube: PathBuf) -> Result<Self> {
        let (etcd_port, peer_port, api_port) = (free_port()?, free_port()?, free_port()?);
        let pki = directory.join("pki");
        fs::create_dir_all(&pki)?;
        fs::write(pki.join("tokens.csv"), Identity::ALL.map(Identity::line).concat())?;
        let mut openssl = Command::new("openssl");
        openssl.args(["genrsa", "-out", "service-account.key", "2048"]).current_dir(&pki);
        run::output(&mut openssl)?;
        let etcd = Kept::start(
            "etcd",
            &kube,
            &etcd_flags(&directory, etcd_port, peer_port),
            directory.join("etcd.log"),
        )?;
        fs::write(directory.join("etcd-port"), etcd_port.to_string())?;
        let mut server = Self { directory, kube, api_port, controllers: None, api: None, _etcd: etcd };
        server.resume().await?;
        for identity in Identity::ALL {
            server.write_kubeconfig(&server.kubeconfig(identity), &server.url(), identity)?;
        }
        server.install_crd().await?;
        Ok(server)
    }

    /// Starts the API server again after [`Self::kill`] or [`Self::stop`], on the same data and port, and waits until
    /// it is ready.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn resume(&mut self) -> Result<()> {
        self.spawn()?;
        self.ready().await
    }

    /// The same without the wait.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&mut self) -> Result<()> {
        if let Some(api) = &self.api {
            return api.check();
        }
        let flags = self.flags()?;
        self.api = Some(Kept::start("kube-apiserver", &self.kube, &flags, self.log())?);
        Ok(())
    }

    /// Waits until the API server says that it is ready.
    ///
    /// # Errors
    /// When it ends, or is not ready in time.
    pub async fn ready(&self) -> Result<()> {
        let started = Instant::now();
        loop {
            self.api.as_ref().context("the API server was ended")?.check()?;
            let last = match self.client(Identity::Admin) {
                Ok(client) => {
                    let request = http::Request::get("/readyz").body(Vec::new())?;
                    match tokio::time::timeout(Duration::from_secs(5), client.request_text(request)).await {
                        Ok(Ok(_)) => return Ok(()),
                        Ok(Err(error)) => error.to_string(),
                        Err(_) => "no answer".into(),
                    }
                }
                // The API server makes its certificate when it starts, so it may not be there yet.
                Err(error) => format!("{error:#}"),
            };
            if started.elapsed() > COMPONENT_LIMIT {
                bail!("the API server is not ready: {last}; it says:\n{}", run::tail(&self.log()));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Ends the API server as a crash does (SIGKILL); etcd stays.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub async fn kill(&mut self) -> Result<()> {
        self.end(Signal::KILL).await
    }

    /// Ends the API server as an upgrade does (SIGTERM); etcd stays.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub async fn stop(&mut self) -> Result<()> {
        self.end(Signal::TERM).await
    }

    async fn end(&mut self, signal: Signal) -> Result<()> {
        let Some(api) = self.api.take() else { return Ok(()) };
        tokio::task::spawn_blocking(move || api.end(signal)).await?
    }

    /// Starts kube-controller-manager: then Deployments get ReplicaSets and Pods (which stay Pending), the objects of
    /// a deleted owner are deleted, namespaces are deleted, and quota is counted.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_controllers(&mut self) -> Result<()> {
        let pki = self.directory.join("pki");
        let flags = [
            "kube-controller-manager".into(),
            format!("--kubeconfig={}", self.kubeconfig(Identity::Admin).display()),
            "--secure-port=0".into(),
            "--leader-elect=false".into(),
            format!("--service-account-private-key-file={}", pki.join("service-account.key").display()),
            format!("--root-ca-file={}", pki.join("apiserver.crt").display()),
        ];
        let log = self.directory.join("kube-controller-manager.log");
        self.controllers = Some(Kept::start("kube-controller-manager", &self.kube, &flags, log)?);
        Ok(())
    }

    /// A proxy before this API server.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn proxy(&self) -> Result<Proxy> {
        Proxy::start(self.anonymous()?, self.directory.clone()).await
    }

    /// A client that asks the API server directly.
    ///
    /// # Errors
    /// When the API server was never started.
    pub fn client(&self, identity: Identity) -> Result<Client> {
        Ok(Client::try_from(self.config(identity)?)?)
    }

    /// The configuration of such a client.
    ///
    /// # Errors
    /// When the API server was never started.
    pub fn config(&self, identity: Identity) -> Result<Config> {
        let mut config = self.anonymous()?;
        config.auth_info.token = Some(identity.token().to_owned().into());
        Ok(config)
    }

    fn anonymous(&self) -> Result<Config> {
        let mut config = Config::new(self.url().parse()?);
        let authority = self.directory.join("pki/apiserver.crt");
        fs::metadata(&authority).context("no certificate yet")?;
        config.root_cert_file = Some(authority);
        config.default_namespace = "default".into();
        Ok(config)
    }

    /// Kubeconfig of an identity, for programs.
    #[must_use]
    pub fn kubeconfig(&self, identity: Identity) -> PathBuf {
        self.directory.join(format!("{identity:?}.kubeconfig"))
    }

    fn write_kubeconfig(&self, path: &Path, url: &str, identity: Identity) -> Result<()> {
        let authority = self.directory.join("pki/apiserver.crt");
        let cluster = json!({"server": url, "certificate-authority": authority});
        write_kubeconfig(path, &cluster, identity)
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.api_port)
    }

    fn log(&self) -> PathBuf {
        self.directory.join("kube-apiserver.log")
    }

    /// Runs kubectl as the administrator, with `input` (up to 64 KiB) on its standard input, and returns its output.
    ///
    /// # Errors
    /// When it fails; quotes what it said.
    pub async fn kubectl(&self, args: &[&str], input: &str) -> Result<String> {
        let mut command = run::tied(&self.kube);
        command.arg("kubectl").arg("--kubeconfig").arg(self.kubeconfig(Identity::Admin)).args(args);
        command.env("HOME", &self.directory);
        let input = input.to_owned();
        tokio::task::spawn_blocking(move || run::output_given(&mut command, &input)).await?
    }

    /// Makes a namespace whose name begins with `prefix`.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn namespace(&self, prefix: &str) -> Result<String> {
        let name = format!("{prefix}-{:08x}", rand::random::<u32>());
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        Api::all(self.client(Identity::Admin)?).create(&PostParams::default(), &namespace).await?;
        Ok(name)
    }

    /// Installs our CRD, and waits until its objects are served.
    async fn install_crd(&self) -> Result<()> {
        let client = self.client(Identity::Admin)?;
        let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
        crds.create(&PostParams::default(), &crds::crd()?).await.context("the API server refuses our CRD")?;
        let clusters: Api<crds::ChannelCluster> = Api::all(client);
        let started = Instant::now();
        while let Err(error) = clusters.list(&ListParams::default()).await {
            if started.elapsed() > COMPONENT_LIMIT {
                return Err(error).context("ChannelClusters are not served");
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    fn flags(&self) -> Result<Vec<String>> {
        let pki = self.directory.join("pki");
        let pki = pki.display();
        let etcd = fs::read_to_string(self.directory.join("etcd-port"))?;
        Ok(vec![
            "kube-apiserver".into(),
            format!("--etcd-servers=http://127.0.0.1:{etcd}"),
            "--bind-address=127.0.0.1".into(),
            "--advertise-address=127.0.0.1".into(),
            // The Service of the API server itself may not have a loopback address, and no test asks it.
            "--endpoint-reconciler-type=none".into(),
            format!("--secure-port={}", self.api_port),
            // The API server makes apiserver.crt there by itself.
            format!("--cert-dir={pki}"),
            format!("--token-auth-file={pki}/tokens.csv"),
            "--authorization-mode=RBAC".into(),
            // No controller makes the service accounts that this plugin would ask for.
            "--disable-admission-plugins=ServiceAccount".into(),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            format!("--service-account-key-file={pki}/service-account.key"),
            format!("--service-account-signing-key-file={pki}/service-account.key"),
            "--service-cluster-ip-range=10.0.0.0/16".into(),
            "--allow-privileged=true".into(),
            "--profiling=false".into(),
        ])
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        drop((self.controllers.take(), self.api.take()));
        fs::remove_dir_all(&self.directory).ok();
    }
}

fn etcd_flags(directory: &Path, port: u16, peers: u16) -> Vec<String> {
    let (own, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peers}"));
    vec![
        "etcd".into(),
        format!("--data-dir={}", directory.join("etcd").display()),
        format!("--listen-client-urls={own}"),
        format!("--advertise-client-urls={own}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        // The data is thrown away with the test, so a disk flush would be for nothing.
        "--unsafe-no-fsync".into(),
        "--log-level=warn".into(),
    ]
}

pub(crate) fn free_port() -> Result<u16> {
    for _ in 0..100 {
        let port = rand::random_range(PORTS);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("found no free port in {PORTS:?}")
}

/// Removes directories of test processes that are gone.
fn sweep() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(DIRECTORY)) else { continue };
        let Some(pid) = rest.split('-').nth(1).and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        if !Path::new("/proc").join(pid.to_string()).exists() {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}
