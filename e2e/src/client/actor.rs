//! The task behind a [`Socket`](super::Socket): it owns the connection and the state of all channels.

use super::raw::{ABNORMAL, Frame, Incoming, Raw};
use super::{ChannelEvent, Habits, Reply, SocketEvent};
use crate::load::{reconnect_delay_ms, rejoin_delay_ms};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

pub(super) enum Command {
    Join { topic: String, params: Value, events: mpsc::Sender<ChannelEvent>, answer: oneshot::Sender<Reply> },
    Push { topic: String, event: String, payload: Value, answer: oneshot::Sender<Reply> },
    Cast { topic: String, event: String, payload: Value, sent: oneshot::Sender<()> },
    Close(u16),
}

struct ChannelState {
    params: Value,
    events: mpsc::Sender<ChannelEvent>,
    join_ref: String,
    joined: bool,
    /// When to join again after a refusal.
    rejoin_at: Option<Instant>,
    rejoins: usize,
    /// Where the answer of the first join goes.
    answer: Option<oneshot::Sender<Reply>>,
}

pub(super) struct Actor {
    url: String,
    habits: Habits,
    events: mpsc::Sender<SocketEvent>,
    inbox: mpsc::Receiver<Command>,
    channels: HashMap<String, ChannelState>,
    waiting: HashMap<String, oneshot::Sender<Reply>>,
    heartbeat: Option<String>,
    heartbeat_at: Instant,
    references: u64,
}

/// Why a connection is over.
enum Over {
    /// It ended, with this code.
    Closed(u16),
    /// The test has dropped it.
    Done,
}

impl Actor {
    pub(super) fn new(
        url: String,
        habits: Habits,
        events: mpsc::Sender<SocketEvent>,
        inbox: mpsc::Receiver<Command>,
    ) -> Actor {
        Actor {
            url,
            habits,
            events,
            inbox,
            channels: HashMap::new(),
            waiting: HashMap::new(),
            heartbeat: None,
            heartbeat_at: Instant::now(),
            references: 0,
        }
    }

    /// Serves one connection after the other, until one ends that is not to be replaced.
    pub(super) async fn run(mut self, mut raw: Raw) {
        loop {
            self.tell(SocketEvent::Open);
            let over = self.serve(&mut raw).await;
            self.waiting.clear();
            self.heartbeat = None;
            match over {
                Over::Done => return,
                Over::Closed(code) => {
                    self.tell(SocketEvent::Closed(code));
                    if code == 1000 || !self.habits.reconnect {
                        return;
                    }
                }
            }
            for channel in self.channels.values_mut() {
                channel.joined = false;
                channel.answer = None;
            }
            match self.reconnect().await {
                Some(next) => raw = next,
                None => return,
            }
        }
    }

    /// Socket events are a record that a test may not read: when it does not, the newest are lost.
    fn tell(&self, event: SocketEvent) {
        self.events.try_send(event).ok();
    }

    async fn reconnect(&mut self) -> Option<Raw> {
        for attempt in 0.. {
            let at = Instant::now() + Duration::from_millis(reconnect_delay_ms(attempt));
            loop {
                tokio::select! {
                    () = sleep_until(at) => break,
                    command = self.inbox.recv() => match command {
                        None | Some(Command::Close(_)) => return None,
                        // To drop its sender tells the caller that there is no connection.
                        Some(_) => {}
                    }
                }
            }
            match Raw::connect(&self.url).await {
                Ok(raw) => return Some(raw),
                Err(error) => self.tell(SocketEvent::Failed(format!("{error:#}"))),
            }
        }
        None
    }

    async fn serve(&mut self, raw: &mut Raw) -> Over {
        let topics: Vec<String> = self.channels.keys().cloned().collect();
        for topic in topics {
            if self.join(raw, &topic).await.is_err() {
                return Over::Closed(ABNORMAL);
            }
        }
        self.heartbeat_at = Instant::now() + self.habits.heartbeat;
        loop {
            let wake = self.channels.values().filter_map(|channel| channel.rejoin_at).min();
            let wake = wake.map_or(self.heartbeat_at, |at| at.min(self.heartbeat_at));
            let result = tokio::select! {
                incoming = raw.receive() => match incoming {
                    Ok(Incoming::Frame(frame)) => { self.on_frame(frame).await; Ok(()) }
                    Ok(Incoming::Binary(_)) => Ok(()),
                    Ok(Incoming::Closed(code)) => return Over::Closed(code),
                    Err(_) => return Over::Closed(ABNORMAL),
                },
                command = self.inbox.recv() => match command {
                    None => return close(raw, 1000).await,
                    Some(Command::Close(code)) => return close(raw, code).await,
                    Some(command) => self.on_command(raw, command).await,
                },
                () = sleep_until(wake) => self.on_time(raw).await,
            };
            if result.is_err() {
                return Over::Closed(ABNORMAL);
            }
        }
    }

