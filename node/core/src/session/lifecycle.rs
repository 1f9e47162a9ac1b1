//! The life of a connection as one table: for each phase and each cause it has the next phase, and what is done on
//! the way.

use crate::counters::{CloseReason, RefuseReason};

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// The request head is being read.
    Handshake,
    /// Requests of a long-poll client are read and answered, one after another.
    Asking,
    /// WebSocket messages flow.
    Open,
    /// A close frame was queued as a polite goodbye. Messages that the peer had under way are served to the others
    /// until its own close frame comes; the peer itself gets nothing more, neither replies nor broadcasts.
    Leaving,
    /// A close frame was queued; the peer's is awaited, and messages before it are ignored.
    Closing,
    /// Sends what is queued, ends the output, then discards input until the peer ends too. For answers after which
    /// unread input may exist: closing at once would reset the connection and lose them.
    Linger,
    /// As `Linger`, with the output ended.
    Drop,
    /// Sends what is queued, then closes: the peer's close frame was answered.
    Final,
    /// Nothing more is read or written.
    Gone,
}

impl Phase {
    /// All phases, by their numbers.
    pub(crate) const ALL: [Self; 9] = [
        Self::Handshake,
        Self::Asking,
        Self::Open,
        Self::Leaving,
        Self::Closing,
        Self::Linger,
        Self::Drop,
        Self::Final,
        Self::Gone,
    ];

    /// Whether WebSocket messages that arrive in this phase are handled.
    pub(crate) const fn hears(self) -> bool {
        matches!(self, Self::Open | Self::Leaving)
    }

    /// Whether this side has said goodbye and waits for the peer's close frame.
    pub(crate) const fn awaits_close(self) -> bool {
        matches!(self, Self::Leaving | Self::Closing)
    }
}

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The handshake succeeded.
    Upgraded,
    /// The request is one of long-poll, and others may follow.
    Asked,
    /// The request got another answer, which is queued, and none follows.
    Answered,
    /// Its input has ended, or the socket failed.
    Lost,
    /// Its transport cannot go on, or it may not connect and is not told so, for this reason.
    Unfit(RefuseReason),
    /// The peer's close frame came.
    PeerClosed,
    /// This side ends it with a close frame.
    Close(CloseReason),
    /// The peer's input cannot be read any more, for this reason.
    Broken(CloseReason),
    /// All that was queued is sent.
    Sent,
    /// The phase has lasted too long.
    TimedOut,
    /// The node ends, and does not wait for requests that are not complete, nor for further ones.
    ShutDown,
    /// The node needs the memory.
    GivenUp,
}

/// How a step changes a connection's membership in its rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Membership {
    /// It stays as it is.
    Stays,
    /// It stays a member, but broadcasts do not go to it any more.
    Mutes,
    /// It leaves them all.
    Leaves,
}

/// The counter that a step adds to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    /// An established WebSocket has ended.
    Closed(CloseReason),
    /// A connection was refused before it became a WebSocket.
    Refused(RefuseReason),
}

/// Everything that a cause brings about in a phase, in the order of the fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// The counter, if any.
    pub(crate) count: Option<Count>,
    /// What happens to the membership in its rooms.
    pub(crate) membership: Membership,
    /// The send queue is emptied, but for the rest of a frame that is partly sent.
    pub(crate) drops_queue: bool,
    /// The next phase.
    pub(crate) to: Phase,
    /// Whether the time of the phase begins now. Otherwise that of the phase before goes on.
    pub(crate) restarts_clock: bool,
    /// The output of the transport ends; all of the queue is sent.
    pub(crate) ends_output: bool,
}

impl Step {
    const fn to(to: Phase) -> Self {
        Self {
            count: None,
            membership: Membership::Stays,
            drops_queue: false,
            to,
            restarts_clock: true,
            ends_output: false,
        }
    }

    const fn counted(self, count: Count) -> Self {
        Self { count: Some(count), ..self }
    }

    const fn with(self, membership: Membership) -> Self {
        Self { membership, ..self }
    }

    const fn in_the_same_time(self) -> Self {
        Self { restarts_clock: false, ..self }
    }
}

/// Whether this goodbye is no answer to a fault of the peer. What the peer said before it heard the goodbye is then
/// served to the others, until its own close frame or the close time-out, and only then does it leave its rooms.
pub(crate) const fn is_polite(reason: CloseReason) -> bool {
    matches!(reason, CloseReason::Drain | CloseReason::Moved | CloseReason::Idle | CloseReason::Worn)
}

