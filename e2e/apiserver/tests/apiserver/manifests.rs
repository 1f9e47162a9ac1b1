//! Manifests of users, applied to a real API server: every YAML block of the pages, every sample, every manifest that
//! must be refused, and the objects that the operator makes of a manifest with everything in it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code outside of test functions")]

use crate::pages;
use std::fs;

use apiserver::ApiServer;
use crds::ChannelCluster;
use operator_core::build::{Bundle, NatsBundle, bundle, secret};
use operator_core::validate::{Credentials, Fetched, OperatorEnv, validate};
use serde_json::{Value, json};

/// Fewest manifests in README, pages and samples.
const FEWEST: usize = 8;
/// Fewest manifests that have to be refused.
const FEWEST_BAD: usize = 115;

/// One YAML text that a reader may apply, and the page or file that has it.
struct Manifest {
    at: String,
    text: String,
}

/// Every manifest that the pages, the samples and the chart's notes show.
///
/// A block of a page is a whole manifest. The one exception begins with `version: 1`: it is a node's own file, which
/// `e2e/tests/repository/docs.rs` holds to the node's types.
fn shown() -> Vec<Manifest> {
    let mut all = Vec::new();
    for pages::Page { path, text } in pages::all() {
        for block in text.split("```yaml\n").skip(1).map(|rest| rest.split("\n```").next().unwrap()) {
            let at = path.display().to_string();
            if block.starts_with("version: 1\n") {
                continue;
            }
            assert!(block.contains("apiVersion: "), "{at}: not a whole manifest, complete it:\n{block}");
            all.push(Manifest { at, text: block.to_owned() });
        }
    }
    for entry in fs::read_dir(pages::root().join("docs/samples")).unwrap() {
        let path = entry.unwrap().path();
        all.push(Manifest { at: path.display().to_string(), text: fs::read_to_string(&path).unwrap() });
    }
    let notes = pages::page("charts/channelcluster/templates/NOTES.txt");
    let block = notes.split("<<'YAML'\n").nth(1).unwrap().split("\n  YAML").next().unwrap();
    let text: Vec<_> = block.lines().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect();
    all.push(Manifest { at: "NOTES.txt".to_owned(), text: text.join("\n") });
    assert!(all.len() >= FEWEST, "only {} manifests: is the search broken?", all.len());
    all
}

#[tokio::test]
async fn every_yaml_block_can_be_applied() {
    let server = ApiServer::shared().await;
    let namespace = server.namespace("blocks").await.unwrap();
    for Manifest { at, text } in shown() {
        let applied =
            server.kubectl(&["-n", &namespace, "apply", "--dry-run=server", "-f", "-"], &text).await;
        applied.unwrap_or_else(|error| panic!("{at}: {error:#}\n{text}"));
    }
}

/// `kubectl diff` fails when it finds a difference.
#[tokio::test]
async fn nothing_differs_after_an_apply() {
    let server = ApiServer::shared().await;
    for (number, Manifest { at, text }) in shown().into_iter().enumerate() {
        let namespace = server.namespace(&format!("diff-{number}")).await.unwrap();
        let said = |error| panic!("{at}: {error:#}");
        server.kubectl(&["-n", &namespace, "apply", "-f", "-"], &text).await.unwrap_or_else(said);
        server.kubectl(&["-n", &namespace, "diff", "-f", "-"], &text).await.unwrap_or_else(said);
        let manager = "--field-manager=kubectl-client-side-apply";
        let args = ["-n", &namespace, "diff", "--server-side", "--force-conflicts", manager, "-f", "-"];
        server.kubectl(&args, &text).await.unwrap_or_else(said);
        for document in text.split("\n---\n").filter(|text| text.contains("kind: ChannelCluster")) {
            let written: Value = serde_saphyr::from_str(document).unwrap();
            let name = written["metadata"]["name"].as_str().unwrap();
            let live =
                server.kubectl(&["-n", &namespace, "get", "cc", name, "-o", "json"], "").await.unwrap();
            let live: Value = serde_json::from_str(&live).unwrap();
            assert_eq!(completed("spec", &written["spec"], &live["spec"]), Vec::<String>::new(), "{at}");
        }
    }
}

/// Lists of `written` that differ in `live`: tools that compare take a list as a whole.
fn completed(at: &str, written: &Value, live: &Value) -> Vec<String> {
    match written {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(key, value)| completed(&format!("{at}.{key}"), value, &live[key]))
            .collect(),
        Value::Array(_) if written != live => vec![format!("{at}: {written} became {live}")],
        _ => Vec::new(),
    }
}

