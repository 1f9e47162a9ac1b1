//! A ChannelCluster that one test has for itself, in a namespace of its own, on a running instance: `test`, unless the test
//! says another one.

use anyhow::{Context, Result, ensure};
use cluster::Instance;
use serde_json::Value;
use std::{
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};

pub mod crowd;
pub mod pair;
pub mod uneven;

/// A state that has not come after this long will not come: the test fails instead of hanging.
pub const HANG_GUARD: Duration = Duration::from_secs(120);
/// Pause between two looks at a state.
const POLL: Duration = Duration::from_millis(200);
/// For how long one late probe can change the readiness of a node: period and timeout of its readiness probe.
pub const BLIP: Duration = Duration::from_secs(3);

/// Tests that run side by side read it; a test that runs alone writes it.
static CLUSTER: RwLock<()> = RwLock::new(());

/// A test's permission to use the cluster, until the value is dropped. A thread may have only one at a time, since it
/// would wait for itself.
pub enum Turn {
    /// Other tests run at the same time; each touches only its own objects.
    Beside(RwLockReadGuard<'static, ()>),
    /// No other test of this program runs.
    Alone(RwLockWriteGuard<'static, ()>),
}

impl Turn {
    /// Waits until no test runs alone.
    #[must_use]
    pub fn beside() -> Self {
        Self::Beside(CLUSTER.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until no other test runs.
    #[must_use]
    pub fn alone() -> Self {
        Self::Alone(CLUSTER.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A ChannelCluster and its namespace; both are deleted when the value is dropped.
pub struct Fleet {
    /// The Kubernetes instance that runs it.
    pub instance: Instance,
    /// Namespace made for this fleet.
    pub namespace: String,
    /// Name of the ChannelCluster.
    pub name: String,
    /// It is dropped last, when nothing of the fleet is left.
    _turn: Turn,
}

/// A pod of a fleet as the API server knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePod {
    /// Pod name.
    pub name: String,
    /// Pod UID: tells a pod from a later one of the same name.
    pub uid: String,
    /// Pod address, empty until it has one.
    pub address: String,
    /// Whether the Ready condition holds.
    pub ready: bool,
    /// Whether the pod is being deleted.
    pub terminating: bool,
}

/// Looks at a state until `look` returns a value, and returns it with the time that this took.
///
/// # Errors
/// When the state has not come within [`HANG_GUARD`], naming `what` and the last error seen.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<(T, Duration)> {
    let start = Instant::now();
    loop {
        let seen = look();
        if let Ok(Some(value)) = seen {
            return Ok((value, start.elapsed()));
        }
        if start.elapsed() > HANG_GUARD {
            let last = seen.err().map_or_else(String::new, |error| format!("; last error: {error:#}"));
            anyhow::bail!("waited {} s in vain for: {what}{last}", HANG_GUARD.as_secs());
        }
        std::thread::sleep(POLL);
    }
}

/// A state of pods that counts only when it lasts longer than a [`BLIP`].
#[derive(Debug, Default)]
pub struct Lasting {
    since: Option<Instant>,
}

impl Lasting {
    /// Takes the answer of one look; true when the state was there in every look for [`BLIP`] or longer.
    pub fn seen(&mut self, holds: bool, now: Instant) -> bool {
        if !holds {
            self.since = None;
            return false;
        }
        now.duration_since(*self.since.get_or_insert(now)) >= BLIP
    }
}

/// Sends a signal to one process.
///
/// # Errors
/// When there is no such process.
pub fn signal(pid: i32, signal: libc::c_int) -> Result<()> {
    let pid = rustix::process::Pid::from_raw(pid).with_context(|| format!("{pid} is no process id"))?;
    let signal = rustix::process::Signal::from_named_raw(signal).context("not a signal")?;
    rustix::process::kill_process(pid, signal).with_context(|| format!("cannot signal {pid:?}"))
}

/// A process that stands still until the value is dropped.
pub struct Stopped(i32);

impl Stopped {
    /// Stops the process.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn new(pid: i32) -> Result<Self> {
        signal(pid, libc::SIGSTOP)?;
        Ok(Self(pid))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Err(error) = signal(self.0, libc::SIGCONT) {
            say::err!("process {} stays stopped: {error:#}", self.0);
        }
    }
}

fn of_the_tests() -> Result<Instance> {
    Instance::attach("test").context("start it with `cargo xtask up --instance test`")
}

impl Fleet {
    /// Makes a namespace for `test` and a ChannelCluster `chat` with `spec` (YAML or JSON, one line) in it. Other
    /// tests may run beside this one.
    ///
    /// # Errors
    /// When the `test` instance does not run or refuses the manifest.
    pub fn create(test: &str, spec: &str) -> Result<Self> {
        Self::create_in(Turn::beside(), of_the_tests()?, test, spec)
    }

    /// The same for a test that breaks or loads things that all fleets share.
    ///
    /// # Errors
    /// As [`Fleet::create`].
    pub fn create_alone(test: &str, spec: &str) -> Result<Self> {
        Self::create_in(Turn::alone(), of_the_tests()?, test, spec)
    }

    /// The same on an instance that the caller has looked for.
    ///
    /// # Errors
    /// When the instance refuses the manifest.
    pub fn create_on(instance: Instance, test: &str, spec: &str) -> Result<Self> {
        Self::create_in(Turn::alone(), instance, test, spec)
    }

    fn create_in(turn: Turn, instance: Instance, test: &str, spec: &str) -> Result<Self> {
        let namespace = format!("e2e-{test}");
        let fleet = Self { instance, namespace, name: "chat".to_owned(), _turn: turn };
        fleet.remove_namespace()?;
        fleet.instance.kubectl(["create", "namespace", &fleet.namespace])?;
        fleet.apply_spec(spec)?;
        Ok(fleet)
    }

    /// Applies the ChannelCluster with another spec.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub fn apply_spec(&self, spec: &str) -> Result<()> {
        let manifest = format!(
            "apiVersion: channelcluster.io/v1alpha1\nkind: ChannelCluster\n\
             metadata: {{name: {}, namespace: {}}}\nspec: {spec}\n",
            self.name, self.namespace
        );
        self.instance.apply(&manifest)?;
        Ok(())
    }

    /// Runs kubectl in the fleet's namespace.
    ///
    /// # Errors
    /// When kubectl fails; quotes it.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.instance.kubectl(["-n", &self.namespace].iter().chain(args))
    }

    /// The ChannelCluster as the API server has it.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn object(&self) -> Result<Value> {
        self.instance.kubectl_json(["-n", &self.namespace, "get", "channelcluster", &self.name])
    }

    /// The status of a condition (`True`, `False`, `Unknown`), and its message.
    ///
    /// # Errors
    /// When the API server does not answer or the condition is not there.
    pub fn condition(&self, kind: &str) -> Result<(String, String)> {
        let object = self.object()?;
        let conditions = object["status"]["conditions"].as_array().context("no conditions yet")?;
        let found = conditions.iter().find(|condition| condition["type"] == kind);
        let found = found.with_context(|| format!("no condition {kind} yet"))?;
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        Ok((text("status"), text("message")))
    }

    /// The node pods, oldest first.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn node_pods(&self) -> Result<Vec<NodePod>> {
        self.pods("node")
    }

