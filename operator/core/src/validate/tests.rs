use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crds::AutoscalingMode;
use node_core::config::{self, NodeConfig, OnExpiry};
use node_core::topic::TopicName;

use super::{Bus, Credentials, Fetched, OperatorEnv, Problem, ValidatedCluster, validate};
use crate::fixtures::{cluster, env};

fn valid(spec: &str) -> ValidatedCluster {
    validate(&cluster(spec), &env(), &Fetched::default()).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn problems(spec: &str, env: &OperatorEnv, fetched: &Fetched) -> Vec<Problem> {
    validate(&cluster(spec), env, fetched).unwrap_err()
}

fn reasons(spec: &str) -> Vec<&'static str> {
    problems(spec, &env(), &Fetched::default()).iter().map(|problem| problem.reason).collect()
}

/// A Secret with keys of tokens that agrees to be used.
fn token_keys(name: &str) -> BTreeMap<String, Credentials> {
    let keys = ["id.pem", "secret"].map(str::to_owned).into();
    [(name.to_owned(), Credentials { keys, labelled: true, servers: None })].into()
}

/// A Secret with a certificate.
fn certificate() -> BTreeMap<String, Credentials> {
    let keys = ["tls.crt", "tls.key", "ca.crt"].map(str::to_owned).into();
    [("chat-tls".to_owned(), Credentials { keys, labelled: true, servers: None })].into()
}

const PLAIN: &str = "{targetConnections: 1000, rooms: {maxMembers: 150}, auth: {anonymous: true}}";

#[test]
fn defaults_are_resolved() {
    let plain = valid(PLAIN);
    assert_eq!((plain.bounds.min, plain.bounds.max, plain.bounds.replicas), (2, 10, None));
    assert_eq!(plain.drain.grace, Duration::from_secs(5 + 600 + 30));
    assert_eq!(plain.scaling.stable, Duration::from_secs(60));
    assert_eq!(plain.scaling.down.stabilization, Duration::from_secs(300));
    assert_eq!(plain.scaling.up.policies.len(), 2);
    assert_eq!(plain.bus, Bus::Managed { image: env().nats_image });
    assert_eq!(plain.config.limits.max_connections, 20_000);
}

/// Each limit of a manifest is the key of its name in the nodes' file, and is left out of it unless it is set.
#[test]
fn limits_are_keys_of_the_same_names() {
    let plain = valid(PLAIN).config_file;
    let limits = [
        ("maxTopicBytes: 100", "maxTopicBytes: 100"),
        ("maxEventBytes: 101", "maxEventBytes: 101"),
        ("maxPayloadBytes: 102", "maxPayloadBytes: 102"),
        ("maxJsonDepth: 10", "maxJsonDepth: 10"),
        ("maxRequestHeadBytes: 8192", "maxRequestHeadBytes: 8192"),
    ];
    for (_, line) in limits {
        let (key, _) = line.split_once(':').expect("a key");
        assert!(!plain.contains(key), "{plain}");
    }
    let always = [
        ("handshakeTimeout: 3s", "handshakeTimeoutMillis: 3000"),
        ("sendQueueFrames: 99", "sendQueueFrames: 99"),
    ];
    let all = limits.into_iter().chain(always);
    let said: Vec<_> = all.clone().map(|(said, _)| said).collect();
    let set = valid(&PLAIN.replace("auth:", &format!("limits: {{{}}}, auth:", said.join(", ")))).config_file;
    for (_, line) in all {
        assert!(set.contains(line), "{line}: {set}");
    }
}

/// A file without the key can be read by nodes that are older than the key.
#[test]
fn rooms_follow_the_capacity_without_a_key_in_the_file() {
    let plain = valid(PLAIN);
    assert_eq!(plain.config.limits.rooms(), 50_000);
    assert!(!plain.config_file.contains("maxRooms"), "{}", plain.config_file);
    let more = valid(&PLAIN.replace("auth:", "limits: {maxRooms: 200000}, auth:"));
    assert!(more.config_file.contains("maxRooms: 200000"), "{}", more.config_file);
    for key in ["memoryBudget", "messagesPerSecond", "bytesPerSecond"] {
        assert!(!plain.config_file.contains(key), "{}", plain.config_file);
    }
    let limits = "limits: {memoryBudget: 256Mi, messagesPerSecond: 0, bytesPerSecond: 4096}, auth:";
    let set = valid(&PLAIN.replace("auth:", limits)).config_file;
    for line in ["memoryBudget: 268435456", "messagesPerSecond: 0", "bytesPerSecond: 4096"] {
        assert!(set.contains(line), "{line}: {set}");
    }
    assert_eq!(more.restart_hash, plain.restart_hash);
    let large = valid(&PLAIN.replace("auth:", "nodes: {capacity: {connections: 100000}}, auth:"));
    assert_eq!(large.config.limits.rooms(), 500_000);
    assert!(!large.config_file.contains("maxRooms"), "{}", large.config_file);
}

