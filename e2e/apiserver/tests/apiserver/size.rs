//! The campaign of `cargo xtask size` in small: that every fleet gets its objects, that a change is acted on, and that an
//! operator at rest writes next to nothing. How long things take is for its report.

use std::time::Duration;

use apiserver::size::{Wanted, run};
use cluster::run::Progress;

#[tokio::test]
async fn many_fleets_are_made_and_then_left_alone() {
    let wanted = Wanted {
        operator: None,
        fleets: 12,
        nodes: 3,
        foreign: 50,
        rest: Duration::from_secs(10),
        changes: 3,
    };
    let report = Box::pin(run(&wanted, &Progress::new())).await.unwrap();
    assert!(!report.meanwhile.is_empty(), "no change was made meanwhile");
    assert_eq!((report.at_rest.len(), report.beside_foreign.len()), (3, 3));
    assert!(report.scrapes > 1.0, "the nodes are asked: {report:?}");
    // A steady load changes no figure that a status shows, but for the averages of the first minutes.
    assert!(report.status_writes < 1.0, "the status of 12 fleets is written again and again: {report:?}");
}
