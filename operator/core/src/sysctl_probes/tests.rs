use std::collections::{BTreeMap, BTreeSet};

use crds::{ChannelClusterStatus, ProbeVerdict, SysctlProbes};
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use super::{
    AGAIN_MILLIS, Answer, Order, PLACE_MILLIS, Pool, ProbePod, Proof, ROUND_MILLIS, Wish, are_watched, key,
    pools, proof, rejected, sentence, step,
};
use crate::build::probe;
use crate::fixtures::{cluster, env};
use crate::validate::{Fetched, ValidatedCluster, validate};

const TUNING: &str = "t";
const SOMAXCONN: &str = "net.core.somaxconn";
const SPEC: &str = "{targetConnections: 1000, rooms: {maxMembers: 150}, auth: {anonymous: true}, \
    tuning: {profile: None, sysctls: {net.core.somaxconn: '4096', net.ipv4.tcp_fin_timeout: '15'}}}";

fn names() -> Vec<String> {
    vec![SOMAXCONN.to_owned()]
}

fn wish(lacks: bool) -> Wish<'static> {
    Wish { tuning: TUNING, names: names(), lacks }
}

fn labelled(value: &str) -> Pool {
    Pool::Labelled("karpenter.sh/nodepool".to_owned(), value.to_owned())
}

fn pod(pool: &Pool, created: u64, answer: Answer) -> ProbePod {
    ProbePod { name: Some(pool.name()), pool: pool.name(), key: key(TUNING, &names()), created, answer }
}

fn verdicts(record: &SysctlProbes) -> Vec<ProbeVerdict> {
    record.pools.iter().map(|pool| pool.verdict).collect()
}

fn standing(record: Option<&SysctlProbes>) -> Proof {
    let status = ChannelClusterStatus { sysctl_probes: record.cloned(), ..ChannelClusterStatus::default() };
    let unsafe_ones = BTreeMap::from([(SOMAXCONN.to_owned(), "4096".to_owned())]);
    proof(Some(&status), TUNING, &unsafe_ones, &BTreeSet::new())
}

/// A record after a round that began at 1,000 s with these answers.
fn after(answers: &[(Pool, Answer)]) -> SysctlProbes {
    let pools: Vec<_> = answers.iter().map(|(pool, _)| pool.clone()).collect();
    let (record, _) = step(None, Some(&wish(true)), &pools, &[], 1_000_000);
    let pods: Vec<_> = answers.iter().map(|(pool, answer)| pod(pool, 1_000_000, answer.clone())).collect();
    let later = 1_000_000 + ROUND_MILLIS;
    step(record.as_ref(), Some(&wish(true)), &pools, &pods, later).0.unwrap()
}

#[test]
fn each_pool_is_tried_once_and_all_have_to_allow() {
    let pools = [labelled("a"), labelled("b")];
    assert_eq!(standing(None), Proof::Awaited);
    let (record, orders) = step(None, Some(&wish(true)), &pools, &[], 1_000_000);
    let record = record.unwrap();
    assert_eq!(orders, pools.clone().map(Order::Make));
    assert_eq!(standing(Some(&record)), Proof::Awaited);
    assert_eq!(sentence(&record).unwrap().1, "SysctlProbing");

    let pods =
        [pod(&pools[0], 1_000_000, Answer::Taken), pod(&pools[1], 1_000_000, Answer::Waits(String::new()))];
    let (record, orders) = step(Some(&record), Some(&wish(true)), &pools, &pods, 1_002_000);
    let record = record.unwrap();
    assert_eq!(verdicts(&record), [ProbeVerdict::Allowed, ProbeVerdict::Pending]);
    assert_eq!(orders, [Order::Delete(pools[0].name())], "its pod is not needed any more");

    let pods = [pod(&pools[1], 1_000_000, Answer::Taken)];
    let record = step(Some(&record), Some(&wish(true)), &pools, &pods, 1_004_000).0.unwrap();
    assert_eq!((standing(Some(&record)), sentence(&record)), (Proof::Given, None));
    let again = step(Some(&record), Some(&wish(false)), &pools, &[], 1_000_000 + 10 * AGAIN_MILLIS);
    assert_eq!(again, (Some(record), vec![]), "it stays so");
}

