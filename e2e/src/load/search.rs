//! The search for the highest rate that passes: a pure function of the steps' outcomes so far.
//!
//! Rates double until one fails; then the gap between the highest that passed and the lowest that failed is halved
//! (by its geometric mean). A machine that others use falls behind now and then, so a rate has failed only when it
//! failed twice.
//!
//! A server that gathers frames for a socket may pass again beyond a rate that fails: where its thread is just full
//! there is little to gather and everything waits, whereas at four times the rate each write carries four times as
//! much. So two more doublings are tried, once each, before a failed rate is believed; but not when a step drowned
//! twice, since more load would only lengthen the server's queues.

use super::figures::Step;

/// When the latency of a step of `max` is so many times the bound, the step failed by far: a server that gathers is
/// never that late.
const DROWNED: f64 = 10.0;
/// The factor from one rate to the next while none has failed.
const GROWTH: f64 = 2.0;
/// How often a rate is tried before it counts as failed.
const TRIES: u32 = 2;
/// How many doublings beyond a failed rate are tried.
const BEYOND: u32 = 2;
/// Most steps of a search, so that it always ends.
const MAX_STEPS: u32 = 40;

/// The outcome of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Failed,
    /// It failed by far.
    Drowned,
}

/// The outcome of a step of `max`, given the latency that it may have, milliseconds.
pub(super) fn outcome(step: &Step, bound: f64) -> Outcome {
    if step.passed {
        return Outcome::Passed;
    }
    let silent = step.owed > 0 && step.latency.count == 0;
    // Where the generator is that late the machine is full, and no higher rate is tried.
    if silent || step.latency.p99_ms > DROWNED * bound || step.lag_p99_ms > bound {
        Outcome::Drowned
    } else {
        Outcome::Failed
    }
}

/// The state of a search.
#[derive(Clone, Debug)]
pub(super) struct Search {
    highest: f64,
    precision: f64,
    passed: Option<f64>,
    failed: Option<f64>,
    rate: f64,
    tries: u32,
    /// How many doublings beyond `failed` were tried.
    beyond: u32,
    steps: u32,
}

impl Search {
    /// A search that begins with `start` (above 0), tries nothing above `highest`, and ends when it knows the
    /// highest rate that passes up to the fraction `precision` of it.
    pub(super) fn new(start: f64, highest: f64, precision: f64) -> Search {
        let rate = start.min(highest);
        Search { highest, precision, passed: None, failed: None, rate, tries: 0, beyond: 0, steps: 0 }
    }

    /// The rate to try next; `None` at the end.
    pub(super) fn next(&self) -> Option<f64> {
        let known = match (self.passed, self.failed) {
            (Some(passed), Some(failed)) => failed / passed <= 1.0 + self.precision,
            (Some(passed), None) => passed >= self.highest,
            // No rate passes at all.
            (None, Some(failed)) => failed < 1.0,
            _ => false,
        };
        (!known && self.steps < MAX_STEPS).then_some(self.rate)
    }

    /// Records the outcome of the rate of [`Search::next`].
    pub(super) fn note(&mut self, outcome: Outcome) {
        self.steps += 1;
        let ahead = self.failed.is_some_and(|failed| self.rate > failed);
        if outcome == Outcome::Passed {
            self.passed = Some(self.rate);
            if ahead {
                (self.failed, self.beyond) = (None, 0);
            }
        } else if !ahead {
            self.tries += 1;
            if self.tries < TRIES {
                return;
            }
            // Rates beyond a failed one are tried only where doubling ends: otherwise both ends of the gap are known
            // already, or no rate has passed.
            let ends = self.failed.is_none() && self.passed.is_some() && outcome == Outcome::Failed;
            self.beyond = if ends { 0 } else { BEYOND };
            self.failed = Some(self.rate);
        } else if outcome == Outcome::Drowned {
            self.beyond = BEYOND;
        }
        self.tries = 0;
        self.rate = match (self.passed, self.failed) {
            (Some(passed), Some(failed)) => self.look_beyond(failed).unwrap_or((passed * failed).sqrt()),
            (Some(passed), None) => (passed * GROWTH).min(self.highest),
            (None, _) => self.rate / GROWTH,
        };
    }

