//! Instructions of what happens most often, counted by callgrind: the figures of `cargo xtask gates`.
//!
//! A count is the same in every run and on every machine with the same compiler, so a change of a few percent can
//! fail a build. It says nothing about caches and system calls: the measurements in `docs/BENCHMARKS.md` decide what
//! is faster.
//!
//! Each benchmark returns what it worked on, so that dropping it is not counted. None has a closure in it: callgrind
//! would take the closure's name for the benchmark's and stop counting while it runs.

#![allow(
    missing_docs,
    unused_qualifications,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "what the macros make of it"
)]

use std::hint::black_box;

use gungraun::{Callgrind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};
use node_core::{
    broadcast::{Broadcast, Content, Origin},
    config::NodeConfig,
    envelope::Envelope,
    protocol::{Vsn, decode_text},
    session::id::Slot,
    shard::{self, Mail},
    ws::{
        Event, Flow, Reader,
        handshake::{self, Request, Rules},
    },
};

#[allow(dead_code, reason = "the test of memory uses more of it")]
mod support;

use support::{Fake, REQUEST, join, masked, publish, topic};

/// Text of a chat message in bytes.
const TEXT: usize = 64;
/// Members of the room that is published to.
const MEMBERS: usize = 1_000;
/// Connections of the shard that others join and leave.
const CONNECTIONS: usize = 10_000;

/// A shard, one of its connections, and the bytes that this one sends.
type Scene = (Box<Fake>, Slot, Vec<Vec<u8>>);

#[library_benchmark]
#[bench::text_64(publish(TEXT))]
#[bench::text_1024(publish(1_024))]
fn decode(mut frame: Vec<u8>) -> Vec<u8> {
    read(black_box(&mut frame));
    frame
}

fn read(frame: &mut [u8]) {
    let flow = Reader::default().feed(frame, usize::MAX, &mut |event| {
        if let Event::Text(text) = event {
            black_box(decode_text(Vsn::V2, text)).expect("a message");
        }
        Flow::Continue
    });
    black_box(flow).expect("a frame");
}

/// The first member publishes; queues and lists have grown already.
fn room(members: usize) -> Scene {
    let mut fake = Fake::with_one_room(members);
    fake.shard.on_data(Slot(0), &mut publish(TEXT));
    fake.settle();
    (fake, Slot(0), vec![publish(TEXT)])
}

#[library_benchmark]
#[bench::to_1000(room(MEMBERS))]
fn publish_text((mut fake, id, mut frames): Scene) -> Scene {
    for frame in black_box(&mut frames) {
        fake.shard.on_data(id, frame);
    }
    (fake, id, frames)
}

fn said() -> Broadcast {
    Broadcast::pack(&Content::json(&topic(0), "new_msg", r#"{"body":"hello"}"#)).expect("short names")
}

/// With a clone of what is said, so that its end is not counted.
fn from_elsewhere(members: usize) -> (Box<Fake>, Mail, Broadcast) {
    let broadcast = said();
    let mail = Mail::Remote { broadcast: broadcast.clone(), origin: Origin::Shard };
    (room(members).0, mail, broadcast)
}

#[library_benchmark]
#[bench::to_1000(from_elsewhere(MEMBERS))]
fn remote((mut fake, mail, broadcast): (Box<Fake>, Mail, Broadcast)) -> (Box<Fake>, Broadcast) {
    fake.shard.handle(shard::Event::Mail(black_box(mail)));
    (fake, broadcast)
}

/// A room in which every member has so many frames queued.
fn queued(frames: usize, bytes: usize) -> Box<Fake> {
    let mut fake = Fake::with_one_room(MEMBERS);
    for _ in 0..2 {
        fake.settle();
        (0..frames).for_each(|_| {
            fake.shard.on_data(Slot(0), &mut publish(bytes));
        });
    }
    fake
}

#[library_benchmark]
#[bench::by_1(queued(1, TEXT))]
#[bench::by_4(queued(4, TEXT))]
#[bench::by_8(queued(8, TEXT))]
#[bench::by_8_gathered(queued(8, 4_096))]
fn flush_1000(mut fake: Box<Fake>) -> Box<Fake> {
    black_box(fake.flush());
    fake
}

/// A connection besides 10,000 others in rooms of 100, about to join and leave a room.
fn visitor(room: usize) -> Scene {
    let mut fake = Fake::with_rooms(CONNECTIONS);
    let id = fake.connect();
    fake.settle();
    let leave = masked(&format!(r#"["3","4","{}","phx_leave",{{}}]"#, topic(room)));
    (fake, id, vec![join(room), leave])
}

#[library_benchmark]
#[bench::of_100(visitor(50))]
#[bench::of_nobody(visitor(CONNECTIONS))]
fn join_and_leave_room((mut fake, id, mut frames): Scene) -> Scene {
    for frame in black_box(&mut frames) {
        fake.shard.on_data(id, frame);
    }
    (fake, id, frames)
}

#[library_benchmark]
#[bench::besides_10000(visitor(50))]
fn connect_join_and_go((mut fake, last, mut frames): Scene) -> Scene {
    let id = fake.connect();
    fake.settle();
    fake.shard.on_data(id, black_box(&mut frames[0]));
    fake.settle();
    fake.shard.handle(shard::Event::Lost(id));
    fake.settle();
    (fake, last, frames)
}

fn idle() -> Scene {
    let (fake, id, _) = room(MEMBERS);
    (fake, id, vec![masked(r#"[null,"5","phoenix","heartbeat",{}]"#)])
}

#[library_benchmark]
#[bench::answered(idle())]
fn heartbeat((mut fake, id, mut frames): Scene) -> Scene {
    for frame in black_box(&mut frames) {
        fake.shard.on_data(id, frame);
    }
    black_box(fake.flush());
    (fake, id, frames)
}

#[library_benchmark]
#[bench::of_a_browser(NodeConfig::dev())]
fn upgrade(config: NodeConfig) -> (NodeConfig, Request) {
    let rules = Rules {
        path: &config.fixed.path,
        max_head_bytes: 32 << 10,
        auth: &config.auth,
        page: None,
        ready: true,
        dev: false,
        client: None,
        long_poll: None,
        deflate_window_bits: None,
    };
    let request = handshake::read(black_box(REQUEST.as_bytes()), &rules);
    (config, request)
}

#[library_benchmark]
#[bench::there_and_back(said())]
fn envelope(broadcast: Broadcast) -> (Broadcast, Vec<u8>) {
    let packed = black_box(&broadcast).borrowed();
    let bytes = Envelope { origin: 7, sequence: 9, sent_millis: 3, packed }.encode();
    black_box(Envelope::decode(black_box(&bytes))).expect("an envelope");
    (broadcast, bytes)
}

library_benchmark_group!(
    name = hot_paths,
    benchmarks = [
        decode,
        publish_text,
        remote,
        flush_1000,
        join_and_leave_room,
        connect_join_and_go,
        heartbeat,
        upgrade,
        envelope
    ]
);

main!(
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = hot_paths
);
