//! Random clients against one group: the invariants of the module's documentation, after each step.
//! Clients fall silent, leave, restart and miss answers; writes fail, whether the log has them or
//! not; other brokers take the group over from what the log has.
//!
//! Besides: a commit is accepted of a member of the generation alone; nobody is given an assignment
//! of another generation than it asked in; and once all is quiet, everybody is a member of one
//! stable generation.
//!
//! `GROUP_SEED` runs one seed, `GROUP_SEEDS` so many.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::super::*;
use super::rig::{Answer, Rig, limits, named};
use crate::groups::GroupError;

/// A client: what it believes, and what it waits for.
#[derive(Default)]
struct Client {
    id: Arc<str>,
    instance: Option<Arc<str>>,
    generation: i32,
    leads: Option<Vec<Arc<str>>>,
    waits: Option<Token>,
    /// The generation it asked for its assignment in.
    synced_in: i32,
    asleep: bool,
}

struct World {
    rig: Rig,
    random: fastrand::Rng,
    clients: Vec<Client>,
    /// What was handed out in each generation: member ids told, and the plan.
    told: BTreeMap<i32, BTreeMap<Arc<str>, Bytes>>,
    leaders: BTreeMap<i32, Arc<str>>,
    plans: u32,
    /// What the next coordinator would read.
    log: Option<GroupMetadata>,
    moves: usize,
    asked_at: BTreeMap<Token, std::time::Instant>,
}

/// Longer than any deadline a client sets in this world.
const PATIENCE: Duration = Duration::from_secs(400);

