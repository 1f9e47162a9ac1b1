//! Nodes are drained while clients far away publish through them: nobody loses any of their messages.

use std::time::Duration;

use e2e::{
    fleet::{
        eventually,
        pair::{CLIENTS, NODES, Pair},
    },
    report::record,
    soak::{clients::Place, now},
};

/// Messages per second of the two publishers; the other clients only listen.
const RATES: [u32; 2] = [20, 200];
/// Round trip between the clients and the nodes.
const ROUND_TRIP: Duration = Duration::from_millis(100);
/// Drains, one node after the other.
const DRAINS: usize = 10;
/// Time that is left at the end for messages that are under way.
const LATE: Duration = Duration::from_secs(3);

#[test]
fn nothing_that_publishers_say_is_lost_when_their_nodes_drain() {
    let pair = Pair::create("goodbye").unwrap();
    let fleet = &pair.fleet;
    let place = Place { round_trip: Some(ROUND_TRIP), ..pair.service().unwrap() };
    let periods: Vec<_> =
        (0..CLIENTS).map(|client| Some(Duration::from_secs(1) / *RATES.get(client)?)).collect();
    let clients = pair.talk_at(&place, &periods, 1).unwrap();
    let begun = now();
    for round in 0..DRAINS {
        // The node of one publisher is drained, then that of the other, in turn: after each drain all clients are on
        // the nodes that stayed.
        let publisher = round % RATES.len();
        let (node, _) = eventually("the publisher's node is known", || {
            Ok(clients.ledger.lock().node(publisher).map(str::to_owned))
        })
        .unwrap();
        fleet.kubectl(&["delete", "pod", &node, "--wait=false"]).unwrap();
        let (_, elapsed) = eventually("the node's clients are elsewhere", || {
            Ok((!clients.ledger.lock().nodes().contains(&*node)).then_some(()))
        })
        .unwrap();
        record("polite_goodbye", "deleted_to_all_elsewhere", elapsed.as_secs_f64()).unwrap();
        fleet.wait_ready(NODES).unwrap();
        clients.wait_whole().unwrap();
    }
    clients.hush();
    let end = now();
    std::thread::sleep(LATE);
    let ledger = clients.ledger.lock();
    let misses = ledger.misses(begun, end);
    let first: Vec<_> = misses.iter().take(5).collect();
    assert!(misses.is_empty(), "{} of {} messages were missed: {first:?}", misses.len(), ledger.messages());
    assert_eq!((ledger.duplicates.as_slice(), ledger.disorders.as_slice()), (&[][..], &[][..]));
    let codes: std::collections::BTreeSet<_> = ledger.ends().map(|(_, _, _, code)| code).collect();
    assert_eq!(codes.into_iter().collect::<Vec<_>>(), [1012], "only drains closed connections");
    let of_publishers = ledger.ends().filter(|(client, ..)| *client < RATES.len()).count();
    assert!(of_publishers >= DRAINS, "{of_publishers} goodbyes of publishers");
    record("polite_goodbye", "messages", ledger.messages() as f64).unwrap();
}
