//! How much a turn of a shard does for TLS.

use super::*;

#[test]
fn a_turn_does_some_handshakes_and_leaves_the_others_for_the_next() {
    let (_dir, watch) = watch("tls-storm");
    let mut transports = Transports::new(Some(Tls::new(Arc::clone(watch.identity()))));
    let hello = output(&mut client(&any_client()));
    let mut peers = Vec::new();
    for index in 0..2 * SHAKES_PER_TURN {
        let (here, there) = UnixStream::pair().unwrap();
        (&there).write_all(&hello).unwrap();
        transports.insert(Slot(index as u32), OwnedFd::from(here));
        peers.push(there);
    }
    let mut buffer = vec![0; 64 * 1024];
    for turn in 1..=2 {
        transports.begin_turn(turn, false);
        for index in 0..peers.len() {
            transports.read(Slot(index as u32), &mut buffer, 64);
        }
        assert_eq!(transports.tls.as_ref().unwrap().shaking, turn as usize * SHAKES_PER_TURN);
    }
}

#[test]
fn no_handshake_begins_while_memory_is_short_and_open_ones_go_on() {
    let (_dir, watch) = watch("tls-memory");
    let (mut pair, mut open) = connected(watch.identity(), &any_client());
    pair.transports.begin_turn(0, true);
    open.writer().write_all(b"data").unwrap();
    pair.peer.write_all(&output(&mut open)).unwrap();
    let most = pair.buffer.len();
    assert_eq!(pair.transports.read(SLOT, &mut pair.buffer, most), Taken::Bytes(4));
    assert!(!pair.transports.has_read_enough());
    let mut new = Pair::new(watch.identity());
    new.transports.begin_turn(0, true);
    new.peer.write_all(&output(&mut client(&any_client()))).unwrap();
    let refused = Taken::Unfit(RefuseReason::Memory);
    assert_eq!(new.transports.read(SLOT, &mut new.buffer, most), refused);
    assert_eq!((new.tls().shaking, pair.tls().shaking), (0, 0));
}

#[test]
fn small_records_use_up_a_turn_as_large_ones_do() {
    let (_dir, watch) = watch("tls-small");
    let (mut pair, mut client) = connected(watch.identity(), &any_client());
    let (mut read, most) = (0, pair.buffer.len());
    while !pair.transports.has_read_enough() {
        for _ in 0..200 {
            client.writer().write_all(b"x").unwrap();
        }
        pair.peer.write_all(&output(&mut client)).unwrap();
        match pair.transports.read(SLOT, &mut pair.buffer, most) {
            Taken::Bytes(count) | Taken::Part(count) => read += count,
            other => panic!("{other:?}"),
        }
    }
    assert!((20_000..30_000).contains(&read), "{read} bytes of data");
    pair.transports.begin_turn(1, false);
    assert!(!pair.transports.has_read_enough());
}