    async fn on_time(&mut self, raw: &mut Raw) -> anyhow::Result<()> {
        let now = Instant::now();
        let due: Vec<String> = self
            .channels
            .iter()
            .filter(|(_, channel)| channel.rejoin_at.is_some_and(|at| at <= now))
            .map(|(topic, _)| topic.clone())
            .collect();
        for topic in due {
            self.join(raw, &topic).await?;
        }
        if now >= self.heartbeat_at {
            self.heartbeat_at = now + self.habits.heartbeat;
            anyhow::ensure!(self.heartbeat.is_none(), "heartbeat timeout");
            let reference = self.reference();
            self.heartbeat = Some(reference.clone());
            raw.send(&frame(None, reference, "phoenix", "heartbeat", json!({}))).await?;
        }
        Ok(())
    }

    async fn on_command(&mut self, raw: &mut Raw, command: Command) -> anyhow::Result<()> {
        match command {
            Command::Join { topic, params, events, answer } => {
                let state = ChannelState {
                    params,
                    events,
                    join_ref: String::new(),
                    joined: false,
                    rejoin_at: None,
                    rejoins: 0,
                    answer: Some(answer),
                };
                self.channels.insert(topic.clone(), state);
                self.join(raw, &topic).await
            }
            Command::Push { topic, event, payload, answer } => {
                let reference = self.reference();
                let join_ref = self.channels.get(&topic).map(|channel| channel.join_ref.clone());
                if event == "phx_leave" {
                    self.channels.remove(&topic);
                }
                self.waiting.insert(reference.clone(), answer);
                raw.send(&frame(join_ref, reference, &topic, &event, payload)).await
            }
            Command::Cast { topic, event, payload, sent } => {
                let reference = self.reference();
                let join_ref = self.channels.get(&topic).map(|channel| channel.join_ref.clone());
                raw.send(&frame(join_ref, reference, &topic, &event, payload)).await?;
                // The caller may have stopped waiting.
                sent.send(()).ok();
                Ok(())
            }
            Command::Close(_) => Ok(()),
        }
    }

    async fn join(&mut self, raw: &mut Raw, topic: &str) -> anyhow::Result<()> {
        let reference = self.reference();
        let Some(channel) = self.channels.get_mut(topic) else { return Ok(()) };
        channel.join_ref.clone_from(&reference);
        channel.joined = false;
        channel.rejoin_at = None;
        let params = channel.params.clone();
        raw.send(&frame(Some(reference.clone()), reference, topic, "phx_join", params)).await
    }

    async fn on_frame(&mut self, frame: Frame) {
        if frame.event == "phx_reply" {
            return self.on_reply(frame).await;
        }
        let Some(channel) = self.channels.get_mut(&frame.topic) else { return };
        if frame.join_ref.as_ref().is_some_and(|join_ref| *join_ref != channel.join_ref) {
            return;
        }
        let event = match frame.event.as_str() {
            "phx_close" => ChannelEvent::Ended(frame.event),
            "phx_error" => {
                refused(channel);
                ChannelEvent::Ended(frame.event)
            }
            _ => ChannelEvent::Message { event: frame.event, payload: frame.payload },
        };
        // When the reader of a channel does not read, this wait holds back the socket, as any slow client does. A
        // dropped channel reads nothing.
        drop(channel.events.send(event).await);
    }

    async fn on_reply(&mut self, frame: Frame) {
        let Some(reference) = frame.reference.clone() else { return };
        if self.heartbeat.as_ref() == Some(&reference) {
            self.heartbeat = None;
            return;
        }
        let reply = Reply {
            status: frame.status().unwrap_or_default().to_owned(),
            response: frame.payload["response"].clone(),
        };
        if let Some(answer) = self.waiting.remove(&reference) {
            drop(answer.send(reply));
            return;
        }
        let Some(channel) = self.channels.get_mut(&frame.topic) else { return };
        if channel.join_ref != reference || channel.joined {
            return;
        }
        let answer = channel.answer.take();
        if reply.status == "ok" {
            channel.joined = true;
            channel.rejoins = 0;
            drop(channel.events.send(ChannelEvent::Joined(reply.response.clone())).await);
        } else if answer.is_some() {
            self.channels.remove(&frame.topic);
        } else {
            refused(channel);
        }
        if let Some(answer) = answer {
            drop(answer.send(reply));
        }
    }

    fn reference(&mut self) -> String {
        self.references += 1;
        self.references.to_string()
    }
}

fn refused(channel: &mut ChannelState) {
    channel.joined = false;
    channel.rejoin_at = Some(Instant::now() + Duration::from_millis(rejoin_delay_ms(channel.rejoins)));
    channel.rejoins += 1;
}

fn frame(join_ref: Option<String>, reference: String, topic: &str, event: &str, payload: Value) -> Frame {
    Frame { join_ref, reference: Some(reference), topic: topic.into(), event: event.into(), payload }
}

/// Closes and reads on until the server has answered.
async fn close(raw: &mut Raw, code: u16) -> Over {
    if raw.close(code).await.is_ok() {
        while !matches!(raw.receive().await, Ok(Incoming::Closed(_)) | Err(_)) {}
    }
    Over::Done
}