/// Each file begins with `# expect: ` and a phrase of the refusal.
#[tokio::test]
async fn every_bad_manifest_is_refused_with_its_sentence() {
    let server = ApiServer::shared().await;
    let namespace = server.namespace("bad").await.unwrap();
    let mut seen = 0;
    for entry in fs::read_dir(pages::root().join("e2e/manifests/bad")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let phrase = text.lines().next().unwrap().strip_prefix("# expect: ").unwrap();
        let refused = server.kubectl(&["-n", &namespace, "apply", "-f", "-"], &text).await;
        let said = format!("{:#}", refused.expect_err(&path.display().to_string()));
        assert!(said.contains(phrase), "{}: wanted {phrase:?} in {said}", path.display());
        seen += 1;
    }
    assert!(seen >= FEWEST_BAD, "only {seen} manifests");
}

const PLAIN: &str = "{targetConnections: 1000, rooms: {maxMembers: 150}, auth: {anonymous: true}}";
/// All settings of pods, for nodes and NATS, that need no further objects.
const SHAPED: &str = "topologySpreadConstraints: [{maxSkew: 2, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}], \
    env: [{name: EXTRA, value: x}, {name: CPUS, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}, \
    {name: HOST, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}], imagePullSecrets: [{name: registry}], \
    userIds: Assigned, podSecurityContext: {supplementalGroups: [7], fsGroupChangePolicy: OnRootMismatch}, \
    securityContext: {seccompProfile: {type: RuntimeDefault}}, \
    resources: {requests: {cpu: \"0.25\"}, limits: {cpu: 1, memory: 1024Mi}}, \
    nodeSelector: {pool: ws}, tolerations: [{key: ws, operator: Exists}, {key: any}], \
    affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: rack}]}}, \
    podLabels: {team: a}, podAnnotations: {note: b}";

/// Objects that the operator makes of a spec in `namespace`, in the order in which it applies them.
fn made(namespace: &str, spec: &str) -> Vec<Value> {
    let mut cluster = ChannelCluster::new("chat", serde_saphyr::from_str(spec).unwrap());
    cluster.metadata.namespace = Some(namespace.to_owned());
    cluster.metadata.uid = Some("6f1c0a4e-0000-4000-8000-000000000001".to_owned());
    cluster.metadata.generation = Some(1);
    let env = OperatorEnv {
        node_image: "channel-node:1".to_owned(),
        nats_image: "nats-server:1".to_owned(),
        server_minor: 34,
        namespace: "channelcluster-system".to_owned(),
        allowed_images: Vec::new(),
    };
    let keys = ["username", "password"].map(str::to_owned).into();
    let credentials = Credentials { keys, labelled: true, servers: None };
    let api = Credentials { keys: ["keys.yaml".to_owned()].into(), labelled: true, servers: None };
    let named_secrets = [("api-keys".to_owned(), api)].into();
    let fetched = Fetched { credentials: Some(credentials), named_secrets, ..Fetched::default() };
    let valid = validate(&cluster, &env, &fetched).unwrap();
    let made = bundle(&valid, 2);
    let Bundle { service_account, config_map, network_policy, nats, headless, service, api, pdb, deployment } =
        made;
    let mut all = vec![json!(secret(&valid, "token", "word", "tickets"))];
    all.extend([json!(service_account), json!(config_map), json!(network_policy)]);
    if let Some(NatsBundle { config_map, network_policy, service, deployment }) = nats {
        all.extend([json!(config_map), json!(network_policy), json!(service), json!(deployment)]);
    }
    all.extend([json!(headless), json!(service), json!(pdb), json!(deployment)]);
    all.extend(api.map(|service| json!(service)));
    all
}

/// Both pod templates of a spec, as pods.
fn pods(namespace: &str, spec: &str) -> Vec<Value> {
    let deployments = made(namespace, spec).into_iter().filter(|object| object["kind"] == "Deployment");
    let pod = |(number, object): (usize, Value)| {
        let mut pod = object["spec"]["template"].clone();
        pod["apiVersion"] = "v1".into();
        pod["kind"] = "Pod".into();
        pod["metadata"]["name"] = format!("pod-{number}").into();
        pod
    };
    deployments.enumerate().map(pod).collect()
}

