//! The dashboard of a node, as a browser asks for it: sessions, forms, headers and figures.

use node_core::dashboard::{attempts::ATTEMPTS_AT_ONCE, sessions::MOST_SESSIONS};
use serde_json::{Value, json};

use crate::{
    support::{
        client::Client,
        process::{Process, command},
        wait::wait,
    },
    tokens::Mounts,
};

const CONFIG: &str = "\
cluster: {namespace: default, name: chat}
rooms: {topics: [\"room:*\"], maxMembers: 2}
auth: {anonymous: true}
";
/// The admin token of [`Mounts`].
const ADMIN: &str = "token";
const OWN: (&str, &str) = ("origin", "http://localhost:9400");

/// A node with an admin token, and its files.
pub(crate) struct Node {
    pub(crate) process: Process,
    mounts: Mounts,
}

impl Node {
    pub(crate) fn start(config: &str, name: &str) -> Self {
        let mounts = Mounts::new(config);
        let mut command = mounts.command();
        command.args(["--shards", "2", "--node-name", name]);
        Self { process: Process::start(command), mounts }
    }

    fn ask(&self, line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        let text = self.process.administration(&format!(
            "{line} HTTP/1.1\r\nhost: localhost:9400\r\nconnection: close\r\n\
             content-type: application/x-www-form-urlencoded\r\n{more}content-length: {length}\r\n\r\n{body}"
        ));
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{line}: {text}"));
        Answer { status: head[9..12].parse().unwrap(), head: head.to_owned(), body: body.to_owned() }
    }

    /// Gives a token to the form.
    fn give(&self, token: &str) -> Answer {
        self.ask("POST /dashboard/login", &[OWN], &format!("token={token}"))
    }

    /// The cookie of a new session, as a browser gives it back.
    pub(crate) fn login(&self) -> String {
        let answer = self.give(ADMIN);
        assert_eq!((answer.status, answer.header("location")), (303, Some("/dashboard")), "{}", answer.body);
        answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
    }

    fn get(&self, path: &str, cookie: &str) -> Answer {
        self.ask(&format!("GET {path}"), &[("cookie", cookie)], "")
    }

    pub(crate) fn data(&self, cookie: &str) -> Value {
        let answer = self.get("/dashboard/data", cookie);
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }

    fn reads(&self, cookie: &str) -> u16 {
        self.get("/dashboard/data", cookie).status
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

#[test]
fn a_token_opens_a_session_that_reads_the_dashboard_and_nothing_else() {
    let node = Node::start(CONFIG, "n1");
    let home = node.ask("GET /dashboard", &[], "");
    assert_eq!((home.status, home.header("location")), (303, Some("/dashboard/login")));
    assert!(node.ask("GET /dashboard/login", &[], "").body.contains("name=\"token\""));
    let answer = node.give(ADMIN);
    let cookie = answer.header("set-cookie").unwrap();
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Strict; Max-Age=28800");
    assert!(pair.len() > 60, "256 random bits: {pair}");
    let other = node.login();
    assert_ne!(pair, other, "each session has an id of its own");

    let page = node.get("/dashboard", pair);
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(node.get("/dashboard/login", pair).header("location"), Some("/dashboard"));
    assert_eq!(node.data(pair)["node"], "n1");
    // With the token itself, not even in the right header, nobody reads it, and the cookie opens no other route.
    assert_eq!(node.ask("GET /dashboard/data", &[("authorization", "Bearer token")], "").status, 401);
    for line in [
        "GET /v1/stats",
        "GET /v1/node",
        "GET /v1/fleet",
        "GET /v1/topics",
        "POST /v1/drain",
        "DELETE /v1/drain",
        "POST /v1/rebalance",
        "POST /v1/publish",
        "POST /v1/kick",
        "POST /v1/disconnect",
    ] {
        assert_eq!(node.ask(line, &[("cookie", pair), OWN], "{}").status, 401, "{line}");
    }
    let id = pair.split_once('=').unwrap().1;
    for bad in ["", "x=y", id, &format!("{pair}A"), &format!("{}=", pair.split_once('=').unwrap().0)] {
        assert_eq!(node.reads(bad), 401, "{bad}");
    }

    let end = node.ask("POST /dashboard/logout", &[OWN, ("cookie", pair)], "");
    assert_eq!((end.status, end.header("location")), (303, Some("/dashboard/login")));
    assert!(end.header("set-cookie").unwrap().contains("=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"));
    assert_eq!((node.reads(pair), node.reads(&other)), (401, 200));
    assert!(node.process.has_logged("logged in to the dashboard"));
    assert!(!node.process.has_logged(id) && !page.body.contains(id));
}

#[test]
fn in_dev_mode_nobody_logs_in_and_only_this_machine_gets_in() {
    let mut command = command();
    command.arg("--dev");
    let node = Process::start(command);
    let ask = |line: &str, host: &str| {
        let text =
            node.administration(&format!("{line} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"));
        (text[9..12].parse::<u16>().unwrap(), text)
    };
    assert_eq!(ask("GET /dashboard", "localhost").0, 200);
    let (status, text) = ask("GET /dashboard/data", "localhost");
    assert!(status == 200 && text.contains("\"login\":false"), "{text}");
    let (status, text) = ask("GET /dashboard/login", "localhost");
    assert!(status == 303 && text.contains("location: /dashboard\r\n"), "{text}");
    for path in ["/dashboard", "/dashboard/data"] {
        assert_eq!(ask(&format!("GET {path}"), "evil.test").0, 403, "{path}");
    }
}

#[test]
fn a_browser_that_comes_by_tls_gets_a_cookie_for_tls() {
    let node = Node::start(CONFIG, "n1");
    let by_tls = [("origin", "https://localhost:9400")];
    let answer = node.ask("POST /dashboard/login", &by_tls, "token=token");
    assert!(answer.header("set-cookie").unwrap().ends_with("; Secure"));
    assert!(!node.give(ADMIN).header("set-cookie").unwrap().contains("Secure"));
}

#[test]
fn sessions_end_when_the_token_changes() {
    let node = Node::start(CONFIG, "n1");
    let cookie = node.login();
    assert_eq!(node.reads(&cookie), 200);
    node.mounts.write("admin-token", "an other + one & more%\n");
    assert_eq!(node.reads(&cookie), 401);
    assert_eq!(node.give(ADMIN).status, 401);
    assert_eq!(node.give("an+other+%2B+one+%26+more%25").status, 303);
    node.mounts.write("admin-token", ADMIN);
    assert_eq!(node.reads(&cookie), 401, "nor does it come back with the former token");
    let cookie = node.login();
    node.mounts.write("admin-token", "");
    assert_eq!(
        (node.reads(&cookie), node.give("").status, node.get("/dashboard", &cookie).status),
        (503, 503, 503)
    );
    node.mounts.write("admin-token", ADMIN);
    assert_eq!(node.reads(&cookie), 200, "a token that could not be read for a moment is no other token");
}

#[test]
fn forms_of_other_sites_are_refused() {
    let node = Node::start(CONFIG, "n1");
    let cookie = node.login();
    for headers in [
        &[][..],
        &[("origin", "http://evil.test")],
        &[("origin", "null")],
        &[("origin", "http://localhost:9401")],
        &[OWN, ("sec-fetch-site", "cross-site")],
        &[OWN, ("sec-fetch-site", "same-site")],
    ] {
        for path in ["/dashboard/login", "/dashboard/logout"] {
            let headers = [headers, &[("cookie", cookie.as_str())]].concat();
            let answer = node.ask(&format!("POST {path}"), &headers, "token=token");
            assert_eq!((answer.status, answer.header("set-cookie")), (403, None), "{path} {headers:?}");
        }
    }
    assert_eq!(node.reads(&cookie), 200, "nobody was logged out");
    let proxied = [("origin", "https://proxy.example"), ("sec-fetch-site", "same-origin")];
    assert_eq!(node.ask("POST /dashboard/login", &proxied, "token=token").status, 303);
}

#[test]
fn the_number_of_sessions_is_bounded_and_the_oldest_goes() {
    let node = Node::start(CONFIG, "n1");
    let cookies: Vec<_> = (0..=MOST_SESSIONS).map(|_| node.login()).collect();
    assert_eq!(node.reads(&cookies[0]), 401);
    assert!(cookies[1..].iter().all(|cookie| node.reads(cookie) == 200));
}

#[test]
fn wrong_tokens_are_bounded_and_who_is_in_stays_in() {
    let node = Node::start(CONFIG, "n1");
    let cookie = node.login();
    // On a busy machine some come back before all are used up.
    let mut guesses = (0..3 * ATTEMPTS_AT_ONCE).map(|_| node.give("a-guess"));
    for attempt in 0..ATTEMPTS_AT_ONCE {
        let answer = guesses.next().unwrap();
        assert_eq!((answer.status, answer.header("set-cookie")), (401, None), "{attempt}");
        assert!(
            answer.body.contains("role=\"alert\"") && !answer.body.contains("a-guess"),
            "{}",
            answer.body
        );
    }
    let answer = guesses.find(|answer| answer.status != 401).unwrap();
    assert_eq!((answer.status, answer.header("set-cookie")), (429, None));
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=6).contains(&seconds), "{seconds}");
    assert_eq!(node.reads(&cookie), 200);
    assert_eq!(node.give(ADMIN).status, 303, "who has the token comes in, however often others guess");
    assert!(node.process.has_logged("a wrong admin token") && !node.process.has_logged("a-guess"));
}

#[test]
fn what_is_no_form_of_this_page_is_refused_without_a_session() {
    let node = Node::start(CONFIG, "n1");
    let long = format!("token={}", "x".repeat(20 * 1024));
    for (body, status) in [("", 422), ("other=token", 422), ("token=%FF", 401), (long.as_str(), 413)] {
        let answer = node.ask("POST /dashboard/login", &[OWN], body);
        assert_eq!((answer.status, answer.header("set-cookie")), (status, None), "{body:.20}");
    }
    let in_the_address = node.ask("GET /dashboard/login?token=token", &[], "");
    assert_eq!((in_the_address.status, in_the_address.header("set-cookie")), (200, None));
    for line in ["GET /dashboard/logout", "PUT /dashboard/login", "POST /dashboard", "POST /dashboard/data"] {
        assert_eq!(node.ask(line, &[OWN], "").status, 405, "{line}");
    }
}

#[test]
fn every_answer_of_the_dashboard_has_its_headers() {
    let node = Node::start(CONFIG, "n1");
    let cookie = node.login();
    for (path, kind) in [
        ("/dashboard", "text/html; charset=utf-8"),
        ("/dashboard/data", "application/json"),
        ("/dashboard/dashboard.css", "text/css; charset=utf-8"),
        ("/dashboard/dashboard.js", "text/javascript; charset=utf-8"),
        ("/dashboard/icon.svg", "image/svg+xml"),
    ] {
        let answer = node.get(path, &cookie);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)), "{path}");
        check_headers(path, &answer);
    }
    for (line, status) in [
        ("GET /dashboard", 303),
        ("GET /dashboard/login", 200),
        ("GET /dashboard/data", 401),
        ("POST /dashboard/login", 403),
        ("POST /dashboard", 405),
    ] {
        let answer = node.ask(line, &[], "");
        assert_eq!(answer.status, status, "{line}");
        check_headers(line, &answer);
    }
    check_headers("a wrong token", &node.give("wrong"));
    check_headers("a right one", &node.give(ADMIN));
}

