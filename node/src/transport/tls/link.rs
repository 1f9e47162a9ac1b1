//! A connection whose handshake is done: records are sealed and opened in the shard's buffers.

use std::os::fd::BorrowedFd;

use node_core::{
    egress::outbox::{Outbox, Queue},
    tls::{ALERT_BYTES, Alert, Content, End, MAX_PLAINTEXT_BYTES, OVERHEAD_BYTES, Session},
};

use super::{
    super::{Taken, Written, plain},
    unsent::{Sending, Unsent},
};

/// A record that has not come whole within so many milliseconds ends its connection: the longest takes a second at
/// 16 kB/s, and a peer that sends byte by byte would keep its memory here for ever.
const RECORD_MILLIS: u64 = 30_000;

/// Most bytes read at once: more than the longest record.
const READ_BYTES: usize = 32 * 1024;

/// Memory in bytes of a connection, beside its place in the table: a [`Link`] with what the allocator rounds up.
pub(super) const LINK_BYTES: usize = 128;

/// What a connection has while a record is not complete, or not sent.
#[derive(Debug, Default)]
struct Aside {
    /// The beginning of a record.
    input: Vec<u8>,
    /// When that record began, on the clock of the shard's turns.
    since: u64,
    unsent: Unsent,
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub(super) struct Link {
    session: Session,
    aside: Option<Box<Aside>>,
    /// The peer said that it is done, or cannot be understood any more.
    input_ended: bool,
    /// This side said that it is done.
    output_ended: bool,
}

const _: () = assert!(size_of::<Link>() <= LINK_BYTES);

impl Link {
    /// The connection that goes on with a session, after the last bytes of its handshake are sent.
    pub(super) fn new(session: Session, unsent: Unsent) -> Self {
        let aside = (!unsent.is_empty()).then(|| Box::new(Aside { unsent, ..Aside::default() }));
        Self { session, aside, input_ended: false, output_ended: false }
    }

    /// Memory in bytes of the records that are not complete, and of all that the connection has.
    pub(super) fn weight(&self) -> (usize, usize) {
        let Some(aside) = &self.aside else { return (0, LINK_BYTES) };
        let input = aside.input.capacity();
        (input, LINK_BYTES + size_of::<Aside>() + input + aside.unsent.held_bytes())
    }

    /// Since when a record has not come whole.
    pub(super) fn incomplete_since(&self) -> Option<u64> {
        self.aside.as_ref().filter(|aside| !aside.input.is_empty()).map(|aside| aside.since)
    }

    /// Reads once, up to `most` bytes of the socket, and opens the records that are whole. The bytes are taken off `left`.
    pub(super) fn read(
        &mut self,
        fd: BorrowedFd<'_>,
        buffer: &mut [u8],
        most: usize,
        now: u64,
        left: &mut usize,
    ) -> Taken {
        if self.input_ended {
            return Taken::Ended;
        }
        let kept = self.aside.as_ref().map_or(0, |aside| aside.input.len());
        let room = most.min(READ_BYTES).min(buffer.len() - kept);
        match plain::read(fd, &mut buffer[kept..kept + room]) {
            Taken::Bytes(count) => {
                *left = left.saturating_sub(count);
                if let Some(aside) = &self.aside {
                    buffer[..kept].copy_from_slice(&aside.input);
                }
                self.take(fd, &mut buffer[..kept + count], count == room, now)
            }
            other => other,
        }
    }

    /// Opens the records at the beginning of `bytes`, where their data is put, and keeps the beginning of another one.
    /// `full` says that the socket may have more.
    pub(super) fn take(&mut self, fd: BorrowedFd<'_>, bytes: &mut [u8], full: bool, now: u64) -> Taken {
        let opened = self.session.open(bytes);
        match opened.end {
            Some(End::Broken(alert)) => self.say_end(fd, alert),
            Some(End::Closed) => self.input_ended = true,
            None => self.keep(&bytes[opened.used..], opened.used == 0, now),
        }
        match opened.data {
            0 if self.input_ended => Taken::Ended,
            0 => Taken::Again,
            data if full || self.input_ended => Taken::Part(data),
            data => Taken::Bytes(data),
        }
    }

