//! Tokens of clients: JSON Web Tokens (RFC 7519) in the compact form of RFC 7515, signed by the issuers that the
//! configuration declares.
//!
//! The files from below to above: `algorithm` and `token` are names, `rights` says which topics a token allows,
//! `settings` is what the configuration says of an issuer, `endpoint` and `refresh` are where and when keys are fetched,
//! `keyring` reads them, `verify` makes an [`Identity`] of a token, and `verified` remembers it. Time comes in as an argument. Signatures are verified by AWS-LC; what is around them is read here, so
//! that each bound and each refusal is this project's own: a key is bound to the algorithms that it was read for, and
//! the header of a token only chooses among them.

mod algorithm;
mod endpoint;
mod identity;
mod keyring;
mod priority;
mod refresh;
mod rights;
mod settings;
#[cfg(test)]
pub(crate) mod tests;
mod token;
mod verified;
mod verify;

pub use algorithm::Algorithm;
pub use endpoint::Endpoint;
pub use identity::Identity;
pub use keyring::{Issuer, Keyring};
pub use priority::Priority;
pub use refresh::{Freshness, LEAST_REFRESH_MILLIS, Outcome, Schedule, fresh_seconds};
pub use rights::Template;
pub use settings::{Jwks, Jwt, USER_CLAIM};
pub use token::Token;
pub use verify::{Refusal, Verification};
