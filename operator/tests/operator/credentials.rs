//! The operator reads of the Secret that a ChannelCluster names whether it agrees, and never its values.

use crate::support::{Server, cluster};
use operator::fetch::fetch;
use operator_core::validate::{Credentials, Fetched};
use serde_json::{Value, json};

async fn fetched(metadata: &Value) -> Fetched {
    let server = Server::default();
    let mut object = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine", "namespace": "default"},
        "data": {"username": "dQ==", "password": "cA=="},
    });
    for (key, value) in metadata.as_object().unwrap() {
        object["metadata"][key] = value.clone();
    }
    server.put("/api/v1/namespaces/default/secrets/mine", object);
    let backplane =
        json!({"type": "Nats", "urls": ["nats://a:4222"], "credentialsSecretRef": {"name": "mine"}});
    fetch(&server.shared(), &cluster(&json!({"backplane": backplane}))).await.unwrap()
}

#[tokio::test]
async fn a_secret_agrees_by_its_label_and_names_its_servers() {
    let keys: std::collections::BTreeSet<_> = ["username", "password"].map(str::to_owned).into();
    let plain = fetched(&json!({})).await.credentials.unwrap();
    assert_eq!(plain, Credentials { keys: keys.clone(), labelled: false, servers: None });

    for word in ["false", "yes", ""] {
        let other = fetched(&json!({"labels": {"channelcluster.io/credentials": word}})).await;
        assert!(!other.credentials.unwrap().labelled, "{word:?}");
    }
    let meant = json!({
        "labels": {"channelcluster.io/credentials": "true"},
        "annotations": {"channelcluster.io/servers": "nats://a:4222, tls://b:4222,"},
    });
    let servers = Some(vec!["nats://a:4222".to_owned(), "tls://b:4222".to_owned()]);
    assert_eq!(fetched(&meant).await.credentials.unwrap(), Credentials { keys, labelled: true, servers });
    // An empty list allows no server, not every one.
    let none = fetched(&json!({"annotations": {"channelcluster.io/servers": ""}})).await;
    assert_eq!(none.credentials.unwrap().servers, Some(Vec::new()));
}

#[tokio::test]
async fn a_secret_that_is_not_there_is_told_from_one_that_does_not_agree() {
    let server = Server::default();
    let backplane =
        json!({"type": "Nats", "urls": ["nats://a:4222"], "credentialsSecretRef": {"name": "mine"}});
    let fetched = fetch(&server.shared(), &cluster(&json!({"backplane": backplane}))).await.unwrap();
    assert_eq!(fetched.credentials, None);
}

/// Each Secret with keys of tokens is asked for once, and only its keys are read.
#[tokio::test]
async fn the_secrets_with_keys_of_tokens_are_looked_at() {
    let server = Server::default();
    server.put(
        "/api/v1/namespaces/default/secrets/keys",
        json!({
            "apiVersion": "v1", "kind": "Secret", "data": {"id.pem": "cA=="},
            "metadata": {"name": "keys", "namespace": "default", "labels": {"channelcluster.io/credentials": "true"}},
        }),
    );
    let jwt = |issuer: &str, secret: &str| json!({"issuer": issuer, "algorithms": ["RS256"], "secretRef": {"name": secret, "key": "id.pem"}});
    let auth = json!({"jwt": [jwt("a", "keys"), jwt("b", "keys"), jwt("c", "missing")]});
    let fetched = fetch(&server.shared(), &cluster(&json!({"auth": auth}))).await.unwrap();
    let keys = Credentials { keys: ["id.pem".to_owned()].into(), labelled: true, servers: None };
    assert_eq!(fetched.named_secrets, [("keys".to_owned(), keys)].into());
}
