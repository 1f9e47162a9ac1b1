//! How an event is written.

use bytes::Bytes;
use node_core::{
    api::{
        news::{News, Sort, What},
        order::ConnectionRef,
    },
    broadcast::NodeTag,
};
use serde::Serialize;

use crate::app::App;

/// The data of an event: what it has of these.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Line<'a> {
    /// When, in milliseconds since 1970.
    pub(super) at_millis: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connection: Option<ConnectionRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) transport: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cause: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limit: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connections: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) count: Option<u64>,
}

/// The same with the node that tells it.
#[derive(Serialize)]
struct Data<'a> {
    node: &'a str,
    #[serde(flatten)]
    line: &'a Line<'a>,
}

impl<'a> Line<'a> {
    /// What a shard told of a connection.
    pub(super) fn of(news: &'a News) -> Self {
        let line = Self {
            at_millis: news.unix_millis,
            connection: Some(news.connection),
            user: news.user.as_deref(),
            ..Self::default()
        };
        match &news.what {
            What::Connect { transport } => Self { transport: Some(transport.name()), ..line },
            What::Disconnect { cause, code } => Self { cause: Some(cause.label()), code: *code, ..line },
            What::Join { topic } | What::Leave { topic } => Self { topic: Some(topic), ..line },
        }
    }

    /// The event as it is sent, with a number that no other event of this process has. JSON has no line breaks, so its text is
    /// one line of data.
    pub(super) fn frame(&self, sort: Sort, app: &App, number: u64) -> Bytes {
        let json = serde_json::to_string(&Data { node: &app.node_name, line: self }).unwrap_or_default();
        let name = sort.name();
        let tag = NodeTag::of(app.boot_id);
        format!("id: {tag}-{number}\nevent: {name}\ndata: {json}\n\n").into()
    }
}

/// Says that so many events did not fit.
pub(super) fn lost(events: u64) -> Bytes {
    format!("event: lost\ndata: {{\"count\":{events}}}\n\n").into()
}
