//! One WebSocket connection that speaks Phoenix v2, frame by frame, for tests of the protocol itself.

use anyhow::{Context, bail};
use futures::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

/// The close code that stands for the absence of a close frame (RFC 6455 section 7.4.1).
pub const ABNORMAL: u16 = 1006;
/// The close code that stands for a close frame without a code (RFC 6455 section 7.4.1).
pub const NO_STATUS: u16 = 1005;

/// A message of the Phoenix v2 JSON serializer.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// Reference of the join that the message belongs to.
    pub join_ref: Option<String>,
    /// Reference of the message, repeated in its reply.
    pub reference: Option<String>,
    /// The channel's topic.
    pub topic: String,
    /// The event's name.
    pub event: String,
    /// The payload.
    pub payload: Value,
}

/// A message of the server.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// A text frame holding a v2 message.
    Frame(Frame),
    /// A binary frame, as it is.
    Binary(Vec<u8>),
    /// The connection is over: the close code, or [`ABNORMAL`] or [`NO_STATUS`].
    Closed(u16),
}

/// An open connection.
pub struct Raw {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Frame {
    /// A message as it is written, with references as strings like phoenix.js'.
    pub fn text(&self) -> String {
        Value::from(vec![
            self.join_ref.clone().into(),
            self.reference.clone().into(),
            self.topic.clone().into(),
            self.event.clone().into(),
            self.payload.clone(),
        ])
        .to_string()
    }

    /// Reads a message.
    ///
    /// # Errors
    /// When the text is no JSON array of five fitting elements.
    pub fn parse(text: &str) -> anyhow::Result<Frame> {
        let (join_ref, reference, topic, event, payload) =
            serde_json::from_str(text).with_context(|| format!("no Phoenix v2 message: {text}"))?;
        Ok(Frame { join_ref, reference, topic, event, payload })
    }

    /// The status of a reply: `ok`, `error` or what the server chose.
    pub fn status(&self) -> Option<&str> {
        (self.event == "phx_reply").then(|| self.payload["status"].as_str())?
    }
}

/// The URL with `vsn=2.0.0`, as phoenix.js asks for it.
pub fn versioned(url: &str) -> String {
    format!("{url}{}vsn=2.0.0", if url.contains('?') { '&' } else { '?' })
}

impl Raw {
    /// Connects to a socket mount, as in `ws://127.0.0.1:4000/socket/websocket`.
    ///
    /// # Errors
    /// When there is no connection or no upgrade; see [`refused_status`].
    pub async fn connect(url: &str) -> anyhow::Result<Raw> {
        let url = versioned(url);
        let request = url.as_str().into_client_request().with_context(|| url.clone())?;
        Raw::connect_with(request).await
    }

    /// Connects with a request that the caller has made: headers, query and all.
    ///
    /// # Errors
    /// When there is no connection or no upgrade; see [`refused_status`].
    pub async fn connect_with(request: Request) -> anyhow::Result<Raw> {
        let uri = request.uri().to_string();
        let (stream, _) = connect_async_with_config(request, None, true).await.context(uri)?;
        Ok(Raw { stream })
    }

    /// Sends a message.
    ///
    /// # Errors
    /// When the connection is over.
    pub async fn send(&mut self, frame: &Frame) -> anyhow::Result<()> {
        self.send_message(Message::text(frame.text())).await
    }

    /// Sends any WebSocket message.
    ///
    /// # Errors
    /// When the connection is over.
    pub async fn send_message(&mut self, message: Message) -> anyhow::Result<()> {
        Ok(self.stream.send(message).await?)
    }

    /// The next message; pings are answered on the way.
    ///
    /// # Errors
    /// When a text frame is no Phoenix v2 message.
    pub async fn receive(&mut self) -> anyhow::Result<Incoming> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => return Ok(Incoming::Frame(Frame::parse(&text)?)),
                Some(Ok(Message::Binary(bytes))) => return Ok(Incoming::Binary(bytes.to_vec())),
                Some(Ok(Message::Close(close))) => {
                    let code = close.map_or(NO_STATUS, |close| close.code.into());
                    // The library has queued the answer to it, and there may be no next use of the stream that would
                    // send it.
                    self.stream.flush().await.ok();
                    return Ok(Incoming::Closed(code));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Ok(Incoming::Closed(ABNORMAL)),
            }
        }
    }

    /// The next message that is a frame for which `wanted` holds; others are passed over.
    ///
    /// # Errors
    /// When the connection ends first.
    pub async fn wait_for(&mut self, mut wanted: impl FnMut(&Frame) -> bool) -> anyhow::Result<Frame> {
        loop {
            match self.receive().await? {
                Incoming::Frame(frame) if wanted(&frame) => return Ok(frame),
                Incoming::Closed(code) => bail!("closed with {code} before the message came"),
                Incoming::Frame(_) | Incoming::Binary(_) => {}
            }
        }
    }

    /// Starts the closing handshake.
    ///
    /// # Errors
    /// When the connection is over already.
    pub async fn close(&mut self, code: u16) -> anyhow::Result<()> {
        let frame = CloseFrame { code: CloseCode::from(code), reason: "".into() };
        Ok(self.stream.close(Some(frame)).await?)
    }
}

/// The HTTP status with which an upgrade was refused, if the error is such a refusal.
pub fn refused_status(error: &anyhow::Error) -> Option<u16> {
    match error.downcast_ref::<Error>() {
        Some(Error::Http(response)) => Some(response.status().as_u16()),
        _ => None,
    }
}
