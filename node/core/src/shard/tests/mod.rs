//! The state machine driven without sockets: protocol rules, limits and time.

#[cfg(test)]
mod admission;
mod audit;
#[cfg(test)]
mod backend;
#[cfg(test)]
mod channel;
pub(crate) mod chaos;
#[cfg(test)]
mod deflate;
#[cfg(test)]
mod dev;
#[cfg(test)]
mod expiry;
#[cfg(test)]
mod fleet;
mod frames;
#[cfg(test)]
mod goodbye;
pub(crate) mod harness;
#[cfg(test)]
mod incomplete;
#[cfg(test)]
mod kept;
#[cfg(test)]
mod late;
#[cfg(test)]
mod lengths;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod model;
#[cfg(test)]
mod moving;
#[cfg(test)]
mod msgpack;
mod news;
#[cfg(test)]
mod orders;
#[cfg(test)]
mod origins;
#[cfg(test)]
mod pings;
#[cfg(test)]
mod polls;
pub(crate) mod polls_chaos;
#[cfg(test)]
mod polls_nodes;
#[cfg(test)]
mod priorities;
#[cfg(test)]
mod protocol;
#[cfg(test)]
mod rates;
#[cfg(test)]
mod realtime;
#[cfg(test)]
mod rooms;
#[cfg(test)]
mod tokens;
#[cfg(test)]
mod top;