#[test]
fn the_largest_capacity_still_makes_a_configuration_that_a_node_takes() {
    let spec = "{targetConnections: 1000, rooms: {maxMembers: 150}, auth: {anonymous: true}, \
        nodes: {capacity: {connections: 10000000}}}";
    assert_eq!(valid(spec).config.limits.max_connections, 10_000_000);
}

#[test]
fn everything_wrong_is_told_at_once() {
    let spec = "{targetConnections: 1000, rooms: {maxMembers: 150, policies: [{topics: '$x'}]}, \
        nodes: {min: 5, max: 3, podLabels: {channelcluster.io/x: y}}, backplane: {type: None}, \
        autoscaling: {windows: {stable: 10s, burst: 1m}}, drain: {delay: 2m, deadline: 1m}, \
        tuning: {sysctls: {net.core.somaxconn: '9', vm.swappiness: '1'}}}";
    let expected = [
        "InvalidNodeRange",
        "BackplaneRequired",
        "InvalidWindows",
        "InvalidDrain",
        "UnsafeSysctl",
        "NotNamespacedSysctl",
        "ReservedKey",
        // These are found by the node's own check: no way to connect, and a reserved topic.
        "InvalidConfiguration",
        "InvalidConfiguration",
    ];
    assert_eq!(reasons(spec), expected);
}

#[test]
fn the_image_of_a_running_fleet_is_kept_and_a_newer_one_is_told() {
    let fetched = Fetched { node_image: Some("node:old".to_owned()), ..Fetched::default() };
    let kept = validate(&cluster(PLAIN), &env(), &fetched).unwrap();
    assert_eq!(kept.pod.image, "node:old");
    assert_eq!(kept.pod.newer_image, Some(env().node_image));
    let pinned = PLAIN.replace("auth:", "nodes: {image: 'node:mine'}, auth:");
    let pinned = validate(&cluster(&pinned), &env(), &fetched).unwrap();
    assert_eq!((pinned.pod.image.as_str(), pinned.pod.newer_image), ("node:mine", None));
}

#[test]
fn replicas_count_only_while_nobody_scales() {
    let spec = |mode: &str| {
        PLAIN.replace(
            "auth:",
            &format!("nodes: {{min: 2, max: 4, replicas: 3}}, autoscaling: {{mode: {mode}}}, auth:"),
        )
    };
    assert_eq!(valid(&spec("Auto")).bounds.replicas, None);
    assert_eq!(valid(&spec("'Off'")).bounds.replicas, Some(3));
    assert_eq!(valid(&spec("Observe")).bounds.replicas, Some(3));
}

#[test]
fn a_sysctl_is_judged_by_the_servers_version() {
    let spec = PLAIN.replace("auth:", "tuning: {sysctls: {net.ipv4.tcp_rmem: 4096 8192 16384}}, auth:");
    assert_eq!(valid(&spec).pod.sysctls["net.ipv4.tcp_rmem"], "4096 8192 16384");
    let old = OperatorEnv { server_minor: 30, ..env() };
    let found = problems(&spec, &old, &Fetched::default());
    assert!(found[0].message.contains("from Kubernetes 1.32 on and this server is 1.30"), "{found:?}");
    let none = spec.replace("sysctls:", "profile: None, sysctls:");
    let none = validate(&cluster(&none), &old, &Fetched::default()).unwrap();
    assert_eq!(none.pod.unsafe_sysctls.len(), 1);
}

