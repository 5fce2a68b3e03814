//! The table of the state machine, line by line, and the leader's assignments.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use coordinator::rebalance::{TopicInput, Topics};
use proto::kafka::consumer_protocol::ConsumerSubscription;
use proto::{TopicId, TopicPartition};

use super::assignor::{self, GroupMember};
use super::classic_member::{ClassicMember, Effect, Input, Joined, Manner, Refused};
use crate::config::AssignmentStrategy;

const BEAT: Duration = Duration::from_millis(100);

fn tp(number: i32) -> TopicPartition {
    TopicPartition::new("t", number)
}

fn set(numbers: &[i32]) -> BTreeSet<TopicPartition> {
    numbers.iter().copied().map(tp).collect()
}

fn topics(id: TopicId) -> Topics {
    [("t".to_owned(), TopicInput { topic_id: id, partitions: 4 })].into()
}

/// A machine and its clock.
struct Rig {
    machine: ClassicMember,
    now: Instant,
    id: TopicId,
}

impl Rig {
    fn new(cooperative: bool) -> Self {
        let (now, retry) = (Instant::now(), Duration::from_millis(50));
        let manner = Manner { cooperative, is_static: false, heartbeat: BEAT, retry };
        Self { machine: ClassicMember::new(manner, now), now, id: TopicId::random() }
    }

    /// In a group, with these partitions.
    fn stable(cooperative: bool, mine: &[i32]) -> Self {
        let mut rig = Self::new(cooperative);
        assert_eq!(rig.give(Input::Topics(topics(rig.id))), [Effect::Find]);
        assert_eq!(rig.give(Input::Found(true)), [Effect::Join { owned: set(&[]) }]);
        let given = rig.join(1, mine);
        let begins = mine.iter().map(|n| Effect::Begin(tp(*n), rig.id)).collect::<Vec<_>>();
        assert_eq!(given, begins);
        rig
    }

    /// What is asked for; wakes left out.
    fn give(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = self.machine.handle([input], self.now);
        effects.retain(|effect| !matches!(effect, Effect::WakeAt(_)));
        effects
    }

    fn join(&mut self, generation: i32, mine: &[i32]) -> Vec<Effect> {
        let joined = Joined { member_id: "m".to_owned(), generation, leads: false };
        assert_eq!(self.give(Input::Joined(Ok(joined))), [Effect::Sync { leads: false }]);
        self.give(Input::Synced(Ok(set(mine))))
    }

    fn beat(&mut self, answer: Result<(), Refused>) -> Vec<Effect> {
        self.now += BEAT;
        assert_eq!(self.give(Input::Time), [Effect::Heartbeat]);
        self.give(Input::Answered(self.machine.attempt(), answer))
    }
}

#[test]
fn an_eager_member_releases_everything_before_it_joins() {
    let mut rig = Rig::stable(false, &[0, 1]);
    let releases = rig.beat(Err(Refused::Rebalancing));
    assert_eq!(releases, [Effect::Release(tp(0)), Effect::Release(tp(1))]);
    assert!(rig.machine.may_commit(), "what is released is committed");
    assert_eq!(rig.give(Input::Released(tp(0))), []);
    assert_eq!(rig.give(Input::Released(tp(1))), [Effect::Join { owned: set(&[]) }]);
    assert!(!rig.machine.may_commit());
    assert_eq!(rig.join(2, &[1]), [Effect::Begin(tp(1), rig.id)]);
}

#[test]
fn a_cooperative_member_keeps_what_stays_and_joins_again_for_what_goes() {
    let mut rig = Rig::stable(true, &[0, 1]);
    assert_eq!(rig.beat(Err(Refused::Rebalancing)), [Effect::Join { owned: set(&[0, 1]) }]);
    assert!(rig.machine.may_commit(), "delivery goes on, in the generation before");
    assert_eq!(rig.join(2, &[1, 2]), [Effect::Release(tp(0)), Effect::Begin(tp(2), rig.id)]);
    assert_eq!(rig.give(Input::Released(tp(0))), [Effect::Join { owned: set(&[1, 2]) }]);
    assert_eq!(rig.join(3, &[1, 2]), []);
}

