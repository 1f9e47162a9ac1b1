//! Long-poll on two nodes, with a bus between them that loses what it carries, holds it up and turns its order around. Under
//! any of it a client hears each message once and in order, or is told that it missed something, and no request is left
//! without an answer.

use arbitrary::{Result, Unstructured};
use serde_json::Value;

use super::{
    fleet::{Fleet, boot_id},
    harness::{Client, Sim},
    polls::text,
};
use crate::{
    broadcast::NodeTag,
    counters::RefuseReason,
    limits::{CARRIED_MILLIS, CONFIRM_MILLIS, MAX_CARRIED, POLL_WINDOW_MILLIS},
    longpoll::{Ask, Asker, Carried, What, token::Token},
    session::id::ConnId,
    shard::{Event, Mail},
};

/// A request is answered within this time whatever happens: the sweep comes once a second.
const LONGEST_MILLIS: u64 = CARRIED_MILLIS + 1_500;

/// A long-poll client as a load balancer without stickiness sends it around.
struct Listener {
    owner: usize,
    token: String,
    /// The number of the last message that it heard.
    heard: u64,
    /// The node, the connection and the time of the poll that waits.
    poll: Option<(usize, Client, u64)>,
    /// The same of a post.
    post: Option<(usize, Client, u64)>,
}

const LINES: &str = "content-type: application/x-ndjson\r\n";

impl Listener {
    /// A session that has joined the room.
    fn open(fleet: &mut Fleet, owner: usize, shard: usize) -> Self {
        let client = fleet.ask(owner, shard, &text("GET", "", "", ""));
        let (_, opened) = fleet.answer(owner, client).expect("a session");
        let token = opened["token"].as_str().expect("a token").to_owned();
        let join = r#"["1","1","room:1","phx_join",{}]"#;
        fleet.nodes[owner].bytes(client, text("POST", &token, LINES, join).as_bytes());
        let (_, joined) = fleet.answer(owner, client).expect("an answer");
        assert_eq!(joined["status"], 200);
        fleet.nodes[owner].lose(client);
        Self { owner, token, heard: fleet.said[owner], poll: None, post: None }
    }

    fn poll(&mut self, fleet: &mut Fleet, node: usize, shard: usize) {
        if self.poll.is_none() {
            let client = fleet.ask(node, shard, &text("GET", &self.token, "", ""));
            self.poll = Some((node, client, fleet.nodes[node].now_millis));
        }
    }

