//! An API server in memory: it answers reads with recorded objects, and keeps what it was asked.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use clap::Parser;
use crds::CapacityStatus;
use http::{Request, Response};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use kubectl_channels::args::{Args, Command};
use kubectl_channels::connect::Place;
use kubectl_channels::{plan, simulate};
use serde_json::{Value, json};

/// Where ChannelClusters of the namespace `default` are.
pub(crate) const FLEETS: &str = "/apis/channelcluster.io/v1alpha1/namespaces/default/channelclusters";
/// Two minutes after the times of the recorded objects, 2026-11-29T10:00:00Z.
pub(crate) const NOW: u64 = 1_795_946_520_000;

/// The server.
#[derive(Clone, Default)]
pub(crate) struct Server {
    answers: Arc<Mutex<BTreeMap<String, (u16, String)>>>,
    asked: Arc<Mutex<Vec<(String, String, Value)>>>,
}

impl Server {
    /// One with these objects of the namespace `default`, by the names of their fixtures.
    pub(crate) fn with(fixtures: &[&str]) -> Self {
        let server = Self::default();
        let objects: Vec<Value> = fixtures.iter().map(|name| fixture(name)).collect();
        for object in &objects {
            let name = object["metadata"]["name"].as_str().unwrap();
            server.put(&format!("{FLEETS}/{name}"), object);
        }
        let list = json!({
            "apiVersion": "channelcluster.io/v1alpha1", "kind": "ChannelClusterList", "metadata": {}, "items": objects,
        });
        server.put(FLEETS, &list);
        server.put("/apis/channelcluster.io/v1alpha1/channelclusters", &list);
        server
    }

    /// Answers this path with this object from now on.
    pub(crate) fn put(&self, path: &str, object: &Value) {
        self.say(path, 200, &object.to_string());
    }

    /// Answers this path with this text.
    pub(crate) fn say(&self, path: &str, code: u16, text: &str) {
        self.answers.lock().unwrap().insert(path.to_owned(), (code, text.to_owned()));
    }

    /// The requests with a body so far: method, path and body.
    pub(crate) fn asked(&self) -> Vec<(String, String, Value)> {
        self.asked.lock().unwrap().clone()
    }

    /// A client of it, in the namespace `default`.
    pub(crate) fn place(&self) -> Place {
        Place { client: Client::new(self.clone(), "default"), namespace: "default".to_owned() }
    }
}

impl tower::Service<Request<Body>> for Server {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default();
        let token = query.split('&').find_map(|pair| pair.strip_prefix("continue="));
        let page = token.map_or_else(|| path.clone(), |token| format!("{path}?{token}"));
        let (code, text) = self.answers.lock().unwrap().get(&page).cloned().unwrap_or_else(|| {
            let message = format!("{path} not found");
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
                "reason": "NotFound", "code": 404,
            });
            (404, status.to_string())
        });
        let asked = self.asked.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            if let Ok(body) = serde_json::from_slice(&body) {
                asked.lock().unwrap().push((parts.method.to_string(), path, body));
            }
            Ok(Response::builder().status(code).body(Body::from(text.into_bytes())).unwrap())
        })
    }
}

/// What a status may know of the nodes of a fleet.
pub(crate) fn known() -> CapacityStatus {
    let writes = json!({
        "estimate": 6_000, "confidence": "High", "reason": "much evidence", "evidence": 6_100, "weightMillis": 90_000,
        "observedAt": "2026-11-29T10:00:00Z", "messageBytes": 120, "deliveries": 40,
    });
    let connections = json!({
        "estimate": 1_500, "confidence": "Medium", "reason": "nodes differ", "memoryLimit": 512 << 20, "memoryHolds": 20_100,
        "descriptorsHold": 1_500, "bytesPerConnection": 4_944, "evidence": 4_800, "weightMillis": 90_000,
        "observedAt": "2026-11-29T10:00:00Z",
    });
    serde_json::from_value(json!({"writesPerSecond": writes, "connections": connections})).unwrap()
}

/// A recorded object.
pub(crate) fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// What a command line prints, and its exit code.
pub(crate) async fn run(server: &Server, line: &str) -> anyhow::Result<(u8, String)> {
    let args = Args::try_parse_from(["kubectl-channels"].into_iter().chain(line.split_whitespace()))?;
    let mut place = server.place();
    if let Some(namespace) = &args.target.namespace {
        place.namespace.clone_from(namespace);
    }
    let mut out = Vec::new();
    let code = match &args.command {
        Command::Plan(wanted) => plan::run(wanted, &mut out)?,
        Command::Simulate(wanted) => simulate::run(wanted, &mut out)?,
        Command::Cluster(command) => {
            Box::pin(kubectl_channels::ask(command, &place, NOW, false, &mut out)).await?
        }
        other => panic!("{other:?} needs no server"),
    };
    Ok((code, String::from_utf8(out)?))
}

/// What a command line prints that must work.
pub(crate) async fn printed(server: &Server, line: &str) -> String {
    let (code, text) = Box::pin(run(server, line)).await.unwrap_or_else(|error| panic!("{line}: {error:#}"));
    assert_eq!(code, 0, "{line}: {text}");
    text
}

/// A text in a file of its own; removed when dropped.
pub(crate) struct Written(pub(crate) PathBuf);

impl Written {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("channels-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> std::path::Display<'_> {
        self.0.display()
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}
