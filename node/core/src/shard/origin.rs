//! Where connections come from: the address of a client, also behind proxies, and the limit of connections per address.
//!
//! Addresses are only looked at while something depends on them. A client that connects directly is counted from its
//! first byte on. A client behind a proxy is counted when it becomes a WebSocket or a session of long-poll: until then
//! the socket is the proxy's, which may use it for several clients.

use std::net::IpAddr;

use super::{event::Accepted, state::Shard};
use crate::{
    addresses::{ClientAddress, Place},
    auth::Identity,
    counters::RefuseReason,
    limits::MAX_HEADERS,
    proxy::forwarded,
    session::{id::Slot, lifecycle::Cause, origins::Standing},
    ws::headers::values,
};

impl Shard {
    /// Whether the thread has to tell the peer's address of each socket, by [`Shard::accept_from`].
    #[must_use]
    pub fn asks_for_peers(&self) -> bool {
        self.config.proxies.protocol || self.counts_addresses()
    }

    fn counts_addresses(&self) -> bool {
        self.config.limits.max_connections_per_address > 0
    }

    /// A socket of this peer was accepted. `None` when it is to be dropped at once.
    pub fn accept_from(&mut self, peer: IpAddr) -> Option<Accepted> {
        let peer = peer.to_canonical();
        let awaits_header = self.config.proxies.protocol;
        let stands = match awaits_header {
            false => self.stand(peer),
            true if self.trusted.contain(peer) => Ok(Some(Standing::Awaited(peer))),
            true => Err(RefuseReason::ProxyHeader),
        };
        if let Err(reason) = stands
            && (awaits_header || !self.sessions.origins().may_refuse())
        {
            self.counters.accepted += 1;
            self.counters.count_refused(reason);
            return None;
        }
        let Some(id) = self.accept() else {
            if let Ok(Some(Standing::Counted(address))) = stands {
                self.options.addresses.release(address);
            }
            return None;
        };
        self.settle_origin(id.slot(), stands);
        Some(Accepted { id, awaits_header })
    }

    /// The header of the PROXY protocol was read. Without a client the proxy speaks for itself.
    pub(super) fn on_introduced(&mut self, slot: Slot, client: Option<IpAddr>) {
        let Some(Standing::Awaited(peer)) = self.sessions.origins_mut().forget(slot) else { return };
        match self.stand(client.unwrap_or(peer)) {
            Err(reason) if !self.sessions.origins().may_refuse() => {
                self.advance(slot, Cause::Unfit(reason));
            }
            stands => self.settle_origin(slot, stands),
        }
    }

    fn settle_origin(&mut self, slot: Slot, stands: Result<Option<Standing>, RefuseReason>) {
        match stands {
            Ok(None) => {}
            Ok(Some(standing)) => self.sessions.origins_mut().set(slot, standing),
            Err(reason) => {
                self.sessions.origins_mut().set(slot, Standing::Refused);
                self.refuse(slot, reason);
            }
        }
    }

    /// How a socket from this address stands, if that matters.
    fn stand(&self, address: IpAddr) -> Result<Option<Standing>, RefuseReason> {
        if !self.counts_addresses() {
            Ok(None)
        } else if self.trusted.contain(address) {
            Ok(Some(Standing::Proxied { peer: address, client: address }))
        } else {
            self.claim_address(ClientAddress::of(address)).map(Some)
        }
    }

    fn claim_address(&self, address: ClientAddress) -> Result<Standing, RefuseReason> {
        if !self.counts_addresses() {
            return Ok(Standing::Uncounted);
        }
        match self.options.addresses.claim(address, self.config.limits.max_connections_per_address) {
            Place::Counted => Ok(Standing::Counted(address)),
            Place::Uncounted => Ok(Standing::Uncounted),
            Place::None => Err(RefuseReason::AddressFull),
        }
    }

    /// Takes a place of its address for the client of a request that came on this connection. None when the connection
    /// that the client gets has one already, or needs none.
    pub(super) fn claim_for(&self, slot: Slot, entrance: Entrance) -> Result<Option<Standing>, RefuseReason> {
        if self.sessions.origins().is_empty() {
            return Ok(None);
        }
        match (self.sessions.origins().get(slot), entrance) {
            (Some(Standing::Proxied { client, .. }), _) => {
                self.claim_address(ClientAddress::of(client)).map(Some)
            }
            (Some(Standing::Counted(address)), Entrance::Session) => self.claim_address(address).map(Some),
            _ => Ok(None),
        }
    }

    /// A request came, whose head is at the start of `bytes`: where a proxy sent it, the client is the one that it names.
    #[inline]
    pub(super) fn note_client(&mut self, slot: Slot, bytes: &[u8]) {
        if !self.sessions.origins().is_empty() {
            self.read_client(slot, bytes);
        }
    }

    #[cold]
    fn read_client(&mut self, slot: Slot, bytes: &[u8]) {
        let Some(Standing::Proxied { peer, .. }) = self.sessions.origins().get(slot) else { return };
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        // It was read before, and is refused when that failed.
        request.parse(bytes).ok();
        let header = self.config.proxies.header;
        let named = values(request.headers, header.name());
        let client = forwarded::client(peer, named, header, &self.trusted);
        self.sessions.origins_mut().set(slot, Standing::Proxied { peer, client });
    }

    /// Forgets where a connection came from, which gives back the place that it has.
    #[inline]
    pub(super) fn forget_origin(&mut self, slot: Slot) {
        if !self.sessions.origins().is_empty()
            && let Some(Standing::Counted(address)) = self.sessions.origins_mut().forget(slot)
        {
            self.options.addresses.release(address);
        }
    }
}

/// What a client gets that is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entrance {
    /// The connection of its request becomes a WebSocket.
    Socket,
    /// A session of long-poll, which is a connection of its own.
    Session,
}

/// A client that was let in: what is to be kept of it.
#[derive(Debug)]
pub(super) struct Entrant {
    /// Who it is, where it came with a token.
    pub(super) identity: Option<Box<Identity>>,
    /// How it stands with the limit of its address, where that is new.
    pub(super) standing: Option<Standing>,
}
