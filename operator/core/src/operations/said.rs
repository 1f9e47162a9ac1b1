//! What is said of many nodes in one look: one Event for each reason.

use super::plan::Plan;

/// Most sentences in one Event.
const MOST: usize = 5;

/// The sentences of a look by their reasons, in the order of their first ones.
#[derive(Debug, Default)]
pub(super) struct Said(Vec<(&'static str, bool, Vec<String>)>);

impl Said {
    /// Adds a sentence. `warning` says whether something is wrong.
    pub(super) fn more(&mut self, reason: &'static str, warning: bool, sentence: String) {
        match self.0.iter_mut().find(|(known, wrong, _)| (*known, *wrong) == (reason, warning)) {
            Some((.., sentences)) => sentences.push(sentence),
            None => self.0.push((reason, warning, vec![sentence])),
        }
    }

    /// Makes them the notes of a plan. `action` is what the operation does.
    pub(super) fn tell(self, action: &'static str, plan: &mut Plan) {
        for (reason, warning, sentences) in self.0 {
            let more = sentences.len().saturating_sub(MOST);
            let mut message = sentences[..sentences.len() - more].join("; ");
            if more > 0 {
                message = format!("{message}; and {more} more");
            }
            plan.note(action, reason, warning, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST, Plan, Said};

    #[test]
    fn many_sentences_of_one_reason_are_one_event_of_bounded_length() {
        let mut said = Said::default();
        (0..MOST + 2).for_each(|at| said.more("DrainEmpty", false, format!("p{at} is empty")));
        said.more("DrainEmpty", true, "p is strange".to_owned());
        let mut plan = Plan::default();
        said.tell("Drain", &mut plan);
        assert_eq!(plan.notes.len(), 2);
        assert!(
            plan.notes[0].message.starts_with("p0 is empty; p1")
                && plan.notes[0].message.ends_with("and 2 more")
        );
        assert!(plan.notes[1].warning);
    }
}
