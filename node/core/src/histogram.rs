//! Times in buckets that are the same in every version, shard and node, so that sums over all of these mean something.

/// The bounds of the buckets in milliseconds; a last bucket has all above. They are few, since each is a time series of each node.
pub const BOUNDS_MILLIS: [u64; 12] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000];

/// Times by bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Histogram {
    counts: [u64; BOUNDS_MILLIS.len() + 1],
    sum_millis: u64,
}

impl Histogram {
    /// So many times of so many milliseconds, rounded down: each is below the bound of its bucket.
    pub fn note(&mut self, millis: u64, times: u64) {
        let bucket = BOUNDS_MILLIS.iter().take_while(|bound| millis >= **bound).count();
        self.counts[bucket] += times;
        self.sum_millis = self.sum_millis.saturating_add(millis.saturating_mul(times));
    }

    /// Adds what another one has.
    pub fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.sum_millis = self.sum_millis.saturating_add(other.sum_millis);
    }

    /// The bound of each bucket in seconds, with the times that are in it and in none before.
    #[must_use]
    pub fn buckets(&self) -> [(f64, u64); BOUNDS_MILLIS.len() + 1] {
        std::array::from_fn(|bucket| {
            let bound = BOUNDS_MILLIS.get(bucket).map_or(f64::INFINITY, |millis| *millis as f64 / 1e3);
            (bound, self.counts[bucket])
        })
    }

    /// All times.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum in seconds.
    #[must_use]
    pub fn sum_seconds(&self) -> f64 {
        self.sum_millis as f64 / 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_first_bucket_whose_bound_is_above_it() {
        let mut one = Histogram::default();
        for (millis, times) in [(0, 3), (1, 1), (4, 1), (4_999, 1), (5_000, 1), (u64::MAX / 4, 2)] {
            one.note(millis, times);
        }
        let counts = one.buckets().map(|(_, count)| count);
        assert_eq!(counts, [3, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3]);
        assert_eq!(one.buckets()[2].0.to_bits(), 0.005_f64.to_bits());
        let mut two = Histogram::default();
        two.note(10, 2);
        two.add(&two.clone());
        assert_eq!((two.count(), two.buckets()[4]), (4, (0.02, 4)));
        assert_eq!(two.sum_seconds().to_bits(), 0.04_f64.to_bits());
        one.add(&two);
        assert_eq!(one.count(), 13);
    }
}
