//! Many members over a registry in memory, every request and every watch answered at a random time:
//! whatever the interleaving, a partition is owned at most once, and in the end exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use coordinator::rebalance::{Members, Plan, Strategy, TopicInput, Topics};
use coordinator::registry::plan::Agreed;
use coordinator::zk::payload::Subscription;
use proptest::prelude::{Just, ProptestConfig, any, prop, prop_oneof, proptest};
use proptest::strategy::Strategy as _;
use proto::{TopicId, TopicPartition};

use super::member::{Claimed, Effect, Input, Member, Seen, Share};

/// What stands in the registry.
#[derive(Default)]
struct Registry {
    ids: BTreeMap<String, u64>,
    plan: Option<Agreed>,
    plans_written: u32,
    /// Partition to member and session.
    owners: BTreeMap<TopicPartition, (String, u64)>,
    /// Partition to the version of its offset node.
    fences: BTreeMap<TopicPartition, u32>,
    /// Partition to the offset committed.
    offsets: BTreeMap<TopicPartition, i64>,
    topics: Topics,
}

/// Something under way to or from a member.
enum Pending {
    /// An effect, in the session it was asked for in.
    Do(Effect, u64),
    Give(Input),
    LookAtMembers,
    LookAtPlan,
}

struct Actor {
    id: String,
    machine: Member,
    session: u64,
    /// As the member knows it.
    known_session: u64,
    /// When it learns of the newest session.
    session_due: Instant,
    alive: bool,
    pending: Vec<(Instant, Pending)>,
    awaiting: BTreeSet<TopicPartition>,
    fences: BTreeMap<TopicPartition, u32>,
    positions: BTreeMap<TopicPartition, i64>,
    delivering: BTreeSet<TopicPartition>,
    left: bool,
}

impl Actor {
    /// What is delivered is meant to be, or a release or the answer to a claim is under way.
    fn check(&self) {
        let meant: BTreeSet<_> = self.machine.delivering().collect();
        for partition in self.delivering.iter().filter(|partition| !meant.contains(partition)) {
            let under_way = self.pending.iter().any(|(_, pending)| match pending {
                Pending::Do(Effect::Release(p), _) => p == partition,
                Pending::Give(Input::Claimed { partition: p, .. }) => p == partition,
                _ => false,
            });
            assert!(under_way, "{} delivers {partition} and does not mean to", self.id);
        }
    }
}

struct World {
    random: fastrand::Rng,
    now: Instant,
    registry: Registry,
    actors: Vec<Actor>,
    sessions: u64,
    slow: bool,
}

const STREAMS: u32 = 1;

impl World {
    fn new(seed: u64, partitions: u32) -> Self {
        let topics = [("a", partitions), ("b", 3)].map(|(name, partitions)| {
            (name.to_owned(), TopicInput { topic_id: TopicId::random(), partitions })
        });
        let registry = Registry { topics: topics.into_iter().collect(), ..Default::default() };
        let random = fastrand::Rng::with_seed(seed);
        let (now, actors) = (Instant::now(), Vec::new());
        Self { random, now, registry, actors, sessions: 0, slow: false }
    }

    /// When something asked for now comes about; in a slow world sometimes much later.
    fn later(&mut self) -> Instant {
        let most = if self.slow && self.random.u32(0..8) == 0 { 900_000 } else { 30_000 };
        self.now + Duration::from_micros(self.random.u64(0..most))
    }

    fn join(&mut self) {
        let id = format!("c{:02}-{}", self.random.u32(0..90), self.actors.len());
        self.sessions += 1;
        let machine = Member::new(id.clone(), Duration::from_millis(200));
        let mut actor = Actor {
            id,
            machine,
            session: self.sessions,
            known_session: 0,
            session_due: self.now,
            alive: true,
            pending: Vec::new(),
            awaiting: BTreeSet::new(),
            fences: BTreeMap::new(),
            positions: BTreeMap::new(),
            delivering: BTreeSet::new(),
            left: false,
        };
        let first = Input::SessionLive(actor.session);
        actor.pending.push((self.now, Pending::Give(first)));
        actor.pending.push((self.now, Pending::LookAtMembers));
        actor.pending.push((self.now, Pending::LookAtPlan));
        self.actors.push(actor);
    }

