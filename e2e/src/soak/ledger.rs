//! The record of a soak: which client was in which room on which node at which time, each message, and its receivers.

use std::collections::{BTreeMap, BTreeSet};

use super::Millis;

/// When a message is said so close to the beginning or the end of a stay, in milliseconds, it may be missed without a
/// fault: it was under way while the client came or went. This also covers clocks and busy machines.
pub const MARGIN: Millis = 1_000;
/// Most clients of a room: one bit each.
pub const ROOM: usize = 64;

/// A client's stay in its room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stay {
    /// The node, once it is known.
    pub node: Option<String>,
    /// When the join was answered.
    pub from: Millis,
    /// When the connection ended, and with which code.
    pub end: Option<(Millis, u16)>,
}

impl Stay {
    /// Whether the client was certainly there at a time.
    fn covers(&self, at: Millis) -> bool {
        self.from + MARGIN <= at && self.end.is_none_or(|(end, _)| at + MARGIN <= end)
    }
}

/// A message on its way.
#[derive(Debug, Clone)]
struct Said {
    at: Millis,
    /// Number of the publisher's stay.
    stay: usize,
    /// False when it turned out that there was no connection.
    sent: bool,
    /// Whether each client heard it: bits by place in the room.
    heard: u64,
}

/// A message that a client in the room did not hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Miss {
    /// Client that said it.
    pub publisher: usize,
    /// Its number among the publisher's messages.
    pub number: usize,
    /// When it was said.
    pub at: Millis,
    /// Client that did not hear it.
    pub receiver: usize,
    /// Where the publisher was.
    pub from_node: Option<String>,
    /// Where the receiver was.
    pub to_node: Option<String>,
    /// How the publisher's connection ended later, if it did.
    pub publisher_end: Option<(Millis, u16)>,
}

/// A message that came after a later one of the same publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disorder {
    /// The client that said it.
    pub publisher: usize,
    /// The number of the message that came late.
    pub number: usize,
    /// The number of the later message that had come before it.
    pub after: usize,
    /// The client that heard them in this order.
    pub receiver: usize,
    /// When the late message was said.
    pub at: Millis,
    /// Whether the publisher said both over one connection.
    pub one_connection: bool,
    /// Where the publisher was when it said the late message.
    pub from_node: Option<String>,
    /// Where the receiver was.
    pub to_node: Option<String>,
}

/// Everything that the clients did and heard.
#[derive(Debug)]
pub struct Ledger {
    rooms: usize,
    stays: Vec<Vec<Stay>>,
    /// What each client does on its way into its room, for the one that does not arrive.
    steps: Vec<&'static str>,
    said: Vec<Vec<Said>>,
    /// The last number heard, by receiver and publisher.
    last: Vec<BTreeMap<usize, usize>>,
    /// Messages that came to a client.
    pub deliveries: u64,
    /// Messages that came to one client a second time: publisher, number, receiver.
    pub duplicates: Vec<(usize, usize, usize)>,
    /// Messages that were overtaken.
    pub disorders: Vec<Disorder>,
    /// Time from an end of a connection to the next join, by client.
    pub aways: Vec<(usize, Millis)>,
    /// Longest time from when a message was said until it was heard.
    pub latest: Millis,
}

impl Ledger {
    /// A ledger for `clients` in as few rooms as possible, of at most `room_size`.
    #[must_use]
    pub fn new(clients: usize, room_size: usize) -> Self {
        Self {
            rooms: clients.div_ceil(room_size.clamp(1, ROOM)).max(1),
            stays: vec![Vec::new(); clients],
            steps: vec!["does not run yet"; clients],
            said: vec![Vec::new(); clients],
            last: vec![BTreeMap::new(); clients],
            deliveries: 0,
            duplicates: Vec::new(),
            disorders: Vec::new(),
            aways: Vec::new(),
            latest: 0,
        }
    }

