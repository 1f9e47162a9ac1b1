//! A real KEDA that gives a fleet its node count through the scale subresource, by the writes/s that a real Prometheus has
//! of the nodes.
//!
//! What is tested is the seam: the ChannelCluster's scale subresource is what a HorizontalPodAutoscaler needs, the manifest
//! of the pages works, and what it takes away is drained first, as if the operator had decided it.

pub mod install;
pub mod run;

use anyhow::{Result, ensure};

/// A text with other words in the place of its own.
///
/// # Errors
/// When it does not have one of them exactly once.
fn with(text: &str, words: &[(&str, &str)]) -> Result<String> {
    words.iter().try_fold(text.to_owned(), |text, (own, other)| {
        let times = text.matches(own).count();
        ensure!(times == 1, "{own:?} is there {times} times, not once, in:\n{text}");
        Ok(text.replace(own, other))
    })
}

#[cfg(test)]
mod tests {
    use super::with;

    #[test]
    fn a_word_that_is_not_there_or_twice_is_an_error() {
        assert_eq!(with("a: 1\nb: 2\n", &[("a: 1", "a: 3"), ("b: 2", "b: 4")]).unwrap(), "a: 3\nb: 4\n");
        assert!(with("a: 1\n", &[("b: 1", "")]).is_err());
        assert!(with("a: 1\na: 1\n", &[("a: 1", "")]).is_err());
    }
}
