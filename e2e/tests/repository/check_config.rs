//! The node's own binary accepts the file that the operator renders.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::{env, fs};

use crds::ChannelCluster;
use operator_core::build;
use operator_core::validate::{Credentials, Fetched, OperatorEnv, validate};
use serde_json::Value;

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/samples");

/// Variables with which the operator sets keys of a node's configuration.
type Settings = Vec<(String, String)>;

/// The file that the operator would write into the ConfigMap of a sample's fleet, and what it sets beside it in the pods.
fn rendered(manifest: &str) -> anyhow::Result<(String, Settings)> {
    let mut cluster: ChannelCluster = serde_saphyr::from_str(manifest)?;
    cluster.metadata.namespace = Some("default".to_owned());
    let operator = OperatorEnv {
        node_image: "channel-node".to_owned(),
        nats_image: "nats-server".to_owned(),
        server_minor: 34,
        namespace: "channelcluster-system".to_owned(),
        allowed_images: Vec::new(),
    };
    let keys = ["username", "password"].map(str::to_owned);
    let credentials = Credentials { keys: keys.into(), labelled: true, servers: None };
    let token_keys = Credentials { keys: ["id.pem".to_owned()].into(), labelled: true, servers: None };
    let certificate = Credentials {
        keys: ["tls.crt", "tls.key", "ca.crt"].map(str::to_owned).into(),
        ..token_keys.clone()
    };
    let named_secrets = [("token-keys".to_owned(), token_keys), ("chat-tls".to_owned(), certificate)].into();
    let fetched = Fetched { credentials: Some(credentials), named_secrets, ..Fetched::default() };
    let valid = validate(&cluster, &operator, &fetched).map_err(|all| anyhow::anyhow!("{all:?}"))?;
    let pod = build::bundle(&valid, 1).deployment.spec.and_then(|spec| spec.template.spec);
    let env = pod
        .into_iter()
        .flat_map(|pod| pod.containers)
        .flat_map(|container| container.env.unwrap_or_default());
    let settings = env.filter_map(|variable| Some((variable.name, variable.value?)));
    Ok((valid.config_file, settings.collect()))
}

/// The node's own binary, built once.
fn channel_node() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let output = Command::new(env!("CARGO"))
            // It is built as by `cargo xtask test`, through a test of the node: with other packages, or without the
            // tests' own dependencies, the libraries would have other features and everything would be built again.
            .args(["test", "--no-run", "--offline", "--locked", "--workspace"])
            .args(["--features", "node/nats-server", "--test", "node"])
            .arg("--message-format=json-render-diagnostics")
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .output()
            .expect("cargo runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cannot build channel-node: {said}");
        let messages = String::from_utf8(output.stdout).expect("JSON");
        let executable = |line: &str| {
            let message: Value = serde_json::from_str(line).ok()?;
            let path = PathBuf::from(message["executable"].as_str()?);
            path.ends_with("channel-node").then_some(path)
        };
        messages.lines().find_map(executable).unwrap_or_else(|| panic!("cargo names no binary: {said}"))
    })
}

/// Feeds a file and variables to `channel-node --check-config`.
fn check(name: &str, text: &str, settings: Settings) -> anyhow::Result<Output> {
    let file = env::temp_dir().join(format!("check-config-{}-{name}.yaml", std::process::id()));
    fs::write(&file, text)?;
    let output = Command::new(channel_node()).arg("--check-config").arg(&file).envs(settings).output()?;
    fs::remove_file(&file)?;
    Ok(output)
}

#[test]
fn the_node_accepts_what_the_operator_renders() {
    let mut checked = 0;
    for entry in fs::read_dir(SAMPLES).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        // A sample may have other objects that the cluster needs before it; the cluster comes last.
        let (file, settings) = rendered(text.rsplit("\n---\n").next().unwrap()).unwrap();
        let output = check("good", &file, settings).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}\n{file}", path.display());
        checked += 1;
    }
    assert!(checked >= 4, "only {checked} samples");
}

#[test]
fn the_node_refuses_a_file_with_a_key_it_does_not_know() {
    let text = fs::read_to_string(format!("{SAMPLES}/chat.yaml")).unwrap();
    let (file, settings) = rendered(&text).unwrap();
    let output = check("bad", &(file + "maxMembrs: 7\n"), settings).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("maxMembrs"), "{said}");
}
