//! How the load of connections is spread: counted by powers of two, so that a walk over any number of connections tells which
//! few of them have the load that is to go.

/// Bits of a load, and none for no load at all.
const STEPS: usize = u64::BITS as usize + 1;

/// Connections by the bits of their loads, in thousandths of writes/s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scale {
    steps: [(u64, u64); STEPS],
}

impl Default for Scale {
    fn default() -> Self {
        Self { steps: [(0, 0); STEPS] }
    }
}

/// The step of a load: its bits.
pub(crate) const fn step(load: u64) -> usize {
    (u64::BITS - load.leading_zeros()) as usize
}

impl Scale {
    /// Counts a connection.
    pub(crate) fn add(&mut self, load: u64) {
        let (connections, sum) = &mut self.steps[step(load)];
        *connections += 1;
        *sum = sum.saturating_add(load);
    }

    /// The highest step from which on there are so many connections, or so much load; the lowest with any when there are fewer.
    /// None when there is none.
    pub(crate) fn floor(&self, connections: u64, load: u64) -> Option<usize> {
        let (mut count, mut sum, mut lowest) = (0u64, 0u64, None);
        for (step, (more, load_of_these)) in self.steps.iter().enumerate().rev() {
            if *more == 0 {
                continue;
            }
            lowest = Some(step);
            (count, sum) = (count + more, sum.saturating_add(*load_of_these));
            if count >= connections || sum >= load {
                break;
            }
        }
        lowest
    }

    /// The next step below this one that has any connection.
    pub(crate) fn below(&self, step: usize) -> Option<usize> {
        self.steps[..step].iter().rposition(|(connections, _)| *connections > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_leaves_enough_above_it_and_not_far_more() {
        arbtest::arbtest(|u| {
            let mut scale = Scale::default();
            let mut loads = Vec::new();
            for _ in 0..u.int_in_range(0..=50)? {
                let most = u.int_in_range(0..=63)?;
                loads.push(u.int_in_range(0..=u64::MAX >> 8)? >> most);
            }
            loads.iter().for_each(|load| scale.add(*load));
            let (connections, load) = (u.int_in_range(1..=40)?, u.int_in_range(1..=u64::MAX >> 4)?);
            let Some(floor) = scale.floor(connections, load) else {
                assert!(loads.is_empty());
                return Ok(());
            };
            let from = |floor: usize| {
                let these = loads.iter().filter(move |load| step(**load) >= floor);
                these.fold((0, 0u64), |(count, sum), load| (count + 1, sum + load))
            };
            let enough = |(count, sum): (u64, u64)| count >= connections || sum >= load;
            assert!(enough(from(floor)) || from(floor).0 == loads.len() as u64);
            assert!(!enough(from(floor + 1)), "a higher floor would do");
            assert!(scale.below(floor).is_none_or(|below| below < floor && from(below).0 > from(floor).0));
            Ok(())
        })
        .budget_ms(200);
    }
}
