//! The API server goes away and comes back while a ChannelCluster changes: the change is handled soon after, and no
//! client that is served notices.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use cluster::Dropped;
use e2e::{
    fleet::{
        Fleet, eventually,
        pair::{PORT, Pair, spec},
    },
    report::record,
    scaling::OPERATOR_NAMESPACE,
};

const PERIOD: Duration = Duration::from_millis(500);
/// For how many seconds the API server is away, one time after the other, and how often all of this test is done:
/// with these values, or with those of `AWAY_SECONDS` (with commas) and `AWAY_ROUNDS`.
const AWAYS: &str = "2,30";
const ROUNDS: &str = "1";
/// This is longer than a lease, so that a term ends in it.
const BLACK_HOLE: Duration = Duration::from_secs(30);

fn numbers(variable: &str, default: &str) -> Vec<u64> {
    let text = std::env::var(variable).unwrap_or_else(|_| default.to_owned());
    let number = |word: &str| word.trim().parse().unwrap_or_else(|_| panic!("{variable}={text}: no numbers"));
    text.split(',').map(number).collect()
}

/// Changes the ChannelCluster each time.
struct Changes<'a> {
    pair: &'a Pair,
    port: u16,
}

impl Changes<'_> {
    /// Changes the ChannelCluster. The API server refuses while it starts, so it is asked again until it accepts.
    fn change(&mut self) {
        self.port += 1;
        let spec = spec(self.port);
        eventually("the change is taken", || self.pair.fleet.apply_spec(&spec).map(Some)).unwrap();
    }

    /// Waits until the last change is handled, and records how long that took since the API server was back.
    fn handled(&self, key: &str, back: Instant) {
        self.pair.wait_port(self.port).unwrap();
        record("api_server_away", key, back.elapsed().as_secs_f64()).unwrap();
    }
}

fn operators(fleet: &Fleet) -> Vec<String> {
    let pods = fleet.instance.kubectl_json(["-n", OPERATOR_NAMESPACE, "get", "pods"]).unwrap();
    let pods = pods["items"].as_array().unwrap();
    pods.iter().filter_map(|pod| pod["status"]["podIP"].as_str().map(str::to_owned)).collect()
}

fn round(changes: &mut Changes<'_>) {
    let fleet = &changes.pair.fleet;
    for seconds in numbers("AWAY_SECONDS", AWAYS) {
        fleet.instance.kill_api_server().unwrap();
        sleep(Duration::from_secs(seconds));
        fleet.instance.start_api_server().unwrap();
        let back = Instant::now();
        changes.change();
        changes.handled(&format!("killed_{seconds}_s_back_to_handled"), back);
    }

    let reset = Instant::now();
    for address in operators(fleet) {
        fleet.instance.reset_api_connections(&address).unwrap();
    }
    changes.change();
    changes.handled("reset_to_handled", reset);

    // While these values exist, nothing passes between the operators and the API server.
    let hole: Vec<Dropped> =
        operators(fleet).iter().map(|address| fleet.instance.black_hole_api(address).unwrap()).collect();
    changes.change();
    sleep(BLACK_HOLE);
    drop(hole);
    changes.handled("black_hole_over_to_handled", Instant::now());
}

#[test]
fn a_change_is_handled_soon_after_the_api_server_is_back() {
    let pair = Pair::create_alone("api-away").unwrap();
    let clients = pair.talk(&pair.node(), PERIOD, 1).unwrap();
    let mut changes = Changes { pair: &pair, port: PORT };
    for _ in 0..numbers("AWAY_ROUNDS", ROUNDS)[0] {
        round(&mut changes);
    }
    pair.undisturbed(clients).unwrap();
}
