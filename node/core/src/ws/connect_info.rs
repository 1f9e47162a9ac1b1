//! What a client says about itself when it connects.

use std::fmt;

/// The user and the token that a client names in its handshake. Nobody has verified either.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ConnectInfo {
    /// The parameter `user_id`.
    pub user_id: Option<String>,
    /// The token that came among the subprotocols.
    pub auth_token: Option<String>,
}

impl ConnectInfo {
    /// Memory in bytes.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let heap = |text: &Option<String>| text.as_ref().map_or(0, String::capacity);
        size_of::<Self>() + heap(&self.user_id) + heap(&self.auth_token)
    }
}

/// Without the values, which are the client's and may be secret.
impl fmt::Debug for ConnectInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectInfo")
            .field("user_id", &self.user_id.is_some())
            .field("auth_token", &self.auth_token.is_some())
            .finish()
    }
}