    /// How many clients there are.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.stays.len()
    }

    /// Room of a client.
    #[must_use]
    pub fn room(&self, client: usize) -> usize {
        client % self.rooms
    }

    /// Records that a client's join was answered.
    pub fn joined(&mut self, client: usize, node: Option<&str>, at: Millis) {
        if let Some((end, _)) = self.stays[client].last().and_then(|stay| stay.end) {
            self.aways.push((client, at.saturating_sub(end)));
        }
        self.ended(client, 0, at);
        self.stays[client].push(Stay { node: node.map(str::to_owned), from: at, end: None });
    }

    /// Records the node of a client's connection, when it becomes known.
    pub fn on_node(&mut self, client: usize, node: &str) {
        if let Some(stay) = self.open(client) {
            stay.node = Some(node.to_owned());
        }
    }

    /// Records that a client's connection ended.
    pub fn ended(&mut self, client: usize, code: u16, at: Millis) {
        if let Some(stay) = self.open(client) {
            stay.end = Some((at, code));
        }
    }

    fn open(&mut self, client: usize) -> Option<&mut Stay> {
        self.stays[client].last_mut().filter(|stay| stay.end.is_none())
    }

    /// Records what a client does next on its way into its room.
    pub fn step(&mut self, client: usize, step: &'static str) {
        self.steps[client] = step;
    }

    /// The clients that are not in their rooms, with what each does.
    #[must_use]
    pub fn away(&self) -> Vec<(usize, &'static str)> {
        self.steps.iter().copied().enumerate().filter(|(client, _)| !self.is_there(*client)).collect()
    }

    /// Whether a client is in its room.
    #[must_use]
    pub fn is_there(&self, client: usize) -> bool {
        self.stays[client].last().is_some_and(|stay| stay.end.is_none())
    }

    /// Nodes that clients are on now, as far as they are known.
    #[must_use]
    pub fn nodes(&self) -> BTreeSet<&str> {
        let open = self.stays.iter().filter_map(|stays| stays.last().filter(|stay| stay.end.is_none()));
        open.filter_map(|stay| stay.node.as_deref()).collect()
    }

    /// Node that a client is on now, if it is known.
    #[must_use]
    pub fn node(&self, client: usize) -> Option<&str> {
        self.stays[client].last().filter(|stay| stay.end.is_none())?.node.as_deref()
    }

    /// How long the client that has been away longest has been away; none when all are there.
    #[must_use]
    pub fn longest_away(&self, now: Millis) -> Option<(usize, Millis)> {
        let away = |(client, stays): (usize, &Vec<Stay>)| {
            let (end, _) = stays.last()?.end?;
            Some((client, now.saturating_sub(end)))
        };
        self.stays.iter().enumerate().filter_map(away).max_by_key(|(_, away)| *away)
    }

    /// Records that a client is about to say something, and gives the number of the message. None while it is not in
    /// its room.
    pub fn says(&mut self, client: usize, at: Millis) -> Option<usize> {
        if !self.is_there(client) {
            return None;
        }
        let stay = self.stays[client].len() - 1;
        self.said[client].push(Said { at, stay, sent: true, heard: 0 });
        Some(self.said[client].len() - 1)
    }

    /// Records that the message could not be sent: there was no connection.
    pub fn unsaid(&mut self, client: usize, number: usize) {
        self.said[client][number].sent = false;
    }

    /// Records that a client heard a message.
    pub fn hears(&mut self, receiver: usize, publisher: usize, number: usize, at: Millis) {
        let bit = 1 << self.place(receiver);
        let Some(said) = self.said.get_mut(publisher).and_then(|said| said.get_mut(number)) else { return };
        self.deliveries += 1;
        self.latest = self.latest.max(at.saturating_sub(said.at));
        if said.heard & bit != 0 {
            self.duplicates.push((publisher, number, receiver));
            return;
        }
        said.heard |= bit;
        let (stay, said_at) = (said.stay, said.at);
        let last = self.last[receiver].entry(publisher).or_insert(number);
        if *last > number {
            let after = *last;
            self.disorders.push(Disorder {
                publisher,
                number,
                after,
                receiver,
                at: said_at,
                one_connection: self.said[publisher][after].stay == stay,
                from_node: self.stays[publisher][stay].node.clone(),
                to_node: self.stays[receiver].last().and_then(|stay| stay.node.clone()),
            });
        } else {
            *last = number;
        }
    }

    fn place(&self, client: usize) -> usize {
        client / self.rooms
    }

    /// All clients in the room of a client, with that client.
    fn room_mates(&self, client: usize) -> impl Iterator<Item = usize> {
        (client % self.rooms..self.clients()).step_by(self.rooms)
    }

    /// Messages from `from` to `until` that a client in the room did not hear.
    #[must_use]
    pub fn misses(&self, from: Millis, until: Millis) -> Vec<Miss> {
        let mut misses = Vec::new();
        for (publisher, all) in self.said.iter().enumerate() {
            let begin = all.partition_point(|said| said.at < from);
            for (number, said) in all.iter().enumerate().skip(begin).take_while(|(_, said)| said.at <= until)
            {
                if !said.sent {
                    continue;
                }
                let missing =
                    self.room_mates(publisher).filter(|mate| said.heard & (1 << self.place(*mate)) == 0);
                for receiver in missing {
                    let Some(stay) = self.stays[receiver].iter().find(|stay| stay.covers(said.at)) else {
                        continue;
                    };
                    let own = &self.stays[publisher][said.stay];
                    misses.push(Miss {
                        publisher,
                        number,
                        at: said.at,
                        receiver,
                        from_node: own.node.clone(),
                        to_node: stay.node.clone(),
                        publisher_end: own.end,
                    });
                }
            }
        }
        misses
    }

    /// When a client last missed a message, went or came back in that time. None when no client did.
    #[must_use]
    pub fn last_trouble(&self, from: Millis, until: Millis) -> Option<Millis> {
        let moves =
            self.stays.iter().flatten().flat_map(|stay| [Some(stay.from), stay.end.map(|(at, _)| at)]);
        let misses = self.misses(from, until).into_iter().map(|miss| miss.at);
        moves.flatten().chain(misses).filter(|at| (from..=until).contains(at)).max()
    }

    /// How many messages were said.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.said.iter().flatten().filter(|said| said.sent).count() as u64
    }

    /// Whether any message was said in that time.
    #[must_use]
    pub fn is_busy(&self, from: Millis, until: Millis) -> bool {
        self.said.iter().any(|all| {
            let begin = all.partition_point(|said| said.at < from);
            all.get(begin).is_some_and(|said| said.at <= until)
        })
    }

    /// Ends of connections: client, node, time and code.
    pub fn ends(&self) -> impl Iterator<Item = (usize, Option<&str>, Millis, u16)> {
        self.stays.iter().enumerate().flat_map(|(client, stays)| {
            stays.iter().filter_map(move |stay| {
                let (at, code) = stay.end?;
                Some((client, stay.node.as_deref(), at, code))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three clients in one room, all there from 0 on.
    fn three() -> Ledger {
        let mut ledger = Ledger::new(3, 10);
        for client in 0..3 {
            ledger.joined(client, Some(["a", "b", "c"][client]), 0);
        }
        ledger
    }

    fn say(ledger: &mut Ledger, at: Millis, to: &[usize]) -> usize {
        let number = ledger.says(0, at).expect("it is there");
        to.iter().for_each(|receiver| ledger.hears(*receiver, 0, number, at + 5));
        number
    }

    #[test]
    fn who_was_there_and_did_not_hear_is_a_miss_with_both_places() {
        let mut ledger = three();
        say(&mut ledger, 5_000, &[0, 1, 2]);
        say(&mut ledger, 6_000, &[0, 2]);
        let misses = ledger.misses(0, 10_000);
        assert_eq!(misses.len(), 1, "{misses:?}");
        let Miss { number, receiver, from_node, to_node, .. } = &misses[0];
        assert_eq!((*number, *receiver), (1, 1));
        assert_eq!((from_node.as_deref(), to_node.as_deref()), (Some("a"), Some("b")));
        assert_eq!(ledger.misses(6_001, 10_000), []);
        assert_eq!((ledger.messages(), ledger.deliveries, ledger.latest), (2, 5, 5));
    }

    #[test]
    fn who_comes_or_goes_at_that_moment_misses_nothing() {
        let mut ledger = three();
        say(&mut ledger, 500, &[0, 2]);
        ledger.ended(1, 1012, 9_000);
        say(&mut ledger, 8_500, &[0, 2]);
        say(&mut ledger, 9_500, &[0, 2]);
        ledger.joined(1, Some("c"), 10_000);
        say(&mut ledger, 10_500, &[0, 2]);
        assert_eq!(ledger.misses(0, 20_000), []);
        say(&mut ledger, 11_000, &[0, 2]);
        assert_eq!(ledger.misses(0, 20_000).len(), 1);
        assert_eq!(ledger.aways, [(1, 1_000)]);
        assert_eq!(ledger.last_trouble(0, 10_900), Some(10_000), "it came back then");
        assert_eq!(ledger.last_trouble(0, 20_000), Some(11_000), "it missed something then");
        assert_eq!(ledger.last_trouble(11_001, 20_000), None);
        assert_eq!(ledger.ends().collect::<Vec<_>>(), [(1, Some("b"), 9_000, 1012)]);
    }

    #[test]
    fn what_was_never_sent_is_not_missed_and_nothing_is_said_from_outside() {
        let mut ledger = three();
        let number = say(&mut ledger, 5_000, &[]);
        ledger.unsaid(0, number);
        assert_eq!((ledger.misses(0, 9_000), ledger.messages()), (Vec::new(), 0));
        ledger.ended(0, 1006, 6_000);
        assert_eq!(ledger.says(0, 7_000), None);
        assert_eq!(ledger.longest_away(8_000), Some((0, 2_000)));
    }

    #[test]
    fn what_comes_twice_or_late_is_told() {
        let mut ledger = three();
        let (first, second) = (say(&mut ledger, 5_000, &[0]), say(&mut ledger, 5_001, &[0, 1]));
        ledger.hears(1, 0, second, 6_000);
        ledger.hears(1, 0, first, 6_000);
        assert_eq!(ledger.duplicates, [(0, second, 1)]);
        let [disorder] = ledger.disorders.as_slice() else { panic!("{:?}", ledger.disorders) };
        assert_eq!((disorder.number, disorder.after, disorder.receiver), (first, second, 1));
        assert!(disorder.one_connection);
        ledger.ended(0, 1006, 7_000);
        ledger.joined(0, Some("b"), 7_100);
        let third = say(&mut ledger, 9_000, &[2]);
        ledger.hears(2, 0, second, 9_001);
        assert!(third > second && !ledger.disorders[1].one_connection);
    }

    #[test]
    fn rooms_share_the_clients_out() {
        let mut ledger = Ledger::new(5, 2);
        assert_eq!((0..5).map(|client| ledger.room(client)).collect::<Vec<_>>(), [0, 1, 2, 0, 1]);
        (0..5).for_each(|client| ledger.joined(client, None, 0));
        ledger.says(0, 5_000);
        let receivers: Vec<_> = ledger.misses(0, 9_000).iter().map(|miss| miss.receiver).collect();
        assert_eq!(receivers, [0, 3]);
    }
}
