//! What a client says about itself when it opens a connection, by a handshake or by its first poll.

use super::{
    ConnectInfo, bearer,
    headers::values,
    query::{Parameters, Value},
};
use crate::{auth::Token, config::Auth, counters::RefuseReason, protocol::Vsn};

/// A connection that a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Opening {
    /// Its serializer.
    pub vsn: Vsn,
    /// What the client says about itself, where dev mode asks for it and there is anything.
    pub info: Option<Box<ConnectInfo>>,
    /// The token that came with it, not verified. It is only looked for where an issuer of tokens is declared.
    pub token: Option<Token>,
}

impl Parameters<'_> {
    /// The serializer that the client chose; V1 when it says nothing, as in Phoenix.
    ///
    /// # Errors
    /// When there is no such serializer, or when the client asks dev mode to refuse it.
    pub(crate) fn serializer(&self, dev: bool) -> Result<Vsn, RefuseReason> {
        let vsn = match &self.vsn {
            None => Vsn::V1,
            Some(Value::Text(vsn)) => Vsn::parse(vsn).ok_or(RefuseReason::Version)?,
            Some(Value::Nested) => return Err(RefuseReason::Version),
        };
        if dev && self.refuse { Err(RefuseReason::Asked) } else { Ok(vsn) }
    }
}

impl Opening {
    /// Reads the rest of what the client says, with `offered`, the token that phoenix.js has in a place of its own, and
    /// `param`, the value of the parameter for tokens.
    ///
    /// # Errors
    /// When what stands in the place of a token cannot be one.
    pub(crate) fn read(
        vsn: Vsn,
        offered: Option<String>,
        user_id: Option<Value<'_>>,
        (headers, param): (&[httparse::Header<'_>], Option<Value<'_>>),
        (auth, dev): (&Auth, bool),
    ) -> Result<Self, RefuseReason> {
        let token = if auth.jwt.is_empty() {
            None
        } else {
            bearer::find(offered.as_deref(), values(headers, "authorization"), param)?
        };
        let info =
            dev.then(|| ConnectInfo { user_id: user_id.and_then(Value::into_text), auth_token: offered });
        Ok(Self { vsn, info: info.filter(|info| *info != ConnectInfo::default()).map(Box::new), token })
    }
}
