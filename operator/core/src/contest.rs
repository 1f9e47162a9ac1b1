//! Other field managers that keep writing what the operator writes, such as a tool that applies its own idea of the
//! Deployment. The operator and such a tool would answer each other's writes, and roll the fleet each time. So when
//! another manager takes a field again and again, the operator says so and writes it once a minute only, until no
//! other manager takes it any more.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::ownership::Taken;
use crate::words::short;

/// Reason of the condition and of the Event.
pub const REASON: &str = "FieldsContested";
/// When a field is taken so many times within the window it is contested. A person who tries something out takes it
/// less often.
const OFTEN: usize = 3;
/// Length of that window, in milliseconds.
const WINDOW_MILLIS: u64 = 600_000;
/// Pause between two writes of a contested part, in milliseconds.
pub const PAUSE_MILLIS: u64 = 60_000;
/// When a field is not taken for so long, the contest is over, in milliseconds: two writes of ours stayed.
const LULL_MILLIS: u64 = 150_000;
/// Most takings that are remembered of a ChannelCluster, [`OFTEN`] of each contest: a bundle of 13 objects and 10
/// other managers that write all of it make 390. There must be a bound, because others choose the managers' names.
const MAX_REMEMBERED: usize = 512;

/// A manager, and the field that it takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Contest {
    /// The other field manager.
    pub manager: String,
    /// Kind and name of the object.
    pub object: String,
    /// One of the fields.
    pub field: String,
    /// Whether the other manager removes the field; otherwise it sets another value.
    pub removed: bool,
}

/// The parts of an object that the operator writes apart from each other, each at its own time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The node count, by scaling.
    Count,
    /// Everything else, by a reconcile.
    Rest,
}

impl Contest {
    fn part(&self) -> Part {
        if self.field == "spec.replicas" { Part::Count } else { Part::Rest }
    }

    /// Whether two contests are of the same manager about the same part of the same object.
    fn is_same(&self, other: &Self) -> bool {
        self.manager == other.manager && self.object == other.object && self.part() == other.part()
    }

    /// One sentence with the remedy.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { manager, object, field, removed } = self;
        if *removed {
            return format!(
                "{field} of {object} is removed again and again, which the operator keeps, by {manager} as far as the \
                 object's managedFields tell: the operator writes it once a minute only now; have the object left alone, \
                 or say what is wanted in the ChannelCluster"
            );
        }
        format!(
            "{manager} sets {field} of {object} again and again, which the operator keeps: the operator writes it once a \
             minute only now; take it out of what {manager} writes, or say what is wanted in the ChannelCluster"
        )
    }
}

/// When fields of one ChannelCluster's objects were taken, as the operator found when it wrote them again.
#[derive(Clone, Debug, Default)]
pub struct Contests {
    times: VecDeque<(u64, Contest)>,
    /// A mark of the fields that were ours after the last write of each object.
    marks: HashMap<String, u64>,
}

impl Contests {
    /// Records a mark of the fields that are ours after a write of an object, and says whether the write before left
    /// the same mark.
    pub fn wrote(&mut self, object: &str, mark: u64) -> bool {
        self.marks.insert(object.to_owned(), mark) == Some(mark)
    }

    /// Records at `now` (milliseconds) which fields of an object had been taken. The texts come from others, so they
    /// are cut.
    pub fn note(&mut self, now: u64, object: &str, taken: &[Taken]) {
        let mut told = HashSet::new();
        for Taken { manager, field, removed } in taken {
            let (manager, field) = (short(manager), short(field));
            let contest = Contest { manager, object: object.to_owned(), field, removed: *removed };
            if told.insert((contest.manager.clone(), contest.part())) {
                self.remember(now, contest);
            }
        }
        let excess = self.times.len().saturating_sub(MAX_REMEMBERED);
        self.times.drain(..excess);
    }

    /// Remembers one taking, in place of the first of the same contest when there are [`OFTEN`] of them.
    fn remember(&mut self, now: u64, contest: Contest) {
        let same = |(_, other): &(u64, Contest)| other.is_same(&contest);
        if self.times.iter().filter(|time| same(time)).count() >= OFTEN
            && let Some(first) = self.times.iter().position(same)
        {
            self.times.remove(first);
        }
        self.times.push_back((now, contest));
    }

    /// The contest that is going on, the latest if there are several.
    #[must_use]
    pub fn now(&self, now: u64) -> Option<&Contest> {
        self.last(now, |_| true).map(|(_, contest)| contest)
    }