#[test]
fn who_is_not_a_member_any_more_loses_everything_and_joins_anew() {
    for (refused, id) in [(Refused::Unknown, ""), (Refused::OldGeneration, "m")] {
        for cooperative in [false, true] {
            let mut rig = Rig::stable(cooperative, &[3]);
            let effects = rig.beat(Err(refused.clone()));
            let join = Effect::Join { owned: set(&[]) };
            assert_eq!(effects, [Effect::Lose(tp(3)), Effect::TellLost(refused.clone()), join]);
            assert_eq!((rig.machine.member_id(), rig.machine.generation()), (id, -1));
        }
    }
    let mut rig = Rig::stable(false, &[3]);
    let effects = rig.beat(Err(Refused::Fenced));
    assert!(matches!(&effects[..], [Effect::Lose(_), Effect::TellRefused(_, false), Effect::Done]));
    // An answer to what was said in a generation before means nothing.
    let mut rig = Rig::stable(true, &[3]);
    assert_eq!(rig.give(Input::Answered(0, Err(Refused::Unknown))), []);
}

#[test]
fn delivery_goes_on_while_the_coordinator_is_away() {
    let mut rig = Rig::stable(false, &[0]);
    assert_eq!(rig.beat(Err(Refused::Moved)), []);
    assert!(!rig.machine.may_commit());
    rig.now += Duration::from_secs(2);
    assert_eq!(rig.give(Input::Time), [Effect::Find]);
    assert_eq!(rig.give(Input::Found(false)), []);
    rig.now += Duration::from_secs(2);
    assert_eq!(rig.give(Input::Time), [Effect::Find]);
    assert_eq!(rig.give(Input::Found(true)), [Effect::Heartbeat]);
    assert!(rig.machine.may_commit() && rig.machine.owned().eq(&set(&[0])));
    assert_eq!(rig.give(Input::Answered(rig.machine.attempt(), Ok(()))), []);
}

#[test]
fn refusals_of_a_join_are_tried_again_in_their_time() {
    let mut rig = Rig::new(false);
    rig.give(Input::Found(true));
    let join = [Effect::Join { owned: set(&[]) }];
    let required = Refused::IdRequired("x".to_owned());
    assert_eq!(rig.give(Input::Joined(Err(required))), join);
    assert_eq!(rig.machine.member_id(), "x");
    assert_eq!(rig.give(Input::Joined(Err(Refused::Loading))), []);
    rig.now += Duration::from_millis(60);
    assert_eq!(rig.give(Input::Time), join);
    let told = rig.give(Input::Joined(Err(Refused::Other("no".to_owned()))));
    assert_eq!(told, [Effect::TellRefused("no".to_owned(), true)]);
    rig.now += Duration::from_secs(1);
    assert_eq!(rig.give(Input::Time), join);
    assert_eq!(rig.give(Input::Joined(Err(Refused::Moved))), []);
    rig.now += Duration::from_secs(1);
    assert_eq!(rig.give(Input::Time), [Effect::Find]);
}

#[test]
fn an_idle_application_leaves_until_it_does_something() {
    let mut rig = Rig::stable(true, &[0]);
    let effects = rig.give(Input::Idle(true));
    assert_eq!(effects, [Effect::Lose(tp(0)), Effect::Leave("m".to_owned())]);
    assert_eq!(rig.give(Input::Left), []);
    rig.now += Duration::from_secs(60);
    assert_eq!(rig.give(Input::Time), []);
    assert_eq!(rig.give(Input::Idle(false)), [Effect::Join { owned: set(&[]) }]);
    rig.join(4, &[]);
    assert_eq!(rig.give(Input::Close), [Effect::Leave("m".to_owned())], "it left once before");
}

#[test]
fn closing_releases_then_leaves_and_a_static_member_stays() {
    let mut rig = Rig::stable(false, &[0]);
    assert_eq!(rig.give(Input::Close), [Effect::Release(tp(0))]);
    assert!(rig.machine.may_commit());
    assert_eq!(rig.give(Input::Released(tp(0))), [Effect::Leave("m".to_owned())]);
    assert_eq!(rig.give(Input::Left), [Effect::Done]);
    let (now, retry) = (Instant::now(), BEAT);
    let manner = Manner { cooperative: true, is_static: true, heartbeat: BEAT, retry };
    let mut rig = Rig { machine: ClassicMember::new(manner, now), now, id: TopicId::random() };
    rig.give(Input::Found(true));
    rig.join(1, &[]);
    assert_eq!(rig.give(Input::Close), [Effect::Done]);
}

