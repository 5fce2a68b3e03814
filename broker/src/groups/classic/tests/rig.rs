//! A group with a clock that the test moves, and everything that came out of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::*;
use crate::groups::GroupError;

pub(super) const DELAY: Duration = Duration::from_secs(3);
pub(super) const SESSION: Duration = Duration::from_secs(10);
pub(super) const REBALANCE: Duration = Duration::from_secs(60);

/// An answer that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Join(Result<Joined, JoinRefusal>),
    Sync(Result<Synced, GroupError>),
}

pub(super) struct Rig {
    pub(super) group: Group,
    pub(super) now: Moment,
    pub(super) answers: BTreeMap<Token, Answer>,
    /// Writes that are under way.
    pub(super) stores: Vec<(Option<Ticket>, GroupMetadata)>,
    tokens: u64,
}

pub(super) fn limits() -> Limits {
    Limits {
        initial_rebalance_delay: DELAY,
        session_timeout_min: Duration::from_secs(6),
        session_timeout_max: Duration::from_secs(1800),
        size_max: 100,
    }
}

pub(super) fn range(metadata: &'static str) -> Protocol {
    Protocol { name: "range".into(), metadata: Bytes::from_static(metadata.as_bytes()) }
}

pub(super) fn named(name: &str) -> Protocol {
    Protocol { name: name.into(), metadata: Bytes::new() }
}

