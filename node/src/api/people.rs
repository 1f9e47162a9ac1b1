//! Connections: of a user, to be closed, taken out of a topic, or asked for new tokens.

use std::sync::Arc;

use axum::{Json, extract::State};
use node_core::api::{
    call::{Call, Said},
    order::{ConnectionRef, Listed, Who},
    request::{self, Disconnect, Kick, Refresh, Wrong},
};
use serde::{Deserialize, Serialize};

use super::{
    Api,
    auth::{Manager, Reader, needs_all_topics, needs_topic},
    fleet::Everywhere,
    problem::{Problem, Sort},
    read::{Asked, Body, Named},
    topics::limit,
};

/// What a list may be asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Query {
    limit: Option<usize>,
}

/// Connections of a user.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Connections {
    connections: Vec<Listed>,
    more: bool,
    partial: bool,
}

/// On how many connections something was done.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Done {
    connections: u64,
    nodes: usize,
    partial: bool,
}

fn done(all: &Everywhere) -> Done {
    let (mut connections, mut partial) = (0_u64, all.is_partial());
    for said in all.said() {
        match said {
            Said::Done { count, partial: lacks } => {
                connections = connections.saturating_add(*count);
                partial |= lacks;
            }
            _ => partial = true,
        }
    }
    Done { connections, nodes: all.answered(), partial }
}

/// `GET /v1/users/{user}/connections`.
pub(super) async fn connections(
    State(api): State<Arc<Api>>,
    Reader(caller): Reader,
    Named(user): Named,
    Asked(Query { limit: asked }): Asked<Query>,
) -> Result<Json<Connections>, Problem> {
    let key = caller.key();
    needs_all_topics(key)?;
    request::user("user", &user)?;
    let limit = limit(asked)?;
    let all = api.everywhere(Call::List { who: Who::User(user), limit }).await;
    let (mut connections, mut more, mut partial) = (Vec::new(), false, all.is_partial());
    for said in all.said() {
        if let Said::Connections { connections: some, more: others, partial: lacks } = said {
            connections.extend(some.iter().cloned());
            more |= others;
            partial |= lacks;
        }
    }
    more |= connections.len() > limit;
    connections.truncate(limit);
    Ok(Json(Connections { connections, more, partial }))
}

/// `GET /v1/connections/{connection}`.
pub(super) async fn connection(
    State(api): State<Arc<Api>>,
    Reader(caller): Reader,
    Named(text): Named,
) -> Result<Json<Listed>, Problem> {
    let key = caller.key();
    needs_all_topics(key)?;
    let gone = || {
        Problem::new(
            Sort::NotFound,
            format!("there is no connection {text}"),
            "list the connections of its user",
        )
    };
    let connection: ConnectionRef = text.parse().map_err(|_| gone())?;
    let call = Call::List { who: Who::Connection(connection), limit: 1 };
    if connection.node != api.tag() && !api.others().0.contains(&connection.node) {
        return Err(gone());
    }
    match api.at(connection.node, call).await {
        Some(Said::Connections { connections, partial: false, .. }) => {
            connections.into_iter().next().map(Json).ok_or_else(gone)
        }
        _ => Err(Problem::new(Sort::NoAnswer, "its node does not answer", "try again after a second")),
    }
}

/// `POST /v1/disconnect`.
pub(super) async fn disconnect(
    State(api): State<Arc<Api>>,
    Manager(caller): Manager,
    Body(asked): Body<Disconnect>,
) -> Result<Json<Done>, Problem> {
    let key = caller.key();
    // It ends what the connections do in all topics.
    needs_all_topics(key)?;
    if let Some(topic) = &asked.topic {
        request::topic(topic, &api.app.config.load())?;
    }
    let who = request::who(asked.user.as_deref(), asked.connection.as_deref())?;
    if who.is_none() && asked.topic.is_none() {
        return Err(Wrong::new("user", "nobody is named", "name a user, a connection or a topic").into());
    }
    let goodbye = asked.goodbye()?;
    let all = api.everywhere(Call::Disconnect { who, topic: asked.topic, goodbye }).await;
    Ok(Json(done(&all)))
}

/// `POST /v1/kick`.
pub(super) async fn kick(
    State(api): State<Arc<Api>>,
    Manager(caller): Manager,
    Body(asked): Body<Kick>,
) -> Result<Json<Done>, Problem> {
    let key = caller.key();
    needs_topic(key, request::topic(&asked.topic, &api.app.config.load())?)?;
    let who = request::who(asked.user.as_deref(), asked.connection.as_deref())?;
    let all = api.everywhere(Call::Leave { topic: asked.topic, who }).await;
    Ok(Json(done(&all)))
}

/// `POST /v1/refresh`.
pub(super) async fn refresh(
    State(api): State<Arc<Api>>,
    Manager(caller): Manager,
    Body(asked): Body<Refresh>,
) -> Result<Json<Done>, Problem> {
    let key = caller.key();
    needs_all_topics(key)?;
    request::user("user", &asked.user)?;
    let within_millis = asked.within()?;
    let all = api.everywhere(Call::Refresh { user: asked.user, within_millis }).await;
    Ok(Json(done(&all)))
}