fn shaped() -> String {
    let service = "type: LoadBalancer, annotations: {lb.example/x: text}, loadBalancerClass: example.org/lb, \
        loadBalancerSourceRanges: [192.0.2.0/24], externalTrafficPolicy: Local, ipFamilyPolicy: SingleStack, \
        ipFamilies: [IPv4]";
    PLAIN.replace(
        "auth:",
        &format!("nodes: {{{SHAPED}}}, backplane: {{{SHAPED}}}, expose: {{api: {{secretName: api-keys}}, service: {{{service}}}}}, auth:"),
    )
}

/// If the server completed or rewrote a field, the operator would write it again at every look, and roll the fleet.
#[tokio::test]
async fn applying_the_same_objects_again_changes_nothing() {
    let server = ApiServer::shared().await;
    for (number, spec) in [PLAIN.to_owned(), shaped()].into_iter().enumerate() {
        let namespace = server.namespace(&format!("twice-{number}")).await.unwrap();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": made(&namespace, &spec)}).to_string();
        let apply = ["apply", "--server-side", "--field-manager=channel-operator", "-f", "-"];
        let get = ["-n", &namespace, "get", "all,cm,sa,netpol,pdb,secret", "-o"];
        let columns = "custom-columns=KIND:.kind,NAME:.metadata.name,VERSION:.metadata.resourceVersion";
        server.kubectl(&apply, &list).await.unwrap();
        let before = server.kubectl(&[&get[..], &[columns]].concat(), "").await.unwrap();
        assert!(before.lines().count() > 12, "{before}");
        server.kubectl(&apply, &list).await.unwrap();
        let after = server.kubectl(&[&get[..], &[columns]].concat(), "").await.unwrap();
        assert_eq!(after, before);
    }
}

/// No controller of quotas runs here, so the test writes the status that it would write.
const QUOTA: &str = r#"{"spec": {"hard": {"limits.cpu": "100", "limits.memory": "100Gi"}},
    "status": {"hard": {"limits.cpu": "100", "limits.memory": "100Gi"}, "used": {"limits.cpu": "0", "limits.memory": "0"}}}"#;

#[tokio::test]
async fn a_quota_with_limits_takes_every_pod_that_says_them() {
    let server = ApiServer::shared().await;
    let namespace = server.namespace("quota").await.unwrap();
    let quota = "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: all}\nspec: {hard: {limits.cpu: \"100\", limits.memory: 100Gi}}";
    server.kubectl(&["-n", &namespace, "apply", "-f", "-"], quota).await.unwrap();
    let patch = [
        "-n",
        &namespace,
        "patch",
        "resourcequota",
        "all",
        "--subresource=status",
        "--type=merge",
        "-p",
        QUOTA,
    ];
    server.kubectl(&patch, "").await.unwrap();
    let create = ["-n", &namespace, "create", "--dry-run=server", "-f", "-"];
    for pod in pods(&namespace, &shaped()) {
        server.kubectl(&create, &pod.to_string()).await.unwrap();
    }
    for pod in pods(&namespace, PLAIN) {
        let refused = server.kubectl(&create, &pod.to_string()).await.unwrap_err();
        assert!(format!("{refused:#}").contains("must specify limits"), "{refused:#}");
    }
}

#[tokio::test]
async fn a_restricted_namespace_takes_every_pod() {
    let server = ApiServer::shared().await;
    let namespace = server.namespace("restricted").await.unwrap();
    let label = ["label", "namespace", &namespace, "pod-security.kubernetes.io/enforce=restricted"];
    server.kubectl(&label, "").await.unwrap();
    let create = ["-n", &namespace, "create", "--dry-run=server", "-f", "-"];
    let assigned = "nodes: {userIds: Assigned}, backplane: {userIds: Assigned}, auth:";
    for spec in [PLAIN.to_owned(), shaped(), PLAIN.replace("auth:", assigned)] {
        for pod in pods(&namespace, &spec) {
            server.kubectl(&create, &pod.to_string()).await.unwrap();
        }
    }
    // This shows that the check works: settings beyond the standard are refused.
    let more = "nodes: {securityContext: {allowPrivilegeEscalation: true}}, auth:";
    let privileged = PLAIN.replace("auth:", more);
    let refused = server.kubectl(&create, &pods(&namespace, &privileged)[1].to_string()).await.unwrap_err();
    assert!(format!("{refused:#}").contains("violates PodSecurity"), "{refused:#}");
}

