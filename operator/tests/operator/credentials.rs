//! The operator reads of the Secret that a ChannelCluster names whether it agrees, and never its values.

use crate::pages;
use crate::support::{Server, UID, cluster, env};
use crds::ChannelCluster;
use operator::fetch::fetch;
use operator_core::validate::{Credentials, Fetched, validate};
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

/// The comment of the sample has a Certificate. cert-manager makes a Secret of it, with the labels of its template and the keys
/// of type `kubernetes.io/tls` and `ca.crt`, and the ChannelCluster below has to take just that one.
#[tokio::test]
async fn the_certificate_of_the_sample_makes_the_secret_that_the_nodes_mount() {
    let text = pages::page("docs/samples/tls.yaml");
    let shown: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("#   ")).collect();
    let certificate: Value = serde_saphyr::from_str(&shown.join("\n")).unwrap();
    assert_eq!(
        (&certificate["apiVersion"], &certificate["kind"]),
        (&json!("cert-manager.io/v1"), &json!("Certificate"))
    );
    let (spec, label) = (&certificate["spec"], "channelcluster.io/credentials");
    assert_eq!(spec["secretTemplate"]["labels"][label], "true", "a label is a string");
    for field in ["dnsNames", "issuerRef"] {
        assert!(!spec[field].is_null(), "cert-manager asks for {field}");
    }
    let mut sample: ChannelCluster = serde_saphyr::from_str(&text).unwrap();
    sample.metadata.namespace = Some("default".to_owned());
    sample.metadata.uid = Some(UID.to_owned());
    sample.metadata.generation = Some(1);

    let server = Server::default();
    let before = fetch(&server.shared(), &sample).await.unwrap();
    assert_eq!(validate(&sample, &env(), &before).unwrap_err()[0].reason, "SecretNotFound");
    let name = spec["secretName"].as_str().unwrap();
    let labels = &spec["secretTemplate"]["labels"];
    let data = json!({"tls.crt": "cA==", "tls.key": "cA==", "ca.crt": "cA=="});
    server.put(
        &format!("/api/v1/namespaces/default/secrets/{name}"),
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "data": data,
            "metadata": {"name": name, "namespace": "default", "labels": labels},
        }),
    );
    let fetched = fetch(&server.shared(), &sample).await.unwrap();
    let valid = validate(&sample, &env(), &fetched).unwrap();
    assert_eq!(valid.mounted.tls.map(|tls| tls.certificate).as_deref(), Some(name));
}
