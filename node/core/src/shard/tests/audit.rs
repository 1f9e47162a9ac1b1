//! What the shards say that they hold, compared with what is added up anew.

use std::collections::HashSet;

use super::harness::Sim;
use crate::{
    ledger::{CONNECTION_BYTES, Kind, MEMBER_BYTES, ROOM_BYTES},
    protocol::Vsn,
    session::{conn::Flags, id::Slot, lifecycle::Phase, origins::Standing, side::Aside, wire::Wire},
    shard::Shard,
};

impl Sim {
    /// Adds up anew what is held: the shards' ledgers must say the same.
    pub(crate) fn check_ledgers(&self) {
        self.check_origins();
        for shard in &self.shards {
            let sessions = &shard.sessions;
            let readers = |handshake: bool| -> u64 {
                let of = sessions.iter().filter(|(_, conn)| conn.is(Phase::Handshake) == handshake);
                of.map(|(_, conn)| conn.reader.held_bytes() as u64).sum()
            };
            let infos = sessions.side().iter().filter_map(Aside::connect_info);
            let channels: u64 = sessions.iter().map(|(_, conn)| conn.channels_bytes()).sum::<u64>()
                + infos.map(|info| info.held_bytes() as u64).sum::<u64>();
            let (mut windows, mut in_rooms) = (shard.timers.deadlines() as u64 * 16, 0);
            for room in shard.topics.iter() {
                windows += room.held_bytes() as u64;
                assert_eq!(room.holds(), room.window_millis() > 0 || room.held() > 0);
                for wire in Vsn::ALL.into_iter().flat_map(|vsn| [Wire::plain(vsn), Wire::deflated(vsn)]) {
                    let hears = |slot: &&Slot| sessions[**slot].listens() == Some(wire);
                    assert_eq!(room.listeners(wire) as usize, room.members().iter().filter(hears).count());
                }
                in_rooms += ROOM_BYTES + room.members().len() as u64 * MEMBER_BYTES;
            }
            let held = shard.held_by_kind();
            let of = |kind: Kind| held[kind as usize];
            assert_eq!((of(Kind::Heads), of(Kind::Input)), (readers(true), readers(false)));
            assert_eq!((of(Kind::Channels), of(Kind::Windows)), (channels, windows));
            assert_eq!(of(Kind::Rooms), in_rooms);
            let polls = shard.polls.held_bytes();
            assert_eq!(shard.polls.carried(), shard.polls.counted_anew());
            assert_eq!(
                of(Kind::Connections),
                sessions.len() as u64 * CONNECTION_BYTES + polls + sessions.origins().held_bytes()
            );
            assert_eq!(of(Kind::Identities), sessions.identities().added_up());
            let inflater = shard.inflater.as_ref().map_or(0, |inflater| inflater.held_bytes());
            let compression = shard.egress.deflater_bytes() + inflater;
            assert_eq!(of(Kind::Compression), compression as u64);
            let outbox = shard.egress.outbox();
            let shares: usize = sessions.iter().map(|(_, conn)| outbox.share_bytes(&conn.queue)).sum();
            let queues = of(Kind::Queues);
            // A block of which one place is used counts in whole, and a share is rounded down.
            let blocks = 32 * sessions.len() as u64;
            let used = queues - outbox.slack_bytes() as u64;
            assert!(used <= shares as u64 + blocks + shares as u64 / 4, "{used} {shares}");
            assert!(shares as u64 <= queues + blocks, "{queues} {shares}");
            let blocked = sessions.iter().filter(|(_, conn)| conn.flags.has(Flags::BLOCKED)).count();
            let aside = sessions.side().iter().filter(|aside| aside.blocked_since.is_some()).count();
            assert_eq!(aside, blocked);
        }
    }

    /// Client addresses are counted as the connections say.
    fn check_origins(&self) {
        let of_shard = |shard: &Shard| -> Vec<_> {
            shard
                .sessions
                .origins()
                .iter()
                .map(|(slot, standing)| (shard.options.index, slot, standing))
                .collect()
        };
        let origins: Vec<_> = self.shards.iter().flat_map(of_shard).collect();
        let counted = origins.iter().filter_map(|(_, _, standing)| match standing {
            Standing::Counted(address) => Some(format!("{address:?}")),
            _ => None,
        });
        let addresses: HashSet<_> = counted.collect();
        assert_eq!(self.shards[0].options.addresses.len() as usize, addresses.len());
        for (shard, slot, _) in origins {
            assert!(self.shards[usize::from(shard)].sessions.get(slot).is_some(), "it lives");
        }
    }
}
