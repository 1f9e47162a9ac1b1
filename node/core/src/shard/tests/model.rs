//! Random joins, leaves, publishes and losses over several shards against a model that is too simple to be wrong.

use std::collections::{BTreeMap, BTreeSet};

use super::harness::{Client, Sim};

const TOPICS: usize = 4;
const MAX_MEMBERS: u32 = 5;
const MAX_ROOMS: u32 = 3;

#[derive(Default)]
struct Model {
    rooms: BTreeMap<usize, BTreeSet<usize>>,
    expected: Vec<Vec<String>>,
}

#[test]
fn rooms_behave_like_the_model() {
    arbtest::arbtest(|u| {
        let shards = u.int_in_range(1..=3)?;
        let mut sim = Sim::new(shards, false, |config| {
            config.rooms.max_members = MAX_MEMBERS;
            config.limits.max_rooms = Some(MAX_ROOMS);
        });
        let mut clients: Vec<Option<Client>> = Vec::new();
        let mut model = Model::default();
        for step in 0..u.int_in_range(1..=60)? {
            let topic = u.int_in_range(0..=TOPICS - 1)?;
            let who = u.int_in_range(0..=7)?;
            let Some(client) = clients.get(who).copied().flatten() else {
                let shard = u.int_in_range(0..=usize::from(shards) - 1)?;
                clients.push(Some(sim.connect_to(shard, "2.0.0")));
                model.expected.push(Vec::new());
                continue;
            };
            match u.int_in_range(0..=9)? {
                0..=3 => join(&mut sim, &mut model, who, client, topic),
                4 => {
                    sim.text(client, &format!(r#"[null,"l","room:{topic}","phx_leave",{{}}]"#));
                    model.rooms.entry(topic).or_default().remove(&who);
                    check(&mut sim, &mut model, who, client);
                }
                5..=8 => publish(&mut sim, &mut model, who, client, (topic, step)),
                _ => {
                    check(&mut sim, &mut model, who, client);
                    sim.lose(client);
                    clients[who] = None;
                    model.rooms.values_mut().for_each(|members| members.retain(|member| *member != who));
                }
            }
        }
        for (who, client) in clients.iter().enumerate() {
            if let Some(client) = client {
                check(&mut sim, &mut model, who, *client);
            }
        }
        let memberships: usize = model.rooms.values().map(BTreeSet::len).sum();
        assert_eq!(sim.counters().memberships, memberships as u64);
        let topics = model.rooms.values().filter(|members| !members.is_empty()).count();
        assert_eq!(sim.shards[0].options.registry.topics() as usize, topics);
        Ok(())
    });
}

fn join(sim: &mut Sim, model: &mut Model, who: usize, client: Client, topic: usize) {
    check(sim, model, who, client);
    sim.text(client, &format!(r#"["j","j","room:{topic}","phx_join",{{}}]"#));
    let rooms = model.rooms.values().filter(|members| !members.is_empty()).count();
    let members = model.rooms.entry(topic).or_default();
    let exists = !members.is_empty() || rooms < MAX_ROOMS as usize;
    let fits = members.contains(&who) || (exists && members.len() < MAX_MEMBERS as usize);
    if fits {
        members.insert(who);
    }
    let replies = sim.texts(client);
    assert_eq!(replies[0].contains(r#""status":"ok""#), fits, "{replies:?}");
}

fn publish(sim: &mut Sim, model: &mut Model, who: usize, client: Client, (topic, step): (usize, u32)) {
    sim.text(client, &format!(r#"[null,"p","room:{topic}","m",{{"n":{step}}}]"#));
    let members = model.rooms.entry(topic).or_default();
    if members.contains(&who) {
        for member in members.iter() {
            model.expected[*member].push(format!(r#"[null,null,"room:{topic}","m",{{"n":{step}}}]"#));
        }
    } else {
        check(sim, model, who, client);
    }
}

/// Compares the broadcasts that came with those expected, passing over replies.
fn check(sim: &mut Sim, model: &mut Model, who: usize, client: Client) {
    let got: Vec<_> = sim.texts(client).into_iter().filter(|text| text.starts_with("[null,null")).collect();
    assert_eq!(got, std::mem::take(&mut model.expected[who]), "client {who}");
}