    fn post(&mut self, fleet: &mut Fleet, node: usize, shard: usize) {
        if self.post.is_none() {
            let beats = [r#"[null,"9","phoenix","heartbeat",{}]"#; 5].join("\n");
            let client = fleet.ask(node, shard, &text("POST", &self.token, LINES, &beats));
            self.post = Some((node, client, fleet.nodes[node].now_millis));
        }
    }

    /// The answer to a request that waited, if it has come.
    fn take(fleet: &mut Fleet, request: &mut Option<(usize, Client, u64)>) -> Option<(String, Value)> {
        let (node, client, since) = (*request)?;
        let Some(answer) = fleet.answer(node, client) else {
            let waited = fleet.nodes[node].now_millis - since;
            assert!(waited < LONGEST_MILLIS, "no answer within {waited} ms");
            return None;
        };
        *request = None;
        if !fleet.nodes[node].closed.contains(&client) {
            fleet.nodes[node].lose(client);
            fleet.collect();
        }
        Some(answer)
    }

    /// Looks at the answers that have come. False when the session is over.
    fn look(&mut self, fleet: &mut Fleet) -> bool {
        let mut is_over = false;
        if let Some((head, body)) = Self::take(fleet, &mut self.post) {
            let is_known = [200, 408, 410, 500].iter().any(|status| body["status"] == *status);
            assert!(head.starts_with("HTTP/1.1 503") || is_known, "{head} {body}");
            is_over = body["status"] == 500;
        }
        if let Some((head, body)) = Self::take(fleet, &mut self.poll) {
            let status = body["status"].as_u64();
            match status {
                Some(200) => self.hear(&body),
                Some(204) => {}
                Some(410 | 500) => is_over = true,
                None => assert!(head.starts_with("HTTP/1.1 503"), "{head}"),
                Some(_) => panic!("{body}"),
            }
        }
        !is_over
    }

    fn hear(&mut self, body: &Value) {
        for message in body["messages"].as_array().expect("a list") {
            let message: Value = serde_json::from_str(message.as_str().expect("a text")).expect("JSON");
            if message[3] == "m" {
                assert_eq!(message[4]["n"], self.heard + 1, "missed without being told, or heard twice");
                self.heard += 1;
            }
        }
    }

    /// Ends its connections, as a client does that gives up.
    fn leave(&mut self, fleet: &mut Fleet) {
        for (node, client, _) in [self.poll.take(), self.post.take()].into_iter().flatten() {
            if !fleet.nodes[node].closed.contains(&client) {
                fleet.nodes[node].lose(client);
            }
        }
        fleet.collect();
    }
}

fn step(u: &mut Unstructured<'_>, fleet: &mut Fleet, listener: &mut Listener) -> Result<()> {
    let (node, shard) = (u.int_in_range(0..=1usize)?, u.int_in_range(0..=fleet.nodes[0].shards.len() - 1)?);
    match u.int_in_range(0..=23)? {
        0..=6 if !fleet.bus.is_empty() => fleet.deliver(0),
        7 if !fleet.bus.is_empty() => fleet.deliver(u.int_in_range(0..=fleet.bus.len() - 1)?),
        8 if !fleet.bus.is_empty() => {
            fleet.bus.remove(u.int_in_range(0..=fleet.bus.len() - 1)?);
        }
        9..=11 => fleet.say(listener.owner),
        12 | 13 => fleet.pass(u.int_in_range(1..=CONFIRM_MILLIS)?),
        14 => listener.leave(fleet),
        15 | 16 => listener.post(fleet, node, shard),
        17 => {
            let others = *u.choose(&[None, Some(true), Some(true), Some(true), Some(false)])?;
            fleet.see(others);
        }
        18 => fleet.is_full = u.ratio(1, 4)?,
        19 => fleet.is_alone = u.ratio(1, 4)?,
        _ => listener.poll(fleet, node, shard),
    }
    Ok(())
}

/// Takes the steps that `u` gives, then lets the bus be well again and ends the nodes.
fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let shards = u.int_in_range(1..=2)?;
    let mut fleet = Fleet::new(shards);
    let mut listener = Listener::open(&mut fleet, 0, 0);
    for _ in 0..u.int_in_range(1..=200)? {
        let stepped = step(u, &mut fleet, &mut listener);
        if !listener.look(&mut fleet) {
            listener.leave(&mut fleet);
            listener = Listener::open(&mut fleet, u.int_in_range(0..=1)?, 0);
        }
        fleet.nodes.iter().for_each(Sim::check_ledgers);
        if stepped.is_err() {
            break;
        }
    }
    (fleet.is_full, fleet.is_alone) = (false, false);
    fleet.see(Some(true));
    fleet.settle();
    for second in 0..LONGEST_MILLIS / 1_000 + 1 {
        fleet.pass(1_000);
        fleet.settle();
        let waits = listener.poll.is_some() || listener.post.is_some();
        if !listener.look(&mut fleet) || (second > 0 && !waits) {
            break;
        }
    }
    assert!(listener.poll.is_none() || fleet.said[listener.owner] == listener.heard);
    listener.leave(&mut fleet);
    for node in &mut fleet.nodes {
        let counters = node.end(30_000);
        let left = [counters.connections, counters.handshaking, counters.polling, counters.poll_sessions];
        assert_eq!((left, counters.memberships, counters.send_queue_bytes), ([0; 4], 0, 0));
    }
    Ok(())
}

#[test]
fn no_message_is_lost_in_silence_or_heard_twice() {
    arbtest::arbtest(run).size_min(1_024).budget_ms(1_500);
}

fn two() -> (Fleet, Listener) {
    let mut fleet = Fleet::new(2);
    let listener = Listener::open(&mut fleet, 0, 1);
    (fleet, listener)
}