#[test]
fn what_nodes_have_is_not_tried() {
    let unsafe_ones = BTreeMap::from([(SOMAXCONN.to_owned(), "4096".to_owned())]);
    let kept = BTreeSet::from([SOMAXCONN.to_owned()]);
    assert_eq!(proof(None, TUNING, &unsafe_ones, &kept), Proof::Given);
    assert_eq!(step(None, Some(&wish(false)), &[labelled("a")], &[], 1), (None, vec![]));
    assert_eq!(proof(None, TUNING, &BTreeMap::new(), &BTreeSet::new()), Proof::Given);
}

#[test]
fn a_refusal_is_recorded_like_that_of_a_node() {
    let words = "forbidden sysctl: \"net.core.somaxconn\" not allowlisted".to_owned();
    let record = after(&[(labelled("a"), Answer::Forbidden(words.clone())), (labelled("b"), Answer::Taken)]);
    assert_eq!(verdicts(&record), [ProbeVerdict::Forbidden, ProbeVerdict::Allowed]);
    let pods =
        [pod(&labelled("a"), 7, Answer::Forbidden(words.clone())), pod(&labelled("b"), 7, Answer::Taken)];
    let found = rejected(&wish(true), &pods, "hash");
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].template.as_deref(), &found[0].sysctls, &found[0].message),
        (Some("hash"), &names(), &words)
    );
    let other = ProbePod { key: "of another tuning".to_owned(), ..pods[0].clone() };
    assert!(rejected(&wish(true), &[other], "hash").is_empty());
}

#[test]
fn a_pool_that_does_not_answer_is_no_yes_and_is_asked_again() {
    let slow = [labelled("a")];
    let record = after(&[(labelled("a"), Answer::Waits("ImagePullBackOff".to_owned()))]);
    assert_eq!(
        (verdicts(&record), standing(Some(&record))),
        (vec![ProbeVerdict::Unanswered], Proof::Missing)
    );
    let (_, reason, text) = sentence(&record).unwrap();
    assert!(
        reason == "SysctlUnproven" && text.contains("ImagePullBackOff") && text.contains(SOMAXCONN),
        "{text}"
    );

    let again = 1_000_000 + AGAIN_MILLIS;
    let before = step(Some(&record), Some(&wish(true)), &slow, &[], again - 1_000);
    assert_eq!(before.1, []);
    let (round, orders) = step(before.0.as_ref(), Some(&wish(true)), &slow, &[], again);
    assert_eq!(orders, [Order::Make(labelled("a"))]);
    assert_eq!(standing(round.as_ref()), Proof::Missing, "nothing waits for it any more");
    let taken = [pod(&slow[0], again, Answer::Taken)];
    let round = step(round.as_ref(), Some(&wish(true)), &slow, &taken, again + 2_000).0;
    assert_eq!(standing(round.as_ref()), Proof::Given);
}

#[test]
fn a_pool_where_nothing_is_placed_holds_nobody_up() {
    let pools = [labelled("a"), labelled("gpu")];
    let (record, _) = step(None, Some(&wish(true)), &pools, &[], 1_000_000);
    let unplaced = Answer::Unplaced("0/9 nodes are available".to_owned());
    let pods = [pod(&pools[0], 1_000_000, Answer::Taken), pod(&pools[1], 1_000_000, unplaced)];
    let at = |millis| step(record.as_ref(), Some(&wish(true)), &pools, &pods, 1_000_000 + millis).0;
    let orders =
        step(at(PLACE_MILLIS).as_ref(), Some(&wish(true)), &pools, &pods, 1_000_000 + PLACE_MILLIS).1;
    assert!(orders.contains(&Order::Delete(pools[1].name())), "no autoscaler buys a machine for it");
    assert_eq!(standing(at(PLACE_MILLIS - 1).as_ref()), Proof::Awaited);
    let record = at(PLACE_MILLIS).unwrap();
    assert_eq!(verdicts(&record), [ProbeVerdict::Allowed, ProbeVerdict::NotPlaced]);
    assert_eq!(standing(Some(&record)), Proof::Given);
    assert_eq!(standing(Some(&after(&[]))), Proof::Missing, "no machine has shown anything");
}

