//! Claims against a server in memory.

use crate::support::Server;
use operator::claim::Claims;
use operator::events::Events;
use serde_json::json;

#[tokio::test]
async fn who_cannot_see_what_others_claim_claims_nothing() {
    let server = Server::default();
    let client = server.client();
    let events = Events::new(client.clone(), "here".to_owned());
    let claims = Claims::new("here", &[]);
    // The server has no list of claims, which is not the refusal of a right.
    claims.look(&client, &events).await;
    assert!(!claims.holds("default") && server.writes().is_empty());
    let none =
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "LeaseList", "metadata": {}, "items": []});
    server.put("/apis/coordination.k8s.io/v1/leases", none);
    claims.look(&client, &events).await;
    assert!(claims.holds("default") && server.writes().len() == 1);
}