#[test]
fn requests_by_turns_at_two_nodes_are_one_session() {
    let (mut fleet, mut listener) = two();
    for turn in 0..6 {
        listener.poll(&mut fleet, turn % 2, 0);
        fleet.settle();
        if turn == 0 {
            // The reply to the join is there already.
            assert!(listener.look(&mut fleet) && listener.poll.is_none());
            continue;
        }
        assert!(listener.look(&mut fleet) && listener.poll.is_some(), "it waits");
        listener.post(&mut fleet, (turn + 1) % 2, 1);
        fleet.say(0);
        fleet.settle();
        assert!(listener.look(&mut fleet) && listener.post.is_none() && listener.poll.is_none());
        // What was said after the first of both is there for the next one.
        listener.poll(&mut fleet, turn % 2, 0);
        fleet.settle();
        if !listener.look(&mut fleet) || listener.poll.is_some() {
            fleet.say(0);
            fleet.settle();
            assert!(listener.look(&mut fleet));
        }
        assert_eq!(listener.heard, fleet.said[0]);
    }
    let [own, other] = fleet.nodes.each_mut().map(Sim::counters);
    assert!(own.carried_in > 0 && own.carried_in == other.carried_out && own.carried_out == 0);
    assert_eq!((own.poll_sessions, other.poll_sessions, own.carried_again), (1, 0, 0));
}

#[test]
fn an_answer_that_came_to_nobody_is_given_to_the_next_poll_at_either_node() {
    for next in [0, 1] {
        let (mut fleet, mut listener) = two();
        listener.poll(&mut fleet, 1, 0);
        fleet.settle();
        listener.look(&mut fleet);
        listener.poll(&mut fleet, 1, 0);
        fleet.settle();
        fleet.say(0);
        fleet.bus.clear();
        listener.leave(&mut fleet);
        fleet.settle();
        listener.poll(&mut fleet, next, 1);
        fleet.settle();
        assert!(listener.look(&mut fleet));
        assert_eq!((listener.heard, listener.poll), (1, None));
        assert_eq!(fleet.nodes[0].counters().carried_again, 1);
    }
}

#[test]
fn a_client_is_told_when_nothing_is_known_of_its_answer() {
    let (mut fleet, mut listener) = two();
    listener.poll(&mut fleet, 1, 0);
    fleet.deliver(0);
    assert_eq!(fleet.bus.len(), 2, "an answer in two parts");
    fleet.bus.clear();
    listener.poll = None;
    listener.poll(&mut fleet, 0, 0);
    fleet.pass(CONFIRM_MILLIS - 200);
    assert!(listener.look(&mut fleet) && listener.poll.is_some());
    fleet.pass(400);
    assert!(!listener.look(&mut fleet), "status 500");
    assert_eq!(fleet.nodes[0].counters().poll_sessions, 0);
}

#[test]
fn a_token_that_its_node_has_not_signed_ends_as_one_of_a_session_that_is_gone() {
    let (mut fleet, listener) = two();
    let mut forged = listener.token.clone();
    let last = if forged.pop() == Some('A') { 'B' } else { 'A' };
    forged.push(last);
    let client = fleet.ask(1, 0, &text("POST", &forged, LINES, "[]"));
    fleet.settle();
    assert_eq!(fleet.answer(1, client).expect("an answer").1["status"], 410);
    // A node that nobody has heard of is not asked.
    let unknown = "B".repeat(44);
    let client = fleet.ask(1, 0, &text("POST", &unknown, LINES, "[]"));
    assert_eq!(fleet.answer(1, client).expect("an answer").1["status"], 410);
    assert!(fleet.bus.is_empty());
    // What another node made up about a session does nothing.
    let Carried::Ask(ask) = made_up(&forged) else { panic!("an ask") };
    fleet.hand(0, 1, Mail::Ask(Box::new(ask)));
    assert_eq!(fleet.nodes[0].counters().poll_sessions, 1);
}

fn made_up(token: &str) -> Carried {
    let connection = ConnId::from_token(0);
    let from = Asker { node: Some(NodeTag::of(boot_id(1))), shard: 0, connection, number: 1 };
    Carried::Ask(Ask { from, token: Token::read(token.as_bytes()).expect("a form"), what: What::Unsent })
}

