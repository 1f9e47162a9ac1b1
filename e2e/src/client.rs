//! A Phoenix v2 client with the habits of phoenix.js: it sends heartbeats, connects again after phoenix.js'
//! delays unless the close code is 1000, and joins its channels again by itself.
//!
//! Unlike phoenix.js it does not queue pushes while there is no connection: they fail at once, so that a test sees
//! the failure.

mod actor;
pub mod raw;

use actor::{Actor, Command};
use serde_json::Value;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// phoenix.js' timeout of joins and pushes.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// phoenix.js' heartbeat interval.
pub const HEARTBEAT: Duration = Duration::from_secs(30);
/// Events waiting to be read before the client stops reading its socket.
const EVENTS: usize = 1024;

/// How a socket behaves.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Whether to connect again after an end that is not our own and whose code is not 1000.
    pub reconnect: bool,
    /// Time between heartbeats.
    pub heartbeat: Duration,
}

impl Default for Habits {
    fn default() -> Habits {
        Habits { reconnect: true, heartbeat: HEARTBEAT }
    }
}

/// An event of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketEvent {
    /// Connected, at first or again.
    Open,
    /// The connection ended with this code; 1006 stands for an end without a code.
    Closed(u16),
    /// An attempt to connect failed, for this reason.
    Failed(String),
}

/// An event of a channel.
#[derive(Clone, Debug, PartialEq)]
pub enum ChannelEvent {
    /// Joined, at first or again; with the join's response.
    Joined(Value),
    /// A push or broadcast.
    Message {
        /// The event's name.
        event: String,
        /// The payload.
        payload: Value,
    },
    /// The server ended the channel, by `phx_close` or `phx_error`.
    Ended(String),
}

/// The answer to a push.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// `ok`, `error` or a status of the server's choice.
    pub status: String,
    /// The response.
    pub response: Value,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoReply {
    /// There is no connection, or it ended while waiting.
    Disconnected,
    /// No answer came within [`TIMEOUT`].
    Timeout,
}

impl std::fmt::Display for NoReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            NoReply::Disconnected => "not connected",
            NoReply::Timeout => "no reply within 10 s",
        })
    }
}

impl std::error::Error for NoReply {}

/// A client's socket. Dropping it and its channels ends the connection.
pub struct Socket {
    commands: mpsc::Sender<Command>,
    events: mpsc::Receiver<SocketEvent>,
}

/// A joined channel, or one that waits to be joined again.
pub struct Channel {
    topic: String,
    commands: mpsc::Sender<Command>,
    events: mpsc::Receiver<ChannelEvent>,
}

impl Socket {
    /// Connects with phoenix.js' habits to a socket mount, as in `ws://127.0.0.1:4000/socket/websocket`.
    ///
    /// # Errors
    /// When the first attempt fails.
    pub async fn connect(url: &str) -> anyhow::Result<Socket> {
        Socket::connect_with(url, Habits::default()).await
    }

    /// Connects with other habits.
    ///
    /// # Errors
    /// When the first attempt fails.
    pub async fn connect_with(url: &str, habits: Habits) -> anyhow::Result<Socket> {
        let raw = raw::Raw::connect(url).await?;
        let (commands, inbox) = mpsc::channel(EVENTS);
        let (sender, events) = mpsc::channel(EVENTS);
        tokio::spawn(Actor::new(url.to_owned(), habits, sender, inbox).run(raw));
        Ok(Socket { commands, events })
    }

    /// Joins a topic.
    ///
    /// # Errors
    /// [`NoReply`], or the reply when its status is not `ok`.
    pub async fn join(&self, topic: &str, params: Value) -> anyhow::Result<Channel> {
        let (sender, events) = mpsc::channel(EVENTS);
        let (answer, answered) = oneshot::channel();
        let command = Command::Join { topic: topic.to_owned(), params, events: sender, answer };
        let reply = ask(&self.commands, command, answered).await?;
        anyhow::ensure!(reply.status == "ok", "join of {topic}: {} {}", reply.status, reply.response);
        Ok(Channel { topic: topic.to_owned(), commands: self.commands.clone(), events })
    }

    /// Sends a heartbeat now.
    ///
    /// # Errors
    /// [`NoReply`].
    pub async fn heartbeat(&self) -> Result<Reply, NoReply> {
        push(&self.commands, "phoenix", "heartbeat", Value::Object(Default::default())).await
    }

    /// The next event of the socket; `None` once it has ended for good.
    pub async fn next(&mut self) -> Option<SocketEvent> {
        self.events.recv().await
    }

    /// Closes the connection for good with this code and waits for the server's answer.
    pub async fn close(mut self, code: u16) {
        if self.commands.send(Command::Close(code)).await.is_ok() {
            while self.events.recv().await.is_some() {}
        }
    }
}

impl Channel {
    /// The channel's topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Pushes an event and waits for its reply.
    ///
    /// # Errors
    /// [`NoReply`].
    pub async fn push(&self, event: &str, payload: Value) -> Result<Reply, NoReply> {
        push(&self.commands, &self.topic, event, payload).await
    }

    /// Pushes an event that gets no reply.
    ///
    /// # Errors
    /// [`NoReply::Disconnected`] when there is no connection.
    pub async fn cast(&self, event: &str, payload: Value) -> Result<(), NoReply> {
        let (sent, done) = oneshot::channel();
        let command = Command::Cast { topic: self.topic.clone(), event: event.to_owned(), payload, sent };
        self.commands.send(command).await.map_err(|_| NoReply::Disconnected)?;
        done.await.map_err(|_| NoReply::Disconnected)
    }

    /// Leaves the channel.
    ///
    /// # Errors
    /// [`NoReply`].
    pub async fn leave(self) -> Result<Reply, NoReply> {
        push(&self.commands, &self.topic, "phx_leave", Value::Object(Default::default())).await
    }

    /// The next event of the channel; `None` once its socket has ended for good.
    pub async fn next(&mut self) -> Option<ChannelEvent> {
        self.events.recv().await
    }

    /// The payload of the next message of this event; others are passed over. `None` at the socket's end.
    pub async fn next_message(&mut self, wanted: &str) -> Option<Value> {
        loop {
            match self.next().await? {
                ChannelEvent::Message { event, payload } if event == wanted => return Some(payload),
                _ => {}
            }
        }
    }

    /// Waits until the channel has been joined again. `None` at the socket's end.
    pub async fn next_join(&mut self) -> Option<Value> {
        loop {
            if let ChannelEvent::Joined(response) = self.next().await? {
                return Some(response);
            }
        }
    }
}

async fn push(
    commands: &mpsc::Sender<Command>,
    topic: &str,
    event: &str,
    payload: Value,
) -> Result<Reply, NoReply> {
    let (answer, answered) = oneshot::channel();
    let command = Command::Push { topic: topic.to_owned(), event: event.to_owned(), payload, answer };
    ask(commands, command, answered).await
}

async fn ask(
    commands: &mpsc::Sender<Command>,
    command: Command,
    answered: oneshot::Receiver<Reply>,
) -> Result<Reply, NoReply> {
    commands.send(command).await.map_err(|_| NoReply::Disconnected)?;
    match tokio::time::timeout(TIMEOUT, answered).await {
        Ok(reply) => reply.map_err(|_| NoReply::Disconnected),
        Err(_) => Err(NoReply::Timeout),
    }
}
