//! What a browser is told with each answer of a node, whatever is asked on either port.

use crate::support::process::{Process, command};

fn dev_node() -> Process {
    let mut command = command();
    command.arg("--dev");
    Process::start(command)
}

/// The head of an answer in small letters, and its body.
fn parted(answer: &str) -> (String, &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// A policy by which nothing runs that stands in a document, except a script with a known hash.
fn is_strict(policy: &str) -> bool {
    let directives: Vec<_> = policy.split(';').map(str::trim).collect();
    directives.contains(&"default-src 'none'")
        && directives.contains(&"frame-ancestors 'none'")
        && !["unsafe", "*", "http:", "https:"].iter().any(|loose| policy.contains(loose))
}

#[test]
fn the_page_runs_only_what_its_policy_names_and_stands_in_no_frame() {
    let node = dev_node();
    for method in ["GET", "HEAD"] {
        let answer = node.public(&format!("{method} / HTTP/1.1\r\nhost: localhost\r\n\r\n"));
        let (head, body) = parted(&answer);
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        assert_eq!(body.is_empty(), method == "HEAD");
        assert_eq!(header(&head, "content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(header(&head, "x-content-type-options"), Some("nosniff"));
        assert_eq!(header(&head, "x-frame-options"), Some("deny"));
        assert_eq!(header(&head, "referrer-policy"), Some("no-referrer"));
        let policy = header(&head, "content-security-policy").unwrap();
        assert!(is_strict(policy) && policy.contains("script-src 'sha256-"), "{policy}");
        assert!(!body.contains("content-security-policy"), "one policy, in the header");
    }
}

#[test]
fn whatever_the_public_port_says_is_taken_for_what_it_is() {
    let node = dev_node();
    let post = format!("POST /socket/longpoll?vsn=2.0.0&token={}", "A".repeat(44));
    for (line, status) in [
        ("GET /healthz", 200),
        ("HEAD /health", 200),
        ("GET /nothing", 404),
        ("DELETE /", 405),
        ("GET /socket/websocket", 400),
        ("GET /socket/longpoll?vsn=9", 200),
        ("GET /socket/longpoll?vsn=2.0.0", 200),
        (post.as_str(), 200),
        ("OPTIONS /socket/longpoll", 200),
        ("DELETE /socket/longpoll", 400),
    ] {
        let answer = node.public(&format!("{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"));
        let (head, body) = parted(&answer);
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{line}: {head}");
        let is_safe = header(&head, "x-content-type-options") == Some("nosniff")
            && header(&head, "content-type").is_some_and(|kind| !kind.starts_with("text/html"));
        assert!(is_safe || body.is_empty(), "{line}: {head}");
    }
}

#[test]
fn whatever_the_admin_port_says_is_for_programs() {
    let node = dev_node();
    for (line, host, status) in [
        ("GET /metrics", "localhost", 200),
        ("GET /healthz", "localhost", 200),
        ("GET /readyz", "localhost", 200),
        ("GET /v1/stats", "localhost", 200),
        ("GET /v1/drain", "localhost", 200),
        ("POST /v1/drain", "localhost", 400),
        ("GET /", "localhost", 404),
        ("DELETE /metrics", "localhost", 405),
        ("GET /v1/stats", "evil.test", 403),
    ] {
        let request = format!("{line} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let answer = node.administration(&request);
        let (head, _) = parted(&answer);
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{line}: {head}");
        assert_eq!(header(&head, "x-content-type-options"), Some("nosniff"), "{line}: {head}");
        assert_eq!(header(&head, "x-frame-options"), Some("deny"), "{line}: {head}");
        assert!(header(&head, "content-security-policy").is_some_and(is_strict), "{line}: {head}");
        assert!(header(&head, "content-type").is_none_or(|kind| !kind.contains("html")), "{line}: {head}");
    }
}
