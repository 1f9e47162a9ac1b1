//! Turns one broadcast into a reference in the queue of each member.

use super::{
    Egress,
    offer::{Offer, Run, offer},
};
use crate::{
    broadcast::Content,
    config::Limits,
    counters::Counters,
    limits::BULK_MEMBERS,
    protocol::Vsn,
    session::{Sessions, conn::Flags, id::Slot},
    topics::room::Room,
};

impl Egress {
    /// Queues messages to the local members of a room, in one run of bytes for each serializer version that they hear
    /// in. Returns the members whose socket is blocked and whose queue is full: they missed the messages.
    pub(crate) fn fan_out(
        &mut self,
        (room, sessions): (&Room, &mut Sessions),
        contents: &[Content<'_>],
        except: Option<Slot>,
        limits: &Limits,
        counters: &mut Counters,
    ) -> Vec<Slot> {
        let Self { outbox, dirty, bulk, .. } = self;
        let members = room.members();
        let (list, flag) =
            if members.len() > BULK_MEMBERS { (bulk, Flags::BULK) } else { (dirty, Flags::DIRTY) };
        let mut runs =
            Vsn::ALL.map(|vsn| (room.listeners(vsn) > 0).then(|| Run::encode(outbox, vsn, contents)));
        let (mut full, mut pressing, mut waits) = (Vec::new(), Vec::new(), 0);
        for &member in members {
            if Some(member) == except {
                continue;
            }
            let conn = &mut sessions[member];
            let run = if conn.is_plain_listener() {
                &mut runs[Vsn::V2.index()]
            } else if let Some(vsn) = conn.listens() {
                &mut runs[vsn.index()]
            } else {
                continue;
            };
            let Some(run) = run else { continue };
            run.offered += 1;
            if run.frames == 0 {
                continue;
            }
            match offer(outbox, conn, run, limits) {
                Offer::Queued => {
                    if !conn.flags.has(flag) {
                        conn.flags.set(flag);
                        list.push(member);
                    }
                }
                Offer::Pressing => pressing.push(member),
                Offer::Waits => waits += 1,
                Offer::Full => full.push(member),
            }
        }
        let mut queued = 0;
        for run in runs.iter().flatten() {
            queued += u64::from(run.links);
            counters.writes += run.end(outbox);
            counters.unencodable_writes += run.offered * (contents.len() as u64 - run.frames);
        }
        self.backlog += queued - waits;
        for member in pressing {
            self.press(member, &mut sessions[member]);
        }
        full
    }
}
