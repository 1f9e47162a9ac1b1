//! Loads that come and go.

use super::{CALM, EACH, SESSION, joins, jump, talks, trace};
use crate::world::chance::Chance;
use crate::world::curve::Curve;
use crate::world::trace::{Bounds, Group, Trace, Trouble, Which};

const HOUR: f64 = 3_600.0;
const DAY: f64 = 24.0 * HOUR;

pub(super) fn all(chance: &mut Chance) -> Vec<Trace> {
    [
        days(chance),
        crowds(),
        steps(),
        saws(),
        esports(chance),
        spikes(chance),
        hot(),
        sessions(chance),
        constant(chance),
    ]
    .concat()
}

/// A day between `low` and `high` nodes' worth, with its peak at 20:00.
fn day(low: f64, high: f64, noise: f64, chance: &mut Chance) -> Curve {
    let shape = |at: f64| {
        let wave = (1.0 - (std::f64::consts::TAU * (at / DAY - 20.0 / 24.0)).cos()) / 2.0;
        high - (high - low) * wave
    };
    Curve::sampled(DAY as u32, 60, shape).noisy(noise, chance)
}

fn days(chance: &mut Chance) -> Vec<Trace> {
    let joined = trace("day", DAY, 10, joins(day(2.0, 12.0, 0.02, chance)));
    let noisy = trace("day-noisy", DAY, 10, joins(day(2.0, 12.0, 0.04, chance)));
    let talked = trace("day-talk", DAY, 10, talks(20_000.0, day(2.0, 12.0, 0.05, chance)));
    // The clients come and go by day, and talk in the evening.
    let evening =
        Curve::sampled(DAY as u32, 60, |at| if (18.0 * HOUR..23.0 * HOUR).contains(&at) { 8.0 } else { 4.0 });
    let group = Group { writes: evening.noisy(0.03, chance), ..joins(day(2.0, 7.0, 0.02, chance)) };
    vec![joined, noisy, talked, trace("day-evening", DAY, 5, group)]
}

fn crowds() -> Vec<Trace> {
    let mut traces = Vec::new();
    for seconds in [5.0, 60.0, 300.0] {
        let end = CALM + 1_800.0;
        let points = [(0.0, 1.6), (CALM, 1.6), (CALM + seconds, 12.0), (end, 12.0), (end + 300.0, 1.6)];
        let mut crowd = trace(&format!("crowd-joins-{seconds}s"), 5_400.0, 2, joins(Curve::through(&points)));
        crowd.jumps.push(jump(CALM, CALM + seconds));
        traces.push(crowd);
    }
    for (name, low, high) in [("crowd-talks", 2.0, 12.0), ("crowd-talks-double", 4.0, 8.0)] {
        let talk = Curve::steps(&[(0.0, low), (CALM, high), (CALM + 1_200.0, low)]);
        let mut crowd = trace(name, 3_600.0, low as i32, talks(20_000.0, talk));
        crowd.jumps.push(jump(CALM, CALM));
        traces.push(crowd);
    }
    // They come, and nobody says anything.
    let points = [(0.0, 5_000.0), (CALM, 5_000.0), (CALM + 60.0, 60_000.0)];
    let idle = Group { clients: Curve::through(&points), writes: Curve::flat(0.1), session_seconds: SESSION };
    let mut idle = trace("crowd-idle", 3_600.0, 2, idle);
    idle.jumps.push(jump(CALM, CALM + 60.0));
    traces.push(idle);
    traces
}

fn steps() -> Vec<Trace> {
    let step = |name: &str, steps: &[(f64, f64)], nodes: i32| {
        let mut made = trace(name, 4_800.0, nodes, talks(30_000.0, Curve::steps(steps)));
        for pair in steps.windows(2).filter(|pair| pair[1].1 > pair[0].1) {
            made.jumps.push(jump(pair[1].0, pair[1].0));
        }
        made
    };
    let mut traces = vec![
        step("step", &[(0.0, 3.0), (CALM, 6.0)], 3),
        step("step-huge", &[(0.0, 4.7), (CALM, 19.0)], 5),
        step("steps-up", &[(0.0, 2.0), (600.0, 4.0), (1_200.0, 7.0), (1_800.0, 11.0), (2_400.0, 16.0)], 2),
        step("steps-down", &[(0.0, 12.0), (600.0, 8.0), (2_000.0, 3.0)], 13),
        step("step-there-and-back", &[(0.0, 3.0), (CALM, 8.0), (CALM + 120.0, 3.0)], 4),
    ];
    // Clients come at once and stay; later most of them go.
    let joined = joins(Curve::steps(&[(0.0, 3.0), (CALM, 9.0), (2_700.0, 2.0)]));
    let mut joined = trace("step-joins", 4_800.0, 4, joined);
    joined.jumps.push(jump(CALM, CALM));
    traces.push(joined);
    let large = joins(Curve::steps(&[(0.0, 36.0), (CALM, 3.0)]));
    let mut large = trace("forty-to-four", 3_600.0, 40, large);
    large.bounds.max = 50;
    traces.push(large);
    traces
}

fn saws() -> Vec<Trace> {
    let saw = |period: f64, sharp: bool| {
        let shape = move |at: f64| {
            let phase = if at < CALM { 0.0 } else { ((at - CALM) / period).fract() };
            let up = if sharp { phase } else { 1.0 - (2.0 * phase - 1.0).abs() };
            3.0 + 5.0 * up
        };
        Curve::sampled(7_200, 2, shape)
    };
    let mut traces: Vec<Trace> = [60.0, 120.0, 240.0, 480.0, 720.0]
        .map(|period| trace(&format!("saw-{period}s"), 7_200.0, 4, talks(25_000.0, saw(period, true))))
        .into();
    for period in [240.0, 720.0] {
        traces.push(trace(&format!("saw-joins-{period}s"), 7_200.0, 4, joins(saw(period, false))));
    }
    traces
}

