//! Every strategy: each partition once, only to subscribers, balanced, and little moved.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::{Just, ProptestConfig, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as Generator;
use proto::TopicId;
use uuid::Uuid;

use super::*;
use crate::zk::Payload;
use crate::zk::payload::{PlanNode, Subscription};

fn topic(id: u128, partitions: u32) -> TopicInput {
    TopicInput { topic_id: TopicId(Uuid::from_u128(id)), partitions }
}

fn topics(list: &[(&str, u32)]) -> Topics {
    let numbered = list.iter().zip(1..);
    numbered.map(|(&(name, count), id)| (name.to_owned(), topic(id, count))).collect()
}

fn member(list: &[(&str, u32)]) -> Subscription {
    Subscription::Topics(list.iter().map(|&(name, streams)| (name.to_owned(), streams)).collect())
}

fn members(list: &[(&str, Subscription)]) -> Members {
    list.iter().map(|(id, subscription)| ((*id).to_owned(), subscription.clone())).collect()
}

/// Partitions of a topic that each (member, stream) owns.
fn shares(plan: &Plan, name: &str) -> BTreeMap<(String, u32), u32> {
    let mut shares = BTreeMap::new();
    for partition in 0.. {
        let Some((member, stream)) = plan.owner(name, partition) else { break };
        *shares.entry((member.to_owned(), stream)).or_default() += 1;
    }
    shares
}

/// Partitions whose owner, member or stream, differs between two plans of the same topics.
fn moved(before: &Plan, after: &Plan) -> usize {
    let all = after.topics().flat_map(|(name, topic)| {
        (0..topic.partitions as i32).map(move |partition| (name, partition))
    });
    all.filter(|&(name, p)| before.owner(name, p).is_some())
        .filter(|&(name, p)| before.owner(name, p) != after.owner(name, p))
        .count()
}

#[test]
fn range_counts_streams_and_gives_the_first_the_remainder() {
    let members = members(&[("a", member(&[("t", 2)])), ("b", member(&[("t", 1)]))]);
    let plan = Plan::compute(Strategy::Range, &members, &topics(&[("t", 7)]), None);
    let owned = plan.of_member("a");
    let of_a: Vec<_> = owned["t"].iter().map(|o| (o.partition, o.stream)).collect();
    assert_eq!(of_a, [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1)]);
    assert_eq!(plan.owner("t", 6), Some(("b", 0)));
    assert_eq!(plan.owner("t", 7), None);
    assert!(plan.of_member("nobody").is_empty());
}

#[test]
fn only_subscribed_topics_and_members_count() {
    let pattern = Subscription::Pattern { regex: "web|app.*".into(), streams: 1 };
    let members = members(&[("a", member(&[("db", 1)])), ("b", pattern)]);
    let topics = topics(&[("app-1", 2), ("db", 2), ("other", 5), ("web", 1), ("web2", 1)]);
    for strategy in [Strategy::Range, Strategy::Sticky] {
        let plan = Plan::compute(strategy, &members, &topics, None);
        let names: Vec<_> = plan.topics().map(|(name, _)| name).collect();
        assert_eq!(names, ["app-1", "db", "web"]);
        assert_eq!(plan.of_member("a").keys().copied().collect::<Vec<_>>(), ["db"]);
        assert_eq!(plan.of_member("b").keys().copied().collect::<Vec<_>>(), ["app-1", "web"]);
    }
}

