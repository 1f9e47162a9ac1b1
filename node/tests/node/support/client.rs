//! A blocking WebSocket client that speaks V2 JSON.

use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{
    Error, HandshakeError, Message, WebSocket, client, client::IntoClientRequest, protocol::CloseFrame,
};

use super::wait::HANG;

pub(crate) struct Client(WebSocket<TcpStream>);

impl Client {
    /// Connects and joins a topic.
    pub(crate) fn join(address: SocketAddr, topic: &str) -> (Self, Value) {
        let mut client = Self::connect(address, None).expect("the handshake");
        let reply = client.joined(topic);
        (client, reply)
    }

    /// Connects, with a token or without; the status of the answer when that is not 101.
    pub(crate) fn connect(address: SocketAddr, token: Option<&str>) -> Result<Self, u16> {
        let stream = TcpStream::connect(address).expect("the public port");
        stream.set_read_timeout(Some(HANG)).expect("a timeout");
        let url = format!("ws://{address}/socket/websocket?vsn=2.0.0");
        let mut request = url.into_client_request().expect("a request");
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().expect("a header");
            request.headers_mut().insert("authorization", value);
        }
        match client(request, stream) {
            Ok((socket, _)) => Ok(Client(socket)),
            Err(HandshakeError::Failure(Error::Http(answer))) => Err(answer.status().as_u16()),
            Err(error) => panic!("the handshake: {error}"),
        }
    }

    /// The reply to a join of a topic.
    pub(crate) fn joined(&mut self, topic: &str) -> Value {
        self.send(&json!(["1", "1", topic, "phx_join", {}]));
        // A member that joins again hears with the same ref that its channel of before is closed.
        self.until(|message| message[1] == "1" && message[3] == "phx_reply")[4].clone()
    }

    pub(crate) fn send(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).expect("a connection");
    }

    /// The next message for which `meant` is true.
    pub(crate) fn until(&mut self, mut meant: impl FnMut(&Value) -> bool) -> Value {
        loop {
            if let Message::Text(text) = self.0.read().expect("a message") {
                let message = serde_json::from_str(&text).expect("JSON");
                if meant(&message) {
                    return message;
                }
            }
        }
    }

    /// Closes it with this code, and waits for the answer.
    pub(crate) fn close(mut self, code: u16) {
        let frame = CloseFrame { code: code.into(), reason: "".into() };
        self.0.close(Some(frame)).expect("a connection");
        while self.0.read().is_ok() {}
    }

    /// The connection itself, for what a WebSocket client would not send.
    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        self.0.get_mut()
    }

    /// The close code, if the server closes before a message comes for which `meant` is true.
    pub(crate) fn closed_or(&mut self, mut meant: impl FnMut(&Value) -> bool) -> Option<u16> {
        loop {
            match self.0.read().expect("a message") {
                Message::Close(frame) => return Some(frame.expect("a code").code.into()),
                Message::Text(text) if meant(&serde_json::from_str(&text).expect("JSON")) => return None,
                _ => {}
            }
        }
    }

    /// The close code, once the server closes.
    pub(crate) fn closed(&mut self) -> u16 {
        loop {
            if let Message::Close(frame) = self.0.read().expect("a close frame") {
                return frame.expect("a code").code.into();
            }
        }
    }
}
