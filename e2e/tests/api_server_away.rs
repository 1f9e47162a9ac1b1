//! The API server goes and comes back while a ChannelCluster changes: the change is handled soon after, and nobody who is
//! served notices.
#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use cluster::Dropped;
use e2e::{
    fleet::{Fleet, eventually},
    report::record,
    scaling::OPERATOR_NAMESPACE,
    soak::{
        clients::{Clients, Place},
        ledger::Ledger,
    },
};

const NODES: usize = 2;
const CLIENTS: usize = 12;
const PERIOD: Duration = Duration::from_millis(500);
/// How long it is away.
const AWAYS: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(30)];
/// Longer than a lease, so that a term ends in it.
const BLACK_HOLE: Duration = Duration::from_secs(30);

/// The service port is what changes: one object follows it, and no pod.
fn spec(port: u16) -> String {
    format!(
        "{{targetConnections: 1000, rooms: {{maxMembers: 150}}, nodes: {{min: {NODES}, max: {NODES}}}, \
         drain: {{delay: 1s, deadline: 20s}}, auth: {{anonymous: true}}, \
         expose: {{chatPage: true, service: {{port: {port}}}}}}}"
    )
}

fn change(fleet: &Fleet, port: u16) {
    // Refused while the API server starts: asked for again until it is taken.
    eventually("the change is taken", || fleet.apply_spec(&spec(port)).map(Some)).unwrap();
}

fn wait_handled(fleet: &Fleet, port: u16) {
    eventually(&format!("the Service has port {port}"), || {
        let service = fleet.instance.kubectl_json(["-n", &fleet.namespace, "get", "service", &fleet.name])?;
        Ok((service["spec"]["ports"][0]["port"].as_u64() == Some(port.into())).then_some(()))
    })
    .unwrap();
}

/// Nothing passes between the operators and the API server while these live.
fn black_hole(fleet: &Fleet) -> Vec<Dropped> {
    let pods = fleet.instance.kubectl_json(["-n", OPERATOR_NAMESPACE, "get", "pods"]).unwrap();
    let addresses =
        pods["items"].as_array().unwrap().iter().filter_map(|pod| pod["status"]["podIP"].as_str());
    addresses.map(|address| fleet.instance.black_hole_api(address).unwrap()).collect()
}

#[test]
fn a_change_is_handled_soon_after_the_api_server_is_back() {
    let fleet = Fleet::create("api-away", &spec(80)).unwrap();
    let (before, _) = fleet.wait_ready(NODES).unwrap();
    let address = format!("{}:4000", before[0].address);
    let place = Place { address, round_trip: None };
    let periods = vec![Some(PERIOD); CLIENTS];
    let clients = Clients::start(&fleet.instance, place, Ledger::new(CLIENTS, CLIENTS), periods).unwrap();
    clients.wait_there(1).unwrap();
    clients.wait_whole().unwrap();

    let mut port = 80;
    for away in AWAYS {
        fleet.instance.kill_api_server().unwrap();
        sleep(away);
        fleet.instance.start_api_server().unwrap();
        let back = Instant::now();
        port += 1;
        change(&fleet, port);
        wait_handled(&fleet, port);
        let key = format!("killed_{}_s_back_to_handled", away.as_secs());
        record("api_server_away", &key, back.elapsed().as_secs_f64()).unwrap();
    }

    let hole = black_hole(&fleet);
    port += 1;
    change(&fleet, port);
    sleep(BLACK_HOLE);
    drop(hole);
    let back = Instant::now();
    wait_handled(&fleet, port);
    record("api_server_away", "black_hole_over_to_handled", back.elapsed().as_secs_f64()).unwrap();

    clients.wait_whole().unwrap();
    assert_eq!(clients.ledger.lock().ends().count(), 0, "nobody was disconnected");
    let (after, _) = fleet.wait_ready(NODES).unwrap();
    assert_eq!(before, after, "serving went on with the very same nodes");
    clients.stop().unwrap();
}