    /// For how long this part of an object, or all of it, is not to be written again, in milliseconds; none while it
    /// is not contested or when the pause is over.
    #[must_use]
    pub fn pause(&self, now: u64, object: &str, part: Option<Part>) -> Option<u64> {
        let of =
            |contest: &Contest| contest.object == object && part.is_none_or(|part| contest.part() == part);
        let (at, _) = self.last(now, of)?;
        (at + PAUSE_MILLIS).checked_sub(now).filter(|left| *left > 0)
    }

    fn last(&self, now: u64, counts: impl Fn(&Contest) -> bool) -> Option<&(u64, Contest)> {
        let recent = |at: &u64| now.saturating_sub(*at) < WINDOW_MILLIS;
        self.times.iter().rev().find(|(at, contest)| {
            let same = |(at, other): &&(u64, Contest)| recent(at) && other.is_same(contest);
            now.saturating_sub(*at) < LULL_MILLIS
                && counts(contest)
                && self.times.iter().filter(same).count() >= OFTEN
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Contests, MAX_REMEMBERED, OFTEN, PAUSE_MILLIS, Part};
    use crate::ownership::Taken;

    const OBJECT: &str = "Deployment chat-node";
    const REST: Option<Part> = Some(Part::Rest);

    fn by(manager: &str) -> Vec<Taken> {
        let fields = ["spec.strategy", "spec.template"];
        fields
            .map(|field| Taken { manager: manager.to_owned(), field: field.to_owned(), removed: false })
            .into()
    }

    #[test]
    fn what_is_taken_again_and_again_is_said_and_written_once_a_minute() {
        let mut contests = Contests::default();
        let mut now = 1_000_000;
        for _ in 0..2 {
            contests.note(now, OBJECT, &by("argocd"));
            contests.note(now, OBJECT, &by("kubectl"));
            now += 2_000;
        }
        contests.note(now, "Service chat", &by("argocd"));
        assert!(
            contests.now(now).is_none() && contests.pause(now, OBJECT, REST).is_none(),
            "twice is an accident"
        );
        contests.note(now, OBJECT, &by("argocd"));
        let said = contests.now(now).unwrap().sentence();
        assert!(said.contains("argocd sets spec.strategy of Deployment chat-node again and again"), "{said}");
        // The contest goes on for as long as each of our writes is answered, and no longer.
        for _ in 0..30 {
            assert_eq!(contests.pause(now, OBJECT, REST), Some(PAUSE_MILLIS));
            assert_eq!(contests.pause(now, OBJECT, None), Some(PAUSE_MILLIS));
            assert_eq!(contests.pause(now, OBJECT, Some(Part::Count)), None, "scaling goes on");
            assert_eq!(contests.pause(now, "Service chat", None), None, "other objects are kept");
            now += PAUSE_MILLIS;
            assert!(contests.pause(now, OBJECT, REST).is_none() && contests.now(now).is_some());
            contests.note(now, OBJECT, &by("argocd"));
        }
        assert!(contests.now(now + 2 * PAUSE_MILLIS).is_some());
        assert!(contests.now(now + 3 * PAUSE_MILLIS).is_none(), "over");
    }

    #[test]
    fn what_others_are_called_is_bounded() {
        let mut contests = Contests::default();
        for now in 0..1_000 {
            contests.note(now, OBJECT, &by(&"x".repeat(10_000)));
        }
        assert!(contests.now(1_000).unwrap().sentence().len() < 1_000);
        assert_eq!(contests.times.len(), OFTEN);
        for now in 0..1_000 {
            contests.note(now, OBJECT, &by(&now.to_string()));
        }
        assert!(contests.times.len() <= MAX_REMEMBERED);
    }

    #[test]
    fn several_who_write_everything_are_all_noticed() {
        let mut contests = Contests::default();
        let objects: Vec<_> = (0..13).map(|n| format!("Service chat-{n}")).collect();
        let managers: Vec<_> = (0..10).map(|n| format!("rival-{n}")).collect();
        let mut now = 0;
        for minute in 0..10 {
            now += PAUSE_MILLIS;
            for object in &objects {
                let mut taken: Vec<_> = managers.iter().flat_map(|manager| by(manager)).collect();
                let count = taken.iter().step_by(2).cloned();
                let count = count.map(|one| Taken { field: "spec.replicas".to_owned(), ..one });
                taken.extend(count.filter(|_| object == "Service chat-0").collect::<Vec<_>>());
                contests.note(now, object, &taken);
            }
            for object in &objects {
                assert_eq!(contests.pause(now, object, REST).is_some(), minute >= 2, "{minute} {object}");
            }
            let count = contests.pause(now, &objects[0], Some(Part::Count));
            assert_eq!(count.is_some(), minute >= 2, "who writes both writes both: {minute}");
        }
    }
}
