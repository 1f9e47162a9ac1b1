//! Figures of a shard over the last second: how soon clients get in, and how soon what is queued for them is written.

use crate::histogram::Histogram;

/// The time that the figures are about, in milliseconds.
const WINDOW_MILLIS: u64 = 1_000;
/// Times are counted by their bits: none to 16, which is more milliseconds than a handshake may take.
const POWERS: usize = u16::BITS as usize + 1;

/// Figures of the last whole second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recent {
    /// Milliseconds within which 99 of 100 handshakes were done, from accept on; 0 when there were none.
    pub handshake_p99_millis: u64,
    /// The longest time in milliseconds for which something queued waited until its connection's turn to be written came.
    /// Connections whose sockets take nothing do not count: this is about the node and not about its clients.
    pub oldest_queued_millis: u64,
}

/// Times since the shard began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Latencies {
    /// Of each broadcast: from the begin of the turn in which the shard took it to the end of the pass that wrote the last of its
    /// members here.
    pub fan_out: Histogram,
    /// Of each second: [`Recent::oldest_queued_millis`].
    pub queue_age: Histogram,
}

/// The figures of the last second, and what the present one has counted.
#[derive(Debug, Default)]
pub(super) struct Lately {
    began_millis: u64,
    /// Handshakes of the present second, by the bits that their milliseconds have.
    handshakes: [u32; POWERS],
    /// What the longest of them took.
    longest_millis: u16,
    recent: Recent,
    /// [`Recent::oldest_queued_millis`] of each second so far.
    queue_ages: Histogram,
}

impl Lately {
    /// A handshake is done that took so long.
    pub(super) fn note_handshake(&mut self, millis: u64) {
        let millis = u16::try_from(millis).unwrap_or(u16::MAX);
        let bits = u16::BITS - millis.leading_zeros();
        self.handshakes[bits as usize] += 1;
        self.longest_millis = self.longest_millis.max(millis);
    }

    /// Figures of the last second.
    pub(super) const fn recent(&self) -> Recent {
        self.recent
    }

    /// The longest wait of each second so far.
    pub(super) const fn queue_ages(&self) -> &Histogram {
        &self.queue_ages
    }

    /// Whether the second is over.
    pub(super) const fn is_over(&self, now_millis: u64) -> bool {
        now_millis - self.began_millis >= WINDOW_MILLIS
    }

    /// Ends the second, in which something queued waited for so long.
    pub(super) fn end(&mut self, now_millis: u64, oldest_queued_millis: u64) {
        let recent = Recent { handshake_p99_millis: self.p99(), oldest_queued_millis };
        let mut queue_ages = self.queue_ages;
        queue_ages.note(oldest_queued_millis, 1);
        *self = Self { began_millis: now_millis, recent, queue_ages, ..Self::default() };
    }

    /// The bits that 99 of 100 do not exceed, as the highest number of so many bits, or the longest of all when that is less.
    fn p99(&self) -> u64 {
        let all: u64 = self.handshakes.iter().map(|count| u64::from(*count)).sum();
        let (mut below, wanted) = (0, all - all / 100);
        let power = self.handshakes.iter().position(|count| {
            below += u64::from(*count);
            below >= wanted
        });
        let bound = power.map_or(0, |bits| (1 << bits) - 1);
        u64::from(self.longest_millis).min(bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p99(times: impl IntoIterator<Item = u16>) -> u64 {
        let mut lately = Lately::default();
        times.into_iter().for_each(|millis| lately.note_handshake(millis.into()));
        lately.end(1_000, 7);
        let recent = lately.recent;
        assert_eq!(recent.oldest_queued_millis, 7);
        assert!(!lately.is_over(1_999) && lately.is_over(2_000));
        lately.end(2_000, 0);
        let ages = lately.queue_ages().buckets();
        assert_eq!(
            (ages[0].1, ages[3], lately.queue_ages().count()),
            (1, (0.01, 1), 2),
            "each second has one"
        );
        assert_eq!(lately.recent, Recent::default(), "a second without any has none");
        recent.handshake_p99_millis
    }

    #[test]
    fn ninety_nine_of_a_hundred_are_within_the_figure_and_not_far_below() {
        arbtest::arbtest(|u| {
            let mut times = Vec::new();
            for _ in 0..u.int_in_range(1..=400)? {
                let most = u.int_in_range(0..=16)?;
                times.push((u.int_in_range(0..=u32::from(u16::MAX))? >> most) as u16);
            }
            let figure = p99(times.iter().copied());
            times.sort_unstable();
            let wanted = u64::from(times[times.len() - times.len() / 100 - 1]);
            assert!(wanted <= figure && figure <= 2 * wanted, "{figure} for {wanted}");
            Ok(())
        })
        .budget_ms(200);
    }

    #[test]
    fn the_ends_of_the_scale() {
        assert_eq!((p99([]), p99([0]), p99([1]), p99([u16::MAX])), (0, 0, 1, 65_535));
        assert_eq!(p99(std::iter::repeat_n(3, 99).chain([60_000])), 3);
        assert_eq!(p99(std::iter::repeat_n(3, 98).chain([60_000, 60_000])), 60_000);
    }
}
