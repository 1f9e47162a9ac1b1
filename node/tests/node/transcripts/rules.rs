//! Further exchanges, which follow from the sources of Phoenix 1.8.12 and Bandit 1.12.5, in the form of the recorded ones.
//!
//! `node/tests/data/phoenix-rules.json` says itself what recordings leave out. `with NAME: VALUE` and `without NAME` change
//! the headers of all requests that follow, `HTTP/1.0` their version, and `body` is that of the next one. A path stands below
//! the mount, TOKEN is the token of the last answer that had one, and `a joined` lets a client join `room:@` with the refs 1.
//! After `a>`, `frame` has the first byte of a frame and its payload, `raw` bytes as they are, both in hexadecimal, and
//! `lines` texts that are sent at once. Where an exchange begins without a request, its clients are connected before, and
//! are sent a heartbeat at the end: nothing but its reply may come.

use std::collections::BTreeMap;

use super::{
    Clients,
    message::{bytes, heard, said, with_topic},
    spoken,
    tables::headers,
    wire::{self, Answer, Heard, Wire},
};
use crate::{
    longpoll,
    support::{
        http::Http,
        process::{Process, command},
    },
};

/// One exchange while it is played.
struct Script<'a> {
    node: &'a Process,
    name: &'a str,
    random: &'a str,
    clients: Clients,
    with: Vec<(String, String)>,
    without: Vec<String>,
    version: String,
    body: String,
    token: String,
}