    /// The servers end the session; the member learns of it later.
    fn expire(&mut self, at: usize) {
        let session = self.actors[at].session;
        self.registry.ids.retain(|_, s| *s != session);
        let gone: Vec<_> = self.registry.owners.iter().filter(|(_, o)| o.1 == session).collect();
        let gone: Vec<_> = gone.into_iter().map(|(p, _)| p.clone()).collect();
        gone.iter().for_each(|p| drop(self.registry.owners.remove(p)));
        self.members_changed();
        gone.iter().for_each(|p| self.owner_gone(p));
        self.sessions += 1;
        let number = self.sessions;
        let tick = Duration::from_micros(1);
        let lost = self.later().max(self.actors[at].session_due + tick);
        let live = self.later().max(lost + tick);
        let actor = &mut self.actors[at];
        actor.session = number;
        actor.session_due = live;
        if actor.alive {
            actor.pending.push((lost, Pending::Give(Input::SessionLost)));
            actor.pending.push((live, Pending::Give(Input::SessionLive(number))));
            actor.pending.push((live + tick, Pending::LookAtMembers));
            actor.pending.push((live + tick, Pending::LookAtPlan));
        }
    }

    fn kill(&mut self, at: usize) {
        self.actors[at].alive = false;
        self.actors[at].pending.clear();
        self.actors[at].delivering.clear();
        self.expire(at);
    }

    fn close(&mut self, at: usize) {
        let now = self.now;
        self.actors[at].pending.push((now, Pending::Give(Input::Close)));
    }

    fn for_living(&mut self, mut f: impl FnMut(&mut Actor, Instant)) {
        for at in 0..self.actors.len() {
            let due = self.later();
            if self.actors[at].alive {
                f(&mut self.actors[at], due);
            }
        }
    }

    fn members_changed(&mut self) {
        self.for_living(|actor, due| actor.pending.push((due, Pending::LookAtMembers)));
    }

    fn plan_changed(&mut self) {
        self.for_living(|actor, due| actor.pending.push((due, Pending::LookAtPlan)));
    }

    fn owner_gone(&mut self, partition: &TopicPartition) {
        self.for_living(|actor, due| {
            if actor.awaiting.remove(partition) {
                actor.pending.push((due, Pending::Give(Input::OwnerGone(partition.clone()))));
            }
        });
    }

    /// Runs what is due next; false when nothing is left.
    fn step(&mut self) -> bool {
        let next = self.actors.iter().enumerate().filter(|(_, actor)| actor.alive).flat_map(
            |(at, actor)| (0..).zip(&actor.pending).map(move |(i, (due, _))| (*due, at, i)),
        );
        let Some((due, at, i)) = next.min() else { return false };
        self.now = self.now.max(due);
        let (_, pending) = self.actors[at].pending.remove(i);
        let input = match pending {
            Pending::Give(input) => Some(input),
            Pending::LookAtMembers => Some(Input::Seen(self.seen())),
            Pending::LookAtPlan => Some(Input::Plan(self.registry.plan.clone())),
            Pending::Do(effect, session) if session == self.actors[at].session => {
                self.perform(at, effect);
                None
            }
            Pending::Do(effect, session) => self.session_ended(at, effect, session),
        };
        if let Some(input) = input {
            if let Input::SessionLive(number) = input {
                self.actors[at].known_session = number;
            }
            let session = self.actors[at].known_session;
            let effects = self.actors[at].machine.handle([input], self.now);
            for effect in effects {
                match effect {
                    Effect::WakeAt(wake) => {
                        self.actors[at].pending.push((wake, Pending::Give(Input::Time)));
                    }
                    Effect::Lose(partition) => {
                        self.actors[at].delivering.remove(&partition);
                    }
                    effect => {
                        let due = self.later();
                        self.actors[at].pending.push((due, Pending::Do(effect, session)));
                    }
                }
            }
        }
        self.check();
        self.actors[at].check();
        true
    }

    /// What a request in a session that has ended comes to.
    fn session_ended(&mut self, at: usize, effect: Effect, session: u64) -> Option<Input> {
        Some(match effect {
            Effect::WritePlan { .. } => Input::PlanNotWritten,
            Effect::Claim { partition, generation, .. } => {
                Input::Claimed { partition, session, generation, outcome: Claimed::Unanswered }
            }
            Effect::AwaitOwner(partition) => Input::OwnerGone(partition),
            Effect::Release(partition) => {
                self.actors[at].delivering.remove(&partition);
                Input::Released(partition)
            }
            Effect::Deregister => {
                self.actors[at].left = true;
                return None;
            }
            Effect::Register | Effect::Lose(_) | Effect::WakeAt(_) => return None,
        })
    }

    fn seen(&self) -> Seen {
        let subscription = || {
            Subscription::Topics(["a", "b"].map(|t| (t.to_owned(), STREAMS)).into_iter().collect())
        };
        let members: Members =
            self.registry.ids.keys().map(|id| (id.clone(), subscription())).collect();
        Seen { members, topics: self.registry.topics.clone() }
    }

    fn answer(&mut self, at: usize, input: Input) {
        let due = self.later();
        self.actors[at].pending.push((due, Pending::Give(input)));
    }

