//! The sessions of the dashboard, which are in memory alone and end with the process.
//!
//! Only digests are kept, of the ids and of the admin token. To compare digests needs no constant time: a visitor cannot choose
//! them byte by byte.

use std::collections::VecDeque;

use sha2::{Digest, Sha256};

/// Sessions at a time; one more ends the oldest.
pub const MOST_SESSIONS: usize = 32;
/// Milliseconds after which a session ends, however much it is used: a working day.
pub const SESSION_MILLIS: u64 = 28_800_000;

type Hash = [u8; 32];

#[derive(Debug)]
struct Session {
    id: Hash,
    ends_millis: u64,
}

/// The sessions of a node.
#[derive(Debug, Default)]
pub struct Sessions {
    token: Option<Hash>,
    /// The oldest first.
    open: VecDeque<Session>,
}

fn hash(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

impl Sessions {
    /// Opens a session with this id, which is random, for a visitor who has given this token.
    pub fn open(&mut self, id: &[u8], token: &[u8], now_millis: u64) {
        self.tidy(token, now_millis);
        while self.open.len() >= MOST_SESSIONS {
            self.open.pop_front();
        }
        self.open.push_back(Session { id: hash(id), ends_millis: now_millis + SESSION_MILLIS });
    }

    /// Whether the session with this id is open while the admin token is this one.
    pub fn is_open(&mut self, id: &[u8], token: &[u8], now_millis: u64) -> bool {
        self.tidy(token, now_millis);
        let id = hash(id);
        self.open.iter().any(|session| session.id == id)
    }

    /// Ends a session, if there is one with this id.
    pub fn close(&mut self, id: &[u8]) {
        let id = hash(id);
        self.open.retain(|session| session.id != id);
    }

    /// Ends the sessions whose time is over, and all of them when the token is another one than before.
    fn tidy(&mut self, token: &[u8], now_millis: u64) {
        let token = Some(hash(token));
        if self.token != token {
            self.open.clear();
            self.token = token;
        }
        self.open.retain(|session| now_millis < session.ends_millis);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_after_eight_hours_however_much_it_is_used() {
        let mut sessions = Sessions::default();
        sessions.open(b"id", b"token", 5);
        assert!(sessions.is_open(b"id", b"token", 5 + SESSION_MILLIS - 1));
        assert!(!sessions.is_open(b"other", b"token", 5));
        assert!(!sessions.is_open(b"id", b"token", 5 + SESSION_MILLIS));
        assert!(!sessions.is_open(b"id", b"token", 5), "it does not come back");
    }

    #[test]
    fn all_sessions_end_when_the_token_changes_and_one_when_it_is_closed() {
        let mut sessions = Sessions::default();
        for id in [b"a", b"b"] {
            sessions.open(id, b"token", 0);
        }
        sessions.close(b"a");
        assert_eq!([b"a", b"b"].map(|id| sessions.is_open(id, b"token", 1)), [false, true]);
        assert!(!sessions.is_open(b"b", b"another", 1));
        assert!(!sessions.is_open(b"b", b"token", 1), "nor with the former token again");
    }

    #[test]
    fn the_number_is_bounded_and_the_oldest_goes() {
        let mut sessions = Sessions::default();
        let id = |number: usize| number.to_be_bytes();
        for number in 0..3 * MOST_SESSIONS {
            sessions.open(&id(number), b"token", number as u64);
            assert!(sessions.is_open(&id(number), b"token", number as u64));
        }
        let open: Vec<_> =
            (0..3 * MOST_SESSIONS).filter(|number| sessions.is_open(&id(*number), b"token", 1_000)).collect();
        assert_eq!(open, (2 * MOST_SESSIONS..3 * MOST_SESSIONS).collect::<Vec<_>>());
    }
}
