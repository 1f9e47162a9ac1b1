//! `hold` and `release`.

use crate::support::{FLEETS, Server, printed, run};
use operator_core::holds::Holds;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What the operator reads of the annotations that were written last.
fn held(server: &Server) -> (bool, bool) {
    let (method, path, body) = server.asked().pop().unwrap();
    assert_eq!((method.as_str(), path.as_str()), ("PATCH", format!("{FLEETS}/chat").as_str()));
    assert_eq!(body.as_object().unwrap().keys().collect::<Vec<_>>(), ["metadata"], "never the spec");
    let annotations = body["metadata"]["annotations"].as_object().unwrap();
    assert_eq!(annotations.len(), 2, "one that is not held is taken away: {body}");
    let set = annotations.iter().filter(|(_, value)| !value.is_null());
    let set: BTreeMap<_, _> =
        set.map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned())).collect();
    let holds = Holds::of(Some(&set));
    (holds.scale_in, holds.scale_out)
}

#[tokio::test]
async fn the_operator_reads_what_is_held() {
    let server = Server::with(&["chat"]);
    for (line, expected, says) in [
        ("hold chat", (true, true), "neither shrinks nor grows"),
        ("hold chat --scale-in", (true, false), "does not shrink"),
        ("hold chat --scale-out", (false, true), "does not grow"),
        ("hold chat --scale-in --scale-out", (true, true), "neither"),
        ("release chat", (false, false), "follows its load"),
    ] {
        let text = printed(&server, line).await;
        assert!(text.contains(says), "{line}: {text}");
        assert_eq!(held(&server), expected, "{line}");
    }
}

#[tokio::test]
async fn a_person_who_may_only_look_is_told_so() {
    let server = Server::with(&["chat"]);
    let status: Value = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 403, "reason": "Forbidden",
        "message": "User \"eve\" cannot patch resource",
    });
    server.say(&format!("{FLEETS}/chat"), 403, &status.to_string());
    let error = Box::pin(run(&server, "hold chat")).await.unwrap_err();
    let said = format!("{error:#}");
    assert!(said.contains("you may not change") && said.contains("eve"), "{said}");
}
