//! A circuit breaker (M. Nygard, *Release It!*, 2nd edition, section 5.2): a backend that does not answer is not asked for a while,
//! so that clients do not wait for it, and it is not asked more than it can bear when it comes back.

/// So many questions in a row without an answer open it.
const FAILURES: u32 = 10;
/// For how long it is open at first, in milliseconds; twice as long each time that the backend, tried once, does not answer.
const LEAST_MILLIS: u64 = 500;
/// The longest time.
const MOST_MILLIS: u64 = 15_000;

/// Whether the backend is asked. Times are milliseconds of any one clock.
#[derive(Debug, Default)]
pub struct Breaker {
    failures: u32,
    /// Since when it is open, and for how long.
    open: Option<(u64, u64)>,
    /// One question is under way that tries whether the backend is back.
    tries: bool,
}

impl Breaker {
    /// Whether the backend may be asked now. When it may, its answer is to be told by [`Breaker::answered`].
    pub const fn may_ask(&mut self, now: u64) -> bool {
        match self.open {
            None => true,
            Some((since, millis)) if now.saturating_sub(since) >= millis && !self.tries => {
                self.tries = true;
                true
            }
            Some(_) => false,
        }
    }

    /// A question was answered, or was not. `spread` in thousandths makes the time longer by up to a quarter, so that the
    /// nodes of a fleet do not come at once.
    pub fn answered(&mut self, now: u64, good: bool, spread: u64) {
        if good {
            *self = Self::default();
            return;
        }
        self.failures = self.failures.saturating_add(1);
        let next = match self.open {
            // Those that were under way when it opened tell nothing new.
            Some((_, millis)) if self.tries => Some(millis * 2),
            None if self.failures >= FAILURES => Some(LEAST_MILLIS),
            _ => None,
        };
        if let Some(millis) = next {
            let millis = millis.min(MOST_MILLIS);
            self.open = Some((now, millis + millis * spread.min(1_000) / 4_000));
        }
        self.tries = false;
    }

    /// Whether it is open.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(breaker: &mut Breaker, now: u64, times: u32) {
        (0..times).for_each(|_| breaker.answered(now, false, 0));
    }

    #[test]
    fn ten_failures_in_a_row_open_it_and_one_answer_closes_it() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, 0, 9);
        breaker.answered(0, true, 0);
        fail(&mut breaker, 0, 9);
        assert!(breaker.may_ask(0) && !breaker.is_open());
        fail(&mut breaker, 100, 1);
        assert!(breaker.is_open() && !breaker.may_ask(599));
        assert!(breaker.may_ask(600) && !breaker.may_ask(600), "one tries");
        breaker.answered(650, true, 0);
        assert!(breaker.may_ask(650) && breaker.may_ask(650));
    }

    #[test]
    fn it_stays_open_twice_as_long_each_time_within_a_bound() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, 0, 10);
        let (mut now, mut waits) = (0, Vec::new());
        for _ in 0..7 {
            let before = now;
            while !breaker.may_ask(now) {
                now += 10;
            }
            waits.push(now - before);
            breaker.answered(now, false, 0);
        }
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
        let mut spread = Breaker::default();
        (0..10).for_each(|_| spread.answered(0, false, 1_000));
        assert!(!spread.may_ask(624) && spread.may_ask(625));
    }

    #[test]
    fn failures_of_questions_that_were_under_way_do_not_make_it_longer() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, 0, 200);
        assert!(breaker.may_ask(500));
    }
}
