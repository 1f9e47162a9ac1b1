//! Publishing: to the members of topics, by whichever node is asked.
//!
//! What goes to all members takes the way of a client's message: one item for each shard with members, one copy on the bus for
//! each other node with members. Only a publication that spares somebody is asked of every node.

use std::{collections::BTreeSet, sync::Arc};

use axum::{Extension, Json, extract::State, http::HeaderMap};
use node_core::{
    api::{
        call::{Call, Said},
        keys::{Key, Scope, digest},
        request::{Batch, MAX_BATCH, Publication, Sayable},
        seen::{Claim, Outcome, Reach, Use, homes},
    },
    broadcast::{Broadcast, NodeTag, Origin},
    bus::Command,
    shard::Mail,
    topic::TopicName,
};
use serde::Serialize;

use super::{
    Api,
    auth::{Caller, needs, needs_topic},
    problem::{Problem, Sort, Written},
    read::Body,
};
use crate::mailbox::ShardHandle;

/// The header of the draft for idempotency keys (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// What became of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Published {
    /// Topics that were told.
    topics: u32,
    /// How far it went.
    reach: Reach,
    /// Whether an earlier request with its idempotency key did it.
    repeated: bool,
}

/// One entry of the answer to a batch.
#[derive(Debug)]
pub(super) struct Outcomes(Vec<Result<Published, Problem>>);

impl Serialize for Outcomes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Line<'a> {
            Done(&'a Published),
            Failed { problem: Written<'a> },
        }
        serializer.collect_seq(self.0.iter().map(|result| match result {
            Ok(done) => Line::Done(done),
            Err(problem) => Line::Failed { problem: problem.written() },
        }))
    }
}

/// The answer to a batch.
#[derive(Debug, Serialize)]
pub(super) struct Results {
    results: Outcomes,
}

/// `POST /v1/publish`.
pub(super) async fn one(
    State(api): State<Arc<Api>>,
    Extension(key): Caller,
    headers: HeaderMap,
    Body(mut publication): Body<Publication>,
) -> Result<Json<Published>, Problem> {
    needs(&key, Scope::Publish)?;
    if publication.idempotency_key.is_none()
        && let Some(value) = headers.get(IDEMPOTENCY_KEY)
    {
        let text = value.to_str().map_err(|_| {
            Problem::new(Sort::Malformed, "the header Idempotency-Key is no text", "write printable ASCII")
        })?;
        publication.idempotency_key = Some(text.to_owned());
    }
    let mut rung = BTreeSet::new();
    let done = api.publish(&key, &publication, &mut rung).await;
    api.ring(&rung);
    done.map(Json)
}

/// `POST /v1/publish/batch`.
pub(super) async fn batch(
    State(api): State<Arc<Api>>,
    Extension(key): Caller,
    Body(Batch { publications }): Body<Batch>,
) -> Result<Json<Results>, Problem> {
    needs(&key, Scope::Publish)?;
    if publications.len() > MAX_BATCH {
        return Err(Problem {
            field: Some("publications"),
            ..Problem::new(
                Sort::Invalid,
                format!("there are {} publications", publications.len()),
                format!("send {MAX_BATCH} at most in one request"),
            )
        });
    }
    let (mut results, mut rung) = (Vec::with_capacity(publications.len()), BTreeSet::new());
    for publication in &publications {
        results.push(api.publish(&key, publication, &mut rung).await);
    }
    api.ring(&rung);
    Ok(Json(Results { results: Outcomes(results) }))
}

impl Api {
    /// Publishes, once for each idempotency key. `rung` gets the shards that are to be woken.
    async fn publish(
        &self,
        key: &Key,
        publication: &Publication,
        rung: &mut BTreeSet<u8>,
    ) -> Result<Published, Problem> {
        let said = publication.read(&self.app.config.load())?;
        for topic in publication.topic.iter().chain(&publication.topics) {
            if let Some(name) = TopicName::parse(topic) {
                needs_topic(key, name)?;
            }
        }
        let Some(used) = used(key, publication) else {
            return Ok(published(self.say(publication, said, rung).await?, false));
        };
        let homes = homes(used.key, self.others().into_iter().chain([self.tag()]));
        if let Some(done) = self.claim(used, &homes).await? {
            return Ok(published(done, true));
        }
        let outcome = self.say(publication, said, rung).await;
        // A second request, by whichever node, is to find how the first ended once that is answered.
        let settled = Call::Settle(used, outcome.as_ref().ok().copied());
        futures::future::join_all(homes.iter().map(|home| self.at(*home, settled.clone()))).await;
        outcome.map(|outcome| published(outcome, false))
    }

