//! `tungstenite-server PORT WORKERS`: the server that a person would write first with tokio-tungstenite.
//!
//! It has a task and a bounded channel per connection, a shared map of rooms, and default settings. A member whose
//! channel is full misses the message.

use std::{
    collections::HashMap,
    net::SocketAddr,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result};
use bench::wire::room_of;
use futures::{SinkExt, StreamExt};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Builder,
    sync::mpsc,
};
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
    },
};

/// Messages that wait for one member.
const QUEUE_MESSAGES: usize = 1024;

type Room = HashMap<u64, mpsc::Sender<Message>>;
type Rooms = Arc<Mutex<HashMap<String, Room>>>;

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::err!("tungstenite-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<()> {
    let mut numbers = std::env::args().skip(1).map_while(|word| word.parse::<u16>().ok());
    let (port, workers) = numbers.next().zip(numbers.next()).context("tungstenite-server PORT WORKERS")?;
    let runtime = if workers > 1 {
        Builder::new_multi_thread().worker_threads(workers.into()).enable_all().build()?
    } else {
        Builder::new_current_thread().enable_all().build()?
    };
    runtime.block_on(accept(SocketAddr::from(([127, 0, 0, 1], port))))
}

async fn accept(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    let rooms = Rooms::default();
    for id in 0.. {
        let (stream, _) = listener.accept().await?;
        let rooms = Arc::clone(&rooms);
        tokio::spawn(async move {
            // A connection that ends in an error is over, and nobody needs to know.
            connection(stream, id, &rooms).await.ok();
        });
    }
    Ok(())
}

#[expect(clippy::result_large_err, reason = "the callback's type is tungstenite's")]
async fn connection(stream: TcpStream, id: u64, rooms: &Rooms) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut name = String::new();
    let socket = accept_hdr_async(stream, |request: &Request, response: Response| {
        name = room_of(&request.uri().to_string()).to_owned();
        Ok::<_, ErrorResponse>(response)
    })
    .await?;
    let (mut sink, mut stream) = socket.split();
    let (sender, mut receiver) = mpsc::channel(QUEUE_MESSAGES);
    // The connection becomes a member before it is told so: from then on it may miss nothing.
    in_rooms(rooms, |all| all.entry(name.clone()).or_default().insert(id, sender));
    sink.send(Message::text("joined")).await?;
    let writer = async {
        while let Some(message) = receiver.recv().await {
            sink.send(message).await?;
        }
        Ok::<_, anyhow::Error>(())
    };
    let reader = async {
        while let Some(message) = stream.next().await {
            let message = message?;
            if message.is_text() || message.is_binary() {
                in_rooms(rooms, |all| publish(all, &name, &message));
            }
        }
        Ok::<_, anyhow::Error>(())
    };
    let ended = tokio::select! { ended = writer => ended, ended = reader => ended };
    in_rooms(rooms, |all| all.get_mut(&name).and_then(|room| room.remove(&id)));
    ended
}

fn publish(all: &HashMap<String, Room>, name: &str, message: &Message) {
    for member in all.get(name).into_iter().flat_map(HashMap::values) {
        // A full channel belongs to a slow member, a closed one to a member that is leaving.
        member.try_send(message.clone()).ok();
    }
}

fn in_rooms<T>(rooms: &Rooms, work: impl FnOnce(&mut HashMap<String, Room>) -> T) -> T {
    work(&mut rooms.lock().unwrap_or_else(PoisonError::into_inner))
}
