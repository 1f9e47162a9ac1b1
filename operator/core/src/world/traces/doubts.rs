//! Figures that cannot be trusted, processes that die, and bounds that change.

use super::{CALM, joins, jump, talks, trace};
use crate::world::chance::Chance;
use crate::world::curve::Curve;
use crate::world::trace::{Bounds, Fault, Trace, Trouble, Which};

/// Seconds that figures are doubtful for.
const DOUBT: f64 = 600.0;

/// Something that happens once.
pub(super) fn once(at: f64, what: Trouble) -> Fault {
    Fault { from: at as u32, until: at as u32 + 1, what }
}

pub(super) fn all(chance: &mut Chance) -> Vec<Trace> {
    let mut traces = doubtful();
    traces.extend(doubts_with_load());
    traces.extend(broken(chance));
    traces.extend(bounds());
    traces
}

/// The load is the same, and the figures say something else.
fn doubtful() -> Vec<Trace> {
    let half = Which::Every(2, 0);
    let kinds = [
        ("lost-all", Trouble::Silent(Which::All)),
        ("lost-half", Trouble::Silent(half)),
        ("lost-third", Trouble::Silent(Which::Every(3, 0))),
        ("repeats-all", Trouble::Repeats(Which::All)),
        ("repeats-half", Trouble::Repeats(half)),
        ("stands-all", Trouble::Stands(Which::All)),
        ("stands-half", Trouble::Stands(half)),
        ("stands-one", Trouble::Stands(Which::Oldest(1))),
        ("wild-one", Trouble::Wild(Which::Oldest(1), 1e9)),
        ("wild-all", Trouble::Wild(Which::All, 4e5)),
    ];
    let mut traces: Vec<Trace> = Vec::new();
    for (name, what) in kinds {
        let mut doubtful = trace(name, 3_000.0, 7, joins(Curve::flat(6.0)));
        let length = if matches!(what, Trouble::Wild(..)) { 1.0 } else { DOUBT };
        doubtful.faults.push(Fault { from: CALM as u32, until: (CALM + length) as u32, what });
        doubtful.doubts.push((CALM as u32, (CALM + DOUBT) as u32));
        traces.push(doubtful);
    }
    for (name, which) in [("mute-one", Which::Every(7, 0)), ("mute-three", Which::Every(2, 0))] {
        let mut mute = trace(name, 3_600.0, 7, joins(Curve::flat(6.0)));
        mute.faults.push(Fault { from: 0, until: 3_600, what: Trouble::Silent(which) });
        mute.doubts.push((0, 3_600));
        traces.push(mute);
    }
    let mut flickers = trace("lost-flickers", 3_000.0, 7, joins(Curve::flat(6.0)));
    for from in (600..1_800).step_by(40) {
        let what = Trouble::Silent(Which::Every(2, from / 40 % 2));
        flickers.faults.push(Fault { from, until: from + 25, what });
    }
    flickers.doubts.push((CALM as u32, 1_800));
    traces.push(flickers);
    traces
}

/// The load goes up while figures are missing or stand still.
fn doubts_with_load() -> Vec<Trace> {
    let kinds = [
        ("lost-half-and-step", Trouble::Silent(Which::Every(2, 0))),
        ("stands-half-and-step", Trouble::Stands(Which::Every(2, 0))),
        ("repeats-third-and-step", Trouble::Repeats(Which::Every(3, 0))),
    ];
    kinds
        .map(|(name, what)| {
            let load = Curve::steps(&[(0.0, 4.0), (CALM + 60.0, 8.0)]);
            let mut step = trace(name, 3_600.0, 5, talks(25_000.0, load));
            step.faults.push(Fault { from: CALM as u32, until: (CALM + DOUBT) as u32, what });
            step.jumps.push(jump(CALM + 60.0, CALM + 60.0));
            step
        })
        .into()
}

fn broken(chance: &mut Chance) -> Vec<Trace> {
    let crashes = |name: &str, what| {
        let mut made = trace(name, 4_800.0, 7, joins(Curve::flat(6.0)));
        made.faults.push(Fault { from: CALM as u32, until: 3_600, what });
        made
    };
    let mut traces = vec![
        crashes("crashes-one", Trouble::Crashes(Which::Every(7, 0), 60, 20)),
        crashes("crashes-two", Trouble::Crashes(Which::Every(4, 0), 300, 40)),
        crashes("crashes-all", Trouble::Crashes(Which::All, 900, 5)),
    ];
    // Another operator takes over again and again while the load goes up and down.
    let wave = Curve::sampled(7_200, 30, |at| 5.0 - 3.0 * (std::f64::consts::TAU * at / 7_200.0).cos());
    let mut restarts = trace("operator-restarts", 7_200.0, 3, joins(wave.noisy(0.02, chance)));
    restarts.faults.push(Fault { from: 300, until: 7_200, what: Trouble::Restarts(300) });
    traces.push(restarts);
    traces
}

/// The user changes what the fleet may be.
fn bounds() -> Vec<Trace> {
    let before = Bounds { min: 2, max: 20, target_connections: 1_000 };
    let changed = |name: &str, load: f64, nodes: i32, first: Bounds, then: Bounds| {
        let mut made = trace(name, 5_400.0, nodes, joins(Curve::flat(load)));
        made.bounds = first;
        made.changes.push((CALM as u32, then));
        made
    };
    let floor = |target_connections| Bounds { target_connections, ..before };
    let mut burst =
        changed("max-lowered-in-burst", 11.0, 10, Bounds { max: 10, ..before }, Bounds { max: 8, ..before });
    // The rate goes up and down, so that there is always a burst.
    burst.groups[0].writes = Curve::sampled(5_400, 20, |at| if at % 80.0 < 40.0 { 4.5 } else { 6.5 });
    vec![
        changed("max-lowered", 10.0, 11, before, Bounds { max: 8, ..before }),
        burst,
        changed("max-raised", 10.0, 6, Bounds { max: 6, ..before }, before),
        changed("floor-raised", 3.0, 4, before, floor(90_000)),
        changed("floor-lowered", 3.0, 9, floor(90_000), before),
        changed("min-lowered", 3.0, 8, Bounds { min: 8, ..before }, before),
    ]
}