impl World {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let delay = Duration::from_secs(random.u64(0..4));
        let size_max = random.usize(2..8);
        let rig = Rig::with(Limits { initial_rebalance_delay: delay, size_max, ..limits() });
        let clients = (0..random.usize(1..7)).map(|number| {
            let instance = (number % 3 == 0).then(|| Arc::from(format!("instance-{number}")));
            Client { instance, ..Client::default() }
        });
        let clients = clients.collect();
        Self {
            rig,
            random,
            clients,
            told: BTreeMap::new(),
            leaders: BTreeMap::new(),
            plans: 0,
            log: None,
            moves: 0,
            asked_at: BTreeMap::new(),
        }
    }

    fn step(&mut self) {
        let which = self.random.usize(0..self.clients.len());
        match self.random.u32(0..100) {
            0..50 => self.act(which),
            50..56 => self.leave(which),
            56..60 => self.clients[which].asleep ^= true,
            60..62 => self.restart(which),
            62..79 => self.store(),
            79 => self.moves_on(),
            80 => self.misses(which),
            _ => {
                let ms = [10, 500, 3_000, 12_000, 61_000][self.random.usize(0..5)];
                self.rig.pass(Duration::from_millis(self.random.u64(0..ms)));
            }
        }
        self.look();
    }

    /// Writes that are under way come to their end: well, or with an error that says nothing of
    /// whether the log has them.
    fn store(&mut self) {
        let fate = self.random.u32(0..20);
        if fate > 0
            && let Some((_, last)) = self.rig.stores.last()
        {
            self.log = Some(last.clone());
        }
        let is_told = fate > 1;
        self.rig.store_all(is_told.then_some(()).ok_or(GroupError::CoordinatorNotAvailable));
    }

    /// Another broker takes the group over; what was told of a generation that it does not know may
    /// be told of another one with the same number.
    fn moves_on(&mut self) {
        let mut out = Effects::new();
        self.rig.group.close(GroupError::NotCoordinator, self.rig.now, &mut out);
        self.rig.took(out);
        self.look_at_answers();
        self.rig.stores.clear();
        let limits = Arc::clone(&self.rig.group.limits);
        self.rig.group = match self.log.clone() {
            Some(log) => Group::from_stored(log, limits, self.rig.now),
            None => Group::new(limits, self.rig.now),
        };
        let known = self.rig.group.generation();
        self.told.retain(|generation, _| *generation <= known);
        self.leaders.retain(|generation, _| *generation <= known);
        self.moves += 1;
    }

    /// The answer that a client waits for is lost.
    fn misses(&mut self, which: usize) {
        self.clients[which].waits = None;
    }

    /// Does what a client in its place does next.
    fn act(&mut self, which: usize) {
        let client = &self.clients[which];
        if client.asleep || client.waits.is_some() && self.random.u32(0..20) > 0 {
            return;
        }
        let caller = Caller {
            member_id: Arc::clone(&client.id),
            instance: client.instance.clone(),
            generation: client.generation,
        };
        if client.generation == 0 || self.random.u32(0..12) == 0 {
            self.join(which);
        } else if let Some(members) = self.clients[which].leads.take() {
            self.plans += 1;
            let plan = Bytes::from(format!("plan {}", self.plans));
            let assignments = members.into_iter().map(|id| (id, plan.clone())).collect();
            self.sync(which, caller, assignments);
        } else if self.random.bool() {
            self.sync(which, caller, Vec::new());
        } else {
            let outcome = match self.random.bool() {
                true => self.rig.group.heartbeat(&caller, self.rig.now),
                false => self.commits(&caller),
            };
            self.refused(which, outcome.err());
        }
    }

    /// A commit that is accepted is a member's of the generation, whoever asks.
    fn commits(&mut self, caller: &Caller) -> Result<(), GroupError> {
        let outcome = self.rig.group.check_commit(caller, self.rig.now);
        let group = &self.rig.group;
        if outcome.is_ok() && caller.generation >= 0 {
            let member = group.members.get(&caller.member_id).expect("a stranger commits");
            assert_eq!(caller.generation, group.generation(), "of another generation");
            assert_ne!(group.state(), State::CompletingRebalance, "owns nothing yet");
            let of = caller.instance.as_ref().map(|instance| group.instances.get(instance));
            assert!(of.is_none_or(|id| id == Some(&member.id)), "a fenced member commits");
        }
        outcome
    }

    fn join(&mut self, which: usize) {
        // Whatever it was a member of: it says so no more.
        self.clients[which].generation = 0;
        self.clients[which].leads = None;
        let request = self.rig.request(&self.clients[which].id);
        let order: &[&str] = if self.random.bool() { &["x", "y"] } else { &["y", "x"] };
        let request = Join {
            instance: self.clients[which].instance.clone(),
            requires_member_id: self.random.bool(),
            skips_assignment: self.random.bool(),
            session_timeout: Duration::from_secs(self.random.u64(6..30)),
            rebalance_timeout: Duration::from_secs(self.random.u64(0..90)),
            protocols: order.iter().map(|name| named(name)).collect(),
            ..request
        };
        self.asked(which, request.token);
        self.rig.send_join(request);
    }

    fn sync(&mut self, which: usize, caller: Caller, assignments: Vec<(Arc<str>, Bytes)>) {
        let token = self.rig.token();
        self.asked(which, token);
        self.clients[which].synced_in = caller.generation;
        let (protocol_type, protocol) = (None, None);
        let request = Sync { token, caller, protocol_type, protocol, assignments };
        let mut out = Effects::new();
        self.rig.group.sync(request, self.rig.now, &mut out);
        self.rig.took(out);
    }

    fn asked(&mut self, which: usize, token: Token) {
        self.asked_at.insert(token, self.rig.now.at);
        self.clients[which].waits = Some(token);
    }

    fn leave(&mut self, which: usize) {
        let client = &self.clients[which];
        let leaving = Leaving { member_id: client.id.clone(), instance: client.instance.clone() };
        if self.rig.leave(&[leaving])[0].is_ok() {
            self.restart(which);
        }
    }

    /// A new process: it knows nothing but its instance.
    fn restart(&mut self, which: usize) {
        let instance = self.clients[which].instance.clone();
        self.clients[which] = Client { instance, ..Client::default() };
    }

    fn refused(&mut self, which: usize, error: Option<GroupError>) {
        let client = &mut self.clients[which];
        match error {
            None => {}
            Some(GroupError::UnknownMemberId | GroupError::FencedInstanceId) => self.restart(which),
            Some(_) => client.generation = 0,
        }
    }

    /// Looks at what was answered since, and at the group as it is.
    fn look(&mut self) {
        self.look_at_answers();
        for (token, at) in &self.asked_at {
            assert!(self.rig.now.at - *at < PATIENCE, "{token:?} waits for ever");
        }
        self.check_fields();
    }

    fn look_at_answers(&mut self) {
        let answers: Vec<(Token, Answer)> = self
            .rig
            .answers
            .iter()
            .filter(|(token, _)| self.asked_at.contains_key(token))
            .map(|(token, answer)| (*token, answer.clone()))
            .collect();
        for (token, answer) in answers {
            self.asked_at.remove(&token);
            let client = self.clients.iter().position(|client| client.waits == Some(token));
            match answer {
                Answer::Join(Ok(joined)) => self.has_joined(client, &joined),
                Answer::Sync(Ok(synced)) => self.has_synced(client, &synced),
                Answer::Join(Err(refusal)) => {
                    let Some(client) = client else { continue };
                    self.clients[client].waits = None;
                    if refusal.error == GroupError::MemberIdRequired {
                        self.clients[client].id = refusal.member_id;
                    } else {
                        self.refused(client, Some(refusal.error));
                    }
                }
                Answer::Sync(Err(error)) => {
                    let Some(client) = client else { continue };
                    self.clients[client].waits = None;
                    self.refused(client, Some(error));
                }
            }
        }
    }

    fn has_joined(&mut self, client: Option<usize>, joined: &Joined) {
        let generation = joined.generation;
        assert!(generation <= self.rig.group.generation());
        let told = self.told.entry(generation).or_default();
        told.entry(Arc::clone(&joined.member_id)).or_default();
        let leads = joined.leader == joined.member_id;
        assert_eq!(leads, !joined.members.is_empty());
        if leads {
            // A static leader that came back has another id and the same place.
            let before = self.leaders.insert(generation, Arc::clone(&joined.leader));
            let is_fixed = joined.members.iter().any(|one| one.instance.is_some());
            assert!(before.is_none_or(|before| before == joined.leader || is_fixed));
            assert!(joined.members.iter().any(|one| one.id == joined.member_id), "told, not in it");
        }
        if generation == self.rig.group.generation() {
            let is_member = self.rig.group.members().any(|one| *one.id() == joined.member_id);
            assert!(is_member || self.rig.group.state() != State::Stable);
        }
        let Some(client) = client else { return };
        let client = &mut self.clients[client];
        client.waits = None;
        client.id = Arc::clone(&joined.member_id);
        client.generation = generation;
        let assigns = leads && !joined.skip_assignment;
        client.leads = assigns.then(|| joined.members.iter().map(|one| one.id.clone()).collect());
    }

    fn has_synced(&mut self, client: Option<usize>, synced: &Synced) {
        let Some(client) = client else { return };
        let client = &mut self.clients[client];
        client.waits = None;
        let group = &self.rig.group;
        let is_over = group.state() == State::Dead;
        assert!(is_over || client.synced_in == group.generation(), "of another generation");
        let told = self.told.entry(client.synced_in).or_default();
        // One assignment: all of a generation hold parts of the same plan.
        for (other, plan) in told.iter() {
            let differs = !plan.is_empty() && !synced.assignment.is_empty();
            assert!(!differs || *plan == synced.assignment, "{other} holds another plan");
        }
        told.insert(Arc::clone(&client.id), synced.assignment.clone());
    }

    fn check_fields(&self) {
        let group = &self.rig.group;
        let bytes: usize = group.members.values().map(Member::bytes).sum();
        assert_eq!(group.bytes, bytes);
        let waiting = group.members.values().filter(|one| one.join.is_some()).count();
        assert_eq!(group.waiting, waiting);
        assert_eq!(group.leader.is_some(), !group.members.is_empty());
        assert!(group.leader.as_ref().is_none_or(|id| group.members.contains_key(id)));
        assert_eq!(group.join_phase.is_some(), group.state == State::PreparingRebalance);
        let fixed = group.members.values().filter(|one| one.instance.is_some());
        assert_eq!(group.instances.len(), fixed.clone().count());
        for member in fixed {
            assert_eq!(group.instances.get(member.instance.as_ref().unwrap()), Some(&member.id));
        }
        assert!(group.state != State::Empty || group.members.is_empty());
        assert!(matches!(group.state, State::Empty) || group.protocol_type.is_some());
        let agreed = matches!(group.state, State::CompletingRebalance | State::Stable);
        assert!(!agreed || group.protocol.is_some());
        assert!(group.members.values().all(|one| one.join.is_none() || one.sync.is_none()));
        let deadlines = group.members.values().filter(|one| one.may_expire());
        let deadlines = deadlines.map(|one| one.expires_at).chain(group.pending.values().copied());
        let deadlines = deadlines.chain(group.join_phase.iter().map(|phase| phase.due));
        let first = deadlines.chain(group.sync_due).min();
        assert!(
            first.is_none_or(|first| group.wake_at.is_some_and(|at| at <= first)),
            "woken late"
        );
    }

    /// Nothing fails any more: everybody ends up in one stable generation, and stays there.
    fn calm(&mut self) {
        let all = self.clients.len().min(self.rig.group.limits.size_max);
        self.clients.truncate(all);
        for client in &mut self.clients {
            // Whoever waits for an answer that was lost has given up by now.
            client.asleep = false;
            client.waits = client.waits.filter(|token| self.asked_at.contains_key(token));
        }
        // Those that are no more are forgotten, then the others settle.
        for _ in 0..250 {
            for which in 0..all {
                self.goes_on(which);
                self.look();
            }
            if let Some((_, last)) = self.rig.stores.last() {
                self.log = Some(last.clone());
            }
            self.rig.store_all(Ok(()));
            self.rig.pass(Duration::from_secs(2));
            self.look();
        }
        let group = &self.rig.group;
        assert_eq!(group.state(), State::Stable);
        assert_eq!(group.size(), all, "everybody is in, and nobody else");
        for client in &self.clients {
            assert_eq!(client.generation, group.generation());
            assert_eq!(client.synced_in, client.generation, "it has its assignment");
            assert!(group.members.contains_key(&client.id) && client.waits.is_none());
        }
    }

    /// What a client does that nothing is wrong with.
    fn goes_on(&mut self, which: usize) {
        let client = &mut self.clients[which];
        if client.waits.is_some() {
            return;
        }
        let caller = Caller {
            member_id: Arc::clone(&client.id),
            instance: client.instance.clone(),
            generation: client.generation,
        };
        if client.generation == 0 {
            self.join(which);
        } else if let Some(members) = client.leads.take() {
            self.plans += 1;
            let plan = Bytes::from(format!("plan {}", self.plans));
            self.sync(which, caller, members.into_iter().map(|id| (id, plan.clone())).collect());
        } else if client.synced_in != client.generation {
            self.sync(which, caller, Vec::new());
        } else {
            let outcome = self.rig.group.heartbeat(&caller, self.rig.now);
            self.refused(which, outcome.err());
        }
    }

    /// Everybody falls silent: all who wait are answered, and the group comes to rest.
    fn end(&mut self) {
        for _ in 0..8 {
            self.rig.store_all(Ok(()));
            self.rig.pass(PATIENCE);
            self.look();
        }
        assert!(self.asked_at.is_empty(), "left waiting: {:?}", self.asked_at);
        assert_eq!(self.rig.group.state(), State::Empty);
        assert_eq!(self.rig.group.wake_at(), None);
    }
}

fn run(seed: u64) -> usize {
    let mut world = World::new(seed);
    for _ in 0..400 {
        world.step();
    }
    world.calm();
    world.end();
    world.told.len()
}

#[test]
fn random_clients_break_no_invariant() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("GROUP_SEED") {
        run(seed);
        return;
    }
    let seeds = number("GROUP_SEEDS").unwrap_or(60);
    let generations: usize = (0..seeds)
        .map(|seed| {
            let caught = std::panic::catch_unwind(|| run(seed));
            caught.unwrap_or_else(|_| panic!("GROUP_SEED={seed} fails"))
        })
        .sum();
    assert!(generations > seeds as usize * 3, "{generations} generations: nothing happens here");
}
