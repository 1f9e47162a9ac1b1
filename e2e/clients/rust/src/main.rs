//! Plays the scenarios of ../clients.json with phoenix-chan: see `Run.drive` in ../../js/lib/stage.mjs.
//!
//! The library reads one message at a time, says how to tell a reply by its number, and does not reconnect by itself.

use std::{collections::VecDeque, error::Error, io, sync::Arc, time::Duration};

use phoenix_chan::{
    Client, Message,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs::default_provider,
        pki_types::{CertificateDer, pem::PemObject},
    },
};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const HANG: Duration = Duration::from_secs(60);
/// 256 KB of text, in parts of 16 bytes.
const PAYLOAD_PARTS: usize = 256 * 64;

/// What the stage tells.
struct Told(Value);

impl Told {
    fn url(&self, name: &str) -> String {
        format!("{}/websocket", self.0["urls"][name].as_str().unwrap_or_default())
    }

    fn topic(&self, name: &str) -> String {
        format!("room:{}-{name}", self.0["run"].as_str().unwrap_or_default())
    }

    async fn client(&self, node: &str, token: Option<&str>) -> Result<Connection> {
        let mut builder = Client::builder(self.url(node).parse()?)?;
        if let Some(token) = token {
            builder = builder.auth_token(token);
        }
        if let Some(authority) = self.0["authority"].as_str() {
            builder = builder.tls_config(trusting(authority)?);
        }
        Ok(Connection {
            client: tokio::time::timeout(HANG, builder.connect()).await??,
            unread: VecDeque::new(),
        })
    }

    async fn member(&self, node: &str, room: &str) -> Result<(Connection, String)> {
        let (mut connection, topic) = (self.client(node, None).await?, self.topic(room));
        connection.joined(&topic).await?;
        Ok((connection, topic))
    }
}

/// The settings of a client that trusts the authority in this file.
fn trusting(authority: &str) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority)?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

fn say(message: &Value) {
    println!("{message}");
}