    /// Claims an idempotency key at the first of its homes that answers. Says how the publication ended that had it.
    async fn claim(&self, used: Use, homes: &[NodeTag]) -> Result<Option<Outcome>, Problem> {
        for home in homes {
            let Some(Said::Claim(claim)) = self.at(*home, Call::Claim(used)).await else { continue };
            return match claim {
                Claim::New => Ok(None),
                Claim::Done(outcome) => Ok(Some(outcome)),
                Claim::Pending => Err(Problem::new(
                    Sort::InProgress,
                    "a publication with this idempotency key is under way",
                    "try again after a second",
                )),
                Claim::Other => Err(Problem {
                    field: Some("idempotencyKey"),
                    ..Problem::new(
                        Sort::KeyReused,
                        "the idempotency key was used for another publication",
                        "make a new key for each publication",
                    )
                }),
            };
        }
        Err(Problem::new(
            Sort::NoAnswer,
            "the nodes that know about this idempotency key do not answer",
            "try again after a second with the same key, or publish without one",
        ))
    }

    async fn say(
        &self,
        publication: &Publication,
        said: Sayable,
        rung: &mut BTreeSet<u8>,
    ) -> Result<Outcome, Problem> {
        let topics = u32::try_from(said.broadcasts.len()).unwrap_or(u32::MAX);
        if said.except.is_some() {
            let all = self.everywhere(Call::Say(Box::new(publication.clone()))).await;
            let is_whole = all.said().all(|said| matches!(said, Said::Done { partial: false, .. }));
            let reach = if is_whole && !all.is_partial() { Reach::Fleet } else { Reach::Node };
            return Ok(Outcome { topics, reach });
        }
        let mut reach = Reach::Fleet;
        for broadcast in said.broadcasts {
            if self.say_to_all(broadcast, rung).await? == Reach::Node {
                reach = Reach::Node;
            }
        }
        Ok(Outcome { topics, reach })
    }

    /// Gives a broadcast to the shards and the other nodes that have members of its topic.
    async fn say_to_all(&self, broadcast: Broadcast, rung: &mut BTreeSet<u8>) -> Result<Reach, Problem> {
        let Some(content) = broadcast.unpack() else { return Ok(Reach::Fleet) };
        self.app.api_counts.published();
        let topic: Arc<str> = content.topic.into();
        for shard in self.app.topics.shards(&topic).iter() {
            rung.insert(shard);
            let mail = Mail::Remote { broadcast: broadcast.clone(), origin: Origin::Shard };
            if !self.send(shard, mail).await {
                return Err(Problem::busy("a shard does not take messages fast enough"));
            }
        }
        let (Some(bus), Some(state)) = (&self.bus, &self.app.bus) else { return Ok(Reach::Fleet) };
        let is_taken = state.connected() && bus.push(Command::Publish { topic, broadcast }).is_ok();
        bus.ring();
        Ok(if is_taken { Reach::Fleet } else { Reach::Node })
    }

    fn ring(&self, shards: &BTreeSet<u8>) {
        shards
            .iter()
            .filter_map(|shard| self.app.shards.get(usize::from(*shard)))
            .for_each(ShardHandle::ring);
    }
}

const fn published(Outcome { topics, reach }: Outcome, repeated: bool) -> Published {
    Published { topics, reach, repeated }
}

/// The use of an idempotency key, which belongs to the API key that it came with.
fn used(key: &Key, publication: &Publication) -> Option<Use> {
    let own = publication.idempotency_key.as_ref()?;
    let half = |text: &[u8]| u128::from_str_radix(&digest(text)[..32], 16).ok();
    let bare = Publication { idempotency_key: None, ..publication.clone() };
    let json = serde_json::to_vec(&bare).ok()?;
    Some(Use { key: half(format!("{}\n{own}", key.name).as_bytes())?, publication: half(&json)? })
}