fn check_headers(what: &str, answer: &Answer) {
    let policy = answer.header("content-security-policy").unwrap();
    for directive in [
        "default-src 'none'",
        "style-src 'self'",
        "script-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.split("; ").any(|part| part == directive), "{what}: {policy}");
    }
    assert!(
        !["unsafe", "*", "http:", "https:", "data:"].iter().any(|loose| policy.contains(loose)),
        "{policy}"
    );
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "same-origin"),
        ("cache-control", "no-store"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{what}: {name}");
    }
}

#[test]
fn the_figures_are_those_of_clients_and_limits() {
    let node = Node::start(CONFIG, "n1");
    let cookie = node.login();
    let data = node.data(&cookie);
    assert_eq!(
        (&data["health"]["healthy"], &data["cluster"], &data["login"]),
        (&json!(true), &json!("chat"), &json!(true))
    );
    assert_eq!(data["figures"]["connections_limit"], 1_000_000);
    assert_eq!(data["shards"].as_array().unwrap().len(), 2);

    let (mut speaker, _) = Client::join(node.process.listen, "room:1");
    let (_listener, _) = Client::join(node.process.listen, "room:1");
    wait("writes to be shown", || {
        speaker.send(&json!(["1", "2", "room:1", "said", {}]));
        let data = node.data(&cookie);
        let each = data["figures"]["writes_per_message"].as_f64();
        data["figures"]["connections"] == 2
            && data["figures"]["writes_per_second"].as_f64().unwrap() > 0.0
            && each.is_some_and(|each| (1.9..=2.1).contains(&each))
            && data["fleet"]["list"][0]["rooms"] == 1
    });
    let data = node.data(&cookie);
    let kinds = data["memory"]["kinds"].as_array().unwrap();
    let sum: u64 = kinds.iter().map(|kind| kind["bytes"].as_u64().unwrap()).sum();
    assert!(sum > 0 && data["memory"]["held_bytes"] == sum, "{}", data["memory"]);
    assert!(data["tuning"].as_array().unwrap().iter().any(|row| row["name"] == "net.core.somaxconn"));

    let (_third, reply) = Client::join(node.process.listen, "room:1");
    assert_eq!(reply["response"]["reason"], "room full");
    wait("the limit to be told", || {
        let health = &node.data(&cookie)["health"];
        health["healthy"] == false
            && health["sentence"].as_str().unwrap().contains("a limit of this node was reached")
            && health["details"][0] == "Reached: rooms.maxMembers."
    });
    let order = r#"{"version":1,"stage":"Close","connectionsPerSecond":1}"#;
    assert_eq!(node.process.ask("POST", "/v1/drain", Some(ADMIN), order).0, 200);
    wait("the drain to be told", || {
        let data = node.data(&cookie);
        data["health"]["sentence"].as_str().unwrap().starts_with("Not healthy: this node drains, and ")
            && data["moves"]["phase"] != "Serving"
            && data["moves"]["ready"] == false
    });
}

