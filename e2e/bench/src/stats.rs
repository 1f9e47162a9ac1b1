//! Medians with their uncertainty: a percentile bootstrap (Efron 1979).
//!
//! The functions are pure: the same numbers give the same interval, because the random numbers come from a fixed
//! seed.

use rand::{Rng, SeedableRng, rngs::StdRng};

/// How often a sample is drawn anew for an interval.
const RESAMPLES: usize = 10_000;

/// An interval of a median needs at least so many values: with five, the median lies outside of all of them in 1 of
/// 16 cases.
pub const FEWEST: usize = 6;

/// A median with its interval, as [`estimate`] finds it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The median.
    pub median: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// How many values it is from.
    pub count: usize,
}

/// The median; the mean of the middle two when their number is even. `None` without values.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted_median(&sorted)
}

fn sorted_median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len() % 2 == 1 { upper } else { f64::midpoint(sorted[middle - 1], upper) })
}

/// The median with a 95 % percentile bootstrap interval, or with the lowest and the highest value when there are too
/// few values for one. `None` without values.
#[must_use]
pub fn estimate(values: &[f64]) -> Option<Estimate> {
    let median = median(values)?;
    if values.len() < FEWEST {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        return Some(Estimate { median, low, high, count: values.len() });
    }
    let mut random = StdRng::seed_from_u64(values.len() as u64);
    let mut drawn = vec![0.0; values.len()];
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| {
            drawn.fill_with(|| values[random.random_range(0..values.len())]);
            drawn.sort_by(f64::total_cmp);
            sorted_median(&drawn)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    let at = |share: f64| medians[((RESAMPLES - 1) as f64 * share).round() as usize];
    Some(Estimate { median, low: at(0.025), high: at(0.975), count: values.len() })
}

/// The ratio `ours / theirs` of values measured in the same round, as an estimate. Pairs with a zero are left out.
#[must_use]
pub fn ratio(pairs: &[(f64, f64)]) -> Option<Estimate> {
    let usable = pairs.iter().filter(|(ours, theirs)| *ours > 0.0 && *theirs > 0.0);
    estimate(&usable.map(|(ours, theirs)| ours / theirs).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_found_in_any_order() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn equal_values_leave_no_doubt() {
        let all = estimate(&[2.0; 15]).unwrap();
        assert_eq!((all.low, all.median, all.high, all.count), (2.0, 2.0, 2.0, 15));
    }

    #[test]
    fn the_interval_of_a_known_sample_is_that_of_the_order_statistics() {
        // For n = 15 the exact 95 % interval of the median is from the 4th to the 12th value (coverage 96.5 %).
        let values: Vec<f64> = (1..=15).map(f64::from).collect();
        let all = estimate(&values).unwrap();
        assert_eq!(all.median, 8.0);
        assert!((4.0..=6.0).contains(&all.low) && (10.0..=12.0).contains(&all.high), "{all:?}");
    }

    #[test]
    fn the_interval_covers_the_truth_about_as_often_as_it_says() {
        let mut random = StdRng::seed_from_u64(7);
        let mut covered = 0;
        for _ in 0..200 {
            let sample: Vec<f64> = (0..15).map(|_| random.random()).collect();
            let all = estimate(&sample).unwrap();
            covered += u32::from(all.low <= 0.5 && 0.5 <= all.high);
        }
        assert!((175..=200).contains(&covered), "{covered} of 200");
    }

    #[test]
    fn a_ratio_is_made_within_each_pair() {
        // The machine was half as fast in the second round, which does not change the ratio.
        let all = ratio(&[(1.0, 2.0), (2.0, 4.0), (1.0, 2.0), (0.0, 3.0)]).unwrap();
        assert_eq!((all.median, all.low, all.high, all.count), (0.5, 0.5, 0.5, 3));
        assert_eq!(ratio(&[(0.0, 1.0)]), None);
    }
}
