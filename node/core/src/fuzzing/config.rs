//! A node's configuration file: it is read or refused with a sentence, and a node serves with any that is accepted.

use crate::{
    config::NodeConfig,
    shard::tests::harness::{REQUEST, Sim},
    topic::{self, TopicName},
};

/// The bytes are the file.
pub(super) fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(config) = serde_saphyr::from_str::<NodeConfig>(text) else { return };
    // As the operator writes it.
    let rendered = serde_saphyr::to_string(&config).expect("a configuration is YAML");
    let again: NodeConfig = serde_saphyr::from_str(&rendered).expect("what was written is read");
    assert_eq!(again, config);
    let errors = config.validate();
    for error in &errors {
        assert!(error.contains(": "), "{error:?} names a key and what is wrong");
    }
    let running = NodeConfig::dev();
    let reloaded = config.clone().reload_onto(&running);
    assert_eq!(reloaded.fixed, running.fixed);
    for reserved in [topic::CLUSTER.as_str(), "$x", topic::PHOENIX] {
        let name = TopicName::parse(reserved).expect("a topic");
        assert_eq!(config.rooms.resolve(name), None, "{reserved} is no topic of the fleet's");
    }
    if errors.is_empty() {
        serves(&config);
    }
}

/// A client connects, joins a topic that can be joined, and says something.
fn serves(config: &NodeConfig) {
    let path = config.fixed.path.clone();
    let mut sim = Sim::new(1, false, |place| *place = config.clone());
    let client = sim.accept(0);
    let response = sim.http(client, &REQUEST.replace("/socket", &path));
    if !config.auth.anonymous {
        assert!(response.starts_with("HTTP/1.1 403 "), "{response}");
        return;
    }
    assert!(response.starts_with("HTTP/1.1 101 "), "{response}");
    let patterns =
        config.rooms.topics.iter().chain(config.rooms.policies.iter().map(|policy| &policy.topics));
    for pattern in patterns {
        let topic = serde_json::Value::from(pattern.0.replace('*', "1"));
        for message in
            [format!(r#"["1","1",{topic},"phx_join",{{}}]"#), format!(r#"["1","2",{topic},"m",{{"x":1}}]"#)]
        {
            sim.text(client, &message);
        }
    }
    sim.pass(2_000);
    sim.sent(client);
    sim.lose(client);
    let counters = sim.counters();
    assert_eq!((counters.connections, counters.rooms, counters.memberships), (0, 0, 0));
}
