//! Bytes that are sealed and that the socket did not take: they must be sent before anything else.

use std::os::fd::BorrowedFd;

use super::super::plain;

/// How far sending came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    /// Everything is sent.
    Done,
    /// The socket took less; an edge will tell when it takes more.
    Blocked,
    /// The socket failed.
    Failed,
}

/// Bytes of which a part may be sent.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    pub(super) bytes: Vec<u8>,
    sent: usize,
}

impl Unsent {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), sent: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Sends what is left, as much as the socket takes.
    pub(super) fn send(&mut self, fd: BorrowedFd<'_>) -> Sending {
        if self.is_empty() {
            return Sending::Done;
        }
        match plain::send_once(fd, &self.bytes[self.sent..]) {
            Ok(sent) if sent == self.len() => {
                *self = Self::default();
                Sending::Done
            }
            Ok(sent) => {
                self.sent += sent;
                Sending::Blocked
            }
            Err(_) => Sending::Failed,
        }
    }
}