    /// The running pod of the managed NATS.
    ///
    /// # Errors
    /// When the API server does not answer, or there is none that is not being deleted.
    pub fn nats_pod(&self) -> Result<NodePod> {
        let mut pods = self.pods("nats")?;
        pods.retain(|pod| !pod.terminating);
        pods.pop().context("no pod of NATS")
    }

    fn pods(&self, component: &str) -> Result<Vec<NodePod>> {
        let selector =
            format!("channelcluster.io/cluster={},app.kubernetes.io/component={component}", self.name);
        let list = self.instance.kubectl_json([
            "-n",
            &self.namespace,
            "get",
            "pods",
            "-l",
            &selector,
            "--sort-by=.metadata.creationTimestamp",
        ])?;
        let pods = list["items"].as_array().context("kubectl printed no list")?;
        Ok(pods.iter().map(NodePod::from_json).collect())
    }

    /// Waits until the fleet is Ready with exactly `nodes` Ready nodes and none that is being deleted.
    ///
    /// # Errors
    /// When that does not come within [`HANG_GUARD`].
    pub fn wait_ready(&self, nodes: usize) -> Result<(Vec<NodePod>, Duration)> {
        eventually(&format!("{} Ready with {nodes} nodes", self.namespace), || {
            let pods = self.node_pods()?;
            let settled = pods.len() == nodes && pods.iter().all(|pod| pod.ready && !pod.terminating);
            ensure!(settled, "{} node pods: {pods:?}", pods.len());
            let (status, message) = self.condition("Ready")?;
            ensure!(status == "True", "Ready is {status}: {message}");
            Ok(Some(pods))
        })
    }

