//! Whether clients are spread well.

/// Whether the load of a fleet is even over its nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// Too little is known, or nodes are on their way out.
    #[default]
    Unknown,
    /// The spec does not want to know.
    Off,
    /// It is, or the nodes are not busy enough for it to matter.
    Even,
    /// It is not: a node has more than its share.
    Uneven(String),
    /// Clients are moved.
    Moving(String),
    /// A room keeps a node busy, and moving clients does not help.
    HotRoom(String),
}