#[test]
fn an_upgrade_of_the_control_plane_replaces_no_pod() {
    let (old, new) = (OperatorEnv { server_minor: 31, ..env() }, OperatorEnv { server_minor: 34, ..env() });
    let made = validate(&cluster(PLAIN), &old, &Fetched::default()).unwrap();
    let fresh = validate(&cluster(PLAIN), &new, &Fetched::default()).unwrap();
    assert_ne!(made.pod.sysctls, fresh.pod.sysctls, "the versions differ in what is safe");
    let fetched = Fetched { tuned_for: Some(made.pod.tuned_for.clone()), ..Fetched::default() };
    let kept = validate(&cluster(PLAIN), &new, &fetched).unwrap();
    assert_eq!((&kept.restart_hash, &kept.pod.sysctls), (&made.restart_hash, &made.pod.sysctls));
    assert_eq!(kept.pod.tuned_for, made.pod.tuned_for);
    let asked = PLAIN.replace("auth:", "tuning: {sysctls: {net.ipv4.tcp_fin_timeout: '20'}}, auth:");
    let changed = validate(&cluster(&asked), &new, &fetched).unwrap();
    assert!(changed.pod.tuned_for.starts_with("34 "), "the spec asks anew");
    let fetched = Fetched { tuned_for: Some(fresh.pod.tuned_for), ..Fetched::default() };
    let back = validate(&cluster(PLAIN), &old, &fetched).unwrap();
    assert_eq!(back.pod.sysctls, made.pod.sysctls, "an older server refuses what only a newer one takes");
}

#[test]
fn credentials_must_be_there_and_whole() {
    let spec = PLAIN.replace(
        "auth:",
        "backplane: {type: Nats, urls: ['nats://nats:4222'], credentialsSecretRef: {name: nats}}, auth:",
    );
    assert_eq!(reasons(&spec), ["SecretNotFound"]);
    let keys = |keys: &[&str]| Fetched {
        credentials: Some(Credentials {
            keys: keys.iter().map(|key| (*key).to_owned()).collect::<BTreeSet<_>>(),
            labelled: true,
            servers: None,
        }),
        ..Fetched::default()
    };
    let half = problems(&spec, &env(), &keys(&["username"]));
    assert_eq!(half[0].reason, "SecretIncomplete");
    assert!(half[0].message.contains("no key password"), "{half:?}");
    let whole = validate(&cluster(&spec), &env(), &keys(&["username", "password"])).unwrap();
    assert_eq!(whole.bus, Bus::External { credentials_secret: Some("nats".to_owned()) });
}

#[test]
fn a_url_of_keys_is_rendered_and_the_secret_with_its_authorities_is_mounted() {
    let spec = TOKENS.replace(
        "secretRef: {name: keys, key: id.pem}",
        "jwks: {url: 'https://a.example/keys', caSecretRef: {name: ca, key: ca.crt}, refresh: 1m}",
    );
    let mut named_secrets = token_keys("keys");
    let with =
        |named_secrets| validate(&cluster(&spec), &env(), &Fetched { named_secrets, ..Fetched::default() });
    let missing = with(named_secrets.clone()).unwrap_err();
    assert!(
        missing[0].message.contains("\"ca\" of auth.jwt[0].jwks.caSecretRef does not exist"),
        "{missing:?}"
    );
    let authorities = Credentials { keys: ["ca.crt".to_owned()].into(), labelled: true, servers: None };
    named_secrets.insert("ca".to_owned(), authorities);
    let valid = with(named_secrets).unwrap();
    assert_eq!(valid.mounted.token_keys.iter().collect::<Vec<_>>(), ["ca", "keys"]);
    let read: NodeConfig = serde_saphyr::from_str(&valid.config_file).unwrap();
    assert_eq!(read.auth, valid.config.auth);
    let jwks = serde_json::to_string(&read.auth.jwt[0].jwks).unwrap();
    assert_eq!(jwks, "{\"url\":\"https://a.example/keys\",\"caFile\":\"ca/ca.crt\",\"refreshMillis\":60000}");
    let named = Fetched { named_secrets: token_keys("keys"), ..Fetched::default() };
    let alone = spec.replace(", caSecretRef: {name: ca, key: ca.crt}, refresh: 1m", "");
    let alone = validate(&cluster(&alone), &env(), &named).unwrap();
    assert!(
        alone.config_file.contains("https://a.example/keys") && !alone.config_file.contains("refreshMillis")
    );
}

