//! A message to the members of a topic, as shards and nodes hand it to each other: what was said, and not how any
//! serializer writes it.

use std::fmt;

use bytes::Bytes;

/// The payload of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload<'a> {
    /// Valid JSON of any type.
    Json(&'a str),
    /// Opaque bytes.
    Binary(&'a [u8]),
    /// Valid JSON of any type, which a user broadcast carries: the event of the message is the user's own, and clients
    /// get it inside of an event `broadcast` (see [`crate::protocol::realtime`]).
    UserJson(&'a str),
    /// The same with opaque bytes.
    UserBinary(&'a [u8]),
}

impl Payload<'_> {
    /// Its length in bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        match self {
            Self::Json(json) | Self::UserJson(json) => json.len(),
            Self::Binary(data) | Self::UserBinary(data) => data.len(),
        }
    }

    /// Whether a message of the server may carry it.
    #[must_use]
    pub fn is_object_or_bytes(&self) -> bool {
        match self {
            Self::Json(json) => json.starts_with('{'),
            Self::Binary(_) => true,
            Self::UserJson(_) | Self::UserBinary(_) => false,
        }
    }

    /// Whether it is that of a user broadcast.
    #[must_use]
    pub const fn is_of_user(&self) -> bool {
        matches!(self, Self::UserJson(_) | Self::UserBinary(_))
    }
}

/// What the payload of a broadcast is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// JSON text.
    Json = 0,
    /// Opaque bytes.
    Binary = 1,
    /// JSON of a user broadcast.
    UserJson = 2,
    /// Opaque bytes of a user broadcast.
    UserBinary = 3,
}

impl Kind {
    /// The kind of this number on the bus; `None` when it is one of a newer node.
    #[must_use]
    pub const fn of(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Json),
            1 => Some(Self::Binary),
            2 => Some(Self::UserJson),
            3 => Some(Self::UserBinary),
            _ => None,
        }
    }
}

/// The part of the fleet that a broadcast of another thread comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Another shard of this node, or the server API of this node.
    Shard,
    /// Another node.
    Node {
        /// That node.
        node: NodeTag,
        /// The bus delivered it so late that it is counted apart, because it is no part of the present load.
        late: bool,
    },
}

impl Origin {
    /// Whether it was on its way for so long that it is counted apart.
    #[must_use]
    pub const fn is_late(self) -> bool {
        matches!(self, Self::Node { late: true, .. })
    }
}

/// A node among those of its fleet: 7 of the 16 bytes of its boot id. More bytes would make each item of a mailbox
/// larger, and the probability that two of a thousand nodes have the same 7 is below 10^-10.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeTag([u8; 7]);

impl NodeTag {
    /// The tag of the node with this boot id.
    #[must_use]
    pub const fn of(boot_id: u128) -> Self {
        let [tag @ .., _, _, _, _, _, _, _, _, _] = boot_id.to_be_bytes();
        Self(tag)
    }

    /// The tag of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 7]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 7] {
        self.0
    }
}

/// 14 hexadecimal digits, as in the subject of the node on the bus.
impl fmt::Display for NodeTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The parts of a broadcast, borrowed from wherever they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content<'a> {
    /// The topic, unescaped.
    pub topic: &'a str,
    /// The event, unescaped.
    pub event: &'a str,
    /// The payload.
    pub payload: Payload<'a>,
}

impl<'a> Content<'a> {
    /// With JSON as its payload.
    #[must_use]
    pub const fn json(topic: &'a str, event: &'a str, payload: &'a str) -> Self {
        Self { topic, event, payload: Payload::Json(payload) }
    }
    /// What the payload is made of.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self.payload {
            Payload::Json(_) => Kind::Json,
            Payload::Binary(_) => Kind::Binary,
            Payload::UserJson(_) => Kind::UserJson,
            Payload::UserBinary(_) => Kind::UserBinary,
        }
    }

    /// Bytes of all parts.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.topic.len() + self.event.len() + self.data().len()
    }

    /// The bytes of the payload.
    #[must_use]
    pub const fn data(&self) -> &'a [u8] {
        match self.payload {
            Payload::Json(json) | Payload::UserJson(json) => json.as_bytes(),
            Payload::Binary(data) | Payload::UserBinary(data) => data,
        }
    }
}

/// Topic, event and payload in one run of bytes, as a broadcast waits in a queue, crosses shards and travels on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed<B> {
    /// What the payload is made of.
    pub kind: Kind,
    /// Length of the topic in bytes.
    pub topic_bytes: u8,
    /// Length of the event in bytes.
    pub event_bytes: u8,
    /// The topic, the event, the payload.
    pub bytes: B,
}

/// A broadcast that outlives the message it came in. Clones share the bytes.
pub type Broadcast = Packed<Bytes>;