#[cfg(feature = "nats-server")]
#[test]
fn a_node_that_falls_silent_and_a_bus_that_goes_away_are_told() {
    use crate::support::{nats::NatsServer, port::Port};

    let port = Port::reserve();
    let bus = NatsServer::start(&port, &[]);
    let url = bus.url();
    let config = format!("{CONFIG}bus: {{nats: {{urls: [\"{url}\"]}}}}\n");
    let (a, b) = (Node::start(&config, "a"), Node::start(&config, "b"));
    let cookie = a.login();
    wait("both to be shown", || {
        let data = a.data(&cookie);
        let names: Vec<_> =
            data["fleet"]["list"].as_array().unwrap().iter().map(|node| &node["node"]).collect();
        names == ["a", "b"] && data["fleet"]["partial"] == false && data["health"]["healthy"] == true
    });
    drop(b);
    wait("its silence to be told", || {
        let data = a.data(&cookie);
        data["fleet"]["silent"][0]["node"] == "b"
            && data["health"]["sentence"] == "Not healthy: other nodes have fallen silent."
    });
    drop(bus);
    wait("the silence of the bus to be told", || {
        let data = a.data(&cookie);
        data["fleet"]["partial"] == true
            && data["figures"]["bus_connected"] == false
            && data["health"]["sentence"] == "Not healthy: this node does not hear the bus."
    });
}