#[test]
fn a_plan_fits_until_what_it_counts_with_changes() {
    let some = members(&[("a", member(&[("t", 1)])), ("b", member(&[("t", 1)]))]);
    let known = topics(&[("t", 4), ("u", 4)]);
    let plan = Plan::compute(Strategy::Sticky, &some, &known, None);
    assert!(plan.fits(&some, &known));
    let mut grown = known.clone();
    grown.insert("u".into(), topic(9, 8));
    assert!(plan.fits(&some, &grown), "nobody reads u");
    grown.insert("t".into(), topic(1, 5));
    assert!(!plan.fits(&some, &grown));
    grown.insert("t".into(), topic(8, 4));
    assert!(!plan.fits(&some, &grown), "another topic of the name");
    grown.remove("t");
    assert!(!plan.fits(&some, &grown));
    let one = members(&[("a", member(&[("t", 1)]))]);
    assert!(!plan.fits(&one, &known));
    let more_streams = members(&[("a", member(&[("t", 2)])), ("b", member(&[("t", 1)]))]);
    assert!(!plan.fits(&more_streams, &known));
}

#[test]
fn a_topic_created_again_is_assigned_afresh() {
    let some = members(&[("a", member(&[("t", 1)])), ("b", member(&[("t", 1)]))]);
    let odd = Plan::compute(Strategy::Sticky, &some, &topics(&[("t", 3)]), None);
    let known: Topics = [("t".to_owned(), topic(77, 3))].into();
    let again = Plan::compute(Strategy::Sticky, &some, &known, Some(&odd));
    assert_eq!(again, Plan::compute(Strategy::Sticky, &some, &known, None));
}

#[test]
fn many_small_topics_are_spread_by_sticky() {
    let names: Vec<String> = (0..40).map(|i| format!("t{i:02}")).collect();
    let known: Topics = names.iter().map(|n| (n.clone(), topic(1, 1))).collect();
    let wants = |_| Subscription::Pattern { regex: "t.*".into(), streams: 1 };
    let some: Members = (0..4).map(|i| (format!("m{i}"), wants(i))).collect();
    let plan = Plan::compute(Strategy::Sticky, &some, &known, None);
    for id in some.keys() {
        assert_eq!(plan.of_member(id).len(), 10);
    }
    // A fifth takes two from each, and nothing else moves.
    let mut more = some.clone();
    more.insert("m4".into(), wants(4));
    let next = Plan::compute(Strategy::Sticky, &more, &known, Some(&plan));
    assert_eq!(next.of_member("m4").len(), 8);
    assert_eq!(moved(&plan, &next), 8);
}

#[test]
fn a_hundred_thousand_partitions_fit_into_a_node() {
    let known: Topics = (0..100).map(|i| (format!("topic-{i:03}"), topic(i, 1000))).collect();
    let wants = || Subscription::Pattern { regex: "topic-.*".into(), streams: 4 };
    let some: Members = (0..50).map(|i| (format!("consumer-{i:02}-host"), wants())).collect();
    let range = Plan::compute(Strategy::Range, &some, &known, None);
    assert!(range.to_node().encode().unwrap().len() < 300_000);
    let mut plan = Plan::compute(Strategy::Sticky, &some, &known, None);
    // Members come and go until no runs are left.
    let mut alive = some;
    for i in 0..8 {
        alive.pop_first();
        alive.insert(format!("later-{i:02}-host"), wants());
        plan = Plan::compute(Strategy::Sticky, &alive, &known, Some(&plan));
    }
    let bytes = plan.to_node().encode().unwrap();
    assert!(bytes.len() < 700_000, "{}", bytes.len());
    let read = Plan::from_node(PlanNode::decode("/plan", &bytes).unwrap()).unwrap();
    assert_eq!(read, plan);
}

#[test]
fn written_plans_that_contradict_themselves_are_refused() {
    let some = members(&[("a", member(&[("t", 1)]))]);
    let good = Plan::compute(Strategy::Range, &some, &topics(&[("t", 3)]), None).to_node();
    assert!(Plan::from_node(good.clone()).is_ok());
    let with = |change: &dyn Fn(&mut PlanNode)| {
        let mut bad = good.clone();
        change(&mut bad);
        Plan::from_node(bad).unwrap_err()
    };
    with(&|bad| bad.strategy = "magic".into());
    with(&|bad| bad.slots = vec![(7, 0)]);
    for owners in [
        vec![],
        vec![0],
        vec![0, -3],
        vec![-1, 0],
        vec![1, -2],
        vec![0, i64::MIN],
        vec![i64::MAX],
        vec![0, 0, 0, 0],
    ] {
        with(&|bad| {
            if let Some(t) = bad.topics.get_mut("t") {
                t.owners.clone_from(&owners);
            }
        });
    }
    with(&|bad| {
        if let Some(t) = bad.topics.get_mut("t") {
            t.partitions = u32::MAX;
            t.owners = vec![0, 1 - i64::from(u32::MAX)];
        }
    });
}

