use super::*;

fn topic(text: &str) -> TopicName<'_> {
    TopicName::parse(text).unwrap()
}

#[test]
fn dev_and_a_minimal_cluster_file_are_valid() {
    assert_eq!(NodeConfig::dev().validate(), Vec::<String>::new());
    let minimal: NodeConfig = serde_json::from_str(r#"{"version":1,"auth":{"anonymous":true}}"#).unwrap();
    assert_eq!(minimal.validate(), Vec::<String>::new());
    assert_eq!(minimal.limits, Limits::default());
}

#[test]
fn an_unknown_key_is_refused_at_every_level() {
    for text in
        [r#"{"rooom":{}}"#, r#"{"rooms":{"maxMember":1}}"#, r#"{"bus":{"nats":{"urls":[],"pass":"x"}}}"#]
    {
        let error = serde_json::from_str::<NodeConfig>(text).unwrap_err().to_string();
        assert!(error.contains("unknown field"), "{text}: {error}");
    }
}

#[test]
fn all_errors_are_told_at_once_and_name_their_key() {
    let text = r#"{"version":7,"path":"socket/","cluster":{"namespace":"a.b","name":""},
        "rooms":{"maxMembers":0,"topics":["a*b"],"ackEvents":["phx_join"],"policies":[{"topics":"$x","events":[]},{"topics":"x","events":["access_token"]},
            {"topics":"y","dialect":"Realtime","ackEvents":[],"echoToSender":true},{"topics":"z","dialect":"Phoenix","ackEvents":[]}]},
        "limits":{"maxFrameBytes":65536,"sendQueueBytes":8192,"maxRooms":0},
        "drain":{"connectionsPerSecond":0},"compression":{"level":0,"minBytes":31},"auth":{"allowedOrigins":["example.org"]},"bus":{"nats":{"urls":["nats://u:p@h:1","h"]}},
        "sysctls":{"../../etc/passwd":"1"},"nofile":3}"#;
    let errors = serde_json::from_str::<NodeConfig>(text).unwrap().validate();
    let all = errors.join("\n");
    for key in [
        "version",
        "path",
        "cluster.namespace",
        "cluster.name",
        "rooms.maxMembers",
        "rooms.topics",
        "rooms.ackEvents",
        "rooms.policies[0].topics",
        "rooms.policies[0].events",
        "rooms.policies[1].events",
        "rooms.policies[2].ackEvents: is up to each client",
        "rooms.policies[2].echoToSender: is up to each client",
        "limits.sendQueueBytes",
        "limits.maxRooms: 0",
        "drain.connectionsPerSecond",
        "compression.level: 0 is out of range; use 1 to 9 as zlib counts",
        "compression.minBytes: 31",
        "auth.anonymous",
        "auth.allowedOrigins",
        "bus.nats.urls: holds",
        "bus.nats.urls: \"h\"",
        "sysctls",
        "nofile",
    ] {
        assert!(all.contains(key), "no error about {key} in:\n{all}");
    }
    assert!(!all.contains("u:p"), "credentials repeated in:\n{all}");
    assert_eq!(errors.len(), 23, "{all}");
}

#[test]
fn the_first_matching_policy_overrides_key_by_key() {
    let text = r#"{"rooms":{"maxMembers":150,"ackEvents":["a"],"policies":[
        {"topics":"live:*","maxMembers":500,"publish":"Nobody"},{"topics":"live:one","maxMembers":1},
        {"topics":"realtime:*","dialect":"Realtime"}]}}"#;
    let rooms = serde_json::from_str::<NodeConfig>(text).unwrap().rooms;
    let live = rooms.resolve(topic("live:one")).unwrap();
    assert_eq!(
        (live.max_members, live.publish, live.ack_events),
        (500, Publish::Nobody, &["a".to_owned()][..])
    );
    let other = rooms.resolve(topic("room:1")).unwrap();
    assert_eq!((other.max_members, other.publish, other.echo_to_sender), (150, Publish::Members, true));
    let realtime = rooms.resolve(topic("realtime:1")).unwrap();
    assert_eq!((other.dialect, realtime.dialect), (Dialect::Phoenix, Dialect::Realtime));
}

#[test]
fn reserved_topics_match_no_pattern() {
    let rooms = Rooms::default();
    for text in ["phoenix", "$cluster", "$"] {
        assert_eq!(rooms.resolve(topic(text)), None, "{text}");
    }
    assert_eq!(NodeConfig::dev().rooms.resolve(topic("other:1")), None);
    assert!(NodeConfig::dev().rooms.resolve(topic("room:1")).is_some());
}

