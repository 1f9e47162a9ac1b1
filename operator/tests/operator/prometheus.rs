//! The client of a Prometheus: against a real one that scrapes three pods, with TLS, certificates and passwords, and
//! against servers that are slow, foreign, or want something else.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use crds::ChannelCluster;
use operator::clock;
use operator::source::{Prometheus, Source};
use operator_core::source::{Figures, PrometheusSource};
use operator_core::validate::{Credentials, Fetched, validate};
use serde_json::{Value, json};

use crate::support::{Server, cluster, env};

/// Debian's package `prometheus`.
const PROMETHEUS: &str = "/usr/bin/prometheus";
/// A test that has not seen what it waits for by then has failed.
const HANG: Duration = Duration::from_secs(120);
/// `a word`, as bcrypt has it.
const HASH: &str = "$2b$04$abcdefghijklmnopqrstuu/qSG9c0HVQippoqbKMb4lHOJNm60F/q";

/// A directory for the files of one test.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("channel-operator-{name}-{}", std::process::id()));
        std::fs::remove_dir_all(&path).ok();
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.0.join(name), text).unwrap();
        self.0.join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap()
    }

    fn openssl(&self, line: &str) {
        let args = line.split_whitespace();
        let done =
            Command::new("openssl").args(args).current_dir(&self.0).output().expect("openssl is installed");
        assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// An authority, a server's certificate of it for loopback, and a client's.
    fn certificates(&self) {
        const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        self.openssl(&format!("req -x509 {KEY} -keyout ca.key -out ca.crt -subj /CN=authority -days 2"));
        self.write("server.ext", "subjectAltName=IP:127.0.0.1\n");
        self.write("client.ext", "extendedKeyUsage=clientAuth\n");
        for name in ["server", "client"] {
            self.openssl(&format!("req {KEY} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
            self.openssl(&format!(
                "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out {name}.crt -days 2 -extfile {name}.ext"
            ));
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Starts a server and gives its address.
async fn serve(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

/// A node's metrics: its writes are 1,000 a second.
async fn metrics(State((start, up)): State<(Instant, Arc<AtomicBool>)>) -> Result<String, StatusCode> {
    if !up.load(Ordering::Relaxed) {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    let writes = start.elapsed().as_millis();
    Ok(format!("channelcluster_node_writes_total {writes}\nchannelcluster_node_connections 7\n"))
}

/// A real Prometheus that scrapes two nodes of a fleet and one of another each second.
struct Real {
    process: Child,
    address: SocketAddr,
    up: Arc<AtomicBool>,
}

impl Drop for Real {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Real {
    async fn start(files: &Files, web: &str) -> Self {
        let up = Arc::new(AtomicBool::new(true));
        let nodes = Router::new().route("/metrics", get(metrics)).with_state((Instant::now(), up.clone()));
        let nodes = serve(nodes).await;
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let target = |address: SocketAddr, namespace: &str, pod: &str| json!({"targets": [address.to_string()], "labels": {"namespace": namespace, "pod": pod}});
        let targets = [
            target(nodes, "default", "chat-node-a"),
            target(nodes, "default", "chat-node-b"),
            target(nobody, "default", "chat-node-c"),
            target(nodes, "default", "other-node-a"),
            target(nodes, "elsewhere", "chat-node-d"),
        ];
        let config = json!({
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [{"job_name": "nodes", "static_configs": targets}],
        });
        let config = files.write("prometheus.yaml", &config.to_string());
        let web = files.write("web.yaml", web);
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
        let log = std::fs::File::create(files.0.join("prometheus.log")).unwrap();
        let process = Command::new(PROMETHEUS)
            .arg(flag("config.file", &config))
            .arg(flag("web.config.file", &web))
            .arg(flag("storage.tsdb.path", &files.0.join("data")))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the Debian package prometheus is installed");
        Self { process, address, up }
    }

    fn stop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// The source of a manifest's `prometheus`, with everything that validation does to it.
fn source(prometheus: &Value, secrets: &[&str]) -> PrometheusSource {
    let autoscaling = json!({"metrics": {"source": "Prometheus", "prometheus": prometheus}});
    let cluster: ChannelCluster = cluster(&json!({"autoscaling": autoscaling}));
    let keys = ["token", "username", "password", "tls.crt", "tls.key", "ca.crt"].map(str::to_owned).into();
    let all = Credentials { keys, labelled: true, servers: None };
    let named_secrets = secrets.iter().map(|name| ((*name).to_owned(), all.clone())).collect();
    let fetched = Fetched { named_secrets, ..Fetched::default() };
    validate(&cluster, &env(), &fetched).unwrap().prometheus.unwrap()
}

fn put_secret(server: &Server, name: &str, data: &Value) {
    let object = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": name, "namespace": "default", "labels": {"channelcluster.io/credentials": "true"}},
        "stringData": {}, "data": data,
    });
    server.put(&format!("/api/v1/namespaces/default/secrets/{name}"), object);
}

/// A text as the data of a Secret.
fn text(text: &str) -> Value {
    use base64::Engine;
    json!(base64::engine::general_purpose::STANDARD.encode(text))
}

/// Asks until the answer is as wanted.
async fn until<T>(
    prometheus: &mut Prometheus,
    server: &Server,
    source: &PrometheusSource,
    wanted: impl Fn(&Result<Figures, String>) -> Option<T>,
) -> T {
    let started = Instant::now();
    let client = server.client();
    loop {
        let asked = prometheus.ask(&client, "default").await;
        let figures = asked.map(|answers| source.figures(&answers, clock::now()));
        if let Some(found) = wanted(&figures) {
            return found;
        }
        assert!(started.elapsed() < HANG, "last: {figures:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The source that asks a real one, with these credentials, TLS and further fields.
fn of(real: &Real, login: &str, tls: &Value, more: &Value) -> PrometheusSource {
    let mut all = json!({
        "url": format!("https://{}/", real.address), "scrapeInterval": "1s", "tls": tls,
        "auth": {"basicSecretRef": {"name": login}},
    });
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    source(&all, &["ca", "own", "login", "wrong"])
}

/// The TLS of a manifest, with the authorities and the operator's certificate.
fn tls() -> Value {
    json!({"caSecretRef": {"name": "ca", "key": "ca.crt"}, "certSecretRef": {"name": "own"}})
}

/// A Prometheus that asks for a certificate and a password, and the Secrets with those.
async fn guarded(files: &Files) -> (Real, Server) {
    files.certificates();
    let web = json!({
        "tls_server_config": {"cert_file": "server.crt", "key_file": "server.key", "client_ca_file": "ca.crt",
            "client_auth_type": "RequireAndVerifyClientCert"},
        "basic_auth_users": {"operator": HASH},
    });
    let real = Real::start(files, &web.to_string()).await;
    let server = Server::default();
    let (ca, crt, key) = (files.read("ca.crt"), files.read("client.crt"), files.read("client.key"));
    put_secret(&server, "ca", &json!({"ca.crt": text(&ca)}));
    put_secret(&server, "own", &json!({"tls.crt": text(&crt), "tls.key": text(&key)}));
    put_secret(&server, "login", &json!({"username": text("operator"), "password": text("a word\n")}));
    put_secret(&server, "wrong", &json!({"username": text("operator"), "password": text("another")}));
    (real, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_gives_the_figures_of_the_pods_that_it_scrapes() {
    let files = Files::new("prometheus");
    let (mut real, server) = guarded(&files).await;
    let good = of(&real, "login", &tls(), &json!({}));
    let mut prometheus = Prometheus::new(good.clone());
    let now = clock::now;
    let figures = until(&mut prometheus, &server, &good, |had| {
        let figures = had.as_ref().ok()?;
        ["chat-node-a", "chat-node-b"].iter().all(|pod| figures.knows(pod, now())).then(|| figures.clone())
    })
    .await;
    for pod in ["chat-node-c", "other-node-a", "chat-node-d"] {
        assert!(!figures.knows(pod, now()), "{pod}: {figures:?}");
    }
    let answers = prometheus.ask(&server.client(), "default").await.unwrap();
    let rate = answers.writes.pods["chat-node-a"].unwrap();
    assert!((100.0..10_000.0).contains(&rate), "1,000 writes/s are shown as {rate}");
    assert_eq!(answers.connections.pods["chat-node-b"], Some(7.0));
    println!("1,000 writes/s are shown as {rate}");

    what_it_refuses_is_told(&real, &server).await;
    let empty = of(&real, "login", &tls(), &json!({"query": "channelcluster_node_nothing"}));
    let answers = Prometheus::new(empty.clone()).ask(&server.client(), "default").await.unwrap();
    assert!(!empty.figures(&answers, now()).knows("chat-node-a", now()), "an empty answer is not zero");

    // The nodes answer it no more: what it says becomes old, and is not said to be zero.
    real.up.store(false, Ordering::Relaxed);
    until(&mut prometheus, &server, &good, |had| {
        (!had.as_ref().ok()?.knows("chat-node-a", now())).then_some(())
    })
    .await;
    real.stop();
    let gone = until(&mut prometheus, &server, &good, |had| had.as_ref().err().cloned()).await;
    assert!(gone.starts_with("it cannot be reached: "), "{gone}");
}

async fn what_it_refuses_is_told(real: &Real, server: &Server) {
    let (whole, none) = (tls(), json!({}));
    let only = |field: &str| json!({field: whole[field]});
    let query = |field: &str, query: &str| json!({field: query});
    let both = r#"{__name__=~"channelcluster_node_.+", pod="chat-node-a"}"#;
    for (login, tls, more, wanted) in [
        ("wrong", whole.clone(), none.clone(), "it answers 401: correct the credentials"),
        ("login", only("caSecretRef"), none.clone(), "it cannot be reached: received fatal alert"),
        ("login", only("certSecretRef"), none.clone(), "it cannot be reached: invalid peer certificate"),
        (
            "login",
            whole.clone(),
            query("query", "sum("),
            "query: it answers 400: invalid parameter \"query\"",
        ),
        (
            "login",
            whole.clone(),
            query("connectionsQuery", "vector(1)"),
            "connectionsQuery: the query gives samples without the label pod",
        ),
        (
            "login",
            whole.clone(),
            query("timestampQuery", "time()"),
            "timestampQuery: the query gives a scalar",
        ),
        (
            "login",
            whole.clone(),
            query("query", both),
            "query: the query gives several samples of pod chat-node-a",
        ),
    ] {
        let mut prometheus = Prometheus::new(of(real, login, &tls, &more));
        let refused = prometheus.ask(&server.client(), "default").await.unwrap_err();
        assert!(refused.contains(wanted), "wanted {wanted:?}: {refused}");
    }
}

/// An answer with one pod.
fn answer() -> String {
    let sample = json!({"metric": {"pod": "chat-node-a"}, "value": [1, "1"]});
    json!({"status": "success", "data": {"resultType": "vector", "result": [sample]}}).to_string()
}

async fn with_token(State(token): State<Arc<AtomicU64>>, headers: HeaderMap) -> Result<String, StatusCode> {
    let wanted = format!("Bearer token-{}", token.load(Ordering::Relaxed));
    let shown = headers.get(header::AUTHORIZATION).is_some_and(|value| *value == wanted);
    if shown { Ok(answer()) } else { Err(StatusCode::UNAUTHORIZED) }
}

#[tokio::test]
async fn a_token_that_is_refused_is_read_again() {
    let token = Arc::new(AtomicU64::new(1));
    let router = Router::new().route("/base/api/v1/query", get(with_token)).with_state(token.clone());
    let address = serve(router).await;
    let server = Server::default();
    put_secret(&server, "token", &json!({"token": text("token-1\n")}));
    let auth = json!({"bearerSecretRef": {"name": "token", "key": "token"}});
    let source = source(&json!({"url": format!("http://{address}/base"), "auth": auth}), &["token"]);
    let mut prometheus = Prometheus::new(source);
    let client = server.client();
    prometheus.ask(&client, "default").await.unwrap();
    prometheus.ask(&client, "default").await.unwrap();
    assert_eq!(server.reads().len(), 1, "the Secret is not read at each query");
    token.store(2, Ordering::Relaxed);
    put_secret(&server, "token", &json!({"token": text("token-2")}));
    assert!(prometheus.ask(&client, "default").await.unwrap_err().contains("it answers 401"));
    prometheus.ask(&client, "default").await.unwrap();
    // A Secret that does not agree any more is not shown.
    token.store(3, Ordering::Relaxed);
    server.edit("/api/v1/namespaces/default/secrets/token", &json!({"metadata": {"labels": null}}));
    prometheus.ask(&client, "default").await.unwrap_err();
    let said = prometheus.ask(&client, "default").await.unwrap_err();
    assert!(said.contains("has lost the label channelcluster.io/credentials=true"), "{said}");
    assert!(!said.contains("token-"), "{said}");
}

#[tokio::test]
async fn a_server_that_is_slow_long_or_another_costs_one_sentence() {
    let thief = Arc::new(AtomicU64::new(0));
    let stolen = thief.clone();
    let steal = move || async move {
        stolen.fetch_add(1, Ordering::Relaxed);
        answer()
    };
    let other = serve(Router::new().route("/api/v1/query", get(steal))).await;
    let elsewhere = move || async move {
        (StatusCode::FOUND, [(header::LOCATION, format!("http://{other}/api/v1/query"))]).into_response()
    };
    let router = Router::new()
        .route("/slow/api/v1/query", get(std::future::pending::<String>))
        .route("/long/api/v1/query", get(|| async { "x".repeat(5 << 20) }))
        .route("/page/api/v1/query", get(|| async { "<html>" }))
        .route("/moved/api/v1/query", get(elsewhere));
    let address = serve(router).await;
    let server = Server::default();
    for (path, wanted) in [
        ("slow", "no answer within 300 ms"),
        ("long", "is longer than 4194304 bytes"),
        ("page", "its answer (200) is none of a Prometheus"),
        ("moved", "its answer (302) is none of a Prometheus"),
        ("", "its answer (404) is none of a Prometheus"),
    ] {
        // The server shares the machine with the client, so that only the slow one gets little time.
        let timeout = if path == "slow" { "300ms" } else { "30s" };
        let source = source(&json!({"url": format!("http://{address}/{path}"), "timeout": timeout}), &[]);
        let said = Prometheus::new(source).ask(&server.client(), "default").await.unwrap_err();
        assert!(said.contains(wanted), "{path}: {said}");
    }
    assert_eq!(thief.load(Ordering::Relaxed), 0, "a redirect is not followed");
}

#[tokio::test]
async fn the_loop_of_a_fleet_asks_beside_its_looks_and_stops_when_the_source_is_another() {
    let asked = Arc::new(AtomicU64::new(0));
    let count = asked.clone();
    let counted = move || async move {
        count.fetch_add(1, Ordering::Relaxed);
        answer()
    };
    let address = serve(Router::new().route("/api/v1/query", get(counted))).await;
    let shared = Arc::new(Server::default().shared());
    let wanted = source(&json!({"url": format!("http://{address}")}), &[]);
    let mut source = Source::default();
    assert_eq!(source.figures(), None);
    source.want(&shared, "default", Some(&wanted));
    let started = Instant::now();
    while !source.figures().unwrap().knows("chat-node-a", clock::now()) {
        assert!(started.elapsed() < HANG, "{:?}", source.figures());
        source.want(&shared, "default", Some(&wanted)); // as each look does
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((shared.metrics.queries.get(), shared.metrics.query_failures.get()), (1, 0));
    assert_eq!(asked.load(Ordering::Relaxed), 3, "three queries");
    source.want(&shared, "default", None);
    assert_eq!(source.figures(), None);
}