    /// Process id of the program `comm` in a pod, found by the pod's UID in the control group of the process.
    ///
    /// # Errors
    /// When no such process runs.
    pub fn process_of(pod_uid: &str, comm: &str) -> Result<i32> {
        for entry in std::fs::read_dir("/proc")? {
            let path = entry?.path();
            let Some(pid) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) else { continue };
            // Processes come and go while the directory is read.
            let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
            let groups = std::fs::read_to_string(path.join("cgroup")).unwrap_or_default();
            let in_pod = groups.contains(pod_uid) || groups.contains(&pod_uid.replace('-', "_"));
            if name.trim_end() == comm && in_pod {
                return Ok(pid);
            }
        }
        anyhow::bail!("no process {comm} in the pod {pod_uid}")
    }

    /// Where stock clients connect to: the client-facing Service.
    ///
    /// # Errors
    /// As for [`Self::service_address`].
    pub fn socket_url(&self) -> Result<String> {
        Ok(format!("ws://{}/socket", self.service_address()?))
    }

    /// Cluster address of the client-facing Service.
    ///
    /// # Errors
    /// When there is no such Service yet.
    pub fn service_address(&self) -> Result<String> {
        self.instance.service_address(&self.namespace, &self.name)
    }

    /// The fleet is deleted before the namespace, and with it its pods: when Kubernetes finds pods in a namespace
    /// that it deletes, it waits for half of their grace period (minutes, for nodes that drain) before it looks
    /// again.
    fn remove_namespace(&self) -> Result<()> {
        let all = ["channelcluster", "--all", "--cascade=foreground", "--wait=true", "--timeout=120s"];
        self.kubectl(&[&["delete"], all.as_slice()].concat())?;
        self.instance.kubectl([
            "delete",
            "namespace",
            &self.namespace,
            "--ignore-not-found",
            "--wait=true",
            "--timeout=120s",
        ])?;
        Ok(())
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = crate::report::directory().join("logs").join(&self.namespace);
            if let Err(error) = self.instance.collect_logs(&logs) {
                say::err!("could not keep the logs: {error:#}");
            }
            say::err!("the logs of this failure are in {}", logs.display());
        }
        if let Err(error) = self.remove_namespace() {
            say::err!("{} stays behind: {error:#}", self.namespace);
        }
    }
}

impl NodePod {
    fn from_json(pod: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let ready = pod["status"]["conditions"]
            .as_array()
            .is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"));
        Self {
            name: text(&pod["metadata"]["name"]),
            uid: text(&pod["metadata"]["uid"]),
            address: text(&pod["status"]["podIP"]),
            ready,
            terminating: pod["metadata"]["deletionTimestamp"].is_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_look_and_a_blip_are_no_lasting_state() {
        let (start, mut out) = (Instant::now(), Lasting::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!out.seen(true, at(0)) && !out.seen(true, at(2)) && !out.seen(false, at(4)));
        assert!(!out.seen(true, at(5)), "it begins anew after a look at which it did not hold");
        assert!(out.seen(true, at(8)));
    }

    #[test]
    fn a_pod_is_read_from_what_kubectl_prints() {
        let pod = serde_json::json!({
            "metadata": {"name": "a", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
        });
        let expected = NodePod {
            name: "a".into(),
            uid: "u".into(),
            address: "10.0.0.1".into(),
            ready: true,
            terminating: true,
        };
        assert_eq!(NodePod::from_json(&pod), expected);
    }
}