#[test]
fn a_new_pool_is_tried_when_it_comes_and_unseen_machines_change_nothing() {
    let record = after(&[(labelled("a"), Answer::Taken)]);
    let both = [labelled("a"), labelled("b")];
    let (grown, orders) = step(Some(&record), Some(&wish(false)), &both, &[], 9_000_000);
    assert_eq!(orders, [Order::Make(labelled("b"))]);
    assert!(are_watched(grown.as_ref(), Some(&wish(false)), 9_001_000));
    assert!(!are_watched(grown.as_ref(), Some(&wish(false)), 9_000_000 + 2 * ROUND_MILLIS));
    let unseen = step(Some(&record), Some(&wish(false)), &[Pool::Any], &[], 9_000_000);
    assert_eq!(unseen, (Some(record.clone()), vec![]));
    let gone = step(Some(&record), Some(&wish(false)), &[labelled("b")], &[], 9_000_000).0.unwrap();
    assert_eq!(
        verdicts(&gone),
        [ProbeVerdict::Allowed, ProbeVerdict::Pending],
        "its only machine may be away for a while"
    );
    let nothing = step(Some(&record), None, &both, &[pod(&both[0], 1, Answer::Taken)], 9_000_000);
    assert_eq!(nothing, (None, vec![Order::Delete(both[0].name())]), "nothing is asked for any more");
}

#[test]
fn what_a_pod_tells() {
    let read = |status: Value| {
        let meta = json!({
            "name": "p", "labels": {"channelcluster.io/sysctl-probe": "k"}, "annotations": {"channelcluster.io/pool": "x=y"},
        });
        let pod: Pod = serde_json::from_value(json!({"metadata": meta, "status": status})).unwrap();
        ProbePod::of(&pod).unwrap().answer
    };
    assert_eq!(read(json!({"phase": "Pending"})), Answer::Waits("Pending".to_owned()));
    let unplaced = json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "no"}]});
    assert_eq!(read(unplaced), Answer::Unplaced("no".to_owned()));
    assert_eq!(read(json!({"podIP": "10.0.0.1"})), Answer::Taken);
    let failed = json!({"phase": "Failed", "reason": "SysctlForbidden", "message": "forbidden sysctl"});
    assert_eq!(read(failed), Answer::Forbidden("forbidden sysctl".to_owned()));
    let evicted = json!({"phase": "Failed", "reason": "OutOfpods"});
    assert_eq!(read(evicted), Answer::Ended("OutOfpods".to_owned()));
    let refused = |words| ProbePod::refused("x=y".to_owned(), "k".to_owned(), &names(), words, 1).answer;
    assert!(matches!(refused("violates PodSecurity: forbidden sysctls (a.b)"), Answer::Forbidden(_)));
    assert!(matches!(refused("denied the request: net.core.somaxconn"), Answer::Forbidden(_)));
    assert!(matches!(refused("pods \"chat-sysctls-1\" is forbidden: exceeded quota"), Answer::Waits(_)));
    assert_eq!(ProbePod::of(&Pod::default()), None);
}

#[test]
fn machines_are_of_the_pool_that_their_labels_say() {
    let node = |name: &str, labels: Value, cordoned: bool| -> Node {
        let meta = json!({"name": name, "labels": labels});
        serde_json::from_value(json!({"metadata": meta, "spec": {"unschedulable": cordoned}})).unwrap()
    };
    let pool = |value: &str| json!({"karpenter.sh/nodepool": value, "kubernetes.io/arch": "amd64"});
    let all = [
        node("m1", pool("b"), false),
        node("m2", pool("a"), false),
        node("m3", pool("a"), false),
        node("m4", json!({}), false),
        node("m5", pool("c"), true),
    ];
    assert_eq!(pools(all.iter()), [labelled("a"), labelled("b"), Pool::Machine("m4".to_owned())]);
}

fn valid(spec: &str, status: Option<ChannelClusterStatus>, fetched: &Fetched) -> ValidatedCluster {
    let mut cluster = cluster(spec);
    cluster.status = status;
    validate(&cluster, &env(), fetched).unwrap()
}

#[test]
fn nodes_are_made_without_what_is_not_proven_and_keep_what_they_have() {
    let fresh = valid(SPEC, None, &Fetched::default());
    assert_eq!(fresh.pod.proof, Proof::Awaited);
    assert_eq!(fresh.pod.sysctls.keys().collect::<Vec<_>>(), ["net.ipv4.tcp_fin_timeout"]);
    let fetched = Fetched { sysctls: BTreeSet::from([SOMAXCONN.to_owned()]), ..Fetched::default() };
    let serving = valid(SPEC, None, &fetched);
    assert_eq!((serving.pod.proof, serving.pod.sysctls.len()), (Proof::Given, 2));

    let wish = fresh.sysctl_wish().unwrap();
    let (record, _) = step(None, Some(&wish), &[Pool::Any], &[], 1_000_000);
    let any = ProbePod { key: wish.key(), ..pod(&Pool::Any, 1_000_000, Answer::Taken) };
    let record = step(record.as_ref(), Some(&wish), &[Pool::Any], &[any], 1_002_000).0;
    let status = ChannelClusterStatus { sysctl_probes: record, ..ChannelClusterStatus::default() };
    let proven = valid(SPEC, Some(status), &Fetched::default());
    assert_eq!((proven.pod.proof, &proven.pod.sysctls), (Proof::Given, &serving.pod.sysctls));
    assert_eq!(proven.template, serving.template);
}