/// Otherwise anybody who may edit the manifest could have any Secret of the namespace sent to any host.
#[test]
fn credentials_are_sent_only_where_their_owner_agrees() {
    let spec = PLAIN.replace(
        "auth:",
        "backplane: {type: Nats, urls: ['nats://nats:4222', 'nats://evil:4222'], credentialsSecretRef: {name: db}}, auth:",
    );
    let keys: BTreeSet<_> = ["username", "password"].map(str::to_owned).into();
    let with = |credentials| Fetched { credentials: Some(credentials), ..Fetched::default() };
    let foreign = Credentials { keys: keys.clone(), ..Credentials::default() };
    let refused = problems(&spec, &env(), &with(foreign));
    assert_eq!(refused.iter().map(|problem| problem.reason).collect::<Vec<_>>(), ["SecretNotLabelled"]);
    assert!(refused[0].message.contains("kubectl label secret db channelcluster.io/credentials=true"));
    let servers = Some(vec!["nats://nats:4222".to_owned()]);
    let meant = Credentials { keys, labelled: true, servers };
    let refused = problems(&spec, &env(), &with(meant.clone()));
    assert_eq!(refused.iter().map(|problem| problem.reason).collect::<Vec<_>>(), ["ServerNotAllowed"]);
    assert!(refused[0].message.contains("nats://evil:4222"), "{refused:?}");
    let honest = spec.replace(", 'nats://evil:4222'", "");
    assert!(validate(&cluster(&honest), &env(), &with(meant)).is_ok());
}

#[test]
fn only_allowed_images_run() {
    let env = OperatorEnv { allowed_images: vec!["registry.example/rt/*".to_owned()], ..env() };
    let spec = |image: &str| {
        PLAIN
            .replace("auth:", &format!("nodes: {{image: '{image}'}}, backplane: {{image: '{image}'}}, auth:"))
    };
    let refused = problems(&spec("evil.example/x:1"), &env, &Fetched::default());
    assert_eq!(refused.iter().map(|problem| problem.reason).collect::<Vec<_>>(), ["ImageNotAllowed"; 2]);
    assert!(refused.iter().all(|problem| problem.message.contains("registry.example/rt/*")), "{refused:?}");
    assert!(validate(&cluster(&spec("registry.example/rt/node:1")), &env, &Fetched::default()).is_ok());
    // The manifest named the image before there was a list, and no longer does.
    let kept = |image: &str| {
        let fetched = Fetched { node_image: Some(image.to_owned()), ..Fetched::default() };
        validate(&cluster(PLAIN), &env, &fetched).unwrap().pod.image
    };
    assert_eq!(kept("evil.example/x:1"), env.node_image);
    assert_eq!(kept("channelcluster.io/channel-node:old"), "channelcluster.io/channel-node:old");
}

/// With another value in a variable or a label of ours a node would take itself, or be taken, for another one.
#[test]
fn what_the_operator_sets_is_not_the_users_to_set() {
    let spec = PLAIN.replace(
        "auth:",
        "nodes: {env: [{name: POD_IP, value: x}, {name: MINE, value: x}]}, \
         backplane: {env: [{name: NATS_PASSWORD, value: x}], podLabels: {app.kubernetes.io/name: x}, \
         podAnnotations: {channelcluster.io/config-hash: x}}, auth:",
    );
    assert_eq!(reasons(&spec), ["ReservedKey"; 4]);
}

#[test]
fn an_older_word_for_the_mode_is_still_read() {
    let mode = |word: &str| {
        let spec = format!("autoscaling: {{mode: {word}}}, nodes: {{min: 2, max: 4, replicas: 3}}, auth:");
        valid(&PLAIN.replace("auth:", &spec)).scaling.mode
    };
    assert_eq!((mode("'Off'"), mode("Manual")), (AutoscalingMode::Manual, AutoscalingMode::Manual));
}

#[test]
fn a_sysctl_may_be_written_as_a_number() {
    let spec = |value: &str| {
        PLAIN.replace(
            "auth:",
            &format!("tuning: {{sysctls: {{net.ipv4.tcp_keepalive_time: {value}}}}}, auth:"),
        )
    };
    let (number, text) = (valid(&spec("120")), valid(&spec("'120'")));
    assert_eq!(number.pod.sysctls["net.ipv4.tcp_keepalive_time"], "120");
    assert_eq!(number, text);
}