#[test]
fn exchanges_that_follow_from_phoenixs_sources_are_equal() {
    let mut dev = command();
    dev.arg("--dev");
    let node = Process::start(dev);
    let exchanges: BTreeMap<String, Vec<String>> =
        serde_json::from_str(include_str!("../../data/phoenix-rules.json")).unwrap();
    let mut wrong = Vec::new();
    for (number, (name, lines)) in exchanges.iter().enumerate() {
        let random = format!("s{number:08}");
        let lines: Vec<_> = lines.iter().map(|line| with_topic(line, &random)).collect();
        if let Err(difference) = Script::new(&node, name, &random).play(&lines) {
            wrong.push(format!("{name}: {difference}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(exchanges.len() > 270, "only {} exchanges", exchanges.len());
}

impl<'a> Script<'a> {
    fn new(node: &'a Process, name: &'a str, random: &'a str) -> Self {
        Script {
            node,
            name,
            random,
            clients: Clients::new(),
            with: Vec::new(),
            without: Vec::new(),
            version: "HTTP/1.1".to_owned(),
            body: String::new(),
            token: String::new(),
        }
    }

    fn is_v1(&self) -> bool {
        self.name.starts_with("v1/")
    }

    fn play(mut self, lines: &[String]) -> Result<(), String> {
        let is_connected = !lines.iter().any(|line| line.contains(" -> "));
        if is_connected {
            self.connect('a')?;
        }
        for line in lines {
            if let Some((request, answer)) = line.split_once(" -> ") {
                self.ask(request, answer)?;
            } else if let Some((letter, words)) = spoken(line, '>') {
                let bytes = self.bytes_of(words);
                self.clients.get_mut(&letter).unwrap().send(&bytes);
            } else if let Some((letter, words)) = spoken(line, '<') {
                let got = self.clients.get_mut(&letter).unwrap().hear();
                heard(words, &got).map_err(|got| format!("{letter} should hear {words}: {got}"))?;
                if got == Heard::End {
                    self.clients.remove(&letter);
                }
            } else if let Some(letter) = line.strip_suffix(" joined") {
                self.join(letter.chars().next().unwrap())?;
            } else {
                self.prepare(line);
            }
        }
        if is_connected { self.beat() } else { Ok(()) }
    }

    /// A line about requests that follow.
    fn prepare(&mut self, line: &str) {
        if let Some(header) = line.strip_prefix("with ") {
            let (name, value) = header.split_once(": ").unwrap();
            self.with.push((name.to_owned(), value.to_owned()));
        } else if let Some(name) = line.strip_prefix("without ") {
            self.without.push(name.to_owned());
        } else if let Some(body) = line.strip_prefix("body ") {
            self.body = body.replace("\\r", "\r").replace("\\n", "\n");
        } else if line.starts_with("HTTP/") {
            self.version = line.to_owned();
        } else {
            panic!("nobody can read the line {line}");
        }
    }

    /// The bytes that a client sends for the words of a line.
    fn bytes_of(&self, words: &str) -> Vec<u8> {
        if let Some(texts) = words.strip_prefix("lines ") {
            return texts.split(" | ").flat_map(wire::text).collect();
        }
        if !words.starts_with("frame ") && !words.starts_with("raw ") {
            return said(self.name, words, self.random);
        }
        let parts = words.split(" | ").flat_map(|part| match part.split_once(' ').unwrap() {
            ("frame", frame) => {
                let (first, payload) = frame.split_once(' ').unwrap_or((frame, ""));
                wire::frame(bytes(first)[0], &bytes(payload))
            }
            (_, raw) => bytes(raw),
        });
        parts.collect()
    }

    fn connect(&mut self, letter: char) -> Result<(), String> {
        let query = if self.is_v1() { "?vsn=1.0.0" } else { "?vsn=2.0.0" };
        let wire = self.request("GET", &format!("/websocket{query}"))?.wire;
        self.clients.insert(letter, wire);
        Ok(())
    }

    fn join(&mut self, letter: char) -> Result<(), String> {
        if !self.clients.contains_key(&letter) {
            self.connect(letter)?;
        }
        let random = self.random;
        let join = if self.is_v1() {
            format!(r#"{{"topic":"room:{random}","event":"phx_join","payload":{{}},"ref":"1"}}"#)
        } else {
            format!(r#"["1","1","room:{random}","phx_join",{{}}]"#)
        };
        let wire = self.clients.get_mut(&letter).unwrap();
        wire.send(&wire::text(&join));
        match wire.hear() {
            Heard::Text(text) if text.contains(r#""status":"ok""#) => Ok(()),
            other => Err(format!("the join of {letter}: {other:?}")),
        }
    }

    /// Nothing is left that a client hears but the reply to a heartbeat.
    fn beat(mut self) -> Result<(), String> {
        let (beat, reply) = if self.is_v1() {
            (
                r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"hb"}"#,
                r#"text {"topic":"phoenix","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"hb"}"#,
            )
        } else {
            (
                r#"[null,"hb","phoenix","heartbeat",{}]"#,
                r#"text [null,"hb","phoenix","phx_reply",{"status":"ok","response":{}}]"#,
            )
        };
        for (letter, wire) in &mut self.clients {
            wire.send(&wire::text(beat));
            heard(reply, &wire.hear()).map_err(|got| format!("{letter} hears more: {got}"))?;
        }
        Ok(())
    }

    fn ask(&mut self, request: &str, recorded: &str) -> Result<(), String> {
        let (method, target) = request.split_once(' ').unwrap_or((request, ""));
        let target = target.replace("TOKEN", &self.token);
        let is_open = method == "open";
        if !is_open && target.starts_with('/') {
            return self.poll(method, &format!("/socket{target}"), recorded);
        }
        let path = if target.starts_with('/') { target } else { format!("/websocket{target}") };
        let answer = self.request(if is_open { "GET" } else { method }, &path)?;
        let mut words = recorded.split(' ');
        let accepted = recorded.contains("accept-ok=True");
        let protocol = recorded.split_once("sec-websocket-protocol=").map(|(_, protocol)| protocol);
        let got = (Some(&*answer.status), answer.accepted, answer.header("sec-websocket-protocol"));
        if got != (words.next(), accepted, protocol) {
            return Err(format!("{request} -> {recorded}: {got:?}"));
        }
        self.clients.extend(is_open.then_some(('a', answer.wire)));
        Ok(())
    }

    /// A request for the socket, with the headers of a handshake.
    fn request(&self, method: &str, path: &str) -> Result<Answer, String> {
        let host = self.node.listen.to_string();
        let mut all = vec![("Host", &*host)];
        all.extend(headers(self.name));
        all.retain(|(name, _)| !self.without.iter().any(|without| without == name));
        all.extend(self.with.iter().map(|(name, value)| (&**name, &**value)));
        let line = format!("{method} /socket{path} {}", self.version);
        Wire::request(self.node.listen, &line, &all).map_err(|error| format!("{line}: {error}"))
    }

    /// A request of long-poll.
    fn poll(&mut self, method: &str, target: &str, recorded: &str) -> Result<(), String> {
        let header =
            |(name, value): &(String, String)| format!("{name}: {}\r\n", value.replace("TOKEN", &self.token));
        let headers: String = self.with.iter().map(header).collect();
        let body = std::mem::take(&mut self.body);
        let answer = Http::connect(self.node.listen).ask(method, target, &headers, &body);
        if let Some(token) = answer.body.get("token").and_then(serde_json::Value::as_str) {
            token.clone_into(&mut self.token);
        }
        longpoll::compare(recorded, &answer).map_err(|got| format!("{method} {target} -> {recorded}: {got}"))
    }
}