    /// Keeps the beginning of a record, which is the one that was kept when `goes_on` says so.
    fn keep(&mut self, bytes: &[u8], goes_on: bool, now: u64) {
        if bytes.is_empty() {
            if let Some(aside) = &mut self.aside {
                aside.input = Vec::new();
            }
            return self.tidy();
        }
        let aside = self.aside.get_or_insert_default();
        if aside.input.is_empty() || !goes_on {
            aside.since = now;
        }
        self.input_ended = now.saturating_sub(aside.since) > RECORD_MILLIS;
        aside.input = bytes.to_vec();
    }

    /// Drops a record that is not complete; nothing is read after it.
    pub(super) fn forget_input(&mut self) {
        self.input_ended = true;
        if let Some(aside) = &mut self.aside {
            aside.input = Vec::new();
        }
        self.tidy();
    }

    fn tidy(&mut self) {
        self.aside.take_if(|aside| aside.input.is_empty() && aside.unsent.is_empty());
    }

    /// Goes on sending what the socket did not take. `None`: there was nothing.
    pub(super) fn send_unsent(&mut self, fd: BorrowedFd<'_>) -> Option<Sending> {
        let sending = self.aside.as_mut().filter(|aside| !aside.unsent.is_empty())?.unsent.send(fd);
        self.tidy();
        Some(sending)
    }

    fn unsent(&self) -> usize {
        self.aside.as_ref().map_or(0, |aside| aside.unsent.len())
    }

    /// Seals up to one record of what is queued, and sends it. `scratch` has room for a record.
    pub(super) fn write(
        &mut self,
        fd: BorrowedFd<'_>,
        outbox: &Outbox,
        queue: &Queue,
        scratch: &mut [u8],
    ) -> Written {
        if self.output_ended {
            return Written::Failed;
        }
        match self.send_unsent(fd) {
            None | Some(Sending::Done) => {}
            Some(Sending::Blocked) => return Written::Kept { taken: 0, unsent: self.unsent() },
            Some(Sending::Failed) => return Written::Failed,
        }
        let head = self.session.head_bytes();
        let taken = outbox.copy_some(queue, &mut scratch[head..head + MAX_PLAINTEXT_BYTES]);
        let Ok(length) = self.session.seal(Content::Data, scratch, taken) else { return Written::Failed };
        match plain::send_once(fd, &scratch[..length]) {
            Ok(sent) if sent == length => Written::Sent { taken, offered: taken },
            Ok(sent) => {
                self.aside.get_or_insert_default().unsent = Unsent::of(&scratch[sent..length]);
                Written::Kept { taken, unsent: length - sent }
            }
            Err(_) => Written::Failed,
        }
    }

    /// Whether the key of this side was used so often by now that the connection should end. True once.
    pub(super) const fn is_worn(&self) -> bool {
        self.session.is_worn()
    }

    /// Says that this side is done, as far as the socket takes it at once: nothing waits for it.
    pub(super) fn say_close(&mut self, fd: BorrowedFd<'_>) {
        self.say(fd, Alert::CloseNotify);
    }

    fn say_end(&mut self, fd: BorrowedFd<'_>, alert: Alert) {
        self.say(fd, alert);
        self.input_ended = true;
    }

    /// An alert behind half a record would be read as a part of that record.
    fn say(&mut self, fd: BorrowedFd<'_>, alert: Alert) {
        if !self.output_ended
            && self.unsent() == 0
            && let Ok(record) = self.session.alert(alert, &mut [0; ALERT_BYTES])
        {
            // It fails when the peer is gone, which reading will show.
            plain::send_once(fd, record).ok();
        }
        self.output_ended = true;
    }

    /// Sends some last bytes, if the socket takes them at once, and ends the output.
    pub(super) fn say_last(&mut self, fd: BorrowedFd<'_>, bytes: &[u8]) {
        let (mut record, head) = (vec![0; bytes.len() + OVERHEAD_BYTES], self.session.head_bytes());
        record[head..head + bytes.len()].copy_from_slice(bytes);
        if !self.output_ended
            && self.unsent() == 0
            && let Ok(length) = self.session.seal(Content::Data, &mut record, bytes.len())
            && plain::send_once(fd, &record[..length]).is_ok_and(|sent| sent == length)
        {
            self.say_close(fd);
        }
        self.output_ended = true;
        plain::end_output(fd);
    }
}