impl<B: AsRef<[u8]>> Packed<B> {
    /// Its parts. `None` when a name is longer than all there is, or what should be text is not UTF-8.
    #[must_use]
    pub fn unpack(&self) -> Option<Content<'_>> {
        let (topic, rest) = self.bytes.as_ref().split_at_checked(self.topic_bytes.into())?;
        let (event, data) = rest.split_at_checked(self.event_bytes.into())?;
        let text = |bytes| std::str::from_utf8(bytes).ok();
        let payload = match self.kind {
            Kind::Json => Payload::Json(text(data)?),
            Kind::Binary => Payload::Binary(data),
            Kind::UserJson => Payload::UserJson(text(data)?),
            Kind::UserBinary => Payload::UserBinary(data),
        };
        Some(Content { topic: text(topic)?, event: text(event)?, payload })
    }

    /// Memory in bytes of the parts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.as_ref().len()
    }

    /// Whether nothing at all was said, not even a topic.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same over bytes of somebody else.
    #[must_use]
    pub fn borrowed(&self) -> Packed<&[u8]> {
        let Self { kind, topic_bytes, event_bytes, ref bytes } = *self;
        Packed { kind, topic_bytes, event_bytes, bytes: bytes.as_ref() }
    }

    /// A copy that keeps no more than it needs: a slice would keep alive all of the buffer that it is a part of.
    #[must_use]
    pub fn copied(&self) -> Broadcast {
        let Self { kind, topic_bytes, event_bytes, ref bytes } = *self;
        Packed { kind, topic_bytes, event_bytes, bytes: Bytes::copy_from_slice(bytes.as_ref()) }
    }
}

impl Broadcast {
    /// Copies the parts. `None` when a name is longer than 255 bytes, which neither a topic that can be joined nor an event
    /// that may be published is.
    #[must_use]
    pub fn pack(content: &Content<'_>) -> Option<Self> {
        let topic_bytes = u8::try_from(content.topic.len()).ok()?;
        let event_bytes = u8::try_from(content.event.len()).ok()?;
        let parts = [content.topic.as_bytes(), content.event.as_bytes(), content.data()];
        Some(Self { kind: content.kind(), topic_bytes, event_bytes, bytes: parts.concat().into() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_is_what_was_said(topic: String, event: String, json: String, data: Vec<u8>) {
            for payload in [
                Payload::Json(&json),
                Payload::Binary(&data),
                Payload::UserJson(&json),
                Payload::UserBinary(&data),
            ] {
                let content = Content { topic: &topic, event: &event, payload };
                let Some(packed) = Broadcast::pack(&content) else {
                    prop_assert!(topic.len().max(event.len()) > 255);
                    continue;
                };
                prop_assert_eq!(packed.unpack(), Some(content));
                prop_assert_eq!(packed.len(), topic.len() + event.len() + content.data().len());
                prop_assert_eq!(&packed.borrowed().copied(), &packed);
                prop_assert_eq!(Kind::of(content.kind() as u8), Some(content.kind()));
            }
        }

        #[test]
        fn any_bytes_are_unpacked_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
            topic_bytes in 0..40_u8,
            event_bytes in 0..40_u8,
        ) {
            for kind in (0..=u8::MAX).map_while(Kind::of) {
                let packed = Packed { kind, topic_bytes, event_bytes, bytes: &*bytes };
                if let Some(content) = packed.unpack() {
                    let again = Broadcast::pack(&content).expect("short names");
                    prop_assert_eq!(again.borrowed(), packed);
                }
            }
        }
    }

    #[test]
    fn the_tag_of_a_node_is_the_first_bytes_of_its_boot_id() {
        let boot_id = 0x0102_0304_0506_0708_0910_1112_1314_1516;
        assert_eq!(NodeTag::of(boot_id), NodeTag([1, 2, 3, 4, 5, 6, 7]));
        assert_ne!(NodeTag::of(boot_id), NodeTag::of(boot_id.rotate_left(8)));
        assert_eq!(NodeTag::of(boot_id).to_string(), "01020304050607");
        assert_eq!(NodeTag::from_bytes(NodeTag::of(boot_id).to_bytes()), NodeTag::of(boot_id));
        assert_eq!(size_of::<Origin>(), 8);
    }

    #[test]
    fn names_that_do_not_fit_are_refused() {
        let long = "x".repeat(256);
        for (topic, event, fits) in
            [(&*long, "e", false), ("t", &*long, false), (&long[1..], &long[1..], true)]
        {
            let content = Content::json(topic, event, "{}");
            assert_eq!(Broadcast::pack(&content).is_some(), fits);
        }
        assert_eq!(Kind::of(4), None);
    }
}