#[test]
fn a_bus_that_is_away_or_full_and_a_node_that_is_gone_are_told_at_once() {
    let (mut fleet, mut listener) = two();
    fleet.see(None);
    let refused = |fleet: &mut Fleet| fleet.nodes[1].counters().refused[RefuseReason::Bus as usize];
    for method in ["GET", "POST"] {
        let client = fleet.ask(1, 0, &text(method, &listener.token, "", ""));
        let (head, _) = fleet.answer(1, client).expect("an answer");
        assert!(head.starts_with("HTTP/1.1 503") && head.contains("retry-after: 1"), "{head}");
    }
    assert_eq!(refused(&mut fleet), 2);
    fleet.see(Some(true));
    fleet.is_full = true;
    listener.poll(&mut fleet, 1, 0);
    assert!(listener.look(&mut fleet) && listener.poll.is_none());
    fleet.is_full = false;
    listener.poll(&mut fleet, 1, 0);
    fleet.settle();
    assert!(listener.look(&mut fleet) && listener.poll.is_none(), "the reply to the join");
    for others in [None, Some(false)] {
        let (mut fleet, mut listener) = two();
        listener.poll(&mut fleet, 1, 0);
        fleet.settle();
        listener.look(&mut fleet);
        listener.poll(&mut fleet, 1, 0);
        fleet.settle();
        fleet.see(others);
        fleet.pass(1_500);
        assert_eq!(listener.look(&mut fleet), others.is_none(), "503, or 500 for a node that is gone");
        assert_eq!(listener.poll, None);
    }
    fleet.is_alone = true;
    listener.poll(&mut fleet, 1, 0);
    assert!(!listener.look(&mut fleet), "status 500");
    assert_eq!(fleet.nodes[1].counters().carried_orphans, 1);
}

#[test]
fn a_node_that_ends_lets_go_of_clients_of_others() {
    let (mut fleet, mut listener) = two();
    listener.poll(&mut fleet, 1, 0);
    fleet.settle();
    listener.look(&mut fleet);
    listener.poll(&mut fleet, 1, 0);
    fleet.settle();
    for shard in &mut fleet.nodes[1].shards {
        shard.handle(Event::Mail(Mail::Shutdown));
    }
    fleet.nodes[1].settle();
    fleet.settle();
    let (node, client, _) = listener.poll.take().expect("it waited");
    let (head, body) = fleet.answer(node, client).expect("an answer");
    assert!(body["status"] == 204 && head.contains("connection: close"), "{head} {body}");
    fleet.say(0);
    listener.poll(&mut fleet, 0, 0);
    fleet.settle();
    assert!(listener.look(&mut fleet));
    assert_eq!(listener.heard, 1);
}

#[test]
fn a_poll_that_waits_at_another_node_ends_after_its_window_or_without_an_answer_soon_after() {
    for is_lost in [false, true] {
        let (mut fleet, mut listener) = two();
        listener.poll(&mut fleet, 1, 0);
        fleet.settle();
        listener.look(&mut fleet);
        listener.poll(&mut fleet, 1, 0);
        if is_lost {
            fleet.bus.clear();
        }
        fleet.settle();
        fleet.pass(POLL_WINDOW_MILLIS + 300);
        fleet.settle();
        assert!(listener.look(&mut fleet));
        assert_eq!(listener.poll.is_some(), is_lost);
        fleet.pass(CARRIED_MILLIS - POLL_WINDOW_MILLIS + 1_000);
        assert!(listener.look(&mut fleet) && listener.poll.is_none());
        assert_eq!(fleet.nodes[1].counters().carried_timeouts, u64::from(is_lost));
    }
}

#[test]
fn more_requests_for_other_nodes_than_may_wait_are_to_come_again() {
    let (mut fleet, listener) = two();
    let (poll, beat) = (text("GET", &listener.token, "", ""), r#"[null,"9","phoenix","heartbeat",{}]"#);
    let clients: Vec<_> = (0..MAX_CARRIED)
        .map(|_| {
            let (shard, slot) = fleet.nodes[1].accept(0);
            fleet.nodes[1].shards[shard].on_data(slot, &mut poll.clone().into_bytes());
            (shard, slot)
        })
        .collect();
    fleet.nodes[1].settle();
    fleet.nodes[1].carried.clear();
    for request in [&poll, &text("POST", &listener.token, LINES, beat)] {
        let client = fleet.ask(1, 0, request);
        let (head, _) = fleet.answer(1, client).expect("an answer at once");
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        assert!(fleet.nodes[1].closed.is_empty(), "its connection may ask again");
    }
    let elsewhere = fleet.ask(1, 1, &poll);
    assert!(fleet.answer(1, elsewhere).is_none(), "another shard has places of its own");
    fleet.nodes[1].lose(clients[0]);
    let next = fleet.ask(1, 0, &poll);
    assert!(fleet.answer(1, next).is_none(), "there is a place again");
    assert_eq!(fleet.nodes[1].counters().carried_refused, 2);
    fleet.bus.clear();
    fleet.pass(LONGEST_MILLIS);
    assert_eq!(fleet.nodes[1].shards[0].polls.carried(), 0, "none has waited for longer than it may");
    fleet.nodes[1].check_ledgers();
}
