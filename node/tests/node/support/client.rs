//! A blocking WebSocket client that speaks V2 JSON.

use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

use super::wait::HANG;

pub(crate) struct Client(WebSocket<TcpStream>);

impl Client {
    /// Connects and joins a topic.
    pub(crate) fn join(address: SocketAddr, topic: &str) -> (Self, Value) {
        let stream = TcpStream::connect(address).expect("the public port");
        stream.set_read_timeout(Some(HANG)).expect("a timeout");
        let url = format!("ws://{address}/socket/websocket?vsn=2.0.0");
        let (socket, _) = client(url, stream).expect("the handshake");
        let mut client = Client(socket);
        client.send(&json!(["1", "1", topic, "phx_join", {}]));
        let reply = client.until(|message| message[1] == "1");
        (client, reply[4].clone())
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

    /// The close code, once the server closes.
    pub(crate) fn closed(&mut self) -> u16 {
        loop {
            if let Message::Close(frame) = self.0.read().expect("a close frame") {
                return frame.expect("a code").code.into();
            }
        }
    }
}
