//! The memory that connections cost, counted by an allocator of this process's own. `cargo xtask gates` compares it
//! with the recorded figures.

use node_core::{
    config::{Compression, NodeConfig},
    session::id::Slot,
    ws::deflate::{Deflater, Inflater},
};

#[path = "../../benches/support/mod.rs"]
#[allow(dead_code, reason = "the benchmarks use more of it")]
mod support;
mod sys;

use support::{Fake, publish};

/// Joined connections, in rooms of 100.
const CONNECTIONS: usize = 10_000;
/// Members of the room that is published to.
const MEMBERS: usize = 1_000;

/// It is one test, so that nothing else allocates meanwhile.
#[test]
fn figures() {
    let idle = idle(None);
    let with_compression = self::idle(Some(Compression::default()));
    assert_eq!(with_compression, idle, "a connection at rest costs the same with compression");
    compression();

    let mut room = Fake::with_one_room(MEMBERS);
    let mut frames = [publish(64), publish(64)];
    let calls = frames.each_mut().map(|frame| {
        let before = sys::allocated_here();
        room.shard.on_data(Slot(0), frame);
        room.settle();
        sys::allocated_here().1 - before.1
    });
    // The xtask reads these lines; the harness may have begun one.
    println!("\nfigure idle_10000_in_core_bytes {idle}");
    println!("figure publish_to_1000_allocations {}", calls[1]);
}

/// What joined connections at rest take; all of them have agreed on compression where there is some.
fn idle(compression: Option<Compression>) -> isize {
    let before = sys::allocated_here();
    let mut fake = Fake::of(NodeConfig { compression, ..NodeConfig::dev() });
    fake.fill_rooms(CONNECTIONS);
    fake.rest();
    let idle = sys::allocated_here().0 - before.0;
    drop(fake);
    assert_eq!(sys::allocated_here().0, before.0, "everything is given back");
    idle
}

/// What the ledger counts for the states that compress and inflate is what they take, or a little more.
fn compression() {
    let said = vec![b'x'; 100];
    let mut body = Vec::with_capacity(said.len());
    let before = sys::allocated_here().0;
    let mut deflater = Deflater::default();
    body.extend_from_slice(deflater.message(9, &said, said.len()).expect("shorter"));
    let deflates = sys::allocated_here().0 - before;
    let mut inflater = Inflater::default();
    inflater.message(&body, 1_000).expect("what was deflated");
    let inflates = sys::allocated_here().0 - before - deflates;
    for (held, taken) in [(deflater.held_bytes(), deflates), (inflater.held_bytes(), inflates)] {
        let held = isize::try_from(held).expect("far less");
        assert!(taken <= held && held <= taken + taken / 8, "{taken} bytes are counted as {held}");
    }
}
