//! How old connections are, in one byte each.
//!
//! Connections that come within a quarter of a second are of one cohort, and an entry is the number of its cohort. When the
//! numbers are used up, neighbouring cohorts become one, the older the more of them, so that an age is known to a sixteenth,
//! and is never told as too much. Until its handshake is done an entry is the part of the accept's time that the coarse clock
//! of [`super::conn::Conn::stamp`] leaves out.

use super::id::Slot;
use crate::limits::{MAX_AGE_MILLIS, STAMP_MILLIS};

/// The time for which a cohort takes connections in, in milliseconds.
const COHORT_MILLIS: u64 = STAMP_MILLIS;
/// Cohorts become one when they came within this part of their age, one of so many.
const PART: u64 = 16;
/// Numbers of cohorts.
const NUMBERS: usize = u8::MAX as usize + 1;

/// The rest that the coarse clock leaves out has to fit.
const _: () = assert!(STAMP_MILLIS <= NUMBERS as u64);

/// The ages of the connections of a shard.
#[derive(Debug, Default)]
pub(super) struct Ages {
    of: Vec<u8>,
    /// When the youngest connection of each cohort came, oldest cohort first. The last one takes connections in.
    youngest: Vec<u64>,
    /// When the first connection of the last cohort came.
    last_began: u64,
}

impl Ages {
    /// A socket was accepted.
    pub(super) fn welcome(&mut self, slot: Slot, now_millis: u64) {
        if self.of.len() <= slot.index() {
            // As in [`super::id::Generations`].
            self.of.reserve_exact(slot.index() / 16 + 1);
            self.of.resize(slot.index() + 1, 0);
        }
        self.of[slot.index()] = (now_millis % STAMP_MILLIS) as u8;
    }

    /// The handshake of a connection is done. Returns what the coarse clock leaves out of the time at which it was accepted.
    pub(super) fn establish(&mut self, slot: Slot, now_millis: u64) -> u64 {
        let rest = self.of[slot.index()];
        if self.youngest.is_empty() || now_millis - self.last_began >= COHORT_MILLIS {
            self.begin_cohort(now_millis);
        }
        let last = self.youngest.len() - 1;
        self.youngest[last] = now_millis;
        self.of[slot.index()] = last as u8;
        rest.into()
    }

    fn begin_cohort(&mut self, now_millis: u64) {
        if self.youngest.len() == NUMBERS {
            self.merge(now_millis);
        }
        self.youngest.push(now_millis);
        self.last_began = now_millis;
    }

    /// Lets neighbouring cohorts be one. At most 145 are left: 16 that came within the last 4 s, and one for each
    /// seventeenth of age more up to [`MAX_AGE_MILLIS`].
    #[cold]
    fn merge(&mut self, now_millis: u64) {
        let mut merged: Vec<u64> = Vec::new();
        let (mut numbers, mut first) = ([0; NUMBERS], 0);
        for (number, youngest) in self.youngest.iter().enumerate() {
            let age = now_millis - youngest;
            match merged.last_mut() {
                Some(last) if age >= MAX_AGE_MILLIS || youngest - first <= age / PART => *last = *youngest,
                _ => {
                    first = *youngest;
                    merged.push(*youngest);
                }
            }
            numbers[number] = (merged.len() - 1) as u8;
        }
        self.youngest = merged;
        // One that is in its handshake is changed too: its figure is then wrong by less than a stamp.
        self.of.iter_mut().for_each(|cohort| *cohort = numbers[usize::from(*cohort)]);
    }

    /// Milliseconds for which an established connection has been there: never too much, and too little by a cohort and a
    /// sixteenth at most up to [`MAX_AGE_MILLIS`].
    pub(super) fn millis(&self, slot: Slot, now_millis: u64) -> u64 {
        let youngest = self.youngest.get(usize::from(self.of[slot.index()]));
        youngest.map_or(0, |youngest| now_millis - youngest)
    }

    /// Gives all memory back; there is no connection.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_never_too_much_and_not_far_too_little() {
        arbtest::arbtest(|u| {
            let (mut ages, mut now) = (Ages::default(), u.int_in_range(0..=100_000)?);
            let mut came = Vec::new();
            for _ in 0..u.int_in_range(0..=40)? {
                // Some come at once, and then none for a while.
                let longest = *u.choose(&[0, 300, 300, 5_000, 600_000])?;
                for _ in 0..u.int_in_range(1..=30)? {
                    now += u.int_in_range(0..=longest)?;
                    let slot = Slot(came.len() as u32);
                    ages.welcome(slot, now);
                    assert_eq!(ages.establish(slot, now), now % STAMP_MILLIS);
                    came.push(now);
                }
            }
            now += u.int_in_range(0..=1_000_000)?;
            for (slot, came) in (0..).map(Slot).zip(&came) {
                let (age, seen) = (now - came, ages.millis(slot, now));
                assert!(seen <= age, "{seen} for {age}");
                let least = age.min(MAX_AGE_MILLIS);
                assert!(seen + seen / PART + COHORT_MILLIS >= least, "{seen} for {age}");
            }
            Ok(())
        })
        .size_min(4_096)
        .budget_ms(500);
    }

    #[test]
    fn the_numbers_are_never_used_up() {
        let (mut ages, slot) = (Ages::default(), Slot(0));
        ages.welcome(slot, 0);
        let mut most = 0;
        for quarter in 0..200_000 {
            let before = ages.youngest.len();
            ages.establish(slot, quarter * COHORT_MILLIS);
            if ages.youngest.len() < before {
                most = most.max(ages.youngest.len());
            }
        }
        assert!((100..=146).contains(&most), "{most} are left");
    }
}