#[test]
fn the_rendered_file_reads_back_and_the_node_accepts_it() {
    let spec = "{targetConnections: 1000, rooms: {maxMembers: 150, ackEvents: [send], policies: [{topics: 'live:*', \
        maxMembers: 500, publish: Nobody}, {topics: 'realtime:*', dialect: Realtime}]}, auth: {anonymous: true, allowedOrigins: ['https://example.org']}, \
        expose: {chatPage: true, longPoll: true, compression: {level: 1}}, tuning: {nofile: 1048576}}";
    let cluster = valid(spec);
    let read: NodeConfig = serde_saphyr::from_str(&cluster.config_file).unwrap();
    assert_eq!(read, cluster.config);
    assert_eq!(read.validate(), Vec::<String>::new());
    let live = read.rooms.resolve(TopicName::parse("live:1").unwrap()).unwrap();
    assert_eq!((live.max_members, live.publish), (500, config::Publish::Nobody));
    let realtime = read.rooms.resolve(TopicName::parse("realtime:1").unwrap()).unwrap();
    assert_eq!((live.dialect, realtime.dialect), (config::Dialect::Phoenix, config::Dialect::Realtime));
    assert_eq!(cluster.config_file.matches("dialect").count(), 1, "a node older than the key takes the rest");
    assert!(read.chat_page && read.long_poll);
    assert_eq!(read.compression, Some(config::Compression { level: 1, min_bytes: 256 }));
    assert!(read.fixed.sysctls.contains_key("net.ipv4.tcp_keepalive_time"));
}

#[test]
fn only_what_a_node_cannot_reload_changes_the_restart_hash() {
    let base = valid(PLAIN).restart_hash;
    assert_eq!(valid(&PLAIN.replace("150", "151")).restart_hash, base);
    assert_eq!(valid(&PLAIN.replace("auth:", "expose: {longPoll: true}, auth:")).restart_hash, base);
    assert_eq!(valid(&PLAIN.replace("auth:", "expose: {compression: {}}, auth:")).restart_hash, base);
    assert!(!valid(PLAIN).config_file.contains("compression"), "a node older than the key takes the file");
    assert!(!valid(PLAIN).config_file.contains("longPoll"), "a node older than the key takes the file");
    assert_ne!(valid(&PLAIN.replace("auth:", "tuning: {nofile: 4096}, auth:")).restart_hash, base);
}

#[test]
fn names_that_cannot_name_services_are_refused() {
    for name in ["chat.example", "7chat", "Chat", "", &"c".repeat(41)] {
        let mut cluster = cluster(PLAIN);
        cluster.metadata.name = Some(name.to_owned());
        let problems = validate(&cluster, &env(), &Fetched::default()).unwrap_err();
        assert_eq!(problems[0].reason, "InvalidName", "{name}");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "samples are files")]
fn every_sample_is_valid_on_each_supported_server() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/samples");
    let keys = ["username", "password"].map(str::to_owned);
    let credentials = Credentials { keys: keys.into(), labelled: true, servers: None };
    let fetched = Fetched {
        credentials: Some(credentials),
        named_secrets: token_keys("token-keys").into_iter().chain(certificate()).collect(),
        ..Fetched::default()
    };
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let mut cluster: crds::ChannelCluster =
            serde_saphyr::from_str(text.rsplit("\n---\n").next().unwrap()).unwrap();
        cluster.metadata.namespace = Some("default".to_owned());
        for server_minor in 29..=37 {
            let env = OperatorEnv { server_minor, ..env() };
            let found = validate(&cluster, &env, &fetched).err();
            assert_eq!(found, None, "{} on 1.{server_minor}", path.display());
        }
    }
}

/// Two issuers, with everything that a manifest can say of one.
const TOKENS: &str = "{targetConnections: 1000, rooms: {maxMembers: 150}, auth: {anonymous: true, anonymousTopics: [lobby], \
    tokenParam: token, expiryWarning: 30s, onExpiry: EndChannels, jwt: [{issuer: 'https://a.example', audience: chat, algorithms: [RS256, ES384, EdDSA], \
    secretRef: {name: keys, key: id.pem}, leeway: 90s, claims: {user: name, topics: rooms, publish: say, priority: tier}, topics: ['room:*', 'user:{sub}:*'], publish: []}, \
    {issuer: b, algorithms: [HS512], secretRef: {name: keys, key: secret}}]}}";

