//! The memory that connections cost, counted by an allocator of this process's own. `cargo xtask gates` compares it
//! with the recorded figures.

use node_core::session::id::Slot;

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
    let before = sys::allocated_here();
    let mut fake = Fake::with_rooms(CONNECTIONS);
    fake.rest();
    let idle = sys::allocated_here().0 - before.0;
    drop(fake);
    assert_eq!(sys::allocated_here().0, before.0, "everything is given back");

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
