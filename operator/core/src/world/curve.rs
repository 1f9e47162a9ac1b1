//! A figure over time: straight lines between points.

use super::chance::Chance;

/// A figure over time, in seconds since the beginning. Before its first point and after its last one it stays as it is
/// there. Of two points at the same second the later one counts from that second on, which makes a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve(Vec<(f64, f64)>);

impl Curve {
    /// The same figure at all times.
    #[must_use]
    pub fn flat(value: f64) -> Self {
        Self(vec![(0.0, value)])
    }

    /// Lines between (second, figure), which are in order.
    #[must_use]
    pub fn through(points: &[(f64, f64)]) -> Self {
        Self(points.to_vec())
    }

    /// Figures that stay until the next one: (second from which it counts, figure).
    #[must_use]
    pub fn steps(steps: &[(f64, f64)]) -> Self {
        let mut points: Vec<(f64, f64)> = Vec::with_capacity(steps.len() * 2);
        for &(second, value) in steps {
            if let Some(&(_, before)) = points.last() {
                points.push((second, before));
            }
            points.push((second, value));
        }
        Self(points)
    }

    /// What `of` gives each `every` seconds until `end`.
    #[must_use]
    pub fn sampled(end: u32, every: u32, mut of: impl FnMut(f64) -> f64) -> Self {
        Self((0..=end).step_by(every.max(1) as usize).map(|at| (f64::from(at), of(f64::from(at)))).collect())
    }

    /// The same with noise: each point is changed by a part of itself that is around 0 with the deviation `part`, and
    /// that half remembers the one before it.
    #[must_use]
    pub fn noisy(mut self, part: f64, chance: &mut Chance) -> Self {
        let mut drift = 0.0;
        for (_, value) in &mut self.0 {
            drift = 0.5 * drift + part * chance.normal();
            *value *= (1.0 + drift).max(0.0);
        }
        self
    }

    /// The same, each figure times `factor`.
    #[must_use]
    pub fn times(mut self, factor: f64) -> Self {
        self.0.iter_mut().for_each(|(_, value)| *value *= factor);
        self
    }

    /// The figure at a second.
    #[must_use]
    pub fn at(&self, second: f64) -> f64 {
        let after = self.0.partition_point(|(at, _)| *at <= second);
        match (after.checked_sub(1).and_then(|i| self.0.get(i)), self.0.get(after)) {
            (Some(&(from, a)), Some(&(to, b))) => a + (b - a) * (second - from) / (to - from),
            (Some(&(_, value)), None) | (None, Some(&(_, value))) => value,
            (None, None) => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Curve;

    #[test]
    fn lines_and_steps() {
        let line = Curve::through(&[(10.0, 1.0), (20.0, 3.0)]);
        assert_eq!([0.0, 10.0, 15.0, 20.0, 99.0].map(|at| line.at(at)), [1.0, 1.0, 2.0, 3.0, 3.0]);
        let steps = Curve::steps(&[(0.0, 1.0), (10.0, 5.0)]);
        assert_eq!([0.0, 9.0, 10.0, 11.0].map(|at| steps.at(at)), [1.0, 1.0, 5.0, 5.0]);
        assert_eq!((Curve::flat(2.0).times(3.0).at(7.0), Curve::default().at(1.0)), (6.0, 0.0));
    }
}