#[test]
fn an_absurd_number_of_streams_is_harmless() {
    let some = members(&[("a", member(&[("t", u32::MAX)])), ("b", member(&[("t", 1)]))]);
    let plan = Plan::compute(Strategy::Range, &some, &topics(&[("t", 4), ("u", 0)]), None);
    assert_eq!(plan.of_member("a")["t"].len(), 4);
}

const NAMES: [&str; 4] = ["alpha", "beta", "gamma", "delta"];

fn any_topics() -> impl Generator<Value = Topics> {
    proptest::collection::vec(0u32..24, 4).prop_map(|counts| {
        let list: Vec<_> = NAMES.into_iter().zip(counts).collect();
        topics(&list)
    })
}

fn any_member() -> impl Generator<Value = Subscription> {
    prop_oneof![
        proptest::collection::vec(0u32..4, 4).prop_map(|streams| {
            let wanted = NAMES.into_iter().zip(streams).filter(|(_, streams)| *streams > 0);
            member(&wanted.collect::<Vec<_>>())
        }),
        (1u32..4, 0usize..3).prop_map(|(streams, i)| Subscription::Pattern {
            regex: [".*", "a.*|delta", "no such"][i].into(),
            streams,
        }),
    ]
}

fn any_members() -> impl Generator<Value = Members> {
    proptest::collection::btree_map("m[0-9]{1,2}", any_member(), 0..7)
}

fn any_strategy() -> impl Generator<Value = Strategy> {
    prop_oneof![Just(Strategy::Range), Just(Strategy::Sticky)]
}

fn reads(subscription: &Subscription, name: &str) -> u32 {
    match subscription {
        Subscription::Topics(topics) => topics.get(name).copied().unwrap_or(0),
        Subscription::Pattern { regex, streams } => {
            let matches = match regex.as_str() {
                ".*" => true,
                "a.*|delta" => name.starts_with('a') || name == "delta",
                _ => false,
            };
            if matches { *streams } else { 0 }
        }
    }
}

