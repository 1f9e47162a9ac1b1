//! How often a wrong token may be given to the dashboard: a bucket for the whole node, because visitors that come by
//! `kubectl port-forward` have one address.

/// Wrong tokens that may be given at once.
pub const ATTEMPTS_AT_ONCE: u64 = 10;
/// Milliseconds after which one more may be given.
pub const ATTEMPT_MILLIS: u64 = 6_000;

/// The wrong tokens of late, as GCRA counts them: the time until which they would have lasted at the rate.
#[derive(Debug, Default)]
pub struct Attempts {
    until_millis: u64,
}

impl Attempts {
    /// Whether a token may be looked at now, in milliseconds of a clock that only goes forward.
    ///
    /// # Errors
    /// When too many were wrong: the milliseconds until the next one may be.
    pub const fn look(&self, now_millis: u64) -> Result<(), u64> {
        let ahead = (self.until_millis + ATTEMPT_MILLIS).saturating_sub(now_millis);
        match ahead.checked_sub(ATTEMPTS_AT_ONCE * ATTEMPT_MILLIS) {
            None | Some(0) => Ok(()),
            Some(millis) => Err(millis),
        }
    }

    /// Counts a wrong token. A right one counts nothing.
    pub fn wrong(&mut self, now_millis: u64) {
        self.until_millis = self.until_millis.max(now_millis) + ATTEMPT_MILLIS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_tokens_come_ten_at_once_and_then_one_each_six_seconds() {
        let (mut attempts, begun) = (Attempts::default(), 1_000_000);
        for number in 0..ATTEMPTS_AT_ONCE {
            assert_eq!(attempts.look(begun), Ok(()), "{number}");
            attempts.wrong(begun);
        }
        assert_eq!(attempts.look(begun), Err(ATTEMPT_MILLIS));
        assert_eq!(attempts.look(begun + ATTEMPT_MILLIS - 1), Err(1));
        assert_eq!(attempts.look(begun + ATTEMPT_MILLIS), Ok(()));
        attempts.wrong(begun + ATTEMPT_MILLIS);
        assert_eq!(attempts.look(begun + ATTEMPT_MILLIS), Err(ATTEMPT_MILLIS));
        let later = begun + 2 * ATTEMPTS_AT_ONCE * ATTEMPT_MILLIS;
        attempts.wrong(later);
        assert_eq!(attempts.look(later), Ok(()), "what is long ago is forgotten");
    }

    #[test]
    fn a_node_that_has_just_started_takes_them_too() {
        assert_eq!(Attempts::default().look(0), Ok(()));
    }
}
