//! What a stream of events asks for, and what its key may hear.

use node_core::{
    api::{
        keys::Key,
        news::{Sort, Sorts},
        request::{self, Wrong},
    },
    limits::MAX_TOPIC_BYTES,
    topic::TopicName,
};
use serde::Deserialize;

use super::{
    super::{auth::needs_all_topics, problem::Problem},
    line::Line,
};

/// The query of a stream.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(in crate::api) struct Query {
    types: Option<String>,
    topic: Option<String>,
    user: Option<String>,
}

/// What a stream is told.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) sorts: Sorts,
    /// The beginning of topics.
    topic: Option<String>,
    user: Option<String>,
    pub(super) key: Key,
}

impl Filter {
    /// Reads a query. A key that is good for some topics hears what happens in these and nothing else.
    ///
    /// # Errors
    /// When something in it is wrong, or the key is not good for what it names.
    pub(super) fn read(query: Query, key: &Key) -> Result<Self, Problem> {
        let Query { types, topic, user } = query;
        let sorts = match types {
            Some(types) => read_sorts(&types)?,
            None if key.is_for_all_topics() => Sorts::ALL,
            None => Sorts::OF_TOPICS,
        };
        if sorts.or(Sorts::OF_TOPICS) != Sorts::OF_TOPICS {
            needs_all_topics(key)?;
        }
        if let Some(prefix) = &topic
            && !(1..=MAX_TOPIC_BYTES).contains(&prefix.len())
        {
            let remedy = format!("write the beginning of topics in 1 to {MAX_TOPIC_BYTES} bytes");
            return Err(Wrong::new("topic", format!("it has {} bytes", prefix.len()), remedy).into());
        }
        if let Some(user) = &user {
            request::user("user", user)?;
        }
        Ok(Self { sorts, topic, user, key: key.clone() })
    }

    /// Whether an event is for this stream. One that is about no topic, or no user, is not for a stream that asks for one.
    pub(super) fn passes(&self, sort: Sort, line: &Line<'_>) -> bool {
        let is_asked_for = |prefix: &String| line.topic.is_some_and(|topic| topic.starts_with(&**prefix));
        self.sorts.has(sort)
            && self.user.as_ref().is_none_or(|user| line.user == Some(user))
            && self.topic.as_ref().is_none_or(is_asked_for)
            && (self.key.is_for_all_topics()
                || line.topic.and_then(TopicName::parse).is_some_and(|topic| self.key.may_use(topic)))
    }
}

fn read_sorts(types: &str) -> Result<Sorts, Wrong> {
    types.split(',').try_fold(Sorts::default(), |sorts, name| {
        let sort = Sort::ALL.into_iter().find(|sort| sort.name() == name);
        sort.map(|sort| sorts.with(sort)).ok_or_else(|| {
            let known = Sort::ALL.map(Sort::name).join(", ");
            Wrong::new("types", format!("{name:?} is no type of event"), format!("list some of {known}"))
        })
    })
}

#[cfg(test)]
mod tests {
    use node_core::api::keys::{KeyFile, Keys, digest};

    use super::*;

    const SECRET: &str = "a-key-of-a-good-length";

    fn limited() -> Key {
        let sha256 = digest(SECRET.as_bytes());
        let file: KeyFile = serde_json::from_value(serde_json::json!({
            "keys": [{"name": "a", "sha256": sha256, "scopes": ["read"], "topics": ["room:*"]}],
        }))
        .expect("a file");
        Keys::read(file).expect("good").find(SECRET.as_bytes(), 0).expect("it is there").clone()
    }

    fn filter(key: &Key, types: Option<&str>, topic: Option<&str>, user: Option<&str>) -> Filter {
        let text = |text: Option<&str>| text.map(str::to_owned);
        let query = Query { types: text(types), topic: text(topic), user: text(user) };
        Filter::read(query, key).expect("it is good")
    }

    /// The sorts that pass when they are about this topic and user.
    fn passing(filter: &Filter, topic: Option<&str>, user: Option<&str>) -> Vec<&'static str> {
        let line = Line { topic, user, ..Line::default() };
        Sort::ALL.into_iter().filter(|sort| filter.passes(*sort, &line)).map(Sort::name).collect()
    }

    #[test]
    fn a_stream_hears_what_it_asks_for() {
        let all = Sort::ALL.map(Sort::name);
        let admin = Key::admin();
        assert_eq!(passing(&filter(&admin, None, None, None), None, None), all);
        let some = filter(&admin, Some("leave,drain"), None, None);
        assert_eq!(passing(&some, Some("room:1"), Some("ann")), ["leave", "drain"]);
        let of_topic = filter(&admin, None, Some("room:"), None);
        assert_eq!(passing(&of_topic, Some("room:1"), None), all);
        assert!(passing(&of_topic, Some("my-room:1"), None).is_empty());
        assert!(passing(&of_topic, None, None).is_empty(), "it is about no topic");
        let of_user = filter(&admin, None, None, Some("ann"));
        assert_eq!(passing(&of_user, None, Some("ann")), all);
        assert!(passing(&of_user, None, Some("anna")).is_empty() && passing(&of_user, None, None).is_empty());
    }

    #[test]
    fn a_key_for_some_topics_hears_of_these_alone() {
        let key = limited();
        let usual = filter(&key, None, None, None);
        assert_eq!(passing(&usual, Some("room:1"), Some("ann")), ["join", "leave"]);
        for other in [None, Some("other:1"), Some("$cluster")] {
            assert!(passing(&usual, other, None).is_empty(), "{other:?}");
        }
        let wide = filter(&key, Some("join"), Some("other"), None);
        assert!(passing(&wide, Some("other:1"), None).is_empty());
        for types in ["connect", "join,limit"] {
            let query = Query { types: Some(types.to_owned()), ..Query::default() };
            let problem = Filter::read(query, &key).expect_err("it is not good for all topics");
            assert_eq!(problem.sort.parts().1, 403, "{types}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_query_is_named() {
        let long = "x".repeat(MAX_TOPIC_BYTES + 1);
        let of = |types: Option<&str>, topic: Option<&str>, user: Option<&str>| Query {
            types: types.map(str::to_owned),
            topic: topic.map(str::to_owned),
            user: user.map(str::to_owned),
        };
        for (query, field) in [
            (of(Some(""), None, None), "types"),
            (of(Some("join, leave"), None, None), "types"),
            (of(Some("joined"), None, None), "types"),
            (of(None, Some(""), None), "topic"),
            (of(None, Some(&long), None), "topic"),
            (of(None, None, Some("")), "user"),
        ] {
            let problem = Filter::read(query, &Key::admin()).expect_err("it is wrong");
            assert_eq!(problem.field, Some(field));
        }
    }
}
