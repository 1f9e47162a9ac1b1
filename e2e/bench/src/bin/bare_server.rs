//! `bare-server PORT [THREADS]`: the kernel's cost of a delivery, and nothing else.
//!
//! It has one epoll. A connection joins the room that its path names (`/?room=NAME`); each of its messages is framed
//! once and written with one send(2) to each member at once: no queue, no batching, no timer. Each thread writes to
//! its own members; the first one reads for all. A member whose socket is full misses the message. It is no server,
//! only the loop that servers are measured against.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, TcpListener},
    os::fd::{AsFd, OwnedFd},
    process::ExitCode,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use anyhow::{Context, Result, ensure};
use bench::wire::{self, Frame, Upgrade};
use rustix::{
    event::epoll,
    io::Errno,
    net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send, sockopt},
};
use slab::Slab;

/// Token of the listener; connections have their place in the slab.
const LISTENER: u64 = u64::MAX;
/// Events taken from the kernel at once.
const EVENTS: usize = 1024;
/// Bytes read at once.
const SCRATCH_BYTES: usize = 64 << 10;

struct Connection {
    socket: OwnedFd,
    /// Number of the room once the upgrade is done.
    room: Option<usize>,
    /// The bytes of a request or a frame that have come so far.
    partial: Vec<u8>,
}

/// An order of the first thread to another one.
enum Order {
    Join { room: usize, index: usize, socket: OwnedFd },
    Leave { room: usize, index: usize },
    Write { room: usize, frame: Box<[u8]> },
}

struct Server {
    epoll: OwnedFd,
    listener: OwnedFd,
    connections: Slab<Connection>,
    /// Members that the first thread writes to.
    rooms: Vec<Vec<usize>>,
    /// The other threads.
    writers: Vec<Sender<Order>>,
    names: HashMap<String, usize>,
    scratch: Vec<u8>,
    out: Vec<u8>,
}

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::err!("bare-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().and_then(|port| port.parse().ok()).context("bare-server PORT [THREADS]")?;
    let threads: usize = arguments.next().map_or(Ok(1), |threads| threads.parse()).context("THREADS")?;
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    let mut server = Server {
        epoll,
        listener: listener.into(),
        connections: Slab::new(),
        rooms: Vec::new(),
        writers: (1..threads).map(|_| writer()).collect(),
        names: HashMap::new(),
        scratch: vec![0; SCRATCH_BYTES],
        out: Vec::new(),
    };
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        events.clear();
        match epoll::wait(&server.epoll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("epoll_wait"),
        }
        for event in &events {
            match event.data.u64() {
                LISTENER => server.accept()?,
                token => {
                    let index = token as usize;
                    if server.readable(index).is_err() {
                        server.leave(index);
                    }
                }
            }
        }
    }
}

/// A thread that writes to members of its own until its queue of orders closes.
fn writer() -> Sender<Order> {
    let (sender, orders) = channel();
    thread::spawn(move || write(&orders));
    sender
}

fn write(orders: &Receiver<Order>) {
    let mut rooms: Vec<Vec<(usize, OwnedFd)>> = Vec::new();
    for order in orders {
        match order {
            Order::Join { room, index, socket } => {
                if rooms.len() <= room {
                    rooms.resize_with(room + 1, Vec::new);
                }
                rooms[room].push((index, socket));
            }
            Order::Leave { room, index } => rooms[room].retain(|(member, _)| *member != index),
            Order::Write { room, frame } => {
                for (_, socket) in rooms.get(room).into_iter().flatten() {
                    send(socket, &frame, SendFlags::NOSIGNAL).ok();
                }
            }
        }
    }
}

