//! The live chat page.

/// The page.
pub const PAGE: &[u8] = b"";