/// What consumers say: the topics, and something behind.
pub(super) fn subscription(topics: &[&str], behind: &[u8]) -> Protocol {
    let mut bytes = vec![0, 1];
    bytes.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        bytes.extend((topic.len() as i16).to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend(behind);
    Protocol { name: "range".into(), metadata: bytes.into() }
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(limits())
    }

    pub(super) fn with(limits: Limits) -> Self {
        let now = Moment { at: Instant::now(), wall_ms: 1_000 };
        Self {
            group: Group::new(Arc::new(limits), now),
            now,
            answers: BTreeMap::new(),
            stores: Vec::new(),
            tokens: 0,
        }
    }

    pub(super) fn token(&mut self) -> Token {
        self.tokens += 1;
        Token(self.tokens)
    }

    /// A request of a client of today.
    pub(super) fn request(&mut self, member_id: &str) -> Join {
        let token = self.token();
        Join {
            token,
            member_id: member_id.into(),
            fresh_member_id: format!("fresh-{}", token.0).into(),
            instance: None,
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            requires_member_id: true,
            skips_assignment: true,
            session_timeout: SESSION,
            rebalance_timeout: REBALANCE,
            protocol_type: "consumer".into(),
            protocols: vec![range("m")],
        }
    }

    /// Takes in what came out.
    pub(super) fn took(&mut self, out: Effects) {
        for effect in out {
            let (token, answer) = match effect {
                Effect::Join(token, answer) => (token, Answer::Join(answer)),
                Effect::Sync(token, answer) => (token, Answer::Sync(answer)),
                Effect::Store(ticket, metadata) => {
                    self.stores.push((ticket, metadata));
                    continue;
                }
            };
            assert!(self.answers.insert(token, answer).is_none(), "{token:?} is answered twice");
        }
    }

    pub(super) fn send_join(&mut self, request: Join) -> Token {
        let (token, mut out) = (request.token, Effects::new());
        self.group.join(request, self.now, &mut out);
        self.took(out);
        token
    }

    pub(super) fn joined(&self, token: Token) -> &Joined {
        match self.answers.get(&token) {
            Some(Answer::Join(Ok(joined))) => joined,
            other => panic!("{token:?} has {other:?}"),
        }
    }

    pub(super) fn join_refusal(&self, token: Token) -> &JoinRefusal {
        match self.answers.get(&token) {
            Some(Answer::Join(Err(refusal))) => refusal,
            other => panic!("{token:?} has {other:?}"),
        }
    }

    pub(super) fn sync_answer(&self, token: Token) -> Result<Synced, GroupError> {
        match self.answers.get(&token) {
            Some(Answer::Sync(answer)) => answer.clone(),
            other => panic!("{token:?} has {other:?}"),
        }
    }

    pub(super) fn waits(&self, token: Token) -> bool {
        !self.answers.contains_key(&token)
    }

    /// A new member gets its id and joins with it.
    pub(super) fn enter(&mut self) -> (Arc<str>, Token) {
        let request = self.request("");
        let asked = self.send_join(request);
        let refusal = self.join_refusal(asked).clone();
        assert_eq!(refusal.error, GroupError::MemberIdRequired);
        let request = self.request(&refusal.member_id);
        (refusal.member_id, self.send_join(request))
    }

    pub(super) fn rejoin(&mut self, id: &str) -> Token {
        let request = self.request(id);
        self.send_join(request)
    }

    pub(super) fn caller(&self, id: &str) -> Caller {
        Caller { member_id: id.into(), instance: None, generation: self.group.generation() }
    }

    pub(super) fn sync_as(&mut self, caller: Caller, given: &[(&str, &'static str)]) -> Token {
        let token = self.token();
        let assignments = given.iter();
        let assignments =
            assignments.map(|(id, what)| ((*id).into(), Bytes::from_static(what.as_bytes())));
        let request = Sync {
            token,
            caller,
            protocol_type: Some("consumer".into()),
            protocol: self.group.protocol().cloned(),
            assignments: assignments.collect(),
        };
        let mut out = Effects::new();
        self.group.sync(request, self.now, &mut out);
        self.took(out);
        token
    }

    pub(super) fn sync(&mut self, id: &str, given: &[(&str, &'static str)]) -> Token {
        let caller = self.caller(id);
        self.sync_as(caller, given)
    }

    pub(super) fn heartbeat(&mut self, id: &str) -> Result<(), GroupError> {
        let caller = self.caller(id);
        self.group.heartbeat(&caller, self.now)
    }

    pub(super) fn commit(&mut self, id: &str, generation: i32) -> Result<(), GroupError> {
        let caller = Caller { member_id: id.into(), instance: None, generation };
        self.group.check_commit(&caller, self.now)
    }

    pub(super) fn leave(&mut self, leaving: &[Leaving]) -> Vec<Result<(), GroupError>> {
        let mut out = Effects::new();
        let answers = self.group.leave(leaving, self.now, &mut out);
        self.took(out);
        answers
    }

    /// The writes that are waited for succeed or fail.
    pub(super) fn store_all(&mut self, outcome: Result<(), GroupError>) {
        for (ticket, _) in std::mem::take(&mut self.stores) {
            let Some(ticket) = ticket else { continue };
            let mut out = Effects::new();
            self.group.stored(ticket, outcome, self.now, &mut out);
            self.took(out);
        }
    }

    /// Time passes, and the group is woken whenever it asked for it.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now.at + time;
        while let Some(at) = self.group.wake_at().filter(|at| *at <= end) {
            self.move_to(at.max(self.now.at));
            let mut out = Effects::new();
            self.group.tick(self.now, &mut out);
            self.took(out);
        }
        self.move_to(end);
    }

    fn move_to(&mut self, at: Instant) {
        self.now.wall_ms += (at - self.now.at).as_millis() as i64;
        self.now.at = at;
    }

    /// A stable group of so many members, each with its id as assignment; the first one leads.
    pub(super) fn stable(&mut self, members: usize) -> Vec<Arc<str>> {
        let entered: Vec<(Arc<str>, Token)> = (0..members).map(|_| self.enter()).collect();
        self.pass(DELAY * 2);
        let leader = Arc::clone(&self.joined(entered[0].1).leader);
        let mut ids: Vec<Arc<str>> = entered.into_iter().map(|(id, _)| id).collect();
        ids.sort_by_key(|id| *id != leader);
        let leader = Arc::clone(&ids[0]);
        let given: Vec<(&str, &'static str)> = ids.iter().map(|id| (&**id, "given")).collect();
        self.sync(&leader, &given);
        for id in &ids[1..] {
            self.sync(id, &[]);
        }
        self.store_all(Ok(()));
        assert_eq!(self.group.state(), State::Stable);
        ids
    }
}
