//! A load tool from outside of this repository: Debian's tsung plays 2,000 Phoenix users against the fleet through
//! its Service.

use e2e::fleet::Fleet;
use e2e::{report, tsung};
use std::net::SocketAddr;
use std::time::Instant;

const SPEC: &str = "{targetConnections: 2000, rooms: {maxMembers: 150}, \
    nodes: {min: 2, max: 2, capacity: {connections: 2000, writesPerSecond: 50000}}, auth: {anonymous: true}}";

#[test]
fn tsung_connects_2000_users_without_a_failure() {
    let fleet = Fleet::create_alone("tsung", SPEC).unwrap();
    fleet.wait_ready(2).unwrap();
    let service = SocketAddr::new(fleet.service_address().unwrap().parse().unwrap(), 80);
    let mut scenario = tsung::Scenario::standard(service);
    scenario.sources = fleet.instance.client_addresses();
    let directory = report::directory().join("tsung");

    let start = Instant::now();
    let figures =
        tsung::run(&scenario, &directory, |program| fleet.instance.client_command(program)).unwrap();
    report::record("tsung_phoenix", "run", start.elapsed().as_secs_f64()).unwrap();
    report::record("tsung_phoenix", "connect_mean", figures.connect_mean_ms / 1e3).unwrap();
    report::record("tsung_phoenix", "request_mean", figures.request_mean_ms / 1e3).unwrap();
    report::record("tsung_phoenix", "request_max", figures.request_max_ms / 1e3).unwrap();
    let json = serde_json::to_vec_pretty(&figures).unwrap();
    std::fs::write(report::directory().join("tsung.json"), json).unwrap();

    assert_eq!(figures.failed_connections(&scenario), 0, "{figures:?}");
    assert_eq!((figures.users, figures.finished), (2000, 2000), "{figures:?}");
}