#[test]
fn only_fixed_keys_change_what_the_operator_hashes() {
    let base = NodeConfig::dev();
    let hash = |config: &NodeConfig| serde_json::to_string(&config.fixed).unwrap();
    // If this text changed, every pod of every fleet would be replaced.
    assert_eq!(
        hash(&base),
        r#"{"version":1,"cluster":{"namespace":"dev","name":"dev"},"path":"/socket","bus":null,"sysctls":{},"nofile":null}"#
    );
    let mut reload = base.clone();
    reload.rooms.max_members = 7;
    reload.chat_page = false;
    reload.long_poll = false;
    reload.compression = Some(Compression::default());
    reload.limits.max_connections = 5;
    reload.limits.max_rooms = Some(5);
    reload.drain.delay_millis = 9;
    assert_eq!(hash(&base), hash(&reload));
    let mut restart = base.clone();
    restart.fixed.path = "/other".to_owned();
    assert_ne!(hash(&base), hash(&restart));
    restart.rooms.max_members = 9;
    let taken = restart.reload_onto(&base);
    assert_eq!((&taken.fixed, taken.rooms.max_members), (&base.fixed, 9));
}

#[test]
fn what_is_written_reads_back_the_same() {
    let mut config = NodeConfig::dev();
    config.fixed.bus =
        Some(Bus::Nats(Nats { urls: vec!["nats://h:4222".to_owned()], user: Some("u".to_owned()) }));
    config.fixed.sysctls.insert("net.core.somaxconn".to_owned(), "4096".to_owned());
    config.fixed.nofile = Some(1_048_576);
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<NodeConfig>(&text).unwrap(), config);
}

/// Each of these keys is in its range; the figures that the errors recommend must work.
#[test]
fn limits_that_never_work_together_are_refused_with_what_would() {
    let errors = |change: &dyn Fn(&mut Limits)| {
        let mut config = NodeConfig::dev();
        change(&mut config.limits);
        config.validate()
    };
    // 60 seconds of idle timeout, and five seconds' worth at once.
    let slow = |bytes| move |limits: &mut Limits| limits.bytes_per_second = bytes;
    let frame = |bytes, frame| {
        move |limits: &mut Limits| (limits.bytes_per_second, limits.max_frame_bytes) = (bytes, frame)
    };
    let joins = |messages, channels| {
        move |limits: &mut Limits| {
            (limits.messages_per_second, limits.max_channels_per_connection) = (messages, channels);
        }
    };
    let budget = |budget| {
        move |limits: &mut Limits| {
            (limits.memory_budget, limits.max_frame_bytes) = (Some(budget), 2 << 20);
            limits.send_queue_bytes = 4 << 20;
        }
    };
    assert_eq!(errors(&slow(1_024)), Vec::<String>::new());
    assert_eq!(errors(&frame(1_024, 66_560)), Vec::<String>::new());
    assert_eq!(errors(&joins(250, 3_750)), Vec::<String>::new());
    assert_eq!(errors(&joins(0, 10_000)), Vec::<String>::new());
    assert_eq!(errors(&budget(20 << 20)), Vec::<String>::new());
    for (errors, both, remedy) in [
        (
            errors(&frame(1_024, 66_561)),
            ["limits.bytesPerSecond: 1024", "limits.maxFrameBytes (66561)"],
            "at least 1025,",
        ),
        (
            errors(&joins(250, 3_751)),
            ["limits.messagesPerSecond: 250", "limits.maxChannelsPerConnection (3751)"],
            "at least 251,",
        ),
        (
            errors(&budget(16 << 20)),
            ["limits.memoryBudget: ", "limits.maxFrameBytes (2097152)"],
            "at least 20971520",
        ),
    ] {
        let [error] = &errors[..] else { panic!("{errors:?}") };
        assert!(both.iter().all(|key| error.contains(key)) && error.contains(remedy), "{error}");
    }
}