#[test]
fn a_topic_created_anew_begins_anew_and_the_leader_gives_out_what_came() {
    let mut rig = Rig::stable(true, &[0]);
    rig.id = TopicId::random();
    let effects = rig.give(Input::Topics(topics(rig.id)));
    assert_eq!(effects, [Effect::Lose(tp(0)), Effect::Begin(tp(0), rig.id)]);
    assert_eq!(rig.give(Input::Topics(Topics::new())), [], "the leader's affair");
    rig.give(Input::Topics(topics(rig.id)));
    // As the leader.
    rig.beat(Err(Refused::Rebalancing));
    let joined = Joined { member_id: "m".to_owned(), generation: 2, leads: true };
    assert_eq!(rig.give(Input::Joined(Ok(joined))), [Effect::Sync { leads: true }]);
    rig.give(Input::Assigned(topics(rig.id)));
    assert_eq!(rig.give(Input::Synced(Ok(set(&[0])))), []);
    let mut more = topics(rig.id);
    more.values_mut().for_each(|topic| topic.partitions = 6);
    assert_eq!(rig.give(Input::Topics(more)), [Effect::Join { owned: set(&[0]) }]);
}

fn member(id: &str, subscription: bytes::Bytes) -> GroupMember {
    let subscription = ConsumerSubscription::decode(subscription).unwrap();
    GroupMember { id: id.to_owned(), instance: String::new(), subscription }
}

fn given(
    assignor: &str,
    members: &[GroupMember],
    topics: &Topics,
) -> BTreeMap<String, BTreeSet<TopicPartition>> {
    let given = assignor::assign(assignor, members, topics).into_iter();
    given.map(|(id, bytes)| (id, assignor::assigned(bytes))).collect()
}

#[test]
fn range_is_kafkas_and_counts_streams() {
    let (strategy, topics) = (AssignmentStrategy::Range, topics(TopicId::random()));
    let join =
        |streams| assignor::subscription(strategy, &[("t".into(), streams)].into(), &set(&[]), 5);
    let members = [member("b", join(1)), member("a", join(1)), member("c", join(1))];
    let shares = given("range", &members, &topics);
    assert_eq!(shares["a"], set(&[0, 1]));
    assert_eq!((&shares["b"], &shares["c"]), (&set(&[2]), &set(&[3])));
    assert!(
        members[0].subscription.user_data.is_none() && members[0].subscription.generation_id == -1
    );
    let shares = given("range", &[member("a", join(3)), member("b", join(1))], &topics);
    assert_eq!((shares["a"].len(), shares["b"].len()), (3, 1));
    // Bytes of another assignor, and none of ours.
    let mut odd = member("a", join(3));
    odd.subscription.user_data = Some(bytes::Bytes::from_static(b"\0\0\0\x05ottl\0\0"));
    let shares = given("range", &[odd, member("b", join(1))], &topics);
    assert_eq!((shares["a"].len(), shares["b"].len()), (2, 2));
}

#[test]
fn what_moves_cooperatively_is_given_to_nobody_first() {
    let (strategy, topics) = (AssignmentStrategy::Sticky, topics(TopicId::random()));
    let name = assignor::name(strategy);
    let join = |owned: &[i32], generation| {
        assignor::subscription(strategy, &[("t".into(), 1)].into(), &set(owned), generation)
    };
    let first =
        given(name, &[member("a", join(&[0, 1, 2, 3], 1)), member("b", join(&[], -1))], &topics);
    assert_eq!((first["a"].len(), first["b"].len()), (2, 0));
    let kept: Vec<i32> = first["a"].iter().map(|p| p.partition).collect();
    let members = [member("a", join(&kept, 2)), member("b", join(&[], 2))];
    let second = given(name, &members, &topics);
    assert_eq!((&second["a"], second["b"].len()), (&first["a"], 2));
    // Who says so in an older generation has it no more; it is withheld all the same.
    let members = [member("a", join(&[0, 1], 3)), member("b", join(&[1, 2, 3], 2))];
    let shares = given(name, &members, &topics);
    assert_eq!((&shares["a"], &shares["b"]), (&set(&[0]), &set(&[2, 3])));
}