#[test]
fn issuers_of_tokens_are_rendered_and_their_secret_is_mounted_once() {
    let fetched = Fetched { named_secrets: token_keys("keys"), ..Fetched::default() };
    let valid = validate(&cluster(TOKENS), &env(), &fetched).unwrap();
    assert_eq!(valid.mounted.token_keys.iter().collect::<Vec<_>>(), ["keys"]);
    let read: NodeConfig = serde_saphyr::from_str(&valid.config_file).unwrap();
    assert_eq!(read.auth, valid.config.auth);
    let expected = "[{\"issuer\":\"https://a.example\",\"audience\":\"chat\",\"algorithms\":[\"RS256\",\"ES384\",\"EdDSA\"],\
        \"keyFile\":\"keys/id.pem\",\"leewayMillis\":90000,\"userClaim\":\"name\",\"topicsClaim\":\"rooms\",\"publishClaim\":\"say\",\"priorityClaim\":\"tier\",\
        \"topics\":[\"room:*\",\"user:{sub}:*\"],\"publish\":[]},{\"issuer\":\"b\",\"algorithms\":[\"HS512\"],\"keyFile\":\"keys/secret\"}]";
    assert_eq!(serde_json::to_string(&read.auth.jwt).unwrap(), expected);
    assert_eq!((read.auth.token_param.as_deref(), read.auth.anonymous_topics.len()), (Some("token"), 1));
    // Nodes that are older than these keys refuse a file that has them.
    let plain = self::valid(PLAIN);
    assert_eq!((read.auth.expiry_warning_millis, read.auth.on_expiry), (Some(30_000), OnExpiry::EndChannels));
    for key in ["jwt", "tokenParam", "anonymousTopics", "expiryWarning", "onExpiry"] {
        assert!(!plain.config_file.contains(key), "{}", plain.config_file);
    }
    assert_eq!(valid.restart_hash, plain.restart_hash, "a running node takes up another issuer");
}

/// Otherwise anybody who may edit the manifest could try out guesses at any Secret of the namespace.
#[test]
fn keys_of_tokens_are_read_only_from_secrets_that_agree() {
    let with = |change: &dyn Fn(&mut Credentials)| {
        let mut token_secrets = token_keys("keys");
        token_secrets.values_mut().for_each(change);
        problems(TOKENS, &env(), &Fetched { named_secrets: token_secrets, ..Fetched::default() })
    };
    let reasons = |found: &[Problem]| found.iter().map(|problem| problem.reason).collect::<Vec<_>>();
    assert_eq!(self::reasons(TOKENS), ["SecretNotFound"; 2]);
    let foreign = with(&|secret| secret.labelled = false);
    assert_eq!(reasons(&foreign), ["SecretNotLabelled"; 2]);
    assert!(foreign[0].message.contains("kubectl label secret keys channelcluster.io/credentials=true"));
    let half = with(&|secret| secret.keys = ["id.pem".to_owned()].into());
    assert_eq!(reasons(&half), ["SecretIncomplete"]);
    assert!(half[0].message.contains("auth.jwt[1].secretRef has no key secret"), "{half:?}");
}

/// Otherwise anybody who may edit the manifest could have nodes answer with any certificate of the namespace.
#[test]
fn a_certificate_is_mounted_only_from_a_secret_that_agrees() {
    let spec = PLAIN.replace("auth:", "expose: {tls: {secretName: chat-tls}}, auth:");
    let with = |change: &dyn Fn(&mut Credentials)| {
        let mut named_secrets = certificate();
        named_secrets.values_mut().for_each(change);
        problems(&spec, &env(), &Fetched { named_secrets, ..Fetched::default() })
    };
    let reasons = |found: &[Problem]| found.iter().map(|problem| problem.reason).collect::<Vec<_>>();
    assert_eq!(self::reasons(&spec), ["SecretNotFound"]);
    let foreign = with(&|secret| secret.labelled = false);
    assert_eq!(reasons(&foreign), ["SecretNotLabelled"]);
    assert!(foreign[0].message.contains("kubectl label secret chat-tls"), "{foreign:?}");
    let half = with(&|secret| secret.keys = ["tls.crt".to_owned()].into());
    assert_eq!(reasons(&half), ["SecretIncomplete"]);
    assert!(half[0].message.contains("has no key tls.key"), "{half:?}");
    let fetched = Fetched { named_secrets: certificate(), ..Fetched::default() };
    let valid = validate(&cluster(&spec), &env(), &fetched).unwrap();
    assert_eq!(valid.mounted.tls.map(|tls| tls.certificate).as_deref(), Some("chat-tls"));
    let spec = spec.replace("secretName: chat-tls", "secretName: chat-tls, clientCaSecretName: clients");
    let found = problems(&spec, &env(), &fetched);
    assert_eq!(reasons(&found), ["SecretNotFound"]);
    assert!(
        found[0].message.contains("clientCaSecretName") && found[0].message.contains("ca.crt"),
        "{found:?}"
    );
}
