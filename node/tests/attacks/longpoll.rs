//! Attacks on long-poll, beside a session whose client goes on polling and posting.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use node_core::{
    counters::{CloseReason, Counters, RefuseReason},
    limits::CLOSE_TIMEOUT_MILLIS,
};

use super::{
    Attacker, CONNECTIONS, HANG, Node, Stopping, beside, config, let_them_say, pair, refused, take_turn,
};

/// Most attackers in tests in which the node has more to do for each.
const FEW: usize = 500;
const HEARTBEAT: &str = r#"["1","7","phoenix","heartbeat",{}]"#;

/// The head of a request.
fn head(method: &str, token: &str, headers: &str) -> String {
    format!(
        "{method} /socket/longpoll?vsn=2.0.0 HTTP/1.1\r\nhost: n\r\nx-phoenix-longpoll-token: {token}\r\n{headers}\r\n"
    )
}

/// A post with this body.
fn post(token: &str, body: &str) -> Vec<u8> {
    let headers = format!("content-type: application/x-ndjson\r\ncontent-length: {}\r\n", body.len());
    [head("POST", token, &headers), body.to_owned()].concat().into_bytes()
}

/// The answer to a request on a connection of its own.
fn ask(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(HANG)).expect("a timeout");
    let text = String::from_utf8(request.to_vec()).expect("text");
    let request = text.replacen("host: n\r\n", "host: n\r\nconnection: close\r\n", 1);
    stream.write_all(request.as_bytes()).expect("sends");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// The token of a new session.
fn open(address: SocketAddr) -> String {
    let answer = ask(address, b"GET /socket/longpoll?vsn=2.0.0 HTTP/1.1\r\nhost: n\r\n\r\n");
    let (_, rest) = answer.split_once("\"token\":\"").expect("a token");
    rest.split_once('"').expect("its end").0.to_owned()
}

