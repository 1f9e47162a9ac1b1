use super::harness::{Client, REQUEST, Sent, Sim, begin, drain, masked, remote, said, stay};
use crate::{
    counters::{CloseReason, RefuseReason},
    limits::{BACKLOG_FRAMES, BULK_MEMBERS, FLUSHES_PER_TURN, MAX_HANDSHAKING, MAX_HEADS_BYTES},
    shard::{Event, Mail},
    ws::CloseCode,
};

const SLOW: u16 = CloseCode::SlowConsumer as u16;
const RESTART: u16 = CloseCode::Restart as u16;

#[test]
fn a_slow_consumer_is_closed_with_its_own_code_after_the_frame_under_way() {
    let mut sim = Sim::new(1, false, |config| config.limits.send_queue_frames = 8);
    let (fast, slow) = (sim.connect(), sim.connect());
    sim.join(fast, "room:1", "1");
    sim.join(slow, "room:1", "1");
    sim.limit(slow, Some(10));
    for number in 0..9 {
        assert!(sim.counters().closed[CloseReason::SlowConsumer as usize] == 0, "closed at {number}");
        sim.text(fast, &format!(r#"["1","2","room:1","m",{{"n":{number}}}]"#));
    }
    let counters = sim.counters();
    assert_eq!(counters.closed[CloseReason::SlowConsumer as usize], 1);
    assert_eq!(counters.memberships, 1, "it left its rooms at once");
    assert_eq!(sim.texts(fast).len(), 9);
    sim.limit(slow, None);
    let sent = sim.sent(slow);
    let first = Sent::Text(r#"[null,null,"room:1","m",{"n":0}]"#.to_owned());
    assert_eq!(sent, [first, Sent::Close(SLOW)]);
    sim.bytes(slow, &masked(0x88, &SLOW.to_be_bytes()));
    assert_eq!(sim.closed, [slow]);
    assert_eq!(sim.counters().send_queue_bytes, 0);
}

#[test]
fn a_slow_consumer_that_never_reads_is_dropped() {
    let mut sim = Sim::new(1, false, |config| config.limits.send_queue_bytes = 65_536);
    let (fast, slow) = (sim.connect(), sim.connect());
    sim.join(fast, "room:1", "1");
    sim.join(slow, "room:1", "1");
    sim.limit(slow, Some(0));
    let big = "x".repeat(30_000);
    for _ in 0..3 {
        sim.text(fast, &format!(r#"["1","2","room:1","m",{{"x":"{big}"}}]"#));
    }
    assert_eq!(sim.counters().closed[CloseReason::SlowConsumer as usize], 1);
    assert!(sim.closed.is_empty());
    sim.pass(4_000);
    assert_eq!(sim.closed, [slow]);
    assert_eq!(sim.counters().send_queue_bytes, 0);
}

#[test]
fn a_burst_in_one_read_closes_nobody_who_reads() {
    let mut sim = Sim::new(1, false, |config| config.limits.send_queue_frames = 8);
    let (from, to) = (sim.connect(), sim.connect());
    sim.join(from, "room:1", "1");
    sim.join(to, "room:1", "1");
    let burst: Vec<u8> = (0..100).flat_map(|_| masked(0x81, br#"["1",null,"room:1","m",{}]"#)).collect();
    sim.bytes(from, &burst);
    assert_eq!((sim.texts(from).len(), sim.texts(to).len()), (100, 100));
}

#[test]
fn a_turn_pauses_when_its_budget_is_used() {
    let mut sim = Sim::dev();
    let from = sim.connect();
    sim.join(from, "room:1", "1");
    let writes = 4_000;
    for _ in 1..writes {
        let client = sim.connect();
        sim.join(client, "room:1", "1");
    }
    let messages = 2 * BACKLOG_FRAMES as usize / writes;
    let burst: Vec<u8> = (0..messages).flat_map(|_| masked(0x81, br#"["1",null,"room:1","m",{}]"#)).collect();
    let turns = sim.counters().turns;
    sim.bytes(from, &burst);
    let counters = sim.counters();
    assert_eq!(counters.writes, (messages * writes) as u64);
    assert!(counters.turns - turns >= 2, "all in one turn");
}

/// Writes connections that wait, `most` of them in a turn that ends at `now`.
fn flush(shard: &mut crate::shard::Shard, most: usize, now: u64) -> Vec<crate::session::id::Slot> {
    let mut written = Vec::new();
    while written.len() < most
        && let Some(id) = shard.next_flush()
    {
        let bytes = shard.output(id).1.bytes() as usize;
        shard.on_sent(id, bytes, bytes);
        written.push(id);
    }
    shard.end_flushes(None, || now);
    written
}

#[test]
fn a_flood_of_requests_does_not_hold_back_broadcasts() {
    const FLUSHES_PER_TURN: usize = 16;
    let mut sim = Sim::dev();
    let (from, to) = (sim.connect(), sim.connect());
    sim.join(from, "room:1", "1");
    sim.join(to, "room:1", "1");
    let askers: Vec<_> = (0..2 * FLUSHES_PER_TURN).map(|_| sim.connect()).collect();
    let shard = &mut sim.shards[0];
    shard.on_data(from.1, &mut masked(0x81, br#"["1",null,"room:1","m",{}]"#));
    for turn in 0.. {
        for (_, asker) in &askers {
            shard.on_data(*asker, &mut masked(0x81, br#"[null,"1","phoenix","heartbeat",{}]"#));
        }
        if flush(shard, FLUSHES_PER_TURN, 0).contains(&to.1) {
            break;
        }
        assert!(turn < 10, "the broadcast waits for as long as others ask");
    }
}

#[test]
fn a_huge_room_does_not_hold_back_a_small_one() {
    let mut sim = Sim::dev();
    let huge: Vec<_> = (0..=BULK_MEMBERS).map(|_| sim.connect()).collect();
    huge.iter().for_each(|client| sim.join(*client, "room:huge", "1"));
    let small = [sim.connect(), sim.connect()];
    small.iter().for_each(|client| sim.join(*client, "room:small", "1"));
    let shard = &mut sim.shards[0];
    shard.on_data(huge[0].1, &mut masked(0x81, br#"["1",null,"room:huge","m",{}]"#));
    shard.on_data(small[0].1, &mut masked(0x81, br#"["1",null,"room:small","m",{}]"#));
    let order = flush(shard, usize::MAX, 0);
    assert_eq!(order.len(), huge.len() + small.len());
    let place = |client: (usize, crate::session::id::Slot)| order.iter().position(|id| *id == client.1);
    assert!(small.iter().all(|client| place(*client) < Some(8)), "{:?}", small.map(place));
    assert!(order[..16].contains(&huge[0].1), "the huge room waits for nobody either");
}

#[test]
fn after_a_long_pass_broadcasts_pause_and_replies_do_not() {
    let mut sim = Sim::dev();
    let members: Vec<_> = (0..600).map(|_| sim.connect()).collect();
    members.iter().for_each(|client| sim.join(*client, "room:1", "1"));
    let from = members[0];
    let shard = &mut sim.shards[0];
    let say = |shard: &mut crate::shard::Shard| {
        shard.on_data(from.1, &mut masked(0x81, br#"["1",null,"room:1","m",{}]"#));
    };
    say(shard);
    assert_eq!(flush(shard, usize::MAX, 15).len(), 600, "a pass of 15 ms");
    say(shard);
    begin(shard, 24);
    assert!(!shard.has_flushes() && shard.egress.next_millis() == Some(25));
    shard.on_data(from.1, &mut masked(0x81, br#"[null,"1","phoenix","heartbeat",{}]"#));
    assert!(shard.has_flushes());
    assert_eq!(flush(shard, usize::MAX, 24), [from.1], "with the broadcast, which comes before it");
    begin(shard, 25);
    assert!(shard.has_flushes());
    assert_eq!(flush(shard, usize::MAX, 25).len(), 599);
    assert!(!shard.has_flushes() && shard.egress.next_millis().is_none());
}

#[test]
fn a_pass_over_who_has_nothing_any_more_ends() {
    let mut sim = Sim::dev();
    let from = sim.connect();
    sim.join(from, "room:1", "1");
    let shard = &mut sim.shards[0];
    for _ in 0..2 {
        shard.on_data(from.1, &mut masked(0x81, br#"["1",null,"room:1","m",{}]"#));
        shard.on_data(from.1, &mut masked(0x81, br#"[null,"1","phoenix","heartbeat",{}]"#));
        assert_eq!(flush(shard, usize::MAX, 0), [from.1], "once, as who gets a reply");
        assert!(!shard.has_flushes());
        begin(shard, 0);
    }
}

#[test]
fn over_its_budget_a_turn_takes_one_broadcast_and_every_heartbeat() {
    let mut sim = Sim::new(1, false, |config| config.limits.send_queue_frames = 4);
    let (from, to) = (sim.connect(), sim.connect());
    sim.join(from, "room:1", "1");
    sim.join(to, "room:1", "1");
    let shard = &mut sim.shards[0];
    let say = |shard: &mut crate::shard::Shard| {
        shard.on_data(from.1, &mut masked(0x81, br#"["1",null,"room:1","m",{}]"#))
    };
    for _ in 0..3 {
        say(shard);
    }
    assert!(shard.is_over_budget() && shard.is_saturated());
    begin(shard, 0);
    assert!(shard.is_over_budget() && !shard.is_saturated());
    shard.on_data(to.1, &mut masked(0x81, br#"[null,"1","phoenix","heartbeat",{}]"#));
    assert!(!shard.is_saturated());
    say(shard);
    assert!(shard.is_saturated());
    shard.begin_source(2);
    for _ in 0..2 {
        assert!(!shard.is_saturated(), "others' publishes are not the clients', and there are two of these");
        shard.handle(remote(said("room:1", "m"), false));
    }
    assert!(shard.is_saturated());
    sim.settle();
    assert!(!sim.shards[0].is_over_budget());
    assert_eq!(sim.texts(to).len(), 7);
}

/// A room whose members have three of four frames queued, which the shard has not tried to write yet.
fn with_half_full_queues(members: usize) -> (Sim, Vec<Client>) {
    let mut sim = Sim::new(1, false, |config| {
        config.limits.send_queue_frames = 4;
        config.rooms.max_members = members as u32;
    });
    let members: Vec<_> = (0..members).map(|_| sim.connect()).collect();
    for member in &members {
        sim.join(*member, "room:1", "1");
    }
    for _ in 0..3 {
        sim.shards[0].handle(remote(said("room:1", "m"), false));
    }
    (sim, members)
}

/// Where writes take long a turn writes fewer connections, so fewer half-full queues are already more than a turn can
/// write.
#[test]
fn a_turn_that_was_cut_short_takes_nothing_new_for_more_queues_than_it_wrote() {
    let (mut sim, _) = with_half_full_queues(20);
    let shard = &mut sim.shards[0];
    begin(shard, 0);
    assert!(shard.is_over_budget() && !shard.is_saturated(), "a turn writes far more than twenty");
    for _ in 0..8 {
        let id = shard.next_flush().expect("one to write");
        let bytes = shard.output(id).1.bytes();
        shard.on_sent(id, bytes as usize, bytes as usize);
    }
    shard.end_flushes(Some(8), || 0);
    begin(shard, 0);
    assert!(shard.is_saturated(), "twelve wait, and eight were written in the time of a turn");
    sim.settle();
    begin(&mut sim.shards[0], 0);
    assert!(!sim.shards[0].is_saturated());
}

#[test]
fn while_more_queues_are_half_full_than_a_turn_writes_nothing_is_added_to_them() {
    const MEMBERS: usize = FLUSHES_PER_TURN + 1;
    let (mut sim, members) = with_half_full_queues(MEMBERS);
    let shard = &mut sim.shards[0];
    begin(shard, 0);
    assert!(shard.is_saturated(), "a broadcast more would be for queues that nobody has tried to write");
    let first = shard.next_flush().expect("one to write");
    let bytes = shard.output(first).1.bytes();
    shard.on_sent(first, bytes as usize, bytes as usize);
    assert!(shard.is_saturated(), "what comes first in a turn takes nothing away from what comes later");
    begin(shard, 0);
    assert!(!shard.is_saturated());
    sim.settle();
    let heard = members.iter().filter(|member| sim.texts(**member).len() == 3).count();
    assert_eq!(heard, MEMBERS - 1, "all but the one that the test wrote");
}

#[test]
fn idle_connections_are_closed_and_heartbeats_keep_them() {
    let mut sim = Sim::new(1, false, |config| config.limits.idle_timeout_millis = 60_000);
    let (idle, alive) = (sim.connect(), sim.connect());
    for _ in 0..3 {
        sim.pass(29_000);
        sim.text(alive, r#"[null,"1","phoenix","heartbeat",{}]"#);
    }
    assert_eq!(sim.sent(idle), [Sent::Close(1002)]);
    assert_eq!(sim.sent(alive).len(), 3);
    assert_eq!(sim.counters().closed[CloseReason::Idle as usize], 1);
    assert_eq!(sim.closed, [idle], "dropped although it never answered");
}

#[test]
fn a_connection_whose_input_waits_to_be_read_is_not_idle() {
    let mut sim = Sim::new(1, false, |config| config.limits.idle_timeout_millis = 60_000);
    let (idle, waiting) = (sim.connect(), sim.connect());
    sim.pass(50_000);
    let id = sim.shards[0].sessions.id(waiting.1);
    sim.shards[0].handle(Event::Input(id));
    sim.pass(50_000);
    assert_eq!((sim.sent(idle), sim.sent(waiting)), (vec![Sent::Close(1002)], vec![]));
}

#[test]
fn half_open_connections_are_dropped_at_the_deadline() {
    let mut sim = Sim::dev();
    let client = sim.accept(0);
    for byte in REQUEST.bytes().take(40) {
        sim.pass(100);
        sim.bytes(client, &[byte]);
    }
    assert!(sim.closed.is_empty());
    sim.pass(3_000);
    assert_eq!(sim.closed, [client]);
    let counters = sim.counters();
    assert_eq!((counters.refused[RefuseReason::Timeout as usize], counters.handshaking), (1, 0));
}

#[test]
fn half_open_connections_share_a_budget_of_bytes_that_whole_requests_do_not_need() {
    const HEAD: usize = 8_000;
    let mut sim = Sim::dev();
    let (start, end) = REQUEST.split_at(REQUEST.len() - 2);
    let long = format!("{start}X: {}", "x".repeat(HEAD - start.len() - 3));
    let fit = MAX_HEADS_BYTES / HEAD;
    let clients: Vec<_> = (0..fit).map(|_| sim.accept(0)).collect();
    for client in &clients {
        assert_eq!(sim.http(*client, &long), "");
    }
    let refused = sim.accept(0);
    assert!(sim.http(refused, &long).starts_with("HTTP/1.1 503 "));
    sim.connect();
    assert!(sim.http(clients[0], &format!("\r\n{end}")).starts_with("HTTP/1.1 101 "));
    sim.lose(clients[1]);
    for _ in 0..2 {
        let client = sim.accept(0);
        assert_eq!(sim.http(client, &long), "", "what went is free again");
    }
    sim.pass(10_000);
    assert_eq!(sim.shards[0].sessions.heads_bytes(), 0);
}

#[test]
fn too_many_half_open_connections_are_dropped_accept() {
    let mut sim = Sim::dev();
    for _ in 0..MAX_HANDSHAKING {
        sim.accept(0);
    }
    assert_eq!(sim.shards[0].accept(), None);
}

#[test]
fn the_node_holds_max_connections_over_all_shards() {
    let mut sim = Sim::new(2, false, |config| config.limits.max_connections = 2);
    let first = sim.connect_to(0, "2.0.0");
    sim.connect_to(1, "2.0.0");
    let third = sim.accept(1);
    assert!(sim.http(third, REQUEST).starts_with("HTTP/1.1 503 "));
    assert!(sim.output_ended(third));
    sim.lose(third);
    sim.lose(first);
    sim.connect_to(1, "2.0.0");
    assert_eq!(sim.counters().refused[RefuseReason::Full as usize], 1);
}

#[test]
fn a_drain_closes_at_its_pace_and_can_be_taken_back() {
    let mut sim = Sim::dev();
    let clients: Vec<_> = (0..100).map(|_| sim.connect()).collect();
    sim.shards[0].handle(drain(20));
    sim.settle();
    sim.pass(2_000);
    let closed = sim.counters().closed[CloseReason::Drain as usize];
    assert!((40..=42).contains(&closed), "{closed} of 100 after 2 s at 20 per second");
    let codes: Vec<_> = clients.iter().flat_map(|client| sim.sent(*client)).collect();
    assert_eq!(codes, vec![Sent::Close(RESTART); codes.len()]);
    assert_eq!(codes.len() as u64, closed);
    let late = sim.accept(0);
    assert!(sim.http(late, REQUEST).starts_with("HTTP/1.1 503 "));
    sim.shards[0].handle(stay());
    sim.pass(2_000);
    assert_eq!(sim.counters().closed[CloseReason::Drain as usize], closed);
    sim.connect();
}

#[test]
fn shutdown_ends_everything() {
    let mut sim = Sim::dev();
    let polite = sim.connect();
    let silent = sim.connect();
    sim.accept(0);
    sim.shards[0].handle(Event::Mail(Mail::Shutdown));
    sim.settle();
    sim.pass(100);
    assert_eq!(
        (sim.sent(polite), sim.sent(silent)),
        (vec![Sent::Close(RESTART)], vec![Sent::Close(RESTART)])
    );
    sim.bytes(polite, &masked(0x88, &RESTART.to_be_bytes()));
    assert_eq!(sim.shards[0].connections(), 1);
    sim.pass(4_000);
    assert_eq!(sim.shards[0].connections(), 0);
    assert_eq!(sim.counters().connections, 0);
}

#[test]
fn nothing_slows_a_shutdown_down_or_takes_it_back() {
    let mut sim = Sim::dev();
    let clients: Vec<_> = (0..100).map(|_| sim.connect()).collect();
    sim.shards[0].handle(Event::Mail(Mail::Shutdown));
    sim.shards[0].handle(drain(1));
    sim.shards[0].handle(stay());
    sim.settle();
    sim.pass(100);
    assert!(clients.iter().all(|client| sim.sent(*client) == [Sent::Close(RESTART)]));
}

#[test]
fn who_connects_during_the_shutdown_and_says_nothing_does_not_hold_it_up() {
    let mut sim = Sim::new(1, false, |config| config.limits.handshake_timeout_millis = 60_000);
    sim.shards[0].handle(Event::Mail(Mail::Shutdown));
    sim.settle();
    let late = sim.accept(0);
    sim.pass(4_000);
    assert_eq!((sim.closed, sim.shards[0].connections()), (vec![late], 0));
}

#[test]
fn refused_requests_get_their_status() {
    let mut sim = Sim::dev();
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), "200 OK"),
        ("GET /x HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), "404 Not Found"),
        (REQUEST.replace("2.0.0", "9"), "403 Forbidden"),
        (REQUEST.replace("\r\n\r\n", "\r\nOrigin: http://evil\r\n\r\n"), "403 Forbidden"),
        (REQUEST.replace("GET", "POST"), "400 Bad Request"),
    ] {
        let client = sim.accept(0);
        let response = sim.http(client, &request);
        assert!(response.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request}: {response}");
        assert!(sim.output_ended(client));
        sim.pass(4_000);
    }
    assert_eq!((sim.closed.len(), sim.counters().handshaking), (5, 0));
}

#[test]
fn frames_sent_with_the_request_are_not_lost() {
    let mut sim = Sim::dev();
    let client = sim.accept(0);
    let mut bytes = REQUEST.as_bytes().to_vec();
    bytes.extend(masked(0x89, b"early"));
    sim.bytes(client, &bytes);
    let early = sim.sent_after_head(client);
    let response = sim.http(client, "");
    assert!(response.ends_with("\r\n\r\n"), "{response}");
    assert_eq!(early, [Sent::Pong(b"early".to_vec())]);
}

#[test]
fn a_flush_window_sends_once_per_member_and_to_who_was_there() {
    let mut sim = Sim::new(1, false, |config| {
        config.rooms.policies =
            serde_json::from_str(r#"[{"topics": "room:slow*", "flushWindowMillis": 100}]"#)
                .expect("policies");
    });
    let (from, to, late) = (sim.connect(), sim.connect(), sim.connect_to(0, "1.0.0"));
    sim.join(from, "room:slow", "1");
    sim.join(to, "room:slow", "1");
    let say = |sim: &mut Sim, n: u32| sim.text(from, &format!(r#"["1",null,"room:slow","m",{{"n":{n}}}]"#));
    let said = |n: u32| format!(r#"[null,null,"room:slow","m",{{"n":{n}}}]"#);
    say(&mut sim, 1);
    assert!(sim.texts(to).is_empty() && sim.shards[0].timers.deadlines() == 1);
    // A member that joins gets what is said after its join; the others have got what was said before it.
    sim.text(late, r#"{"topic":"room:slow","event":"phx_join","payload":{},"ref":"1"}"#);
    assert_eq!(sim.texts(to), [said(1)]);
    assert_eq!(sim.texts(late).len(), 1, "its reply");
    say(&mut sim, 2);
    say(&mut sim, 3);
    assert!(sim.texts(to).is_empty());
    sim.pass(100);
    assert_eq!((sim.texts(to), sim.texts(from).len()), (vec![said(2), said(3)], 3));
    let v1 = |n: u32| format!(r#"{{"topic":"room:slow","event":"m","payload":{{"n":{n}}},"ref":null}}"#);
    let normal = |text: &String| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    let (got, wanted) = (sim.texts(late), [v1(2), v1(3)]);
    assert!(got.iter().map(normal).eq(wanted.iter().map(normal)), "{got:?}");
    assert_eq!(sim.counters().writes, 2 + 2 * 3);
    say(&mut sim, 4);
    sim.text(to, r#"["1","9","room:slow","phx_leave",{}]"#);
    assert_eq!(sim.texts(to)[0], said(4));
    assert_eq!(sim.shards[0].egress.waiting().0, 0);
}