#[test]
fn the_pod_asks_for_what_nodes_would_and_goes_where_they_may_go() {
    let selected = SPEC.replacen(
        "rooms:",
        "nodes: {nodeSelector: {disk: ssd}, affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: \
         {nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: [z]}]}]}}}}, rooms:",
        1,
    );
    let fleet = valid(&selected, None, &Fetched::default());
    let made = serde_json::to_value(probe(&fleet, &fleet.sysctl_wish().unwrap(), &labelled("a"))).unwrap();
    let sysctls = made.pointer("/spec/securityContext/sysctls").unwrap().as_array().unwrap();
    assert_eq!(sysctls.len(), 2, "{made}");
    assert_eq!(made.pointer("/spec/nodeSelector/disk").unwrap(), "ssd");
    let terms =
        "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    let conditions = made.pointer(terms).unwrap()[0]["matchExpressions"].as_array().unwrap();
    let keys: Vec<_> = conditions.iter().map(|one| one["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["zone", "karpenter.sh/nodepool"]);
    assert!(
        made.pointer("/spec/volumes").is_none() && made.pointer("/spec/serviceAccountName").is_none(),
        "{made}"
    );
    assert_eq!(made.pointer("/metadata/ownerReferences/0/uid").unwrap(), &json!(fleet.uid));
    let machine =
        serde_json::to_value(probe(&fleet, &fleet.sysctl_wish().unwrap(), &Pool::Machine("m".to_owned())))
            .unwrap();
    assert_eq!(machine.pointer(terms).unwrap()[0]["matchFields"][0]["values"][0], "m");
    let plain = valid(SPEC, None, &Fetched::default());
    assert!(probe(&plain, &plain.sysctl_wish().unwrap(), &Pool::Any).spec.unwrap().affinity.is_none());
}

#[test]
fn machines_that_come_one_after_the_other_hold_a_spec_no_longer_than_one_round() {
    let mut pools = vec![labelled("a")];
    let mut record = step(None, Some(&wish(true)), &pools, &[], 1_000_000).0;
    for minute in 1..5u64 {
        pools.push(labelled(&format!("b{minute}")));
        record = step(record.as_ref(), Some(&wish(true)), &pools, &[], 1_000_000 + minute * 20_000).0;
    }
    assert_eq!(standing(record.as_ref()), Proof::Missing);
    pools.push(labelled("c"));
    let (after, orders) = step(record.as_ref(), Some(&wish(true)), &pools, &[], 1_200_000);
    assert_eq!(standing(after.as_ref()), Proof::Missing, "the fleet goes on meanwhile");
    assert!(orders.contains(&Order::Make(labelled("c"))));
    let ended = [pod(&pools[5], 1_201_000, Answer::Ended("OutOfpods".to_owned()))];
    let (_, orders) = step(after.as_ref(), Some(&wish(true)), &pools, &ended, 1_202_000);
    assert!(orders.contains(&Order::Delete(pools[5].name())), "another one is made then");
}

#[test]
fn a_refusal_that_left_nothing_out_is_no_permission() {
    let record =
        after(&[(labelled("a"), Answer::Forbidden("no".to_owned())), (labelled("b"), Answer::Taken)]);
    assert_eq!(standing(Some(&record)), Proof::Missing);
}

#[test]
fn what_was_given_up_stays_given_up_when_a_kubelet_has_answered() {
    let with_all =
        valid(SPEC, None, &Fetched { sysctls: BTreeSet::from([SOMAXCONN.to_owned()]), ..Fetched::default() });
    let without = valid(SPEC, None, &Fetched::default());
    assert_ne!(with_all.template, without.template);
    for given_up in [&with_all.template, &without.template] {
        let back = json!({"from": given_up, "to": "old", "at": "2026-01-01T00:00:00Z", "asked": false, "message": "m"});
        let status = json!({"conditions": [], "rollout": {"rolledBack": back, "deployments": []}});
        let status: ChannelClusterStatus = serde_json::from_value(status).unwrap();
        let now = valid(SPEC, Some(status), &Fetched::default());
        assert_eq!((now.template.as_str(), now.given_up.as_ref()), ("old", Some(given_up)));
    }
}
