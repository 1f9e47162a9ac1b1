//! Clients in numbers: those that are alike are not told apart.

/// Clients that came within so many seconds are kept as one number.
const BORN_SECONDS: u32 = 10;

/// Clients that are alike for the measures: of one group, as old, and moved or not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cohort {
    /// Index of the group.
    pub(super) group: usize,
    /// The second before which they had all come; 0 for old ones.
    pub(super) born: u32,
    /// Whether they were closed by the controller in the present episode.
    pub(super) moved: bool,
    /// How many.
    pub(super) count: f64,
}

/// Adds clients to a list of cohorts.
pub(super) fn add(clients: &mut Vec<Cohort>, more: Cohort) {
    if more.count <= 0.0 {
        return;
    }
    let same = |c: &&mut Cohort| c.group == more.group && c.born == more.born && c.moved == more.moved;
    match clients.iter_mut().rev().find(same) {
        Some(cohort) => cohort.count += more.count,
        None => clients.push(more),
    }
}

/// The mark of clients that come at a second.
pub(super) const fn born(second: u32) -> u32 {
    (second / BORN_SECONDS + 1) * BORN_SECONDS
}

/// How many clients there are.
pub(super) fn count(clients: &[Cohort]) -> f64 {
    clients.iter().map(|c| c.count).sum()
}
