//! Publishing: to the members of topics, by whichever node is asked.
//!
//! What goes to all members takes the way of a client's message: one item for each shard with members, one copy on the bus for
//! each other node with members. Only a publication that spares somebody is asked of every node.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use axum::{Json, extract::State, http::HeaderMap};
use futures::future::join_all;
use node_core::{
    api::{
        call::{Call, Said},
        keys::{Key, digest},
        request::{Batch, Publication, Sayable},
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
    auth::{Publisher, needs_topic},
    problem::{Problem, Sort, Written},
    read::Body,
};
use crate::mailbox::ShardHandle;

/// The header of the draft for idempotency keys (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// How long a batch may take before its rest is put off: less than a request may take on the admin port.
const BATCH_PATIENCE: Duration = Duration::from_secs(5);

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
    Publisher(caller): Publisher,
    headers: HeaderMap,
    Body(mut publication): Body<Publication>,
) -> Result<Json<Published>, Problem> {
    if publication.idempotency_key.is_none()
        && let Some(value) = headers.get(IDEMPOTENCY_KEY)
    {
        let text = value.to_str().map_err(|_| {
            Problem::new(Sort::Malformed, "the header Idempotency-Key is no text", "write printable ASCII")
        })?;
        publication.idempotency_key = Some(text.to_owned());
    }
    to_the_end(async move {
        let mut rung = BTreeSet::new();
        let done = api.publish(caller.key(), &publication, &mut rung).await;
        api.ring(&mut rung);
        done.map(Json)
    })
    .await?
}

/// `POST /v1/publish/batch`.
pub(super) async fn batch(
    State(api): State<Arc<Api>>,
    Publisher(caller): Publisher,
    headers: HeaderMap,
    Body(Batch { publications }): Body<Batch>,
) -> Result<Json<Results>, Problem> {
    if headers.contains_key(IDEMPOTENCY_KEY) {
        let detail = "the header Idempotency-Key is for one publication";
        return Err(Problem::new(
            Sort::Invalid,
            detail,
            "give each publication an idempotencyKey of its own",
        ));
    }
    to_the_end(async move {
        let (mut results, mut rung) = (Vec::with_capacity(publications.len()), BTreeSet::new());
        let begun = Instant::now();
        for publication in &publications {
            let done = match begun.elapsed() < BATCH_PATIENCE {
                true => api.publish(caller.key(), publication, &mut rung).await,
                false => Err(Problem::busy("the batch took too long")),
            };
            results.push(done);
        }
        api.ring(&mut rung);
        Json(Results { results: Outcomes(results) })
    })
    .await
}