    fn perform(&mut self, at: usize, effect: Effect) {
        let (id, session) = (self.actors[at].id.clone(), self.actors[at].session);
        match effect {
            Effect::Register => {
                self.registry.ids.insert(id, session);
                self.answer(at, Input::Registered);
                self.members_changed();
            }
            Effect::WritePlan { expected, seen } => {
                let now = self.registry.plan.as_ref().map(|plan| plan.generation);
                if now == expected {
                    let before = self.registry.plan.as_ref().map(|plan| &plan.plan);
                    let strategy =
                        if self.random.bool() { Strategy::Range } else { Strategy::Sticky };
                    let plan = Plan::compute(strategy, &seen.members, &seen.topics, before);
                    let generation = expected.map_or(0, |generation| generation + 1);
                    self.registry.plan = Some(Agreed { plan, generation });
                    self.registry.plans_written += 1;
                    self.plan_changed();
                }
                self.answer(at, Input::PlanWritten);
            }
            Effect::Claim { partition, generation, share, running } => {
                let outcome = self.claim(at, &partition, generation, share, running);
                self.answer(at, Input::Claimed { partition, session, generation, outcome });
            }
            Effect::AwaitOwner(partition) => {
                if self.registry.owners.contains_key(&partition) {
                    self.actors[at].awaiting.insert(partition);
                } else {
                    self.answer(at, Input::OwnerGone(partition));
                }
            }
            Effect::Release(partition) => {
                self.commit(at, &partition);
                self.actors[at].delivering.remove(&partition);
                if self.registry.owners.get(&partition).is_some_and(|o| *o == (id, session)) {
                    self.registry.owners.remove(&partition);
                    self.owner_gone(&partition);
                }
                self.answer(at, Input::Released(partition));
            }
            Effect::Deregister => {
                // The session is closed: a registration still under way comes to nothing.
                self.registry.ids.retain(|_, s| *s != session);
                self.sessions += 1;
                self.actors[at].session = self.sessions;
                self.actors[at].left = true;
                self.members_changed();
            }
            Effect::Lose(_) | Effect::WakeAt(_) => unreachable!("done at once"),
        }
    }

    fn claim(
        &mut self,
        at: usize,
        partition: &TopicPartition,
        generation: i32,
        share: Share,
        running: bool,
    ) -> Claimed {
        let actor = &mut self.actors[at];
        if self.random.u32(0..20) == 0 {
            return Claimed::Unanswered;
        }
        if self.registry.plan.as_ref().is_none_or(|plan| plan.generation != generation) {
            return Claimed::PlanMoved;
        }
        assert_eq!(share.stream, 0);
        match self.registry.owners.get(partition) {
            Some((id, session)) if *id == actor.id && *session == actor.session => {}
            Some((id, _)) if *id == actor.id => return Claimed::HeldByOldSelf,
            Some(_) => return Claimed::Held,
            None => {}
        }
        let owner = (actor.id.clone(), actor.session);
        self.registry.owners.insert(partition.clone(), owner);
        let fence = self.registry.fences.entry(partition.clone()).or_default();
        let untouched = running && actor.fences.get(partition) == Some(fence);
        *fence += 1;
        actor.fences.insert(partition.clone(), *fence);
        if !untouched {
            let stored = self.registry.offsets.get(partition).copied().unwrap_or(0);
            actor.positions.insert(partition.clone(), stored);
        }
        actor.delivering.insert(partition.clone());
        Claimed::Granted
    }

    /// Some records are delivered, then committed if nobody claimed since.
    fn commit(&mut self, at: usize, partition: &TopicPartition) -> bool {
        let actor = &mut self.actors[at];
        if !actor.delivering.contains(partition) {
            return true;
        }
        let position = actor.positions.entry(partition.clone()).or_default();
        *position += 1;
        let fence = self.registry.fences.entry(partition.clone()).or_default();
        if actor.fences.get(partition) != Some(fence) {
            return false;
        }
        *fence += 1;
        actor.fences.insert(partition.clone(), *fence);
        let before = self.registry.offsets.insert(partition.clone(), *position);
        assert!(before.unwrap_or(0) <= *position, "{partition} went back");
        true
    }

    /// A member commits what it delivers, as it does every few seconds.
    fn auto_commit(&mut self) {
        let at = self.random.usize(0..self.actors.len());
        for partition in self.actors[at].delivering.clone() {
            if self.actors[at].alive && !self.commit(at, &partition) {
                let refused = Input::CommitRefused(partition);
                let now = self.now;
                self.actors[at].pending.push((now, Pending::Give(refused)));
            }
        }
    }

    /// Who holds the owner node is alone in delivering it, but for members whose session has ended
    /// and who do not know it yet.
    fn check(&self) {
        let mut seen: BTreeMap<&TopicPartition, &str> = BTreeMap::new();
        for actor in self.actors.iter().filter(|actor| actor.alive) {
            for partition in &actor.delivering {
                let mine = self.registry.owners.get(partition);
                if mine.is_some_and(|(id, session)| *id == actor.id && *session == actor.session) {
                    let other = seen.insert(partition, &actor.id);
                    assert_eq!(other, None, "{partition} is owned twice");
                }
            }
        }
    }

