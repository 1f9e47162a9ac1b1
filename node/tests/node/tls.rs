//! TLS on the public port, with clients that are other implementations of it.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

use crate::support::{
    process::{Process, command},
    tls::{Certificate, TlsStream, client_config, connect, data, shake},
    wait::wait,
};

fn node(certificate: &Certificate) -> Process {
    node_with(certificate, &[])
}

fn node_with(certificate: &Certificate, more: &[&str]) -> Process {
    let mut command = command();
    command.arg("--dev").arg("--tls").arg(certificate.path()).args(more);
    Process::start(command)
}

struct Client(WebSocket<TlsStream>);

impl Client {
    fn join(stream: TlsStream, topic: &str) -> Self {
        let (socket, _) =
            client("wss://localhost/socket/websocket?vsn=2.0.0", stream).expect("the handshake");
        let mut client = Client(socket);
        client.send(&json!(["1", "1", topic, "phx_join", {}]));
        assert_eq!(client.next()[4]["status"], "ok");
        client
    }

    fn send(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).expect("a connection");
    }

    fn next(&mut self) -> Value {
        let message = self.0.read().expect("a message");
        serde_json::from_str(message.to_text().expect("text")).expect("JSON")
    }

    fn echoes(&mut self, payload: &Value) {
        self.send(&json!(["1", "2", "room:1", "echo", payload]));
        assert_eq!(&self.next()[4]["response"], payload);
    }
}

#[test]
fn a_client_goes_on_while_the_certificate_changes() {
    let certificate = Certificate::of("one");
    let node = node(&certificate);
    let config = client_config();
    let shown = |stream: &TlsStream| stream.conn.peer_certificates().expect("one")[0].as_ref().to_vec();
    let stream = connect(node.listen, &config);
    let first = shown(&stream);
    let (mut old, mut other) =
        (Client::join(stream, "room:1"), Client::join(connect(node.listen, &config), "room:1"));
    certificate.become_that_of("two");
    wait("the other certificate", || shown(&connect(node.listen, &config)) != first);
    assert_eq!(node.metric("channelcluster_node_config_reloads_total"), Some(1.0));
    // Messages that take several records, both ways, between clients of before and of after.
    let mut new = Client::join(connect(node.listen, &config), "room:1");
    for length in [1, 1_000, 17_000, 60_000] {
        let payload = json!({"text": "x".repeat(length)});
        old.echoes(&payload);
        new.echoes(&payload);
        new.send(&json!(["1", null, "room:1", "n", payload]));
        for client in [&mut old, &mut new, &mut other] {
            let message = client.next();
            assert_eq!((&message[3], &message[4]), (&json!("n"), &payload));
        }
    }
    old.0.close(None).expect("closed");
    assert!(old.0.read().expect("an answer").is_close());
}

#[test]
fn a_node_that_has_no_certificate_does_not_start() {
    let certificate = Certificate::of("one");
    std::fs::remove_file(certificate.path().join("tls.key")).unwrap();
    let mut command = command();
    command.arg("--dev").arg("--tls").arg(certificate.path()).stderr(Stdio::piped());
    let output = command.output().expect("it runs");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains("tls.key"), "{text}");
}