/// Has the stage do something, and returns its answer.
fn ask(what: &str) -> Result<Value> {
    say(&json!({"ask": what}));
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

fn equal(got: &Value, wanted: &Value) -> Result<()> {
    if got == wanted {
        return Ok(());
    }
    let [got, wanted] = [got, wanted].map(|value| value.to_string().chars().take(200).collect::<String>());
    Err(format!("got {got} instead of {wanted}").into())
}

/// A connection, and what came on it and was not looked at.
struct Connection {
    client: Client,
    unread: VecDeque<Message<Value>>,
}

impl Connection {
    /// The first message that is wanted.
    async fn first(&mut self, wanted: impl Fn(&Message<Value>) -> bool) -> Result<Value> {
        let mut at = 0;
        loop {
            if let Some(found) = self.unread.iter().skip(at).position(&wanted) {
                return Ok(self.unread.remove(at + found).map(|message| message.payload).unwrap_or_default());
            }
            at = self.unread.len();
            self.unread.push_back(tokio::time::timeout(HANG, self.client.recv()).await??);
        }
    }

    async fn reply(&mut self, number: usize) -> Result<Value> {
        let number = number.to_string();
        self.first(|message| {
            message.event_name == "phx_reply" && message.message_reference.as_ref() == Some(&number)
        })
        .await
    }

    async fn join(&mut self, topic: &str) -> Result<Value> {
        let number = self.client.join(topic).await?;
        self.reply(number).await
    }

    async fn joined(&mut self, topic: &str) -> Result<()> {
        equal(&self.join(topic).await?, &ok(&json!({})))
    }

    async fn cast(&mut self, topic: &str, event: &str, payload: &Value) -> Result<usize> {
        Ok(self.client.send(topic, event, payload).await?)
    }

    async fn push(&mut self, topic: &str, event: &str, payload: &Value) -> Result<Value> {
        let number = self.cast(topic, event, payload).await?;
        self.reply(number).await
    }

    async fn hear(&mut self, topic: &str) -> Result<Value> {
        self.first(|message| message.event_name == "n" && message.topic_name == topic).await
    }

    /// Waits until the connection has ended.
    async fn ended(&mut self) -> Result<()> {
        while tokio::time::timeout(HANG, self.client.recv::<Value>()).await?.is_ok() {}
        Ok(())
    }

    /// Fails when a message of a room came that nobody waited for. What came before the reply to an echo is read.
    async fn heard_all(&mut self, topic: &str) -> Result<()> {
        equal(&self.push(topic, "echo", &json!({})).await?, &ok(&json!({})))?;
        let left = self.unread.iter().filter(|message| message.event_name == "n").count();
        equal(&json!(left), &json!(0))
    }
}

fn ok(response: &Value) -> Value {
    json!({"status": "ok", "response": response})
}

fn error(response: &Value) -> Value {
    json!({"status": "error", "response": response})
}

async fn join_refused(told: &Told) -> Result<()> {
    let mut client = told.client("node", None).await?;
    for (topic, reason) in [("room:denied", "unauthorized"), ("nowhere:1", "unmatched topic")] {
        equal(&client.join(topic).await?, &error(&json!({"reason": reason})))?;
    }
    Ok(())
}

async fn push_with_reply(told: &Told) -> Result<()> {
    let (mut client, topic) = told.member("node", "reply").await?;
    let payload = json!({"text": "Grüße, 世界 🎉", "list": [1.5, null, {"deep": true}]});
    equal(&client.push(&topic, "echo", &payload).await?, &ok(&payload))?;
    equal(&client.push(&topic, "echo_error", &json!({"why": "x"})).await?, &error(&json!({"why": "x"})))
}

async fn broadcast(told: &Told) -> Result<()> {
    let (mut one, topic) = told.member("node", "broadcast").await?;
    let (mut other, _) = told.member("node", "broadcast").await?;
    other.joined(&told.topic("elsewhere")).await?;
    for n in 0..20 {
        one.cast(&topic, "n", &json!({"n": n})).await?;
    }
    for client in [&mut one, &mut other] {
        for n in 0..20 {
            equal(&client.hear(&topic).await?, &json!({"n": n}))?;
        }
        client.heard_all(&topic).await?;
    }
    Ok(())
}

async fn forty_topics(told: &Told) -> Result<()> {
    let mut client = told.client("node", None).await?;
    let topics: Vec<_> = (0..40).map(|n| told.topic(&format!("forty-{n}"))).collect();
    for topic in &topics {
        client.joined(topic).await?;
    }
    for (n, topic) in topics.iter().enumerate() {
        client.cast(topic, "n", &json!({"n": n})).await?;
    }
    for (n, topic) in topics.iter().enumerate() {
        equal(&client.push(topic, "echo", &json!({"n": n})).await?, &ok(&json!({"n": n})))?;
    }
    for (n, topic) in topics.iter().enumerate() {
        equal(&client.hear(topic).await?, &json!({"n": n}))?;
    }
    client.heard_all(&topics[0]).await
}

async fn duplicate_join(told: &Told) -> Result<()> {
    let (mut client, topic) = told.member("node", "twice").await?;
    client.client.set_join_id(2);
    client.joined(&topic).await?;
    let old = Some("1".to_owned());
    client.first(|message| message.event_name == "phx_close" && message.join_reference == old).await?;
    client.cast(&topic, "n", &json!({"n": 1})).await?;
    equal(&client.hear(&topic).await?, &json!({"n": 1}))?;
    client.heard_all(&topic).await
}

async fn leave(told: &Told) -> Result<()> {
    let (mut leaver, topic) = told.member("node", "leave").await?;
    let (mut stayer, _) = told.member("node", "leave").await?;
    let number = leaver.client.leave(&topic).await?;
    equal(&leaver.reply(number).await?, &ok(&json!({})))?;
    leaver.first(|message| message.event_name == "phx_close").await?;
    stayer.cast(&topic, "n", &json!({"n": 1})).await?;
    equal(&stayer.hear(&topic).await?, &json!({"n": 1}))?;
    leaver.joined(&topic).await?;
    stayer.cast(&topic, "n", &json!({"n": 2})).await?;
    equal(&leaver.hear(&topic).await?, &json!({"n": 2}))?;
    leaver.heard_all(&topic).await
}

async fn thirty_reconnects(told: &Told) -> Result<()> {
    let (mut client, topic) = told.member("relay", "thirty").await?;
    for n in 0..30 {
        ask("cut")?;
        client.ended().await?;
        client = told.member("relay", "thirty").await?.0;
        equal(&client.push(&topic, "echo", &json!({"n": n})).await?, &ok(&json!({"n": n})))?;
    }
    Ok(())
}

async fn network_drop(told: &Told) -> Result<()> {
    let (mut client, topic) = told.member("relay", "drop").await?;
    let (mut other, _) = told.member("node", "drop").await?;
    ask("down")?;
    client.ended().await?;
    if told.client("relay", None).await.is_ok() {
        return Err("the network is not down".into());
    }
    other.cast(&topic, "n", &json!({"n": "lost"})).await?;
    other.hear(&topic).await?;
    ask("up")?;
    let (mut client, _) = told.member("relay", "drop").await?;
    other.cast(&topic, "n", &json!({"n": "heard"})).await?;
    equal(&client.hear(&topic).await?, &json!({"n": "heard"}))
}

async fn token_refresh(told: &Told) -> Result<()> {
    let (tokens, topic) = (ask("tokens")?, told.topic("token"));
    let mut client = told.client("tokens", tokens["short"].as_str()).await?;
    client.joined(&topic).await?;
    client.cast(&topic, "access_token", &json!({"access_token": tokens["long"]})).await?;
    ask("expired")?;
    equal(&client.push(&topic, "send", &json!({})).await?["status"], &json!("ok"))
}

async fn token_at_a_reconnect(told: &Told) -> Result<()> {
    let (tokens, topic) = (ask("tokens")?, told.topic("renewed"));
    let mut client = told.client("tokens", tokens["short"].as_str()).await?;
    client.joined(&topic).await?;
    client.ended().await?;
    let mut client = told.client("tokens", tokens["long"].as_str()).await?;
    client.joined(&topic).await?;
    equal(&client.push(&topic, "send", &json!({})).await?["status"], &json!("ok"))
}

async fn payload_of_256_kb(told: &Told) -> Result<()> {
    let (mut from, topic) = told.member("tokens", "large").await?;
    let (mut to, _) = told.member("tokens", "large").await?;
    let payload = json!({"text": "0123456789abcdef".repeat(PAYLOAD_PARTS)});
    equal(&from.push(&topic, "echo", &payload).await?, &ok(&payload))?;
    from.cast(&topic, "n", &payload).await?;
    equal(&to.hear(&topic).await?, &payload)
}

async fn play(told: &Told, scenario: &str) -> Result<()> {
    match scenario {
        "join granted" => told.member("node", "granted").await.map(drop),
        "join refused" => join_refused(told).await,
        "push with reply" => push_with_reply(told).await,
        "broadcast" => broadcast(told).await,
        "forty topics" => forty_topics(told).await,
        "duplicate join" => duplicate_join(told).await,
        "leave" => leave(told).await,
        "thirty reconnects" => thirty_reconnects(told).await,
        "network drop" => network_drop(told).await,
        "token refresh" => token_refresh(told).await,
        "token at a reconnect" => token_at_a_reconnect(told).await,
        "256 KB payload" => payload_of_256_kb(told).await,
        other => Err(format!("there is no scenario {other}").into()),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let told = Told(serde_json::from_str(&std::env::var("STAGE")?)?);
    for scenario in told.0["scenarios"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let why = play(&told, scenario).await.err().map(|error| error.to_string());
        say(&json!({"scenario": scenario, "why": why}));
    }
    Ok(())
}