    fn settle(&mut self) {
        for _ in 0..400_000 {
            if !self.step() {
                break;
            }
        }
        let living: Vec<&Actor> =
            self.actors.iter().filter(|actor| actor.alive && !actor.left).collect();
        assert!(living.iter().all(|actor| actor.pending.is_empty()), "it does not settle");
        let mut owned = BTreeSet::new();
        for actor in &living {
            assert!(self.registry.ids.contains_key(&actor.id), "{} is not registered", actor.id);
            let believed: BTreeSet<_> = actor.machine.delivering().cloned().collect();
            assert_eq!(believed, actor.delivering, "{}", actor.id);
            for partition in &actor.delivering {
                let owner = self.registry.owners.get(partition);
                assert_eq!(owner, Some(&(actor.id.clone(), actor.session)), "{partition}");
                assert!(owned.insert(partition.clone()), "{partition} is owned twice");
            }
        }
        if !living.is_empty() {
            let all: u32 = self.registry.topics.values().map(|topic| topic.partitions).sum();
            assert_eq!(owned.len(), all as usize, "every partition is owned");
        }
        for actor in self.actors.iter().filter(|actor| actor.left) {
            assert!(actor.delivering.is_empty());
            assert!(!self.registry.owners.values().any(|(id, _)| *id == actor.id));
        }
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end && self.step() {}
        self.now = self.now.max(end);
    }
}

#[test]
fn a_burst_of_joins_settles_in_a_few_plans() {
    for seed in 0..20 {
        let mut world = World::new(seed, 30);
        for _ in 0..20 {
            world.join();
            world.run_for(Duration::from_millis(20));
        }
        world.settle();
        assert!(world.registry.plans_written <= 4, "{} plans", world.registry.plans_written);
    }
}

#[test]
fn a_member_that_leaves_hands_over_and_one_that_dies_is_replaced() {
    let mut world = World::new(7, 12);
    (0..3).for_each(|_| world.join());
    world.settle();
    world.close(0);
    world.settle();
    assert!(world.actors[0].left);
    world.kill(1);
    world.settle();
    assert_eq!(world.actors[2].delivering.len(), 15);
}

#[test]
fn a_hundred_expiries_end_in_a_serving_member() {
    let mut world = World::new(3, 12);
    (0..2).for_each(|_| world.join());
    world.settle();
    for _ in 0..100 {
        world.expire(0);
        world.run_for(Duration::from_millis(40));
        world.auto_commit();
    }
    world.settle();
}

#[derive(Debug, Clone)]
enum Happening {
    Join,
    Expire(usize),
    Kill(usize),
    Close(usize),
    Grow,
    Recreate,
    Commit,
    Pass(u64),
}

fn happening() -> impl proptest::strategy::Strategy<Value = Happening> {
    prop_oneof![
        3 => Just(Happening::Join),
        3 => (0usize..20).prop_map(Happening::Expire),
        1 => (0usize..20).prop_map(Happening::Kill),
        1 => (0usize..20).prop_map(Happening::Close),
        1 => Just(Happening::Grow),
        1 => Just(Happening::Recreate),
        4 => Just(Happening::Commit),
        6 => (1u64..600).prop_map(Happening::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn partitions_are_owned_at_most_once_and_in_the_end_exactly_once(
        seed in any::<u64>(),
        happenings in prop::collection::vec(happening(), 1..60),
    ) {
        let mut world = World::new(seed, 8);
        world.slow = true;
        world.join();
        for happening in happenings {
            let count = world.actors.len();
            let usable = |world: &World, n: usize| {
                let actor = &world.actors[n % count];
                (actor.alive && !actor.left).then_some(n % count)
            };
            match happening {
                Happening::Join if count < 12 => world.join(),
                Happening::Join => {}
                Happening::Expire(n) => if let Some(n) = usable(&world, n) { world.expire(n) },
                Happening::Kill(n) => if let Some(n) = usable(&world, n) { world.kill(n) },
                Happening::Close(n) => if let Some(n) = usable(&world, n) { world.close(n) },
                Happening::Grow => {
                    if let Some(topic) = world.registry.topics.get_mut("a") {
                        topic.partitions += 1;
                    }
                    world.members_changed();
                }
                Happening::Recreate => {
                    if let Some(topic) = world.registry.topics.get_mut("b") {
                        topic.topic_id = TopicId::random();
                    }
                    world.members_changed();
                }
                Happening::Commit => world.auto_commit(),
                Happening::Pass(ms) => world.run_for(Duration::from_millis(ms)),
            }
        }
        world.settle();
    }
}
