//! The connections with input to read: each once, in the order in which their input arrived.
//!
//! A socket reports every packet as a new edge, even while earlier input is unread. Without a mark per connection a
//! client that sends many small packets would stand in the queue many times: ahead of the others, and without bound.

use std::collections::VecDeque;

use node_core::session::id::Slot;

/// The state of a connection's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Input {
    /// Whether the state machine has input that it has not used.
    pub(crate) paused: bool,
    /// Whether to read until the end of input shows: no further edge will come.
    pub(crate) ended: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    queued: bool,
    input: Input,
}

/// The queue, with one mark per slot.
#[derive(Debug, Default)]
pub(crate) struct Readables {
    queue: VecDeque<Slot>,
    marks: Vec<Mark>,
}

impl Readables {
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Puts a connection at the end, or adds to the mark of one that waits.
    pub(crate) fn push(&mut self, id: Slot, input: Input) {
        if self.marks.len() <= id.index() {
            self.marks.resize(id.index() + 1, Mark::default());
        }
        let mark = &mut self.marks[id.index()];
        mark.input.paused |= input.paused;
        mark.input.ended |= input.ended;
        if !mark.queued {
            mark.queued = true;
            self.queue.push_back(id);
        }
    }

    /// Takes the connection that has waited for longest.
    pub(crate) fn pop(&mut self) -> Option<(Slot, Input)> {
        let id = self.queue.pop_front()?;
        let mark = std::mem::take(&mut self.marks[id.index()]);
        Some((id, mark.input))
    }

    /// Keeps the mark of a connection that is not to be read now, until it is put in again.
    pub(crate) fn hold(&mut self, id: Slot, input: Input) {
        if let Some(mark) = self.marks.get_mut(id.index()) {
            mark.input.paused |= input.paused;
            mark.input.ended |= input.ended;
        }
    }

    /// Forgets the mark of a connection that ended. Its place in the queue stays, and the next connection in its slot
    /// gets it: one read that finds nothing.
    pub(crate) fn forget(&mut self, id: Slot) {
        if let Some(mark) = self.marks.get_mut(id.index()) {
            mark.input = Input::default();
        }
    }

    /// Gives back the memory of a past peak, when nothing waits.
    pub(crate) fn trim(&mut self) {
        if self.queue.is_empty() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDED: Input = Input { paused: false, ended: true };
    const PAUSED: Input = Input { paused: true, ended: false };

    #[test]
    fn many_edges_are_one_place_and_nothing_of_them_is_lost() {
        let mut readables = Readables::default();
        readables.push(Slot(7), PAUSED);
        for _ in 0..1_000 {
            readables.push(Slot(3), Input::default());
            readables.push(Slot(7), Input::default());
        }
        readables.push(Slot(7), ENDED);
        assert_eq!(readables.len(), 2);
        assert_eq!(readables.pop(), Some((Slot(7), Input { paused: true, ended: true })));
        assert_eq!(readables.pop(), Some((Slot(3), Input::default())));
        assert_eq!(readables.pop(), None);
        readables.push(Slot(7), Input::default());
        assert_eq!(readables.pop(), Some((Slot(7), Input::default())));
    }

    #[test]
    fn what_is_held_waits_until_it_is_put_in_again_and_nothing_of_it_is_lost() {
        let mut readables = Readables::default();
        readables.push(Slot(1), PAUSED);
        let (id, input) = readables.pop().expect("one");
        readables.hold(id, input);
        assert!(readables.is_empty() && readables.pop().is_none());
        readables.push(Slot(1), ENDED);
        assert_eq!(readables.pop(), Some((Slot(1), Input { paused: true, ended: true })));
    }

    #[test]
    fn the_next_connection_in_a_slot_inherits_a_place_and_nothing_else() {
        let mut readables = Readables::default();
        readables.push(Slot(1), ENDED);
        readables.forget(Slot(1));
        readables.push(Slot(1), PAUSED);
        assert_eq!((readables.pop(), readables.pop()), (Some((Slot(1), PAUSED)), None));
    }
}