/// The step that a cause leads to in a phase; `None` when it changes nothing there.
pub(crate) const fn step(phase: Phase, cause: Cause) -> Option<Step> {
    let gone = Step::to(Phase::Gone).with(Membership::Leaves);
    Some(match (phase, cause) {
        (Phase::Handshake | Phase::Asking, Cause::Upgraded) => Step::to(Phase::Open),
        (Phase::Handshake, Cause::Asked) => Step::to(Phase::Asking),
        (Phase::Handshake | Phase::Asking, Cause::Answered) => Step::to(Phase::Linger),
        (Phase::Handshake, Cause::Lost) => gone.counted(Count::Refused(RefuseReason::Lost)),
        (Phase::Handshake, Cause::Unfit(reason)) => gone.counted(Count::Refused(reason)),
        (Phase::Handshake, Cause::TimedOut) => gone.counted(Count::Refused(RefuseReason::Timeout)),
        (Phase::Handshake, Cause::ShutDown) => gone.counted(Count::Refused(RefuseReason::Draining)),
        (Phase::Handshake, Cause::GivenUp) => gone.counted(Count::Refused(RefuseReason::Memory)),

        (Phase::Open, Cause::Lost) => gone.counted(Count::Closed(CloseReason::Lost)),
        (Phase::Open, Cause::PeerClosed) => {
            Step::to(Phase::Final).counted(Count::Closed(CloseReason::Peer)).with(Membership::Leaves)
        }
        (Phase::Open, Cause::Close(reason)) => closed(reason),
        // Bytes after a broken frame cannot be read: there is no point in waiting for a close frame.
        (Phase::Open, Cause::Broken(reason)) => {
            Step { to: Phase::Linger, membership: Membership::Leaves, ..closed(reason) }
        }

        // Our own close frame may still be queued: it is sent, then the connection ends.
        (Phase::Leaving | Phase::Closing, Cause::PeerClosed) => {
            Step::to(Phase::Final).with(Membership::Leaves).in_the_same_time()
        }
        (Phase::Leaving | Phase::Closing, Cause::Broken(_)) => gone,

        (Phase::Linger, Cause::Sent) => {
            Step { ends_output: true, ..Step::to(Phase::Drop).in_the_same_time() }
        }
        (Phase::Final, Cause::Sent) => gone,

        (Phase::Asking, Cause::Lost | Cause::TimedOut | Cause::ShutDown | Cause::GivenUp) => gone,
        (
            Phase::Leaving | Phase::Closing | Phase::Linger | Phase::Drop | Phase::Final,
            Cause::Lost | Cause::TimedOut | Cause::GivenUp,
        ) => gone,
        _ => return None,
    })
}

/// The end of an open connection from this side. The queue is sent first, except when the queue itself is the reason.
const fn closed(reason: CloseReason) -> Step {
    let counted = Step::to(Phase::Closing).counted(Count::Closed(reason)).with(Membership::Leaves);
    match reason {
        CloseReason::Drain | CloseReason::Moved | CloseReason::Idle | CloseReason::Worn => {
            Step { to: Phase::Leaving, membership: Membership::Mutes, ..counted }
        }
        CloseReason::SlowConsumer => Step { drops_queue: true, ..counted },
        // Its input is dropped, possibly in the middle of a frame: bytes that follow cannot be read.
        CloseReason::Memory => Step { drops_queue: true, to: Phase::Linger, ..counted },
        CloseReason::Protocol
        | CloseReason::Utf8
        | CloseReason::Deflate
        | CloseReason::TooBig
        | CloseReason::Full => Step { to: Phase::Linger, ..counted },
        // What follows can be read, but Phoenix ends its side at once as well.
        CloseReason::Malformed => Step { to: Phase::Linger, ..counted },
        CloseReason::Token | CloseReason::Server => counted,
        // The peer ended the connection, so this side does not close it.
        CloseReason::Peer | CloseReason::Lost => counted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn causes() -> Vec<Cause> {
        let mut causes = vec![
            Cause::Upgraded,
            Cause::Asked,
            Cause::Answered,
            Cause::Lost,
            Cause::Unfit(RefuseReason::Tls),
            Cause::PeerClosed,
            Cause::Sent,
            Cause::TimedOut,
            Cause::ShutDown,
            Cause::GivenUp,
        ];
        causes.extend(CloseReason::ALL.iter().map(|reason| Cause::Close(*reason)));
        causes.extend(CloseReason::ALL.iter().map(|reason| Cause::Broken(*reason)));
        causes
    }

    fn steps() -> impl Iterator<Item = (Phase, Cause, Step)> {
        Phase::ALL
            .into_iter()
            .flat_map(|phase| causes().into_iter().map(move |cause| (phase, cause)))
            .filter_map(|(phase, cause)| Some((phase, cause, step(phase, cause)?)))
    }

    #[test]
    fn a_phase_is_the_one_of_its_number() {
        assert!(Phase::ALL.iter().enumerate().all(|(number, phase)| *phase as usize == number));
    }

    /// So each connection is counted once, whatever happens to it and in whatever order.
    #[test]
    fn what_ends_is_counted_exactly_when_it_leaves_the_handshake_or_the_open_phase() {
        for (phase, cause, step) in steps() {
            let counted = match phase {
                Phase::Handshake => step.to == Phase::Gone,
                Phase::Open => true,
                _ => false,
            };
            assert_eq!(step.count.is_some(), counted, "{phase:?} {cause:?}");
        }
    }

    #[test]
    fn no_phase_comes_back_and_each_but_the_last_ends_when_the_peer_is_lost() {
        for (phase, cause, step) in steps() {
            assert!(step.to as u8 > phase as u8, "{phase:?} {cause:?}");
        }
        for phase in Phase::ALL {
            let lost = step(phase, Cause::Lost);
            assert_eq!(lost.map(|step| step.to), (phase != Phase::Gone).then_some(Phase::Gone));
        }
        assert!(causes().into_iter().all(|cause| step(Phase::Gone, cause).is_none()));
    }

    #[test]
    fn only_who_hears_is_a_member() {
        for (phase, cause, step) in steps() {
            let leaves = step.membership == Membership::Leaves;
            assert_eq!(
                leaves,
                !(step.to.hears()
                    || matches!(phase, Phase::Handshake | Phase::Asking) && step.to != Phase::Gone
                    || phase == Phase::Linger && step.to == Phase::Drop),
                "{phase:?} {cause:?}"
            );
        }
    }
}
