//! The subjects of a fleet. All of them, the inboxes of its nodes included, begin with `cc1.<namespace>.<name>.`, so
//! that one permission for `cc1.<namespace>.<name>.>` is all that its user needs.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use node_core::{broadcast::NodeTag, config::ClusterId, longpoll::Asker, session::id::ConnId};

/// Last parts of the subjects of [`question`] and [`answer`].
const QUESTION: &str = "api-q";
const ANSWER: &str = "api-a";

/// The beginning of all subjects of a fleet.
fn prefix(cluster: &ClusterId) -> String {
    format!("cc1.{}.{}.", cluster.namespace, cluster.name)
}

/// Subject of a topic.
pub(super) fn topic(cluster: &ClusterId, topic: &str) -> String {
    let mut subject = prefix(cluster) + "t.";
    URL_SAFE_NO_PAD.encode_string(topic, &mut subject);
    subject
}

/// Subject of the nodes' own figures.
pub(super) fn figures(cluster: &ClusterId) -> String {
    prefix(cluster) + "c.stats"
}

/// A subject that nobody listens to: NATS itself answers a message there at once, which shows that it lives.
pub(super) fn ping(cluster: &ClusterId) -> String {
    prefix(cluster) + "c.ping"
}

/// The beginning of the subjects on which one node gets what long-poll needs.
fn of_node(cluster: &ClusterId, node: NodeTag) -> String {
    format!("{}r.{node}.", prefix(cluster))
}

/// All subjects on which one node gets what long-poll needs.
pub(super) fn all_of_node(cluster: &ClusterId, node: NodeTag) -> String {
    of_node(cluster, node) + ">"
}

/// Subject on which a node gets requests for its sessions, and answers of other nodes.
pub(super) fn carried(cluster: &ClusterId, node: NodeTag) -> String {
    of_node(cluster, node) + "q"
}

/// Subject on which a node gets questions of the server API that are for it alone.
pub(super) fn question(cluster: &ClusterId, node: NodeTag) -> String {
    of_node(cluster, node) + QUESTION
}

/// Subject on which a node gets answers to its questions of the server API.
pub(super) fn answer(cluster: &ClusterId, node: NodeTag) -> String {
    of_node(cluster, node) + ANSWER
}

/// Subject on which all nodes get questions of the server API.
pub(super) fn questions(cluster: &ClusterId) -> String {
    prefix(cluster) + "c.api"
}

/// What a message on a subject of one node is, by the last part of the subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// For long-poll.
    Carried,
    /// See [`question`].
    Question,
    /// See [`answer`].
    Answer,
}

/// What a message on this subject is.
pub(super) fn kind(subject: &str) -> Kind {
    match subject.rsplit('.').next() {
        Some(QUESTION) => Kind::Question,
        Some(ANSWER) => Kind::Answer,
        _ => Kind::Carried,
    }
}

/// Subject on which NATS itself tells a node that nobody listens where this request was sent to.
pub(super) fn nobody(cluster: &ClusterId, node: NodeTag, asker: &Asker) -> String {
    let (connection, shard) = (asker.connection.to_token(), asker.shard);
    format!("{}n.{shard}.{connection}.{}", of_node(cluster, node), asker.number)
}

/// The request that a subject of [`nobody`] names.
pub(super) fn asker(subject: &str) -> Option<Asker> {
    let mut parts = subject.rsplit('.');
    let (number, connection, shard) = (parts.next()?, parts.next()?, parts.next()?);
    let connection = ConnId::from_token(connection.parse().ok()?);
    Some(Asker { node: None, shard: shard.parse().ok()?, connection, number: number.parse().ok()? })
}

/// Prefix of the subjects on which one node gets answers.
pub(super) fn inbox(cluster: &ClusterId, boot_id: u128) -> String {
    format!("{}i.{boot_id:032x}", prefix(cluster))
}

#[cfg(test)]
mod tests {
    use node_core::{config::Rooms, topic::TopicName};

    use super::*;

    #[test]
    fn subjects_are_single_tokens_whatever_the_topic() {
        let cluster = ClusterId { namespace: "ns".to_owned(), name: "chat".to_owned() };
        assert_eq!(topic(&cluster, "room:lobby"), "cc1.ns.chat.t.cm9vbTpsb2JieQ");
        for name in ["a.b.*.>", "\u{0}\r\n ", &"x".repeat(255)] {
            let subject = topic(&cluster, name);
            let token = subject.strip_prefix("cc1.ns.chat.t.").expect("the prefix");
            assert!(token.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'), "{subject}");
        }
        assert_eq!(figures(&cluster), "cc1.ns.chat.c.stats");
    }

    /// The client takes the subject of a topic under every configuration that lets the topic be joined.
    #[test]
    fn each_topic_that_can_be_joined_has_a_subject_that_the_client_takes() {
        let longest = "n".repeat(63);
        let cluster = ClusterId { namespace: longest.clone(), name: longest };
        let rooms = Rooms::default();
        let mut joinable = 0;
        let mut check = |name: &str| {
            let can_be_joined = TopicName::parse(name).and_then(|name| rooms.resolve(name)).is_some();
            joinable += u32::from(can_be_joined);
            let subject = topic(&cluster, name);
            let is_taken = async_nats::Subject::validated(&subject).is_ok() && subject.len() < 4_096;
            assert!(is_taken || !can_be_joined, "{name:?}: {subject:?}");
        };
        ["", " ", ".", "..", "*", ">", "$", "phoenix", "\0", "\r\n", "\u{10ffff}"]
            .into_iter()
            .for_each(&mut check);
        arbtest::arbtest(|u| {
            check(u.arbitrary::<&str>()?);
            check(&"x".repeat(u.int_in_range(0..=300)?));
            Ok(())
        });
        assert!(joinable >= 8, "the test asks about topics that cannot be joined");
    }

    #[test]
    fn all_that_a_fleet_uses_is_below_its_own_name() {
        let cluster = ClusterId { namespace: "ns".to_owned(), name: "chat".to_owned() };
        let (node, connection) = (NodeTag::of(u128::MAX), ConnId::from_token(5));
        let asked = Asker { node: None, shard: 3, connection, number: 7 };
        let of_node = [
            all_of_node(&cluster, node),
            carried(&cluster, node),
            nobody(&cluster, node, &asked),
            question(&cluster, node),
            answer(&cluster, node),
        ];
        let kinds = of_node.each_ref().map(|subject| kind(subject));
        assert_eq!(kinds[1..], [Kind::Carried, Kind::Carried, Kind::Question, Kind::Answer]);
        assert!(of_node[1..].iter().all(|subject| subject.starts_with(of_node[0].trim_end_matches('>'))));
        let others = [
            topic(&cluster, "t"),
            figures(&cluster),
            ping(&cluster),
            inbox(&cluster, 7),
            questions(&cluster),
        ];
        for subject in others.iter().chain(&of_node) {
            assert!(subject.starts_with("cc1.ns.chat."), "{subject}");
        }
        assert_eq!(of_node[1], "cc1.ns.chat.r.ffffffffffffff.q");
        assert_eq!(of_node[2], "cc1.ns.chat.r.ffffffffffffff.n.3.5.7");
        assert_eq!(asker(&of_node[2]), Some(asked));
        assert_eq!(asker(&of_node[1]), None);
    }
}
