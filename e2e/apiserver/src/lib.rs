//! A real API server for tests that need no kubelet: etcd and kube-apiserver on loopback, with our CRD.
//!
//! It starts in about 10 s from the one Kubernetes binary of the cache (built on first use), needs no root, and any
//! number can run side by side. These parts are real: storage, validation and CEL, defaulting, server-side apply and
//! field ownership, dry runs, RBAC, Pod Security admission, watches and their bookmarks. These are missing: nobody
//! schedules or runs pods, makes service accounts, or counts quota. With [`ApiServer::start_controllers`] the
//! controllers of Deployments, ReplicaSets, garbage collection, namespaces and quota run too, and pods stay Pending.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use apiserver::{ApiServer, Faults, Identity, Traffic};
//!
//! // One for all tests of a file, each in a namespace of its own:
//! let server = ApiServer::shared().await;
//! let namespace = server.namespace("apply").await?;
//! let client = server.client(Identity::Admin)?;
//! let printed = server.kubectl(&["get", "channelclusters", "-A"], "").await?;
//!
//! // One of its own, for a test that ends it, or that breaks the way to it:
//! let mut server = ApiServer::start().await?;
//! server.kill().await?;
//! server.resume().await?; // same data, same port
//! let proxy = server.proxy().await?;
//! let client = proxy.client(Identity::Operator)?; // everything it says passes the proxy
//! proxy.set(Faults { silent: Some(Traffic::Watches), ..Faults::default() });
//! proxy.reset();
//! # Ok(()) }
//! ```
//!
//! The tests are modules of `e2e/apiserver/tests/apiserver/main.rs` and run by `cargo test -p apiserver --features
//! apiserver --test apiserver NAME`. They may use the `operator` library ([`Operator`] is the program).
//! All processes end with the value, and with the test's process however that ends.

mod identity;
mod operator;
mod process;
mod proxy;
mod rig;
pub mod size;

pub use identity::{Identity, OPERATOR_NAMESPACE, OPERATOR_SERVICE_ACCOUNT};
pub use operator::{Operator, operator_binary};
pub use proxy::{Faults, Proxy, Traffic};
pub use rig::ApiServer;