/// Goes on with something when the client has gone away: half of a publication, or one that nobody remembers, would be worse.
async fn to_the_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, Problem> {
    tokio::spawn(work).await.map_err(|_| Problem::busy("the node failed at it"))
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
            return Ok(published(self.say(publication, said, rung).await, false));
        };
        let homes = homes(used.key, self.others().0.into_iter().chain([self.tag()]));
        if let Some(done) = self.claim(used, &homes).await? {
            return Ok(published(done, true));
        }
        let outcome = self.say(publication, said, rung).await;
        self.ring(rung);
        // A second request, by whichever node, is to find how the first ended once that is answered. One that some may have
        // missed may be made again.
        self.settle(used, &homes, Some(outcome).filter(|outcome| outcome.reach == Reach::Fleet)).await;
        Ok(published(outcome, false))
    }

    /// Claims an idempotency key at its homes. Says how the publication ended that had it.
    async fn claim(&self, used: Use, homes: &[NodeTag]) -> Result<Option<Outcome>, Problem> {
        let asked = homes.iter().map(|home| self.at(*home, Call::Claim(used)));
        let known = join_all(asked).await.into_iter().map(|said| match said {
            Some(Said::Claim(claim)) => Some(claim),
            _ => None,
        });
        let known: Vec<_> = known.collect();
        let all = known.iter().flatten().copied().reduce(Claim::or);
        let (ended, problem) = match all {
            Some(Claim::New) => return Ok(None),
            Some(Claim::Done(outcome)) => (Some(outcome), None),
            Some(Claim::Pending) => (None, Some(under_way())),
            Some(Claim::Other) => (None, Some(used_before())),
            None => return Err(unanswered()),
        };
        // Those that knew nothing took the claim for granted.
        let new = homes.iter().zip(&known).filter(|(_, claim)| **claim == Some(Claim::New));
        let new: Vec<_> = new.map(|(home, _)| *home).collect();
        self.settle(used, &new, ended).await;
        problem.map_or(Ok(ended), Err)
    }

    /// Tells homes how the publication of a key ended; none forgets the key.
    async fn settle(&self, used: Use, homes: &[NodeTag], outcome: Option<Outcome>) {
        join_all(homes.iter().map(|home| self.at(*home, Call::Settle(used, outcome)))).await;
    }

    async fn say(&self, publication: &Publication, said: Sayable, rung: &mut BTreeSet<u8>) -> Outcome {
        let topics = u32::try_from(said.broadcasts.len()).unwrap_or(u32::MAX);
        if said.except.is_some() {
            let all = self.everywhere(Call::Say(Box::new(publication.clone()))).await;
            let is_whole = all.said().all(|said| matches!(said, Said::Done { partial: false, .. }));
            let reach = if is_whole && !all.is_partial() { Reach::Fleet } else { Reach::Part };
            return Outcome { topics, reach };
        }
        let mut reach = Reach::Fleet;
        for broadcast in said.broadcasts {
            if self.say_to_all(broadcast, rung).await == Reach::Part {
                reach = Reach::Part;
            }
        }
        Outcome { topics, reach }
    }

    /// Gives a broadcast to the shards and the other nodes that have members of its topic.
    async fn say_to_all(&self, broadcast: Broadcast, rung: &mut BTreeSet<u8>) -> Reach {
        let Some(content) = broadcast.unpack() else { return Reach::Fleet };
        self.app.api_counts.published();
        let (topic, mut reach): (Arc<str>, _) = (content.topic.into(), Reach::Fleet);
        for shard in self.app.topics.shards(&topic).iter() {
            rung.insert(shard);
            let mail = Mail::Remote { broadcast: broadcast.clone(), origin: Origin::Shard };
            if !self.send(shard, mail).await {
                reach = Reach::Part;
            }
        }
        let (Some(bus), Some(state)) = (&self.bus, &self.app.bus) else { return reach };
        if !state.connected() || bus.push(Command::Publish { topic, broadcast }).is_err() {
            state.counts.dropped_out.fetch_add(1, Relaxed);
            reach = Reach::Part;
        }
        bus.ring();
        reach
    }

    /// Wakes shards.
    fn ring(&self, shards: &mut BTreeSet<u8>) {
        let shards = std::mem::take(shards);
        shards
            .iter()
            .filter_map(|shard| self.app.shards.get(usize::from(*shard)))
            .for_each(ShardHandle::ring);
    }
}

const fn published(Outcome { topics, reach }: Outcome, repeated: bool) -> Published {
    Published { topics, reach, repeated }
}

fn under_way() -> Problem {
    Problem::new(
        Sort::InProgress,
        "a publication with this idempotency key is under way",
        "try again after a second",
    )
}

fn used_before() -> Problem {
    Problem {
        field: Some("idempotencyKey"),
        ..Problem::new(
            Sort::KeyReused,
            "the idempotency key was used for another publication",
            "make a new key for each publication",
        )
    }
}

fn unanswered() -> Problem {
    Problem::new(
        Sort::NoAnswer,
        "the nodes that know about this idempotency key do not answer",
        "try again after a second with the same key, or publish without one",
    )
}

/// The use of an idempotency key, which belongs to the API key that it came with.
fn used(key: &Key, publication: &Publication) -> Option<Use> {
    let own = publication.idempotency_key.as_ref()?;
    let half = |text: &[u8]| u128::from_str_radix(&digest(text)[..32], 16).ok();
    let bare = Publication { idempotency_key: None, ..publication.clone() };
    let json = serde_json::to_vec(&bare).ok()?;
    Some(Use { key: half(format!("{}\n{own}", key.name).as_bytes())?, publication: half(&json)? })
}
