//! A TCP relay that delays each byte, as a long way does: latency without loss, in both directions.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// Most bytes of a piece on its way.
const PIECE: usize = 16 * 1024;
/// Most pieces on their way in one direction; beyond that the reader waits.
const PIECES: usize = 1_024;

/// Listens on a port of its own on loopback and carries each connection to `to`; a round trip takes `round_trip`
/// longer. It runs as long as the runtime that it is started on.
///
/// # Errors
/// When it cannot listen.
pub async fn start(to: String, round_trip: Duration) -> Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("cannot listen on loopback")?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(carry(client, to.clone(), round_trip / 2));
        }
    });
    Ok(address)
}

/// When the server refuses the connection, the relay closes the client's at once.
async fn carry(client: TcpStream, to: String, delay: Duration) {
    let Ok(server) = TcpStream::connect(&to).await else { return };
    if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
        return;
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::join!(one_way(from_client, to_server, delay), one_way(from_server, to_client, delay));
}

async fn one_way(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let read = async move {
        let mut buffer = vec![0; PIECE];
        while let Ok(count) = from.read(&mut buffer).await {
            // The end of input is an empty piece, and takes as long as input does.
            let piece = buffer[..count].to_vec();
            if sender.send((Instant::now() + delay, piece)).await.is_err() || count == 0 {
                return;
            }
        }
    };
    let write = async move {
        while let Some((due, piece)) = pieces.recv().await {
            sleep_until(due).await;
            if piece.is_empty() || to.write_all(&piece).await.is_err() {
                break;
            }
        }
        to.shutdown().await.ok();
    };
    tokio::join!(read, write);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_bytes_and_the_end_come_later_and_in_order() {
        let server = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let to = server.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut socket, _) = server.accept().await.unwrap();
            let mut all = Vec::new();
            socket.read_to_end(&mut all).await.unwrap();
            socket.write_all(&all).await.unwrap();
        });
        let round_trip = Duration::from_millis(40);
        let address = start(to, round_trip).await.unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        let begun = Instant::now();
        let sent: Vec<u8> = (0..100_000).map(|n| (n % 251) as u8).collect();
        client.write_all(&sent).await.unwrap();
        client.shutdown().await.unwrap();
        let mut back = Vec::new();
        client.read_to_end(&mut back).await.unwrap();
        assert!(back == sent);
        assert!(begun.elapsed() >= round_trip, "{:?}", begun.elapsed());
    }
}
