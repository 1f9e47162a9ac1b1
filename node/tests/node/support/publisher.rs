//! A publisher that behaves as a stock client towards a close: it publishes at its rate until it has read the node's
//! close frame, answers it, and reports how much it had published.

use std::{
    net::{SocketAddr, TcpStream},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::json;
use tokio_tungstenite::tungstenite::{Error, Message, client};

use super::wait::HANG;

/// Joins `room:1` at an address and publishes numbered messages, each with `name`. Returns how many messages it
/// published before it was told to go, and the close code.
pub(crate) fn publish(address: SocketAddr, name: String, per_second: u32) -> JoinHandle<(u64, u16)> {
    let stream = TcpStream::connect(address).expect("the public port");
    stream.set_read_timeout(Some(HANG)).expect("a time-out");
    let url = format!("ws://{address}/socket/websocket?vsn=2.0.0");
    let (mut socket, _) = client(url, stream).expect("the handshake");
    socket.send(Message::text(json!(["1", "1", "room:1", "phx_join", {}]).to_string())).expect("sent");
    while !socket.read().expect("an answer").to_string().contains("phx_reply") {}
    thread::spawn(move || {
        let pause = Duration::from_secs(1) / per_second;
        let mut next = Instant::now();
        for number in 0.. {
            let text = json!(["1", null, "room:1", "message", {"from": name, "number": number}]).to_string();
            socket.send(Message::text(text)).expect("sent");
            next += pause;
            while let Some(left) = next.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
            {
                socket.get_ref().set_read_timeout(Some(left)).expect("a time-out");
                match socket.read() {
                    Ok(Message::Close(frame)) => {
                        let code = frame.expect("a code").code.into();
                        // The read queued the answer to the close frame; this sends it.
                        socket.get_ref().set_read_timeout(Some(HANG)).expect("a time-out");
                        while socket.read().is_ok() {}
                        return (number + 1, code);
                    }
                    Ok(_) => {}
                    Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(error) => panic!("{name} after {number}: {error}"),
                }
            }
        }
        unreachable!("numbers end")
    })
}
