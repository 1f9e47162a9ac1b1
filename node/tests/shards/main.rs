//! Real sockets on loopback against the shards of a node, for rules that only a kernel can show. The rules of the
//! protocol are tested on the state machine itself, in node-core.

mod support;

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
};

use node::mailbox::ShardHandle;
use node_core::{
    config::NodeConfig,
    counters::{CloseReason, RefuseReason},
    drain::DrainOrder,
    moving::{MoveOrder, MoveTask, Share},
    shard::Mail,
};
use support::{HANG, Node, wait};
use tokio::net::TcpSocket;

#[test]
fn members_on_different_shards_hear_each_other_and_those_who_left_do_not() {
    let node = Node::start(2, |_| {});
    let mut clients = node.clients_on_both_shards();
    for client in &mut clients {
        client.join("room:1");
    }
    let mut left = clients.pop().expect("a client");
    left.send(r#"["1","2","room:1","phx_leave",{}]"#);
    left.expect(r#"["1","2","room:1","phx_reply",{"status":"ok","response":{}}]"#);
    left.expect(r#"["1","1","room:1","phx_close",{}]"#);
    clients[0].send(r#"["1","3","room:1","said_ack",{"n":1}]"#);
    for client in &mut clients {
        client.expect(r#"[null,null,"room:1","said",{"n":1}]"#);
    }
    clients[0].expect(r#"["1","3","room:1","phx_reply",{"status":"ok","response":{}}]"#);
    left.send(r#"[null,"4","phoenix","heartbeat",{}]"#);
    left.expect(r#"[null,"4","phoenix","phx_reply",{"status":"ok","response":{}}]"#);
    // A turn's counters are published at its end, after its writes.
    wait("each member and the other shard are counted once", || {
        let counters = node.counters();
        (counters.publishes, counters.writes, counters.remote_received) == (1, clients.len() as u64, 1)
    });
}

#[test]
fn order_is_kept_across_shards_and_large_messages_pass() {
    let node = Node::start(2, |_| {});
    let mut clients = node.clients_on_both_shards();
    for client in &mut clients {
        client.join("room:1");
    }
    let filler = "x".repeat(60_000);
    for number in 0..50 {
        let filler = if number % 10 == 0 { &*filler } else { "" };
        clients[0].send(&format!(r#"["1",null,"room:1","m",{{"n":{number},"x":"{filler}"}}]"#));
    }
    for client in &mut clients {
        for number in 0..50 {
            let text = client.read();
            let head = format!(r#"[null,null,"room:1","m",{{"n":{number},"#);
            assert!(text.starts_with(&head), "{text:.80}");
        }
    }
}

#[test]
fn the_cap_of_a_room_holds_over_all_shards() {
    let node = Node::start(2, |config| config.rooms.max_members = 3);
    let mut clients = node.clients_on_both_shards();
    let joined = clients.iter_mut().filter_map(|client| client.try_join("room:1").ok()).count();
    assert!(clients.len() > 3 && joined == 3, "{joined} of {} joined", clients.len());
}

/// No connection is over its rates.
fn without_rates(config: &mut NodeConfig) {
    config.limits.messages_per_second = 0;
    config.limits.bytes_per_second = 0;
}

#[test]
fn a_client_that_does_not_read_is_closed_and_the_others_go_on() {
    // The deaf client's kernel buffer is filled before its close frame comes: megabytes to read before the server
    // gives up.
    let node = Node::start_with(1, HANG, |config| {
        config.limits.send_queue_bytes = 65_536;
        without_rates(config);
    });
    let (mut talker, mut listener, mut deaf) = (node.client(), node.client(), node.client());
    for client in [&mut talker, &mut listener, &mut deaf] {
        client.join("room:1");
    }
    let message = format!(r#"["1",null,"room:1","m",{{"x":"{}"}}]"#, "x".repeat(60_000));
    let mut sent = 0;
    while node.counters().closed[CloseReason::SlowConsumer as usize] == 0 {
        talker.send(&message);
        talker.read();
        listener.read();
        sent += 1;
        assert!(sent < 10_000, "600 MB went to somebody who does not read");
    }
    let code = loop {
        match deaf.read_or_close() {
            Ok(_) => {}
            Err(code) => break code,
        }
    };
    assert_eq!(code, Some(4008));
    talker.send(r#"["1","9","room:1","echo",{}]"#);
    talker.read();
    wait("the queue is empty", || node.counters().send_queue_bytes == 0);
}

#[test]
fn a_drain_closes_all_with_1012_refuses_new_ones_and_can_be_taken_back() {
    let node = Node::start(2, |_| {});
    let mut clients = node.clients_on_both_shards();
    node.tell(|| Mail::Drain(DrainOrder::Close { connections_per_second: 1_000 }));
    for client in &mut clients {
        assert_eq!(client.read_or_close(), Err(Some(1012)));
    }
    wait("all gone", || node.counters().connections == 0);
    wait("all counted", || node.counters().closed[CloseReason::Drain as usize] == clients.len() as u64);
    assert_eq!(node.try_client().err(), Some(503));
    node.tell(|| Mail::Drain(DrainOrder::Stop));
    wait("taken back", || node.try_client().is_ok());
}

#[test]
fn moved_clients_get_1012_at_a_pace_and_the_others_are_served_on() {
    let node = Node::start(2, |_| {});
    let mut clients = node.clients_on_both_shards();
    for client in &mut clients {
        client.join("room:1");
    }
    // One that has come with the order, to half a second, is taken for one that came after it.
    let task = MoveTask {
        operation: 1,
        share: Share { connections: 1, milliwrites: Share::NO_BOUND },
        milliconnections_per_second: 1_000,
        min_age_millis: 0,
        lease_millis: 60_000,
    };
    let mut operation = 0;
    wait("some are moved", || {
        operation += 1;
        node.tell(|| Mail::Move(MoveOrder::Close(MoveTask { operation, ..task })));
        wait("the order is carried out", || {
            let done = |handle: &ShardHandle| handle.stats().moves();
            node.shards().handles().iter().map(done).all(|seen| seen.operation == operation && seen.done)
        });
        node.counters().closed[CloseReason::Moved as usize] >= 2
    });
    let moved = node.counters().closed[CloseReason::Moved as usize];
    let mut told = 0;
    for client in &mut clients {
        client.send(r#"[null,"9","phoenix","heartbeat",{}]"#);
        told += u64::from(client.read_or_close() == Err(Some(1012)));
    }
    assert_eq!(told, moved);
    wait("they are gone", || node.counters().connections == clients.len() as u64 - moved);
    node.client().join("room:1");
}

#[test]
fn shutdown_ends_the_threads_and_frees_the_port() {
    let mut node = Node::start(2, |_| {});
    let mut client = node.client();
    // Bound beside the shards without listening: nobody else gets the port when they let go of it.
    let held = TcpSocket::new_v4().expect("a socket");
    held.set_reuseport(true).expect("an option");
    held.bind(node.addr()).expect("beside the shards");
    node.shut_down();
    assert_eq!(client.read_or_close(), Err(Some(1012)));
    node.join();
    assert!(TcpStream::connect(node.addr()).is_err());
}

#[test]
fn connections_above_the_limit_get_503_until_one_ends() {
    let node = Node::start(2, |config| config.limits.max_connections = 2);
    let (first, _second) = (node.client(), node.client());
    assert_eq!(node.try_client().err(), Some(503));
    drop(first);
    wait("a place", || node.try_client().is_ok());
}

#[test]
fn half_open_and_idle_connections_are_ended() {
    let node = Node::start(1, |config| config.limits.idle_timeout_millis = 1_000);
    assert_eq!(node.client().read_or_close(), Err(Some(1002)));

    let node = Node::start(1, |config| config.limits.handshake_timeout_millis = 300);
    let mut tries = 0;
    wait("an orderly end", || {
        tries += 1;
        let mut half_open = TcpStream::connect(node.addr()).expect("connects");
        half_open.set_read_timeout(Some(HANG)).expect("a timeout");
        // After a write behind the end only a reset can be seen.
        half_open.write_all(b"GET /socket").is_ok() && matches!(half_open.read(&mut [0; 16]), Ok(0))
    });
    wait("each is counted", || node.counters().refused[RefuseReason::Timeout as usize] == tries);
}

#[test]
fn a_half_closed_or_reset_connection_is_forgotten() {
    let node = Node::start(1, |_| {});
    for how in [Shutdown::Write, Shutdown::Both] {
        let mut client = node.client();
        client.join("room:1");
        client.stream().shutdown(how).expect("shuts down");
        wait("it is gone", || (node.counters().connections, node.counters().memberships) == (0, 0));
    }
    wait("both are counted", || node.counters().closed[CloseReason::Lost as usize] == 2);
}

#[test]
fn a_storm_of_publishes_does_not_starve_heartbeats_nor_lose_messages() {
    const MEMBERS: usize = 50;
    const MESSAGES: usize = 2_000;
    // A turn takes 64 KiB at most from a connection, so the storm lasts for more than 30 turns, and each turn answers
    // what came before it. If fewer answers come, heartbeats wait for the end of the storm.
    const FILLER: usize = 1_024;
    const ANSWERS: usize = 4;
    let filler = "x".repeat(FILLER);
    // The queues are large enough for all of it: on a busy machine members read late, which this test is not about.
    let node = Node::start(2, |config| {
        without_rates(config);
        config.limits.send_queue_bytes = 4 << 20;
        config.limits.send_queue_frames = 4_096;
    });
    let mut members: Vec<_> = (0..MEMBERS).map(|_| node.client()).collect();
    for member in &mut members {
        member.join("room:1");
    }
    let mut talker = node.client();
    talker.join("room:1");
    let mut quiet = node.client();
    let mut answers = 0;
    std::thread::scope(|scope| {
        let hear = |member: &mut support::Client| {
            for n in 0..MESSAGES {
                member.expect(&format!(r#"[null,null,"room:1","m",{{"n":{n},"x":"{filler}"}}]"#));
            }
        };
        let hearing: Vec<_> = members.iter_mut().map(|member| scope.spawn(move || hear(member))).collect();
        let mut reading = talker.split();
        scope.spawn(move || (0..MESSAGES).for_each(|_| drop(reading.read())));
        scope.spawn(|| {
            for n in 0..MESSAGES {
                talker.send(&format!(r#"["1",null,"room:1","m",{{"n":{n},"x":"{filler}"}}]"#));
            }
        });
        while !hearing.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            quiet.send(r#"[null,"4","phoenix","heartbeat",{}]"#);
            quiet.expect(r#"[null,"4","phoenix","phx_reply",{"status":"ok","response":{}}]"#);
            answers += 1;
        }
    });
    assert!(answers >= ANSWERS, "{answers} heartbeats were answered during the storm");
    wait("all writes are counted", || node.counters().writes == ((MEMBERS + 1) * MESSAGES) as u64);
    assert_eq!(node.counters().closed[CloseReason::SlowConsumer as usize], 0);
}