#[test]
fn long_poll_works_over_tls_on_one_connection() {
    let certificate = Certificate::of("one");
    let node = node(&certificate);
    let mut stream = connect(node.listen, &client_config());
    let mut ask = |method: &str, token: &str, body: &str| -> Value {
        let length = body.len();
        write!(
            stream,
            "{method} /socket/longpoll?vsn=2.0.0&token={token} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .expect("sent");
        let (mut text, mut byte) = (Vec::new(), [0]);
        while !text.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).expect("a head");
            text.push(byte[0]);
        }
        let head = String::from_utf8(text).expect("text").to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        let mut body = vec![0; length.parse().expect("a number")];
        stream.read_exact(&mut body).expect("a body");
        serde_json::from_slice(&body).expect("JSON")
    };
    let token = ask("GET", "", "")["token"].as_str().expect("a session").to_owned();
    assert_eq!(ask("POST", &token, r#"["1","1","room:1","phx_join",{}]"#)["status"], 200);
    let messages = ask("GET", &token, "");
    assert!(messages["messages"][0].to_string().contains("phx_reply"), "{messages}");
}

#[test]
fn what_is_no_tls_is_counted_and_told_what_to_do() {
    let certificate = Certificate::of("one");
    let node = node(&certificate);
    let answer = node.public("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("wss://"), "{answer}");
    wait("the refusal", || {
        let (_, metrics) = node.ask("GET", "/metrics", None, "");
        metrics.contains("channelcluster_node_refused_total{reason=\"tls\"} 1\n")
    });
}

#[test]
fn tls_comes_behind_the_header_of_a_proxy() {
    let certificate = Certificate::of("one");
    let put = |name: &str, text: &str| std::fs::write(certificate.path().join(name), text).unwrap();
    put("admin-token", "token");
    put("node.yaml", "auth: {anonymous: true}\ntrustedProxies: [127.0.0.1]\nproxyProtocol: true\n");
    let mut command = command();
    command.arg("--config").arg(certificate.path().join("node.yaml"));
    command.arg("--secrets").arg(certificate.path()).arg("--tls").arg(certificate.path());
    let node = Process::start(command);
    let mut stream = TcpStream::connect(node.listen).expect("the public port");
    stream.write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 443\r\n").expect("sent");
    let mut stream = shake(stream, &client_config());
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
}

/// `openssl s_client`, with these arguments.
fn openssl_client(node: &Process, more: &[&str]) -> Child {
    Command::new("openssl")
        .args(["s_client", "-connect", &node.listen.to_string(), "-servername", "localhost"])
        .args(["-verify_return_error", "-CAfile"])
        .arg(data("ca.crt"))
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is installed")
}

/// Speaks HTTP through `openssl s_client` with these arguments. Returns what it printed.
fn openssl(node: &Process, more: &[&str]) -> String {
    openssl_says(
        openssl_client(node, &[&["-ign_eof"], more].concat()),
        b"GET / HTTP/1.1\nhost: localhost\nconnection: close\n\n",
    )
}

/// Says something, and returns what it printed when the node has ended the connection.
fn openssl_says(mut child: Child, said: &[u8]) -> String {
    let mut input = child.stdin.take().expect("piped");
    // It fails when the handshake did.
    input.write_all(said).ok();
    let output = child.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn openssl_gets_the_page_in_each_suite_and_nothing_by_an_older_version() {
    let certificate = Certificate::of("one");
    let node = node(&certificate);
    for suite in ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"] {
        let text = openssl(&node, &["-crlf", "-alpn", "h2,http/1.1", "-ciphersuites", suite]);
        for part in [suite, "ALPN protocol: http/1.1", "Verification: OK", "HTTP/1.1 200 OK", "</html>"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    let text = openssl(&node, &["-crlf", "-tls1_2"]);
    assert!(text.contains("alert protocol version") && !text.contains("HTTP/1.1"), "{text}");
    let text = openssl(&node, &["-crlf", "-alpn", "h2"]);
    assert!(text.contains("no application protocol") && !text.contains("HTTP/1.1"), "{text}");
}

#[test]
fn openssl_gets_the_page_by_tls_1_2_where_that_is_asked_for_and_may_not_shake_hands_again() {
    let certificate = Certificate::of("one");
    let node = node_with(&certificate, &["--tls-min-version", "1.2"]);
    for suite in ["AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305"] {
        let suites = format!("ECDHE-ECDSA-{suite}:ECDHE-RSA-{suite}");
        let text = openssl(&node, &["-crlf", "-tls1_2", "-alpn", "http/1.1", "-cipher", &suites]);
        for part in [suite, "TLSv1.2", "Extended master secret: yes", "HTTP/1.1 200 OK", "</html>"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    // CBC, a key exchange without ECDHE, and what is older.
    for more in [
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA"][..],
        &["-tls1_2", "-cipher", "AES128-GCM-SHA256"],
        &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
    ] {
        let text = openssl(&node, more);
        assert!(text.contains("rror") && !text.contains("HTTP/1.1"), "{more:?}: {text}");
    }
    let text = openssl(&node, &["-crlf", "-tls1_3"]);
    assert!(text.contains("TLSv1.3") && text.contains("HTTP/1.1 200 OK"), "{text}");
    let text = openssl_says(openssl_client(&node, &["-tls1_2", "-msg"]), b"R\n");
    assert!(text.contains("RENEGOTIATING") && text.contains("no_renegotiation"), "{text}");
}
