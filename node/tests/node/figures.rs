//! Figures of a scrape: by policy of rooms, and how long broadcasts take.

use serde_json::json;

use crate::{
    support::{client::Client, process::Process, wait::wait},
    tokens::Mounts,
};

fn config(small: &str) -> String {
    format!(
        "cluster: {{namespace: default, name: chat}}\nauth: {{anonymous: true}}\n\
         rooms: {{topics: [\"*\"], policies: [{{topics: \"{small}\", maxMembers: 1}}]}}\n"
    )
}

#[test]
fn a_scrape_tells_policies_apart_and_how_long_broadcasts_took() {
    let mounts = Mounts::new(&config("small:*"));
    let mut command = mounts.command();
    command.args(["--shards", "1"]);
    let node = Process::start(command);
    let metric = |name: &str| node.metric(&format!("channelcluster_node_{name}"));
    let of = |figure: &str, policy: &str| metric(&format!("policy_{figure}_total{{policy=\"{policy}\"}}"));

    let (mut speaker, _) = Client::join(node.listen, "room:1");
    let (mut listener, _) = Client::join(node.listen, "room:1");
    let (mut alone, _) = Client::join(node.listen, "small:1");
    let (_, refused) = Client::join(node.listen, "small:1");
    assert_eq!(refused["status"], "error", "{refused}");
    for number in 0..3 {
        speaker.send(&json!(["1", "2", "room:1", "said", {"number": number}]));
        listener.until(|message| message[4]["number"] == number);
    }
    alone.send(&json!(["1", "2", "small:1", "said", {}]));
    alone.until(|message| message[3] == "said");

    wait("the figures of all to be published", || of("writes", "small:*") == Some(1.0));
    assert_eq!(["publishes", "writes", "joins_refused"].map(|name| of(name, "small:*")), [Some(1.0); 3]);
    assert_eq!(
        ["publishes", "writes", "joins_refused"].map(|name| of(name, "default")),
        [Some(3.0), Some(6.0), Some(0.0)]
    );
    wait("all broadcasts to be written", || metric("fan_out_seconds_count") == Some(4.0));
    assert_eq!(metric("fan_out_seconds_bucket{le=\"+Inf\"}"), Some(4.0));
    assert!(metric("fan_out_seconds_bucket{le=\"0.001\"}").is_some_and(|count| count <= 4.0));
    wait("a second to pass", || metric("queue_age_seconds_count").is_some_and(|count| count > 0.0));

    mounts.write("node.yaml", &config("tiny:*"));
    wait("the other policy to be in force", || of("writes", "tiny:*") == Some(0.0));
    assert_eq!((of("writes", "small:*"), of("writes", "default")), (None, Some(6.0)));
    alone.send(&json!(["1", "3", "small:1", "said", {}]));
    wait("it to be one of the others", || of("writes", "default") == Some(7.0));
}