    /// The next rate beyond a failed one, if another is to be tried.
    fn look_beyond(&mut self, failed: f64) -> Option<f64> {
        let rate = failed * GROWTH.powi(self.beyond as i32 + 1);
        let wanted = self.beyond < BEYOND && rate <= self.highest;
        self.beyond += 1;
        wanted.then_some(rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};

    impl From<bool> for Outcome {
        fn from(passed: bool) -> Self {
            if passed { Outcome::Passed } else { Outcome::Failed }
        }
    }

    fn find<O: Into<Outcome>>(start: f64, mut server: impl FnMut(f64) -> O) -> (Search, Vec<f64>) {
        find_below(start, f64::INFINITY, &mut server)
    }

    fn find_below<O: Into<Outcome>>(
        start: f64,
        highest: f64,
        mut server: impl FnMut(f64) -> O,
    ) -> (Search, Vec<f64>) {
        let mut search = Search::new(start, highest, 0.05);
        let mut tried = Vec::new();
        while let Some(rate) = search.next() {
            tried.push(rate);
            search.note(server(rate).into());
        }
        (search, tried)
    }

    #[test]
    fn the_capacity_is_found_from_below_and_from_above() {
        for capacity in [90.0, 1_000.0, 12_345.0, 16_700.0] {
            for start in [10.0, 100.0, 50_000.0] {
                let (search, tried) = find(start, |rate| rate <= capacity);
                let found = search.passed.unwrap();
                assert!(found <= capacity && found * 1.06 > capacity, "{found} of {capacity} from {start}");
                assert!(tried.len() < 30, "{tried:?}");
            }
        }
    }

    #[test]
    fn a_server_that_gathers_is_followed_through_its_valley() {
        // uWebSockets on one core: 160,000 deliveries/s pass, 190,000 to 500,000 do not, 1,600,000 do.
        let (search, tried) = find(400.0, |rate| rate <= 1_700.0 || (5_000.0..=16_700.0).contains(&rate));
        let found = search.passed.unwrap();
        assert!(found <= 16_700.0 && found * 1.06 > 16_700.0, "{found}: {tried:?}");
        // Where nothing passes beyond it, two more steps are the whole cost.
        let (search, tried) = find(400.0, |rate| rate <= 1_700.0);
        assert!(search.passed.unwrap() * 1.06 > 1_700.0, "{tried:?}");
        assert_eq!(tried.iter().filter(|rate| **rate > 3_200.0).count(), 2, "{tried:?}");
    }

    /// Rates up to 1,700 pass.
    fn drowning_above(limit: f64) -> impl Fn(f64) -> Outcome {
        move |rate| if rate > limit { Outcome::Drowned } else { (rate <= 1_700.0).into() }
    }

    #[test]
    fn nothing_is_tried_beyond_a_step_that_drowned() {
        let (search, tried) = find(400.0, drowning_above(3_000.0));
        assert_eq!(tried[..5], [400.0, 800.0, 1_600.0, 3_200.0, 3_200.0]);
        assert!(tried[5..].iter().all(|rate| *rate < 3_200.0), "{tried:?}");
        assert!(search.passed.unwrap() * 1.06 > 1_700.0, "{tried:?}");
    }

    #[test]
    fn the_look_beyond_ends_where_a_step_drowns() {
        let (_, tried) = find(400.0, drowning_above(6_000.0));
        assert_eq!(tried.iter().filter(|rate| **rate > 3_200.0).copied().collect::<Vec<_>>(), [6_400.0]);
    }

    #[test]
    fn one_stumble_does_not_end_it() {
        let seed: u64 = rand::random();
        println!("seed {seed}");
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        let mut last = 0.0;
        let (search, _) = find(100.0, |rate| {
            let again = rate == last;
            last = rate;
            rate <= 5_000.0 && (again || !random.random_bool(0.2))
        });
        assert!(search.passed.unwrap() > 4_700.0, "{search:?}");
    }

    #[test]
    fn it_ends_where_nothing_passes_and_where_all_does() {
        let (search, tried) = find(100.0, |_| false);
        assert_eq!(search.passed, None);
        assert!(tried.len() <= 20);
        let (search, _) = find(100.0, |_| true);
        assert!(search.passed.is_some());
        assert_eq!(find_below(100.0, 350.0, |_| true).1, [100.0, 200.0, 350.0]);
    }
}
