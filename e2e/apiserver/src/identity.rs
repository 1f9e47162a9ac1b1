//! Identities of clients of the API server, each with a static token.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Namespace of the operator's service account.
pub const OPERATOR_NAMESPACE: &str = "channelcluster-system";
/// Name of the operator's service account, as the chart makes it.
pub const OPERATOR_SERVICE_ACCOUNT: &str = "channel-operator";

/// An identity that the API server knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// It may do everything, and act as any other user (`kubectl --as`).
    Admin,
    /// The operator's service account, which may do what a test binds to it.
    Operator,
    /// A user without any right.
    Nobody,
}

impl Identity {
    /// All identities.
    pub(crate) const ALL: [Self; 3] = [Self::Admin, Self::Operator, Self::Nobody];

    /// Its name for the API server.
    #[must_use]
    pub fn user(self) -> String {
        match self {
            Self::Admin => "admin".into(),
            Self::Operator => {
                format!("system:serviceaccount:{OPERATOR_NAMESPACE}:{OPERATOR_SERVICE_ACCOUNT}")
            }
            Self::Nobody => "nobody".into(),
        }
    }

    fn groups(self) -> &'static str {
        match self {
            Self::Admin => "system:masters",
            Self::Operator => "system:serviceaccounts,system:serviceaccounts:channelcluster-system",
            Self::Nobody => "",
        }
    }

    /// Its token, which is no secret: the API server listens on loopback only, holds nothing, and ends with the test.
    pub(crate) fn token(self) -> &'static str {
        match self {
            Self::Admin => "admin-token",
            Self::Operator => "operator-token",
            Self::Nobody => "nobody-token",
        }
    }

    /// Its line of the API server's token file.
    pub(crate) fn line(self) -> String {
        format!("{},{},{},\"{}\"\n", self.token(), self.user(), self.user(), self.groups())
    }
}

/// Writes a kubeconfig with one context.
pub(crate) fn write_kubeconfig(path: &Path, cluster: &Value, identity: Identity) -> Result<()> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": {"token": identity.token()}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    });
    fs::write(path, config.to_string()).with_context(|| format!("cannot write {}", path.display()))
}
