//! Topics with members.

use std::sync::Arc;

use axum::{Json, extract::State};
use node_core::api::{
    call::{Call, Said, TopicLine, merge},
    request::{self, PAGE, USUAL_PAGE, Wrong},
};
use serde::{Deserialize, Serialize};

use super::{
    Api,
    auth::{Reader, needs_all_topics, needs_topic},
    problem::Problem,
    read::{Asked, Named},
};

/// What a list may be asked for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[derive(Default)]
pub(super) struct Query {
    prefix: String,
    after: String,
    limit: Option<usize>,
}

/// A page of topics.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    topics: Vec<TopicLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    partial: bool,
}

/// A topic with its members.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Members {
    topic: String,
    members: u64,
    nodes: Vec<Node>,
    partial: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    node: String,
    members: u64,
}

/// The entries of a page.
///
/// # Errors
/// When none or too many are asked for.
pub(super) fn limit(asked: Option<usize>) -> Result<usize, Problem> {
    up_to(PAGE, asked.unwrap_or(USUAL_PAGE))
}

/// The entries of a list that has at most so many.
///
/// # Errors
/// When none or too many are asked for.
pub(super) fn up_to(most: usize, limit: usize) -> Result<usize, Problem> {
    if (1..=most).contains(&limit) {
        return Ok(limit);
    }
    Err(Wrong::new("limit", format!("{limit} is no number of entries"), format!("ask for 1 to {most}"))
        .into())
}

/// `GET /v1/topics`.
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Reader(caller): Reader,
    Asked(Query { prefix, after, limit: asked }): Asked<Query>,
) -> Result<Json<Page>, Problem> {
    let key = caller.key();
    needs_all_topics(key)?;
    let limit = limit(asked)?;
    let all = api.everywhere(Call::Topics { prefix, after, limit }).await;
    let partial = all.is_partial();
    let pages = all.said().filter_map(|said| match said {
        Said::Topics { topics, more } => Some((topics.clone(), *more)),
        _ => None,
    });
    let (topics, more) = merge(pages.collect(), limit);
    let after = topics.last().filter(|_| more).map(|line| line.topic.clone());
    Ok(Json(Page { topics, after, partial }))
}

/// `GET /v1/topics/{topic}`.
pub(super) async fn one(
    State(api): State<Arc<Api>>,
    Reader(caller): Reader,
    Named(topic): Named,
) -> Result<Json<Members>, Problem> {
    let key = caller.key();
    let config = api.app.config.load_full();
    needs_topic(key, request::topic(&topic, &config)?)?;
    let all = api.everywhere(Call::Members { topic: topic.clone() }).await;
    let partial = all.is_partial();
    let own = (api.app.node_name.clone(), all.here);
    let nodes = [own].into_iter().chain(all.others).filter_map(|(node, said)| match said {
        Said::Members(members) if members > 0 => Some(Node { node, members }),
        _ => None,
    });
    let mut nodes: Vec<Node> = nodes.collect();
    nodes.sort_by(|a, b| a.node.cmp(&b.node));
    let members = nodes.iter().map(|node| node.members).fold(0, u64::saturating_add);
    Ok(Json(Members { topic, members, nodes, partial }))
}