#[test]
fn lengths_are_bounded_by_the_protocol_and_by_the_message() {
    let errors = |change: &dyn Fn(&mut Limits)| {
        let mut config = NodeConfig::dev();
        change(&mut config.limits);
        config.validate().join("\n")
    };
    assert_eq!(errors(&|limits| (limits.max_topic_bytes, limits.max_json_depth) = (16, 4)), "");
    assert_eq!(errors(&|limits| limits.max_payload_bytes = limits.max_frame_bytes), "");
    for (error, part) in [
        (
            errors(&|limits| limits.max_topic_bytes = 256),
            "limits.maxTopicBytes: 256 is out of range; use 16 to 255 bytes",
        ),
        (
            errors(&|limits| limits.max_event_bytes = 15),
            "limits.maxEventBytes: 15 is out of range; use 16 to 255 bytes",
        ),
        (
            errors(&|limits| limits.max_json_depth = 126),
            "limits.maxJsonDepth: 126 is out of range; use 4 to 125 levels",
        ),
        (
            errors(&|limits| limits.max_request_head_bytes = 1_024),
            "limits.maxRequestHeadBytes: 1024 is out of range",
        ),
        (
            errors(&|limits| limits.max_payload_bytes = 65_537),
            "limits.maxPayloadBytes: 65537 is more than limits.maxFrameBytes (65536)",
        ),
    ] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn lists_that_each_publish_looks_through_are_bounded() {
    let names = |count: usize| (0..count).map(|n| format!("e{n}")).collect::<Vec<_>>();
    let errors = |events: usize, policies: usize| {
        let mut config = NodeConfig::dev();
        config.rooms.ack_events = names(events);
        let policy: Policy = serde_json::from_str(r#"{"topics":"live:*"}"#).unwrap();
        config.rooms.policies = vec![policy; policies];
        config.validate().join("\n")
    };
    assert_eq!(errors(keys::LIST_ITEMS, keys::LIST_ITEMS), "");
    assert!(errors(keys::LIST_ITEMS + 1, 0).contains("rooms.ackEvents: has 65 items; use at most 64"));
    assert!(errors(0, keys::LIST_ITEMS + 1).contains("rooms.policies: has 65 items; use at most 64"));
}

/// An operator may be newer than the node, which refuses a file with a key that it does not know.
#[test]
fn a_key_added_later_is_left_out_unless_it_is_set() {
    let mut config = NodeConfig::dev();
    let written = |config: &NodeConfig| serde_json::to_string(config).unwrap();
    assert!(!written(&config).contains("maxRooms") && !written(&config).contains("compression"));
    config.limits.max_rooms = Some(7);
    config.compression = Some(Compression::default());
    assert!(written(&config).contains(r#""maxRooms":7"#));
    assert!(written(&config).contains(r#""compression":{"level":2,"minBytes":256}"#));
    assert_eq!(serde_json::from_str::<NodeConfig>(&written(&config)).unwrap(), config);
}

#[test]
fn rooms_follow_the_connections_unless_they_are_set() {
    let rooms =
        |max_connections, max_rooms| Limits { max_connections, max_rooms, ..Limits::default() }.rooms();
    assert_eq!(
        [1, 20_000, 200_000, 10_000_000].map(|n| rooms(n, None)),
        [50_000, 50_000, 500_000, 10_000_000]
    );
    assert_eq!(rooms(200_000, Some(7)), 7);
}

#[test]
fn addresses_that_the_bus_could_not_read_are_refused() {
    let errors = |url: &str| {
        let bus = Some(Bus::Nats(Nats { urls: vec![url.to_owned()], user: None }));
        let mut config = NodeConfig::dev();
        config.fixed.bus = bus;
        config.validate().len()
    };
    for good in [
        "nats://chat-nats:4222",
        "tls://nats.example.org",
        "nats://10.0.0.1:1",
        "nats://[::1]:4222",
        "nats://[::1]",
    ] {
        assert_eq!(errors(good), 0, "{good}");
    }
    for bad in [
        "nats://[",
        "nats://h:",
        "nats://h:0",
        "nats://h:65536",
        "nats://a b",
        "nats://::1:4222",
        "nats://h:1/x",
    ] {
        assert_eq!(errors(bad), 1, "{bad}");
    }
}

#[test]
fn what_is_wrong_about_proxies_is_told_with_its_remedy() {
    let errors = |keys: &str| {
        let text = format!(r#"{{"auth":{{"anonymous":true}},{keys}}}"#);
        serde_json::from_str::<NodeConfig>(&text).unwrap().validate()
    };
    let good = r#""trustedProxies":["10.0.0.0/8","::1"],"forwardedHeader":"Forwarded","proxyProtocol":true"#;
    assert_eq!(errors(good), Vec::<String>::new());
    let many = vec![r#""::1""#; 65].join(",");
    for (keys, part) in [
        (r#""trustedProxies":["nginx"]"#, "trustedProxies: \"nginx\" is no network; write 10.0.0.0/8,"),
        (r#""trustedProxies":["10.1.0.0/8"]"#, "write 10.0.0.0/8 for the whole network"),
        (&format!(r#""trustedProxies":[{many}]"#), "trustedProxies: has 65 items; use at most 64"),
        (r#""proxyProtocol":true"#, "proxyProtocol: needs trustedProxies"),
        (r#""forwardedHeader":"Forwarded""#, "forwardedHeader: counts only for trustedProxies"),
        (r#""limits":{"maxConnectionsPerAddress":10000001}"#, "use 0 to 10000000 connections"),
    ] {
        let errors = errors(keys);
        assert!(errors.len() == 1 && errors[0].contains(part), "{keys}: {errors:?}");
    }
}

#[test]
fn what_is_wrong_about_tokens_is_told_with_its_remedy() {
    let errors = |auth: &str| {
        let mut config = NodeConfig::dev();
        config.auth = serde_json::from_str(auth).unwrap();
        config.validate()
    };
    let good = r#"{"algorithms":["RS256"],"keyFile":"s/k.pem"}"#;
    assert_eq!(errors(&format!(r#"{{"jwt":[{good}],"tokenParam":"token"}}"#)), Vec::<String>::new());
    let one = |more: &str| format!(r#"{{"jwt":[{{"algorithms":["RS256"],"keyFile":"s/k",{more}}}]}}"#);
    let file = |path: &str| format!(r#"{{"jwt":[{{"algorithms":["RS256"],"keyFile":"{path}"}}]}}"#);
    let algorithms = |list: &str| format!(r#"{{"jwt":[{{"algorithms":[{list}],"keyFile":"s/k"}}]}}"#);
    let url = |algorithm: &str, url: &str, more: &str| {
        format!(r#"{{"jwt":[{{"algorithms":["{algorithm}"],"jwks":{{"url":"{url}"{more}}}}}]}}"#)
    };
    assert_eq!(errors(&url("ES256", "https://a.example/k", r#","caFile":"s/ca.crt""#)), Vec::<String>::new());
    let many = [good; 9].join(",");
    for (auth, part) in [
        ("{}".to_owned(), "auth: nobody could connect"),
        (format!(r#"{{"jwt":[{good},{good}]}}"#), "auth.jwt[0].issuer: does not tell it from the others"),
        (format!(r#"{{"jwt":[{many}]}}"#), "auth.jwt: has 9 items; use at most 8"),
        (format!(r#"{{"jwt":[{good}],"anonymousTopics":["a"]}}"#), "auth.anonymousTopics: nobody connects"),
        (
            r#"{"anonymous":true,"anonymousTopics":["a*b"]}"#.to_owned(),
            "auth.anonymousTopics: \"a*b\" is not",
        ),
        (r#"{"anonymous":true,"tokenParam":"t"}"#.to_owned(), "auth.tokenParam: no token is taken"),
        (format!(r#"{{"jwt":[{good}],"tokenParam":"vsn"}}"#), "auth.tokenParam: \"vsn\" is not"),
        (
            format!(r#"{{"jwt":[{good}],"expiryWarningMillis":999}}"#),
            "auth.expiryWarningMillis: 999 is out of range",
        ),
        (r#"{"anonymous":true,"onExpiry":"EndChannels"}"#.to_owned(), "auth.onExpiry: no token is taken"),
        (algorithms(""), "auth.jwt[0].algorithms: is empty"),
        (algorithms(r#""HS256","RS256""#), "auth.jwt[0].algorithms: mixes"),
        (file("k"), "auth.jwt[0].keyFile: is not a file below"),
        (r#"{"jwt":[{"algorithms":["RS256"]}]}"#.to_owned(), "auth.jwt[0]: must have either keyFile or jwks"),
        (one(r#""jwks":{"url":"https://a.example/k"}"#), "auth.jwt[0]: must have either keyFile or jwks"),
        (url("RS256", "http://a.example/k", ""), "auth.jwt[0].jwks.url: is not encrypted"),
        (url("HS256", "https://a.example/k", ""), "auth.jwt[0].jwks: is for public keys"),
        (
            url("RS256", "https://a.example/k", r#","refreshMillis":999"#),
            "auth.jwt[0].jwks.refreshMillis: 999 is out",
        ),
        (
            url("RS256", "https://a.example/k", r#","caFile":"../k""#),
            "auth.jwt[0].jwks.caFile: is not a file",
        ),
        (
            url("RS256", "http://a.b.svc/k", r#","caFile":"s/k""#),
            "auth.jwt[0].jwks.caFile: counts only for https",
        ),
        (file("/s/k"), "auth.jwt[0].keyFile"),
        (file("../k"), "auth.jwt[0].keyFile"),
        (file("s/.."), "auth.jwt[0].keyFile"),
        (file("s/t/k"), "auth.jwt[0].keyFile"),
        (one(r#""leewayMillis":600001"#), "auth.jwt[0].leewayMillis: 600001 is out of range"),
        (one(r#""userClaim":"""#), "auth.jwt[0].userClaim: must have 1 to 255 bytes"),
        (one(r#""issuer":"""#), "auth.jwt[0].issuer: must have"),
        (one(r#""topics":["user:{sub}*"]"#), "auth.jwt[0].topics: \"user:{sub}*\" has * right after a claim"),
        (one(r#""topics":["phoenix"]"#), "is reserved"),
    ] {
        let errors = errors(&auth).join("\n");
        assert!(errors.contains(part), "{auth}: {errors}");
    }
    for unknown in [algorithms(r#""none""#), one(r#""secret":"x""#)] {
        assert!(serde_json::from_str::<Auth>(&unknown).is_err(), "{unknown}");
    }
}