#[tokio::test]
async fn kubectl_scale_works_before_a_number_was_ever_written() {
    let server = ApiServer::shared().await;
    let namespace = server.namespace("scale").await.unwrap();
    let cluster = ChannelCluster::new(
        "chat",
        serde_saphyr::from_str(&PLAIN.replace("auth:", "autoscaling: {mode: Manual}, auth:")).unwrap(),
    );
    server.kubectl(&["-n", &namespace, "apply", "-f", "-"], &json!(cluster).to_string()).await.unwrap();
    let path = format!("/apis/channelcluster.io/v1alpha1/namespaces/{namespace}/channelclusters/chat/scale");
    // An HPA reads this first, and reports a failure in its own conditions.
    let unread = server.kubectl(&["get", "--raw", &path], "").await.unwrap_err();
    assert!(format!("{unread:#}").contains(".spec.nodes.replicas"), "{unread:#}");
    server.kubectl(&["-n", &namespace, "scale", "cc", "chat", "--replicas=3"], "").await.unwrap();
    let scale = server.kubectl(&["get", "--raw", &path], "").await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&scale).unwrap()["spec"]["replicas"], 3);
}

#[tokio::test]
async fn deleting_all_of_everything_leaves_the_fleets() {
    let server = ApiServer::shared().await;
    let namespace = server.namespace("all").await.unwrap();
    let cluster = ChannelCluster::new("chat", serde_saphyr::from_str(PLAIN).unwrap());
    server.kubectl(&["-n", &namespace, "apply", "-f", "-"], &json!(cluster).to_string()).await.unwrap();
    server.kubectl(&["-n", &namespace, "delete", "all", "--all"], "").await.unwrap();
    server.kubectl(&["-n", &namespace, "get", "cc", "chat"], "").await.unwrap();
}

/// Durations and amounts in every unambiguous form, and the older word for a mode.
#[tokio::test]
async fn what_is_unambiguous_is_taken() {
    let server = ApiServer::shared().await;
    let namespace = server.namespace("taken").await.unwrap();
    let given = [
        "drain: {deadline: 0.5h, delay: 1s500ms}",
        "autoscaling: {mode: \"Off\"}",
        "autoscaling: {mode: Manual}",
        "tuning: {sysctls: {net.ipv4.tcp_keepalive_time: 120}}",
        "nodes: {resources: {limits: {cpu: 1, memory: 1073741824}}}",
        "rooms: {maxMembers: 10, policies: [{topics: \"live:*\", flushWindow: 10ms}]}",
        "nodes: {image: nats}",
        "nodes: {image: \"localhost:5000/a/b-c__d.e:1_x\"}",
        "nodes: {image: \"[fd00::1]:5000/a\"}",
        "backplane: {image: \"Registry.Example/nats:2@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}",
        "backplane: {nodeSelector: {example.org/pool: \"\"}, tolerations: [{operator: Exists}], podLabels: {a: \"\"}}",
    ];
    are_taken(server, &namespace, &given).await;
}

/// Each of these, in a manifest with nothing else.
async fn are_taken(server: &ApiServer, namespace: &str, given: &[&str]) {
    for text in given {
        let manifest = alone(text);
        let apply = ["-n", namespace, "apply", "--dry-run=server", "-f", "-"];
        server.kubectl(&apply, &manifest).await.unwrap_or_else(|error| panic!("{text}: {error:#}"));
        let _readable: ChannelCluster = serde_saphyr::from_str(&manifest).unwrap();
    }
}

/// A manifest with this key beside those that it cannot be without.
fn alone(text: &str) -> String {
    let needed = ["rooms: {maxMembers: 10}", "auth: {anonymous: true}"];
    let is_given = |line: &&str| text.split(':').next() == line.split(':').next();
    let rest: Vec<_> = needed.iter().filter(|line| !is_given(line)).chain([&text]).copied().collect();
    format!(
        "apiVersion: channelcluster.io/v1alpha1\nkind: ChannelCluster\nmetadata: {{name: chat}}\nspec:\n  \
         targetConnections: 1000\n  {}\n",
        rest.join("\n  ")
    )
}

