//! The Phoenix client against a small server with faults.

use crate::support::{Double, Faults};
use e2e::client::{Habits, Socket, SocketEvent};
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn two_clients_chat_and_get_replies() {
    let server = Double::start(Faults::default()).await;
    let a = Socket::connect(&server.url()).await.unwrap();
    let b = Socket::connect(&server.url()).await.unwrap();
    let mut in_a = a.join("room:1", json!({})).await.unwrap();
    let mut in_b = b.join("room:1", json!({"name": "b"})).await.unwrap();
    in_a.cast("msg", json!({"text": "hello"})).await.unwrap();
    for channel in [&mut in_a, &mut in_b] {
        assert_eq!(channel.next_message("msg").await, Some(json!({"text": "hello"})));
    }
    let reply = in_b.push("echo", json!({"n": 5})).await.unwrap();
    assert_eq!((reply.status.as_str(), reply.response), ("ok", json!({"n": 5})));
    assert_eq!(a.heartbeat().await.unwrap().status, "ok");
    assert_eq!(in_a.leave().await.unwrap().status, "ok");
    let refused = a.join("other:1", json!({})).await.err().unwrap();
    assert!(refused.to_string().contains("unmatched topic"), "{refused:#}");
    a.close(1000).await;
}

#[tokio::test]
async fn a_restart_is_followed_by_a_rejoin_but_1000_is_not() {
    let server = Double::start(Faults::default()).await;
    let mut socket = Socket::connect(&server.url()).await.unwrap();
    let mut channel = socket.join("room:1", json!({})).await.unwrap();
    channel.next_join().await.unwrap();
    server.close_all(1012);
    channel.next_join().await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.push(socket.next().await.unwrap());
    }
    assert_eq!(seen, [SocketEvent::Open, SocketEvent::Closed(1012), SocketEvent::Open]);
    channel.cast("msg", json!({"again": true})).await.unwrap();
    assert_eq!(channel.next_message("msg").await, Some(json!({"again": true})));
    server.close_all(1000);
    assert_eq!(socket.next().await, Some(SocketEvent::Closed(1000)));
    assert_eq!(socket.next().await, None);
    assert!(channel.cast("msg", json!({})).await.is_err());
}

#[tokio::test]
async fn heartbeats_are_sent_by_themselves() {
    let server = Double::start(Faults::default()).await;
    let habits = Habits { reconnect: false, heartbeat: Duration::from_millis(20) };
    let look = || tokio::time::sleep(Duration::from_millis(5));
    // Three heartbeats are counted on one connection. When one waits 20 ms for its answer, the connection ends and the
    // count begins anew.
    let three = async {
        loop {
            while server.connections() > 0 {
                look().await;
            }
            let before = server.heartbeats();
            let mut socket = Socket::connect_with(&server.url(), habits).await.unwrap();
            let counted = async {
                while server.heartbeats() < before + 3 {
                    look().await;
                }
            };
            let ended = async { while socket.next().await.is_some() {} };
            tokio::select! {
                biased;
                () = counted => break socket,
                () = ended => {}
            }
        }
    };
    let socket = tokio::time::timeout(Duration::from_secs(120), three).await.unwrap();
    socket.close(1000).await;
}
