//! The condition `HotNodes`.

use super::{Scene, condition, message, node, pair};
use crate::conditions::DWELL_MILLIS;
use crate::heat::Heat;

#[test]
fn hot_nodes_are_named_with_their_reasons_and_cool_down_slowly() {
    let mut scene = Scene::new();
    assert_eq!(condition(&scene.status(), "HotNodes"), pair("False", "NoneHot"));
    scene.nodes = (0..14).map(|number| node(&format!("n{number}"), true)).collect();
    scene.nodes.iter_mut().skip(1).for_each(|node| node.hot = Some(Heat::Busy));
    scene.nodes[1].hot = Some(Heat::Memory);
    let status = scene.status();
    assert_eq!(condition(&status, "HotNodes"), pair("True", "Memory"));
    let said = message(&status, "HotNodes");
    assert!(said.starts_with("n1: it has 90 % of its memory limit or more; n2: its busiest shard"), "{said}");
    assert!(said.contains("n10: ") && !said.contains("n11") && said.ends_with("; and 3 more"), "{said}");
    scene.previous = status;
    scene.nodes.iter_mut().for_each(|node| node.hot = None);
    scene.now += 2_000;
    assert_eq!(condition(&scene.status(), "HotNodes").0, "True", "one calm look is no end");
    scene.now += DWELL_MILLIS;
    assert_eq!(condition(&scene.status(), "HotNodes"), pair("False", "NoneHot"));
    scene.now = 1_000;
    assert_eq!(condition(&scene.status(), "HotNodes").0, "False", "the clock of another operator was ahead");
}