/// Polls until told to stop, as phoenix.js does. Returns what came.
fn polls(address: SocketAddr, token: &str, stop: &AtomicBool) -> String {
    let mut heard = String::new();
    while !stop.load(Relaxed) {
        let answer = ask(address, head("GET", token, "").as_bytes());
        let goes_on = answer.contains(r#"{"status":200,"#) || answer.contains(r#"{"status":204,"#);
        assert!(goes_on, "{answer}");
        heard += &answer;
    }
    heard
}

/// Runs an attack on a node on which a client has a session. So many attackers say the words, which `words` makes of its token, by
/// turns.
fn run(name: &str, many: usize, words: impl FnOnce(&str, SocketAddr) -> Vec<Vec<u8>>) -> Counters {
    let _turn = take_turn();
    let node = Node::start_of(2, Duration::from_millis(CLOSE_TIMEOUT_MILLIS), config(), None);
    let (address, stop) = (node.addr(), AtomicBool::new(false));
    let token = open(address);
    let words = words(&token, address);
    std::thread::scope(|scope| {
        let stopping = Stopping(&stop);
        let client = scope.spawn(|| polls(address, &token, &stop));
        let counters = beside(name, &node, pair(&node), || {
            let connect = |_| Attacker::connect(Ipv4Addr::LOCALHOST, address, None);
            let mut attackers: Vec<_> = (0..many).map(connect).collect();
            let_them_say(&node, &mut attackers, |number, one| one.say(&words[number % words.len()], b"", 0));
            attackers
        });
        drop(stopping);
        // Its reply ends the poll that waits.
        let answer = ask(address, &post(&token, HEARTBEAT));
        assert!(answer.ends_with(r#"{"status":200}"#), "{name}: {answer}");
        let heard = client.join().expect("the session was served to the end");
        assert!(heard.contains(r#"phx_reply"#), "{name}: {heard}");
        counters
    })
}

/// Tokens that differ from a good one in one letter, or in their form.
fn forged(token: &str) -> Vec<String> {
    let changed = (0..token.len()).map(|at| {
        let other = if token.as_bytes()[at] == b'A' { 'B' } else { 'A' };
        format!("{}{other}{}", &token[..at], &token[at + 1..])
    });
    let others =
        [&token[1..], &format!("{token}A"), &format!("{token}="), &token.to_ascii_uppercase(), "../../x"];
    changed.chain(others.map(str::to_owned)).collect()
}

#[test]
fn posts_with_forged_tokens() {
    let counters = run("posts with forged tokens", CONNECTIONS, |token, _| {
        forged(token).iter().map(|token| post(token, HEARTBEAT)).collect()
    });
    assert_eq!(refused(&counters, RefuseReason::NotFound), CONNECTIONS);
    assert_eq!((counters.posts, counters.poll_sessions), (0, 1));
}

/// Each gets a session of its own, as any client without one.
#[test]
fn polls_with_forged_tokens() {
    let counters = run("polls with forged tokens", CONNECTIONS, |token, _| {
        forged(token).iter().map(|token| head("GET", token, "").into_bytes()).collect()
    });
    assert_eq!((counters.opened as usize, counters.closed.iter().sum::<u64>()), (3 + CONNECTIONS, 0));
}

/// All poll one session, whose client polls as well: each poll ends the one before.
#[test]
fn a_poll_that_is_held_many_times() {
    let counters =
        run("a poll that is held many times", FEW, |token, _| vec![head("GET", token, "").into_bytes()]);
    assert!(counters.polls as usize > FEW, "{}", counters.polls);
    assert_eq!((counters.opened, counters.closed.iter().sum::<u64>()), (3, 0));
}

#[test]
fn posts_to_one_session_at_the_same_time() {
    let counters = run("posts to one session at the same time", FEW, |token, _| vec![post(token, HEARTBEAT)]);
    assert_eq!((counters.posts as usize, counters.closed.iter().sum::<u64>()), (FEW, 0));
}

#[test]
fn giant_bodies() {
    let giant = |length: &str, token: &str| {
        let head = head("POST", token, &format!("content-length: {length}\r\n"));
        [head.as_bytes(), &[b'x'; 60_000]].concat()
    };
    let counters = run("giant bodies", CONNECTIONS, |token, _| {
        ["100000000", "18446744073709551616", "99999999999999999999999999"]
            .map(|length| giant(length, token))
            .into()
    });
    assert_eq!((refused(&counters, RefuseReason::BadRequest), counters.posts), (CONNECTIONS, 0));
}

/// Bodies that never come whole, of about 120 MB in all.
#[test]
fn slow_bodies() {
    let counters = run("slow bodies", CONNECTIONS, |token, _| {
        let head = head("POST", token, "content-length: 60000\r\n");
        vec![[head.as_bytes(), &[b'x'; 59_000]].concat()]
    });
    assert!(refused(&counters, RefuseReason::Memory) > 0, "{:?}", counters.refused);
    assert_eq!(counters.posts, 0);
}

#[test]
fn posts_in_chunks() {
    let counters = run("posts in chunks", CONNECTIONS, |token, _| {
        let chunk = format!("{:x}\r\n{HEARTBEAT}\r\n0\r\n\r\n", HEARTBEAT.len());
        ["transfer-encoding: chunked\r\n", "content-length: 5\r\ntransfer-encoding: chunked\r\n"]
            .map(|headers| [head("POST", token, headers), chunk.clone()].concat().into_bytes())
            .into()
    });
    assert_eq!((refused(&counters, RefuseReason::BadRequest), counters.posts), (CONNECTIONS, 0));
}

#[test]
fn posts_that_are_no_messages() {
    let counters = run("posts that are no messages", CONNECTIONS, |token, _| {
        ["{}", "*", "AAE", "[1]\n*", "AA EC", "\0"].map(|body| post(token, body)).into()
    });
    assert_eq!(refused(&counters, RefuseReason::BadRequest), CONNECTIONS);
    assert_eq!(counters.closed[CloseReason::Malformed as usize], 0);
}

/// A poll waits, and behind it come requests without end, which are kept until the first is answered.
#[test]
fn requests_that_do_not_wait() {
    let counters = run("requests that do not wait", FEW, |_, address| {
        let words = |_| {
            let poll = head("GET", &open(address), "");
            poll.repeat(2 + 2 * keys::REQUEST_HEAD_BYTES.usual as usize / poll.len()).into_bytes()
        };
        (0..FEW).map(words).collect()
    });
    assert_eq!(counters.opened as usize, 3 + FEW);
    assert!((counters.polling as usize) < FEW / 10, "{}", counters.polling);
}

/// Browsers ask which headers they may send, and the node repeats these; nobody reads the answers.
#[test]
fn unread_answers_about_headers() {
    let counters = run("unread answers about headers", CONNECTIONS, |token, _| {
        let asked = format!("access-control-request-headers: {}\r\n", "x-phoenix,".repeat(2_500));
        vec![head("OPTIONS", token, &asked).repeat(10).into_bytes()]
    });
    assert_eq!((counters.opened, counters.closed.iter().sum::<u64>()), (3, 0));
}