impl Server {
    /// The thread that writes to a member; `None` is this one.
    fn writer_of(&self, index: usize) -> Option<&Sender<Order>> {
        (index % (self.writers.len() + 1)).checked_sub(1).map(|writer| &self.writers[writer])
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            let socket = match accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(socket) => socket,
                Err(Errno::AGAIN | Errno::CONNABORTED) => return Ok(()),
                Err(error) => return Err(error).context("accept"),
            };
            sockopt::set_tcp_nodelay(&socket, true)?;
            let entry = self.connections.vacant_entry();
            let data = epoll::EventData::new_u64(entry.key() as u64);
            epoll::add(&self.epoll, socket.as_fd(), data, epoll::EventFlags::IN)?;
            entry.insert(Connection { socket, room: None, partial: Vec::new() });
        }
    }

    /// Reads once. An error is the end of the connection.
    fn readable(&mut self, index: usize) -> Result<()> {
        let Some(connection) = self.connections.get_mut(index) else { return Ok(()) };
        let (count, _) = match recv(&connection.socket, self.scratch.as_mut_slice(), RecvFlags::empty()) {
            Ok(read) => read,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(error) => return Err(io::Error::from(error).into()),
        };
        ensure!(count > 0, "end of file");
        let mut input = std::mem::take(&mut connection.partial);
        input.extend_from_slice(&self.scratch[..count]);
        let mut at = 0;
        if connection.room.is_none() {
            let Some(upgrade) = wire::upgrade(&input)? else {
                connection.partial = input;
                return Ok(());
            };
            at = upgrade.length;
            self.join(index, &upgrade)?;
        }
        while let Some(frame) = wire::take(&mut input[at..])? {
            at += frame.length;
            self.frame(index, &frame)?;
        }
        if at < input.len() {
            self.connections[index].partial = input.split_off(at);
        }
        Ok(())
    }

    fn join(&mut self, index: usize, upgrade: &Upgrade<'_>) -> Result<()> {
        let room = self.names.get(upgrade.room).copied().unwrap_or_else(|| {
            self.rooms.push(Vec::new());
            self.names.insert(upgrade.room.to_owned(), self.rooms.len() - 1);
            self.rooms.len() - 1
        });
        self.connections[index].room = Some(room);
        self.out.clear();
        self.out.extend_from_slice(upgrade.answer().as_bytes());
        wire::encode(&mut self.out, wire::TEXT, b"joined");
        let socket = &self.connections[index].socket;
        send(socket, &self.out, SendFlags::NOSIGNAL)?;
        match self.writer_of(index) {
            None => self.rooms[room].push(index),
            Some(writer) => writer.send(Order::Join { room, index, socket: socket.try_clone()? })?,
        }
        Ok(())
    }

    fn frame(&mut self, index: usize, frame: &Frame<'_>) -> Result<()> {
        self.out.clear();
        match frame.opcode {
            wire::TEXT | wire::BINARY => {
                wire::encode(&mut self.out, frame.opcode, frame.payload);
                let Some(room) = self.connections[index].room else { return Ok(()) };
                for writer in &self.writers {
                    writer.send(Order::Write { room, frame: self.out.as_slice().into() })?;
                }
                for member in &self.rooms[room] {
                    // A member with a full or dying socket misses the message, because only the loop is measured.
                    send(&self.connections[*member].socket, &self.out, SendFlags::NOSIGNAL).ok();
                }
            }
            wire::PING => {
                wire::encode(&mut self.out, wire::PONG, frame.payload);
                send(&self.connections[index].socket, &self.out, SendFlags::NOSIGNAL)?;
            }
            wire::CLOSE => anyhow::bail!("closed by the client"),
            _ => {}
        }
        Ok(())
    }

    fn leave(&mut self, index: usize) {
        let Some(connection) = self.connections.try_remove(index) else { return };
        let Some(room) = connection.room else { return };
        match self.writer_of(index) {
            None => self.rooms[room].retain(|member| *member != index),
            // A writer ends only with the process, so the order always arrives.
            Some(writer) => writer.send(Order::Leave { room, index }).unwrap_or_default(),
        }
    }
}
