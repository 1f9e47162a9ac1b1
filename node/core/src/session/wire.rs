//! The forms in which broadcasts go to connections.

use crate::protocol::Vsn;

/// The form in which a connection gets broadcasts. A shard makes each of them once for all connections that have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wire {
    /// The serializer version.
    pub(crate) vsn: Vsn,
    /// Whether messages may be compressed (permessage-deflate).
    pub(crate) deflate: bool,
}

impl Wire {
    /// How many there are.
    pub(crate) const COUNT: usize = 2 * Vsn::ALL.len();

    /// A serializer's form without compression.
    pub(crate) const fn plain(vsn: Vsn) -> Self {
        Self { vsn, deflate: false }
    }

    /// A serializer's form with compression.
    pub(crate) const fn deflated(vsn: Vsn) -> Self {
        Self { vsn, deflate: true }
    }

    /// A number below [`Wire::COUNT`].
    pub(crate) const fn index(self) -> usize {
        self.vsn.index() + if self.deflate { Vsn::ALL.len() } else { 0 }
    }
}
