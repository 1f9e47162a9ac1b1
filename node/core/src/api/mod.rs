//! The server API: what the backend of an application asks a fleet for, and what it is answered.
//!
//! Here are the requests with their bounds ([`request`]), the keys that backends have ([`keys`]), what the shards of a node are
//! ordered to do ([`order`]) and tell by themselves ([`news`]), the rooms that are said most ([`top`]), how one node asks the
//! others over the bus ([`call`]), and the idempotency keys that were seen ([`seen`]). The port, the bus and the clock are in
//! `node/src/api/`.

pub mod call;
pub mod keys;
pub mod news;
pub mod order;
pub mod request;
pub mod seen;
pub mod top;
