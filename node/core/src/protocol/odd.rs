//! Messages that Phoenix takes although their topic or their event is no string. It decodes any JSON value, and finds no
//! channel of such a topic.

use crate::limits::{MAX_REF_BYTES, MAX_TOPIC_BYTES};

/// A message whose topic or event is no string.
#[derive(Debug, PartialEq, Eq)]
pub struct OddMessage<'a> {
    /// Raw JSON, `null` when absent.
    pub join_ref: &'a str,
    /// Raw JSON.
    pub reference: &'a str,
    /// The topic as raw JSON, of which replies repeat all.
    pub topic: &'a str,
    event: &'a str,
}

impl<'a> OddMessage<'a> {
    /// A message of these parts, which are raw JSON. `None` when both names are strings, or when a part is longer than
    /// the node takes one.
    pub(super) fn new([join_ref, reference, topic, event]: [&'a str; 4]) -> Option<Self> {
        let is_odd = [topic, event].iter().any(|name| !name.starts_with('"'));
        let fits = join_ref.len().max(reference.len()) <= MAX_REF_BYTES && topic.len() <= MAX_TOPIC_BYTES;
        (is_odd && fits).then_some(Self { join_ref, reference, topic, event })
    }

    /// The topic, unescaped, when it is a string.
    #[must_use]
    pub fn topic_text(&self) -> Option<String> {
        serde_json::from_str(self.topic).ok()
    }

    /// Whether the event is this one.
    #[must_use]
    pub fn is_event(&self, event: &str) -> bool {
        serde_json::from_str::<String>(self.event).is_ok_and(|own| own == event)
    }
}

#[cfg(test)]
mod tests {
    use crate::protocol::{Vsn, decode_odd, decode_text};

    #[test]
    fn a_message_is_odd_when_only_its_names_are() {
        for (text, topic, is_leave) in [
            (r#"["1", 2, null, "phx_join", {}]"#, "null", false),
            (r#" ["1","2", {"a": 1} ,"phx_leave",{},"more"] "#, r#"{"a": 1}"#, true),
            (r#"["1","2","room:1",5,{}]"#, r#""room:1""#, false),
            (r#"["1","2",[],true,[1]]"#, "[]", false),
        ] {
            assert!(decode_text(Vsn::V2, text).is_err(), "{text}");
            let odd = decode_odd(Vsn::V2, text).expect(text);
            assert_eq!((odd.topic, odd.is_event("phx_leave")), (topic, is_leave), "{text}");
        }
        let v1 = r#"{"event":"m","payload":{},"topic":1,"ref":"3"}"#;
        let odd = decode_odd(Vsn::V1, v1).expect(v1);
        assert_eq!((odd.join_ref, odd.reference, odd.topic, odd.topic_text()), ("null", "\"3\"", "1", None));
        let twice = r#"{"topic":1,"topic":"t","event":"m","payload":{},"ref":"3","r\u0065f":4}"#;
        let odd = decode_odd(Vsn::V1, twice).expect("the first counts");
        assert_eq!((odd.topic, odd.reference), ("1", "\"3\""));
    }

    #[test]
    fn what_is_malformed_besides_is_not_odd() {
        let long_topic = format!("[null,null,[\"{}\"],\"m\",{{}}]", "t".repeat(255));
        let long_ref = format!("[null,\"{}\",null,\"m\",{{}}]", "r".repeat(64));
        for text in [
            "",
            "{}",
            r#"["1","2","room:1","m",{}"#,
            r#"["1","2",null,"m"]"#,
            r#"["1","2",null,"m",{"n":1e999}]"#,
            r#"["1","2",null,"\ud83d",{}]"#,
            r#"["1","2","room:1","\ud83d",{}]"#,
            r#"["1","2",null,"m",{}]x"#,
            &long_topic,
            &long_ref,
        ] {
            assert_eq!(decode_odd(Vsn::V2, text), None, "{text:.60}");
        }
        for text in [
            r#"{"topic":null,"event":"m","payload":{"n":1e999},"ref":1}"#,
            r#"{"topic":null,"event":"m","payload":{}}"#,
            "[]",
        ] {
            assert_eq!(decode_odd(Vsn::V1, text), None, "{text}");
        }
    }
}
