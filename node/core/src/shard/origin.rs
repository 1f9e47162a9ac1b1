//! Where connections come from: the address of a client, also behind proxies, and the limits that count by address. The rate
//! at which the node takes connections is here as well, because it is looked at at the same moment.
//!
//! Addresses are only looked at while something depends on them. A client that connects directly is counted from its
//! first byte on. A client behind a proxy is counted when it becomes a WebSocket or a session of long-poll: until then
//! the socket is the proxy's, which may use it for several clients.

use std::{net::IpAddr, sync::Arc};

use super::{event::Accepted, state::Shard};
use crate::{
    addresses::{ClientAddress, Deed, Place},
    auth::Identity,
    counters::{JoinRefusal, Limit, RefuseReason},
    proxy::forwarded::Search,
    session::{id::Slot, lifecycle::Cause, origins::Standing},
};

impl Shard {
    /// Whether the thread has to tell the peer's address of each socket, by [`Shard::accept_from`].
    #[must_use]
    pub fn asks_for_peers(&self) -> bool {
        let limits = &self.config.limits;
        self.config.proxies.protocol || limits.handshakes_per_second > 0 || limits.count_addresses()
    }

    /// A socket of this peer was accepted. `None` when it is to be dropped at once.
    pub fn accept_from(&mut self, peer: IpAddr) -> Option<Accepted> {
        let peer = peer.to_canonical();
        let awaits_header = self.config.proxies.protocol;
        let stands = match awaits_header {
            true if !self.trusted.contain(peer) => Err(RefuseReason::ProxyHeader),
            _ if self.charge_node().is_err() => Err(RefuseReason::Rate),
            true => Ok(Some(Standing::Awaited(peer))),
            false => self.stand(peer),
        };
        if let Err(reason) = stands
            && (reason == RefuseReason::ProxyHeader || !self.sessions.origins().may_refuse())
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
        Some(Accepted { id, awaits_header: awaits_header && stands.is_ok() })
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

    /// Charges the node for one more socket.
    fn charge_node(&mut self) -> Result<(), u64> {
        let rate = self.config.limits.handshakes_per_second;
        if rate > 0 && self.options.addresses.charge_node(self.now_millis, rate)? {
            self.counters.count_near(Limit::Handshakes);
        }
        Ok(())
    }

    /// How a socket from this address stands, if that matters.
    fn stand(&mut self, address: IpAddr) -> Result<Option<Standing>, RefuseReason> {
        if !self.config.limits.count_addresses() {
            Ok(None)
        } else if self.trusted.contain(address) {
            Ok(Some(Standing::Proxied { peer: address, client: address }))
        } else {
            self.claim_address(ClientAddress::of(address)).map(Some)
        }
    }

    /// Takes one of the places of an address, which connects once more by that.
    fn claim_address(&mut self, address: ClientAddress) -> Result<Standing, RefuseReason> {
        let limits = &self.config.limits;
        if !limits.count_addresses() {
            return Ok(Standing::Uncounted);
        }
        let (rate, most) = (limits.handshakes_per_second_per_address, limits.max_connections_per_address);
        let addresses = &self.options.addresses;
        if rate > 0 {
            match addresses.charge(address, Deed::Handshake, self.now_millis, rate) {
                Ok(true) => self.counters.count_near(Limit::AddressHandshakes),
                Ok(false) => {}
                Err(_) => return Err(RefuseReason::AddressRate),
            }
        }
        match addresses.claim(address, if most == 0 { u32::MAX } else { most }) {
            Place::Counted { near } => {
                if near {
                    self.counters.count_near(Limit::AddressConnections);
                }
                Ok(Standing::Counted(address))
            }
            Place::Uncounted => Ok(Standing::Uncounted),
            Place::None => Err(RefuseReason::AddressFull),
        }
    }

    /// Takes a place of its address for the client of a request that came on this connection. None when the connection
    /// that the client gets has one already, or needs none.
    pub(super) fn claim_for(
        &mut self,
        slot: Slot,
        entrance: Entrance,
    ) -> Result<Option<Standing>, RefuseReason> {
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

    /// Charges a connection, and its address, for a join.
    ///
    /// # Errors
    /// When it may not join now, with the milliseconds until it may.
    #[inline]
    pub(super) fn charge_join(&mut self, slot: Slot) -> Result<(), (JoinRefusal, u64)> {
        let limits = &self.config.limits;
        if limits.joins_per_second == 0 && limits.joins_per_second_per_address == 0 {
            return Ok(());
        }
        self.charge_join_at_rates(slot)
    }

    #[cold]
    fn charge_join_at_rates(&mut self, slot: Slot) -> Result<(), (JoinRefusal, u64)> {
        let limits = &self.config.limits;
        let (rate, of_address) = (limits.joins_per_second, limits.joins_per_second_per_address);
        if rate > 0 {
            let charged = self.sessions.charge_join(slot, self.now_millis, rate);
            if charged.map_err(|millis| (JoinRefusal::Rate, millis))? {
                self.counters.count_near(Limit::Joins);
            }
        }
        if of_address > 0
            && let Some(Standing::Counted(address)) = self.sessions.origins().get(slot)
        {
            let charged = self.options.addresses.charge(address, Deed::Join, self.now_millis, of_address);
            if charged.map_err(|millis| (JoinRefusal::AddressRate, millis))? {
                self.counters.count_near(Limit::AddressJoins);
            }
        }
        Ok(())
    }

    /// How the client of a request is found, where a proxy has sent it: it is the one that the proxy names.
    #[inline]
    pub(super) fn search_client(&self, slot: Slot) -> Option<Search<'_>> {
        if self.sessions.origins().is_empty() { None } else { self.search_client_of_proxy(slot) }
    }

    #[cold]
    fn search_client_of_proxy(&self, slot: Slot) -> Option<Search<'_>> {
        let Some(Standing::Proxied { peer, .. }) = self.sessions.origins().get(slot) else { return None };
        Some(Search::new(peer, self.config.proxies.header, &self.trusted))
    }

    /// A proxy's request on this connection is for this client.
    #[cold]
    pub(super) fn note_client(&mut self, slot: Slot, client: IpAddr) {
        if let Some(Standing::Proxied { peer, .. }) = self.sessions.origins().get(slot) {
            self.sessions.origins_mut().set(slot, Standing::Proxied { peer, client });
        }
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
    pub(super) identity: Option<Arc<Identity>>,
    /// How it stands with the limit of its address, where that is new.
    pub(super) standing: Option<Standing>,
}