/// What clients are let in by, and what they are held to: each key of it in the forms that its rules leave, up to their bounds.
#[tokio::test]
async fn every_key_about_clients_is_taken_up_to_its_bounds() {
    let server = ApiServer::shared().await;
    let namespace = server.namespace("clients").await.unwrap();
    let keys = "secretRef: {name: tokens, key: id.pem}";
    let jwt = |rest: &str| format!("auth: {{jwt: [{{algorithms: [RS256, ES384, EdDSA], {rest}}}]}}");
    let beside = |rest: &str| format!("auth: {{jwt: [{{algorithms: [HS512], {keys}}}], {rest}}}");
    let given = [
        jwt(keys),
        jwt("jwks: {url: \"https://id.example.org/keys\"}"),
        jwt("jwks: {url: \"https://[fd00::1]:8443/k?a=%20\", refresh: 10s}"),
        jwt("jwks: {url: \"http://ids.auth.svc/keys\", refresh: 24h}"),
        jwt("jwks: {url: \"http://localhost:8080/keys\"}"),
        jwt("jwks: {url: \"https://ids.auth.svc.cluster.local\", caSecretRef: {name: ca, key: ca.crt}}"),
        jwt(&format!("{keys}, leeway: 0s")),
        jwt(&format!("{keys}, leeway: 10m, claims: {{user: email, topics: rooms, publish: speaks}}")),
        jwt(&format!("{keys}, topics: [\"user:{{sub}}:*\", \"*\"], publish: [\"user:{{sub}}\", \"room:*\"]")),
        beside("expiryWarning: 30s, onExpiry: EndChannels, tokenParam: access_token-1"),
        beside("onExpiry: Close, anonymous: true, anonymousTopics: [lobby, \"live:*\"]"),
        "auth: {anonymous: true, allowedOrigins: [\"https://*.example.org:8443\", \"null\", \"file://\"]}".to_owned(),
        "auth: {anonymous: true, servedHosts: [\"*.example.org\", 10.0.0.1, \"[::1]\"]}".to_owned(),
        "expose: {tls: {secretName: chat-tls}}".to_owned(),
        "expose: {tls: {secretName: chat.example.org, clientCaSecretName: clients}}".to_owned(),
        "expose: {compression: {}}".to_owned(),
        "expose: {compression: {level: 1, minBytes: 32}}".to_owned(),
        "expose: {compression: {level: 9, minBytes: 1048576}}".to_owned(),
        "expose: {longPoll: true, chatPage: true}".to_owned(),
        "expose: {trustedProxies: [10.0.0.0/8, \"2001:db8::/32\", 192.0.2.1]}".to_owned(),
        "expose: {trustedProxies: [10.0.0.1], forwardedHeader: Forwarded, proxyProtocol: true}".to_owned(),
        "limits: {maxConnectionsPerAddress: 0, handshakesPerSecond: 0, handshakesPerSecondPerAddress: 0, joinsPerSecond: 0, \
            joinsPerSecondPerAddress: 0, messagesPerSecond: 0, bytesPerSecond: 0}".to_owned(),
        "limits: {joinsPerSecond: 20, joinsPerSecondPerAddress: 20, maxChannelsPerConnection: 100}".to_owned(),
        "limits: {memoryBudget: 16Mi}".to_owned(),
        "limits: {memoryBudget: 2Gi, busMessageAge: 1h, bytesPerSecond: 1024}".to_owned(),
        "limits: {busMessageAge: 1s, maxFrameBytes: 65536, sendQueueBytes: 65536}".to_owned(),
        "rooms: {maxMembers: 10, policies: [{topics: \"realtime:*\", dialect: Realtime, publish: Members}]}".to_owned(),
        "rooms: {maxMembers: 10, policies: [{topics: \"room:*\", dialect: Phoenix, ackEvents: [send], echoToSender: false}]}".to_owned(),
    ];
    are_taken(server, &namespace, &given.each_ref().map(String::as_str)).await;
}

/// The class of a Service cannot be changed while it is one of a load balancer, so the manifest says it first.
#[tokio::test]
async fn a_class_of_load_balancers_stays_until_the_type_was_another() {
    let server = ApiServer::shared().await;
    let namespace = server.namespace("class").await.unwrap();
    let apply = ["-n", &namespace, "apply", "-f", "-"];
    let with = |service: &str| alone(&format!("expose: {{service: {{{service}}}}}"));
    let (one, two) = (
        "type: LoadBalancer, loadBalancerClass: a.example/one",
        "type: LoadBalancer, loadBalancerClass: a.example/two",
    );
    server.kubectl(&apply, &with(one)).await.unwrap();
    for other in [two, "type: LoadBalancer"] {
        let refused = format!("{:#}", server.kubectl(&apply, &with(other)).await.unwrap_err());
        assert!(
            refused.contains("expose.service.loadBalancerClass must stay as it is"),
            "{other}: {refused}"
        );
    }
    for next in [one, "type: ClusterIP", two] {
        server.kubectl(&apply, &with(next)).await.unwrap();
    }
}
