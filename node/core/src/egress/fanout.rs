//! Turns one broadcast into a reference in the queue of each member.

use super::{
    Egress,
    offer::{Offer, Run, offer},
};
use crate::{
    broadcast::Content,
    config::NodeConfig,
    counters::Counters,
    limits::BULK_MEMBERS,
    protocol::{Vsn, encode},
    session::{Sessions, conn::Flags, id::Slot, wire::Wire},
    topics::room::Room,
};

impl Egress {
    /// Queues messages to the local members of a room, in one run of bytes for each form that they hear in. Returns the members whose socket is blocked and whose queue is full: they missed the messages.
    pub(crate) fn fan_out(
        &mut self,
        (room, sessions): (&Room, &mut Sessions),
        contents: &[Content<'_>],
        except: Option<Slot>,
        config: &NodeConfig,
        counters: &mut Counters,
        now_millis: u64,
    ) -> Vec<Slot> {
        let mut runs = self.runs(room, contents, config, counters);
        let Self { outbox, dirty, bulk, .. } = self;
        let members = room.members();
        let (list, flag) =
            if members.len() > BULK_MEMBERS { (bulk, Flags::BULK) } else { (dirty, Flags::DIRTY) };
        let (mut full, mut pressing, mut waits) = (Vec::new(), Vec::new(), 0);
        for &member in members {
            if Some(member) == except {
                continue;
            }
            let conn = &mut sessions[member];
            let run = if conn.is_plain_listener() {
                &mut runs[Wire::plain(Vsn::V2).index()]
            } else if let Some(wire) = conn.listens() {
                &mut runs[wire.index()]
            } else {
                continue;
            };
            let Some(run) = run else { continue };
            run.offered += 1;
            if run.frames == 0 {
                continue;
            }
            match offer(outbox, conn, run, &config.limits) {
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
        if queued > waits + pressing.len() as u64 {
            list.note_broadcasts(contents.len() as u64, now_millis);
        }
        self.backlog += queued - waits;
        for member in pressing {
            self.press(member, &mut sessions[member]);
        }
        full
    }

    /// Makes the runs of all forms that the members of a room hear in.
    #[inline]
    fn runs(
        &mut self,
        room: &Room,
        contents: &[Content<'_>],
        config: &NodeConfig,
        counters: &mut Counters,
    ) -> [Option<Run>; Wire::COUNT] {
        let mut runs = [const { None }; Wire::COUNT];
        for vsn in Vsn::ALL {
            let (plain, deflated) = (Wire::plain(vsn), Wire::deflated(vsn));
            let [has_plain, has_deflated] = [plain, deflated].map(|wire| room.listeners(wire) > 0);
            if !has_plain && !has_deflated {
                continue;
            }
            let (run, frames) = encode::broadcasts(vsn, contents);
            if has_deflated {
                let smaller = match config.compression {
                    Some(compression) => self.deflater.run(&run, compression, counters),
                    None => run.clone(),
                };
                runs[deflated.index()] = Some(Run::new(&mut self.outbox, smaller, frames));
            }
            if has_plain {
                runs[plain.index()] = Some(Run::new(&mut self.outbox, run, frames));
            }
        }
        runs
    }
}