/// Everything that holds for every plan.
fn check(plan: &Plan, members: &Members, topics: &Topics) {
    assert!(plan.fits(members, topics));
    let mut by_members = BTreeSet::new();
    for id in members.keys() {
        for (name, owned) in plan.of_member(id) {
            for one in owned {
                assert!(one.stream < reads(&members[id], name), "{id} does not read {name}");
                assert!(by_members.insert((name, one.partition)), "owned twice");
            }
        }
    }
    for (name, input) in topics {
        let slots: u32 = members.values().map(|m| reads(m, name)).sum();
        let expected = if slots > 0 { input.partitions } else { 0 };
        let owned = by_members.iter().filter(|(n, _)| n == name).count();
        assert_eq!(owned, expected as usize, "every partition of {name} has an owner");
        if expected > 0 {
            let shares = shares(plan, name);
            let floor = input.partitions / slots;
            let max = shares.values().copied().max().unwrap_or(0);
            let min = if shares.len() < slots as usize {
                0
            } else {
                shares.values().copied().min().unwrap_or(0)
            };
            assert!(max - min <= 1, "{name}: {shares:?}");
            assert!(min >= floor, "{name}: {shares:?}");
        }
    }
    let read = Plan::from_node(plan.to_node()).unwrap();
    assert_eq!(read, *plan);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_partition_has_one_subscribed_owner(
        members in any_members(),
        topics in any_topics(),
        strategy in any_strategy(),
    ) {
        let plan = Plan::compute(strategy, &members, &topics, None);
        check(&plan, &members, &topics);
        // Nothing changed, so nothing moves, and whoever computes gets the same.
        let again = Plan::compute(strategy, &members, &topics, Some(&plan));
        prop_assert_eq!(moved(&plan, &again), 0);
    }

    #[test]
    fn plans_hold_through_a_history(
        history in proptest::collection::vec((any_members(), any_topics()), 2..6),
    ) {
        let mut previous = None;
        for (members, topics) in &history {
            let plan = Plan::compute(Strategy::Sticky, members, topics, previous.as_ref());
            check(&plan, members, topics);
            previous = Some(plan);
        }
    }

    /// One topic: exactly as many partitions move as balance asks for.
    #[test]
    fn sticky_moves_the_least(
        before in 1usize..9, after in 1usize..9, partitions in 0u32..60, gone in 0usize..9,
    ) {
        let group = |ids: std::ops::Range<usize>| -> Members {
            ids.map(|i| (format!("m{i:02}"), member(&[("t", 1)]))).collect()
        };
        let known = topics(&[("t", partitions)]);
        let old = Plan::compute(Strategy::Sticky, &group(0..before), &known, None);
        let next = group(gone..gone + after);
        let plan = Plan::compute(Strategy::Sticky, &next, &known, Some(&old));
        // The largest shares keep the larger quotas.
        let mut kept: Vec<u32> =
            next.keys().map(|id| *shares(&old, "t").get(&(id.clone(), 0)).unwrap_or(&0)).collect();
        kept.sort_unstable_by(|a, b| b.cmp(a));
        let (each, extra) = (partitions as usize / after, partitions as usize % after);
        let stay: usize = kept.iter().enumerate()
            .map(|(i, &had)| (had as usize).min(each + usize::from(i < extra))).sum();
        let orphans_and_surplus = partitions as usize - stay;
        prop_assert_eq!(moved(&old, &plan), orphans_and_surplus);
    }

    /// Many topics read alike by all: totals within one, and a join moves no more than its share.
    #[test]
    fn equal_members_are_level_over_all_topics(
        counts in proptest::collection::vec(1u32..10, 1..30), size in 1usize..8,
    ) {
        let known: Topics = counts.iter().enumerate()
            .map(|(i, &count)| (format!("t{i:02}"), topic(1, count))).collect();
        let group = |size: usize| -> Members {
            let wants = || Subscription::Pattern { regex: ".*".into(), streams: 1 };
            (0..size).map(|i| (format!("m{i:02}"), wants())).collect()
        };
        let total = |plan: &Plan, i: usize| -> usize {
            plan.of_member(&format!("m{i:02}")).values().map(Vec::len).sum()
        };
        let level = |plan: &Plan, size: usize| {
            let totals: Vec<usize> = (0..size).map(|i| total(plan, i)).collect();
            let spread = totals.iter().max().unwrap() - totals.iter().min().unwrap();
            assert!(spread <= 1, "{totals:?}");
        };
        let plan = Plan::compute(Strategy::Sticky, &group(size), &known, None);
        level(&plan, size);
        let joined = Plan::compute(Strategy::Sticky, &group(size + 1), &known, Some(&plan));
        level(&joined, size + 1);
        let left = Plan::compute(Strategy::Sticky, &group(size), &known, Some(&joined));
        level(&left, size);
        let all: u32 = counts.iter().sum();
        // Balance within each topic may ask for one more a topic.
        let bound = all as usize / (size + 1) + 1 + counts.len();
        prop_assert!(moved(&plan, &joined) <= bound, "{} > {bound}", moved(&plan, &joined));
        prop_assert!(moved(&joined, &left) <= bound, "{} > {bound}", moved(&joined, &left));
    }
}