fn esports(chance: &mut Chance) -> Vec<Trace> {
    let mut traces = Vec::new();
    for (name, roars) in [("esports", 3.0), ("esports-final", 5.0)] {
        // Matches of 35 minutes with a break of 10; a crowd comes within two minutes, and roars for 20 s at times.
        let crowd = Curve::sampled(3 * HOUR as u32, 10, |at| {
            let within = at % 2_700.0;
            let there = (within / 120.0).min((2_220.0 - within) / 120.0).clamp(0.0, 1.0);
            9_000.0 + 14_000.0 * there
        });
        let mut points = vec![(0.0, 4.0)];
        let mut at = 300.0;
        while at < 3.0 * HOUR {
            points.extend([(at, 4.0 * roars), (at + 20.0, 4.0)]);
            at += chance.between(120.0, 420.0);
        }
        let group = Group { clients: crowd, writes: Curve::steps(&points), session_seconds: SESSION };
        traces.push(trace(name, 3.0 * HOUR, 3, group));
    }
    traces
}

fn spikes(chance: &mut Chance) -> Vec<Trace> {
    let mut traces = Vec::new();
    for length in [4.0, 10.0, 30.0] {
        let mut points = vec![(0.0, 3.0)];
        let mut at = CALM;
        while at < 7_000.0 {
            points.extend([(at, 3.0 * chance.between(1.5, 3.5)), (at + length, 3.0)]);
            at += chance.between(300.0, 1_200.0);
        }
        let group = talks(20_000.0, Curve::steps(&points));
        traces.push(trace(&format!("spikes-{length}s"), 7_200.0, 4, group));
    }
    traces
}

/// Load that is not where the nodes are.
fn hot() -> Vec<Trace> {
    let quiet = |nodes: f64| joins(Curve::flat(nodes));
    // A room gathers while the fleet is small; then the others come, and then the room talks.
    let room = |members: f64, loud: f64, until: f64| Group {
        clients: Curve::steps(&[(0.0, 0.0), (300.0, members)]),
        writes: Curve::steps(&[(0.0, 1.0), (2_400.0, loud), (until, 1.0)]),
        session_seconds: 4.0 * HOUR,
    };
    let crowd = joins(Curve::through(&[(0.0, 1.2), (600.0, 1.2), (900.0, 6.0)]));
    let mut hot_room = trace("hot-room", 5_400.0, 2, crowd.clone());
    hot_room.groups.push(room(3_000.0, 30.0, 4_200.0));
    let mut rooms = trace("hot-rooms", 5_400.0, 2, crowd);
    rooms.groups.push(room(1_000.0, 40.0, 3_000.0));
    rooms.groups.push(room(2_000.0, 20.0, 4_800.0));
    // Most nodes are deleted: all clients are on those that are left, and stay there.
    let mut deleted = trace("nodes-deleted", 4_800.0, 7, quiet(6.0));
    deleted.faults.push(super::doubts::once(CALM, Trouble::Deleted(Which::Oldest(5))));
    // A third of the machines is slower than the manifest says.
    let mut third = trace("slow-third", 4_800.0, 7, quiet(6.0));
    third.speeds = vec![1.0, 1.0, 0.5];
    let mut two = trace("slow-two-of-eight", 4_800.0, 7, quiet(6.0));
    two.speeds = vec![0.5, 1.0, 1.0, 1.0, 0.5, 1.0, 1.0, 1.0];
    let mut very = trace("slow-one-very", 4_800.0, 6, quiet(5.0));
    very.speeds = vec![0.2, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
    let mut start =
        trace("slow-start", 4_800.0, 3, talks(20_000.0, Curve::steps(&[(0.0, 3.0), (CALM, 7.0)])));
    start.starts_in = 60;
    vec![hot_room, rooms, deleted, third, two, very, start]
}

fn sessions(chance: &mut Chance) -> Vec<Trace> {
    let mut traces = Vec::new();
    for (name, session) in [("sessions-1m", 60.0), ("sessions-10m", 600.0), ("sessions-8h", 8.0 * HOUR)] {
        let wave = Curve::sampled(4 * HOUR as u32, 30, |at| {
            6.0 - 4.0 * (std::f64::consts::TAU * at / (4.0 * HOUR)).cos()
        });
        let group = Group { session_seconds: session, ..joins(wave.noisy(0.02, chance)) };
        traces.push(trace(name, 4.0 * HOUR, 3, group));
    }
    traces
}

fn constant(chance: &mut Chance) -> Vec<Trace> {
    let mut traces = Vec::new();
    for (name, load, nodes, noise) in [
        ("constant", 4.5, 5, 0.0),
        ("constant-noisy", 4.5, 5, 0.03),
        ("constant-tight", 5.0, 5, 0.02),
        ("constant-edge", 5.52, 5, 0.01),
    ] {
        let curve = Curve::sampled(7_200, 10, |_| load).noisy(noise, chance);
        let mut steady = trace(name, 7_200.0, nodes, talks(20_000.0, curve));
        steady.constant = true;
        traces.push(steady);
    }
    let group = Group { clients: Curve::flat(10.0), writes: Curve::flat(EACH), session_seconds: SESSION };
    let mut empty = trace("constant-idle", 7_200.0, 2, group);
    (empty.constant, empty.bounds) = (true, Bounds { min: 2, max: 20, target_connections: 1_000 });
    traces.push(empty);
    traces
}
