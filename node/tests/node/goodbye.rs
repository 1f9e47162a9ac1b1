//! Publishers have messages under way when their node says goodbye: through a relay with 100 ms of round trip, nobody
//! loses any of them.

use std::time::Duration;

use crate::support::client::Client;
use crate::support::process::{Process, command};
use crate::support::publisher::publish;
use crate::support::relay::relay;
use crate::support::wait::wait;

const ONE_WAY: Duration = Duration::from_millis(50);
const ROUNDS: usize = 10;

/// Closes one connection each second, the oldest first.
const SLOWLY: &str = r#"{"version":1,"stage":"Close","connectionsPerSecond":1}"#;

/// Connections between the publisher's and the listener's: seconds until the drain would come to the listener.
const BETWEEN: usize = 30;

/// The publisher connects first, so that a slow drain closes it and not yet the listener; then the drain is called
/// off.
#[test]
fn a_drained_publisher_is_heard_to_the_end_by_who_stays() {
    for per_second in [20, 200] {
        for round in 0..ROUNDS {
            let mut command = command();
            command.args(["--dev", "--shards", "1"]);
            let node = Process::start(command);
            let name = format!("{per_second}/{round}");
            let said = publish(relay(node.listen, ONE_WAY), name.clone(), per_second);
            let _between: Vec<_> = (0..BETWEEN).map(|_| Client::join(node.listen, "room:2")).collect();
            let (mut listener, _) = Client::join(node.listen, "room:1");
            let mut next = listener.until(|message| message[3] == "message")[4]["number"].as_u64().unwrap();
            assert_eq!(node.ask("POST", "/v1/drain", None, SLOWLY).0, 200);
            let (count, code) = said.join().unwrap();
            assert_eq!(code, 1012);
            assert_eq!(node.ask("DELETE", "/v1/drain", None, "").0, 200);
            while next + 1 < count {
                let message = listener.until(|message| message[3] == "message");
                next += 1;
                assert_eq!(message[4]["number"], next, "{name} of {count}");
            }
        }
    }
}

/// All connections are told to go at once, and the process ends only after it has taken what they said.
#[test]
fn a_process_that_ends_waits_for_the_close_frames() {
    let mut command = command();
    command.args(["--dev", "--shards", "2"]);
    let mut node = Process::start(command);
    let address = relay(node.listen, ONE_WAY);
    let said: Vec<_> = (0..4).map(|n| publish(address, n.to_string(), 200)).collect();
    wait("messages", || node.metric("channelcluster_node_publishes_total") > Some(100.0));
    node.signal(rustix::process::Signal::TERM);
    for publisher in said {
        assert_eq!(publisher.join().unwrap().1, 1012);
    }
    assert_eq!(node.exited().code(), Some(0));
}
