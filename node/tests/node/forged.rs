//! Tokens that nobody signed who may: each way to make one is tried on a running node, which lets none of them in and goes on
//! serving its clients. The tests of attacks try them by the thousand.

use serde_json::json;

use crate::{
    support::{
        client::Client,
        forgery::{ISSUERS, all, files, good},
        process::Process,
        wait::wait,
    },
    tokens::{Mounts, status},
};

#[test]
fn no_forged_or_twisted_token_gets_in_and_others_are_served_meanwhile() {
    let mounts = Mounts::new(&format!("auth:\n  jwt: {}\n", ISSUERS.replace('\n', " ")));
    files().iter().for_each(|(name, text)| mounts.write(&format!("jwt/tokens/{name}"), text));
    let node = Process::start(mounts.command());
    let good = good();
    let mut clients: Vec<_> =
        good.iter().map(|token| Client::connect(node.listen, Some(token)).unwrap()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.joined("room:1")["status"], "ok"));
    let attacks = all();
    assert!(attacks.len() > 50, "{}", attacks.len());
    for (what, token) in attacks {
        assert_eq!(status(&node, token), 403, "{what}: {token:.300}");
        // A token that is pushed goes the same way.
        let mut client = Client::connect(node.listen, Some(&good[1])).unwrap();
        client.joined("room:2");
        client.send(&json!(["1", null, "room:2", "access_token", {"access_token": token}]));
        assert_eq!(client.closed(), 4001, "{what}: {token:.300}");
    }
    for client in &mut clients {
        client.send(&json!([null, "9", "phoenix", "heartbeat", {}]));
        assert_eq!(client.until(|message| message[1] == "9")[4]["status"], "ok");
    }
    wait("the refusals to be counted", || {
        let (_, text) = node.ask("GET", "/metrics", None, "");
        let count = |reason: &str| {
            let begins = format!("channelcluster_node_refused_total{{reason=\"{reason}\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&begins)?.parse::<usize>().ok()).unwrap_or(0)
        };
        count("token") + count("token_expired") == attacks.len()
    });
    assert!(
        attacks.iter().all(|(_, token)| token.len() < 40 || !node.has_logged(&token[token.len() - 40..]))
    );
}
