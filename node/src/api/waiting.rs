//! Who waits for an answer of a shard or of another node.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc;

/// Most answers to one question: as many nodes as are remembered. More come from nobody who was asked.
const ANSWERS: usize = 2_048;

/// Those who wait, by the number of what they asked.
#[derive(Debug)]
pub(super) struct Waiting<T>(Mutex<HashMap<u64, mpsc::Sender<T>>>);

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// One who waits, until this is dropped.
#[derive(Debug)]
pub(super) struct Wait<'a, T> {
    waiting: &'a Waiting<T>,
    number: u64,
    answers: mpsc::Receiver<T>,
}

impl<T> Waiting<T> {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, mpsc::Sender<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for answers to this number.
    pub(super) fn wait(&self, number: u64) -> Wait<'_, T> {
        let (sender, answers) = mpsc::channel(ANSWERS);
        self.lock().insert(number, sender);
        Wait { waiting: self, number, answers }
    }

    /// Hands an answer over; one that nobody waits for any more is dropped.
    pub(super) fn answer(&self, number: u64, answer: T) {
        if let Some(sender) = self.lock().get(&number) {
            sender.try_send(answer).ok();
        }
    }
}

impl<T> Wait<'_, T> {
    /// The next answer. Does not end by itself: put it under a deadline.
    pub(super) async fn next(&mut self) -> Option<T> {
        self.answers.recv().await
    }
}

impl<T> Drop for Wait<'_, T> {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.number);
    }
}
