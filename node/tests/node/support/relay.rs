//! A TCP relay with a round trip of its own, between a client and a server on this machine.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// Starts a relay to `target` whose every byte takes `one_way` in each direction. Returns where to connect.
pub(crate) fn relay(target: SocketAddr, one_way: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(target) else { continue };
            client.set_nodelay(true).expect("an option");
            server.set_nodelay(true).expect("an option");
            carry(client.try_clone().expect("a copy"), server.try_clone().expect("a copy"), one_way);
            carry(server, client, one_way);
        }
    });
    address
}

/// Carries bytes, and then the end, from one to the other.
fn carry(mut from: TcpStream, mut to: TcpStream, one_way: Duration) {
    let (send, receive) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            // An error counts as an end; no bytes are then carried last.
            let count = from.read(&mut buffer).unwrap_or(0);
            if send.send((Instant::now() + one_way, buffer[..count].to_vec())).is_err() || count == 0 {
                return;
            }
        }
    });
    thread::spawn(move || {
        while let Ok((due, bytes)) = receive.recv() {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if bytes.is_empty() || to.write_all(&bytes).is_err() {
                break;
            }
        }
        to.shutdown(Shutdown::Write).ok();
    });
}
