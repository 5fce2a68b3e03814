//! A member of a ZooKeeper group at work: gives the state machine what the registry shows, and does
//! what it says. One task owns all of it; every request is a task of its own whose outcome comes
//! back as a [`Report`], so a registry that does not answer holds up nothing.
//!
//! Delivery and the registry are apart: while no server answers, what is owned keeps flowing and
//! positions wait, the newest only.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use coordinator::rebalance::Strategy;
use coordinator::registry::OneshotWatcher;
use coordinator::registry::owners::{Claim, Claimed as ClaimedOffset};
use coordinator::zk::payload::{self, Owner};
use coordinator::zk::{Live, Session, SessionState};
use proto::TopicPartition;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::commits::{CommitBook, Wish, Written};
use super::delivery::{self, GroupCommand, LEAVE_WITHIN, LOOK_EVERY, Releasing, Told};
use super::member::{Claimed, Effect, Input, Member, Seen, Share};
use super::streams::{Streams, Wanted};
use super::{requests, watches};
use crate::config::{AssignmentStrategy, ConsumerConfig};
use crate::error::CommitError;
use crate::event::Event;
use crate::shared::Shared;

/// A cut shorter than this (a fail-over inside the ensemble) is not worth an event.
const CUT_IS_TOLD_AFTER: Duration = Duration::from_secs(1);

/// What a task or a watch brings.
#[derive(Debug)]
pub(super) enum Report {
    Input(Input),
    Claimed {
        partition: TopicPartition,
        session: u64,
        generation: i32,
        share: Share,
        running: bool,
        outcome: ClaimReport,
    },
    /// The application is through with a stopped partition, up to here.
    Drained(TopicPartition, Option<Wish>),
    Written {
        partition: TopicPartition,
        claim: u64,
        outcome: Written,
    },
}

/// What came of a claim, with what it brought.
#[derive(Debug)]
pub(super) enum ClaimReport {
    Granted(ClaimedOffset),
    Held { owner: Owner, watcher: OneshotWatcher },
    PlanMoved,
    Unanswered,
}

/// A partition whose claim met another's owner node.
#[derive(Debug)]
pub(super) struct Kept {
    owner: String,
    since: Instant,
    reported: u32,
}

impl Kept {
    fn now() -> Self {
        Self { owner: String::new(), since: Instant::now(), reported: 0 }
    }
}

/// Who this member is.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) group: String,
    pub(crate) consumer: String,
    pub(crate) host: String,
    pub(crate) start_time_ms: i64,
}

/// See the module.
pub(crate) struct Group {
    pub(super) shared: Arc<Shared>,
    pub(super) identity: Identity,
    pub(super) machine: Member,
    pub(super) book: CommitBook,
    pub(super) session: Session,
    pub(super) live: Option<Live>,
    pub(super) cut_since: Option<Instant>,
    pub(super) cut_told: bool,
    /// The tasks of the present session that watch.
    pub(super) watching: JoinSet<()>,
    pub(super) tasks: JoinSet<()>,
    pub(super) reports: mpsc::UnboundedSender<Report>,
    pub(super) streams: watch::Receiver<Streams>,
    /// What was registered; another wish is registered anew.
    pub(super) registered: Option<Wanted>,
    /// Fires when the owner of a partition that was refused goes.
    pub(super) held_by: HashMap<TopicPartition, OneshotWatcher>,
    /// Partitions of this member that another still owns.
    pub(super) kept_by: BTreeMap<TopicPartition, Kept>,
    /// Releases in progress: not drained, drained, or under way to the registry.
    pub(super) releasing: HashMap<TopicPartition, Releasing>,
    /// Granted and not told yet.
    pub(super) assigned: Vec<TopicPartition>,
    pub(super) seen: Seen,
    pub(super) wake_at: Option<Instant>,
    pub(super) commit_at: Instant,
    pub(super) leaving: Option<Instant>,
    pub(super) done: bool,
}

impl Group {
    /// Runs until left. The error: positions could not be committed.
    pub(crate) async fn run(
        shared: Arc<Shared>,
        identity: Identity,
        session: Session,
        streams: watch::Receiver<Streams>,
        mut commands: mpsc::UnboundedReceiver<GroupCommand>,
    ) -> Result<(), CommitError> {
        let (reports, mut received) = mpsc::unbounded_channel();
        let quiet = shared.config.rebalance_quiet;
        let mut group = Self {
            machine: Member::new(identity.consumer.clone(), quiet),
            book: CommitBook::new(identity.consumer.clone()),
            live: None,
            cut_since: None,
            cut_told: false,
            watching: JoinSet::new(),
            tasks: JoinSet::new(),
            reports,
            streams,
            registered: None,
            held_by: HashMap::new(),
            kept_by: BTreeMap::new(),
            releasing: HashMap::new(),
            assigned: Vec::new(),
            seen: Seen::default(),
            wake_at: None,
            commit_at: Instant::now() + shared.config.auto_commit_interval,
            leaving: None,
            done: false,
            shared,
            identity,
            session,
        };
        let mut states = group.session.watch();
        states.mark_changed();
        while !group.done {
            let inputs = group.next_inputs(&mut states, &mut received, &mut commands).await;
            group.advance(inputs);
        }
        group.watching.shutdown().await;
        group.tasks.shutdown().await;
        group.session.close().await;
        match group.book.is_all_written() {
            true => Ok(()),
            false => Err(CommitError::Unreachable("the last positions were not written".into())),
        }
    }

    /// Waits for something to happen, and takes all that has.
    async fn next_inputs(
        &mut self,
        states: &mut watch::Receiver<SessionState>,
        received: &mut mpsc::UnboundedReceiver<Report>,
        commands: &mut mpsc::UnboundedReceiver<GroupCommand>,
    ) -> Vec<Input> {
        let mut inputs = Vec::new();
        let look = Instant::now() + LOOK_EVERY;
        let wake_at = self.wake_at.unwrap_or(look).min(look).min(self.commit_at);
        tokio::select! {
            changed = states.changed() => match changed {
                Ok(()) => {
                    let state = states.borrow_and_update().clone();
                    self.session_changed(&state, &mut inputs);
                }
                Err(_) => self.done = true,
            },
            Some(report) = received.recv() => self.take(report, &mut inputs),
            command = commands.recv(), if self.leaving.is_none() => match command {
                Some(GroupCommand::Commit { offsets, reply }) => {
                    delivery::commit(&self.shared, &mut self.book, offsets, reply);
                }
                Some(GroupCommand::Close) | None => {
                    self.leaving = Some(Instant::now() + LEAVE_WITHIN);
                    inputs.push(Input::Close);
                }
            },
            Ok(()) = self.streams.changed() => self.subscribed_anew(),
            () = tokio::time::sleep_until(wake_at.into()) => {}
        }
        while let Ok(report) = received.try_recv() {
            self.take(report, &mut inputs);
        }
        while self.tasks.try_join_next().is_some() {}
        inputs
    }

    /// Gives the machine what happened and does what it says.
    fn advance(&mut self, mut inputs: Vec<Input>) {
        let now = Instant::now();
        if self.wake_at.is_some_and(|at| at <= now) {
            self.wake_at = None;
            inputs.push(Input::Time);
        }
        let mut told = Told { assigned: std::mem::take(&mut self.assigned), ..Told::default() };
        for effect in self.machine.handle(inputs, now) {
            self.perform(effect, &mut told);
        }
        told.emit(&self.shared);
        self.look(now);
        self.write_offsets();
    }

    fn look(&mut self, now: Instant) {
        if now >= self.commit_at {
            self.commit_at = now + self.shared.config.auto_commit_interval;
            if self.shared.config.enable_auto_commit {
                delivery::want_done(&self.shared, &mut self.book);
            }
        }
        if !self.cut_told && self.cut_since.is_some_and(|since| now - since >= CUT_IS_TOLD_AFTER) {
            self.cut_told = true;
            self.shared.emit(Event::RegistryUnreachable);
        }
        self.report_kept(now);
        self.book.expire_waiters(now, "no server of it answered within default.api.timeout.ms");
        if self.leaving.is_some_and(|deadline| deadline <= now) {
            tracing::warn!("leaving the group took too long: closing the session as it is");
            self.done = true;
        }
    }

    /// A partition that its owner does not let go stands still: that is told.
    fn report_kept(&mut self, now: Instant) {
        let after = self.shared.config.stall_report;
        for (partition, kept) in &mut self.kept_by {
            let since = now.duration_since(kept.since);
            if since >= after * (kept.reported + 1) {
                kept.reported += 1;
                let owner = &kept.owner;
                let why = format!("the plan gives it to this member, and {owner} still owns it");
                let partition = partition.clone();
                self.shared.emit(Event::Stalled { partition, why, since });
            }
        }
    }

    fn session_changed(&mut self, state: &SessionState, inputs: &mut Vec<Input>) {
        match state {
            SessionState::Connected(live) => {
                if self.live.as_ref().is_some_and(|known| known.number != live.number) {
                    self.session_lost(inputs);
                }
                self.cut_since = None;
                if std::mem::take(&mut self.cut_told) {
                    self.shared.emit(Event::RegistryReachable);
                }
                if self.live.is_none() {
                    self.live = Some(live.clone());
                    inputs.push(Input::SessionLive(live.number));
                    self.watch(live);
                }
            }
            SessionState::Disconnected { since, .. } => {
                self.cut_since.get_or_insert(*since);
            }
            SessionState::Connecting { cause } => {
                if self.live.is_some() {
                    self.session_lost(inputs);
                }
                self.cut_since.get_or_insert_with(Instant::now);
                if let Some(cause) = cause {
                    tracing::debug!(%cause, "no session in the registry");
                }
            }
            SessionState::Closed => self.done = true,
        }
    }

    fn session_lost(&mut self, inputs: &mut Vec<Input>) {
        self.live = None;
        self.watching.abort_all();
        self.held_by.clear();
        self.kept_by.clear();
        self.book.hold_all();
        self.shared.emit(Event::SessionExpired);
        inputs.push(Input::SessionLost);
    }

    fn watch(&mut self, live: &Live) {
        let group = || self.identity.group.clone();
        let plan = watches::watch_plan(live.client.clone(), group(), self.reports.clone());
        let members = watches::watch_members(live.client.clone(), group(), self.reports.clone());
        self.watching.spawn(plan);
        self.watching.spawn(members);
    }

    /// The application wants other topics or streams: registered anew, so that the others see it.
    fn subscribed_anew(&mut self) {
        let wanted = self.streams.borrow_and_update().wanted().clone();
        if self.registered.as_ref().is_some_and(|registered| *registered != wanted) {
            self.register(true);
        }
    }

    fn register(&mut self, anew: bool) {
        let Some(live) = self.live.clone() else { return };
        let wanted = self.streams.borrow_and_update().wanted().clone();
        let member = payload::Member {
            subscription: wanted.clone(),
            host: self.identity.host.clone(),
            start_time_ms: self.identity.start_time_ms,
        };
        self.registered = Some(wanted);
        let (group, consumer) = (self.identity.group.clone(), self.identity.consumer.clone());
        let reports = self.reports.clone();
        self.tasks.spawn(async move {
            if let Some(report) = requests::register(live, group, consumer, member, anew).await {
                let _ = reports.send(report);
            }
        });
    }

    pub(super) fn spawn(&mut self, request: impl Future<Output = Report> + Send + 'static) {
        let reports = self.reports.clone();
        self.tasks.spawn(async move {
            // Nobody listens once the group is left.
            let _ = reports.send(request.await);
        });
    }

    fn perform(&mut self, effect: Effect, told: &mut Told) {
        match effect {
            Effect::Register => self.register(false),
            Effect::WritePlan { expected, seen } => match self.live.clone() {
                None => self.answer(Input::PlanNotWritten),
                Some(live) => {
                    let group = self.identity.group.clone();
                    let strategy = strategy(&self.shared.config);
                    self.spawn(requests::write_plan(live, group, strategy, expected, seen));
                }
            },
            Effect::Claim { partition, share, generation, running } => {
                self.claim(partition, share, generation, running);
            }
            Effect::AwaitOwner(partition) => match self.held_by.remove(&partition) {
                None => self.answer(Input::OwnerGone(partition)),
                Some(watcher) => self.spawn(async move {
                    watcher.changed().await;
                    Report::Input(Input::OwnerGone(partition))
                }),
            },
            Effect::Release(partition) => {
                told.revoked.push(partition.clone());
                self.drain(partition);
            }
            Effect::Lose(partition) => {
                self.shared.stop(std::slice::from_ref(&partition));
                self.book.close(&partition);
                told.lost.push(partition);
            }
            Effect::WakeAt(at) => {
                self.wake_at = Some(self.wake_at.map_or(at, |before| before.min(at)));
            }
            Effect::Deregister => self.done = true,
        }
    }

    pub(super) fn answer(&self, input: Input) {
        let _ = self.reports.send(Report::Input(input));
    }

    fn claim(&mut self, partition: TopicPartition, share: Share, generation: i32, running: bool) {
        let Some(live) = self.live.clone() else {
            let (session, outcome) = (0, Claimed::Unanswered);
            self.answer(Input::Claimed { partition, session, generation, outcome });
            return;
        };
        let claim = Claim {
            group: self.identity.group.clone(),
            consumer: self.identity.consumer.clone(),
            stream: share.stream,
            generation,
            topic: partition.topic.to_string(),
            topic_id: share.topic_id,
            partition: partition.partition,
        };
        self.spawn(requests::claim(live, claim, share, running));
    }

    fn take(&mut self, report: Report, inputs: &mut Vec<Input>) {
        match report {
            Report::Input(input) => {
                match &input {
                    Input::Seen(seen) => self.note_deletions(seen),
                    Input::Plan(agreed) => {
                        let me = Some(self.identity.consumer.as_str());
                        let planned = agreed.as_ref().map(|agreed| &agreed.plan);
                        self.kept_by.retain(|p, _| {
                            let owner = planned.and_then(|plan| plan.owner(&p.topic, p.partition));
                            owner.map(|(member, _)| member) == me
                        });
                    }
                    _ => {}
                }
                inputs.push(input);
            }
            Report::Claimed { partition, session, generation, share, running, outcome } => {
                let outcome = match outcome {
                    ClaimReport::Granted(claimed) => {
                        self.granted(&partition, share, running, claimed);
                        Claimed::Granted
                    }
                    ClaimReport::Held { owner, watcher } => {
                        self.held_by.insert(partition.clone(), watcher);
                        let own = owner.consumer == self.identity.consumer;
                        let kept = self.kept_by.entry(partition.clone());
                        kept.or_insert_with(Kept::now).owner = owner.consumer;
                        if own { Claimed::HeldByOldSelf } else { Claimed::Held }
                    }
                    ClaimReport::PlanMoved => Claimed::PlanMoved,
                    ClaimReport::Unanswered => Claimed::Unanswered,
                };
                inputs.push(Input::Claimed { partition, session, generation, outcome });
            }
            Report::Drained(partition, done) => {
                if let Some(done) = done.filter(|_| self.shared.config.enable_auto_commit) {
                    self.book.want(&partition, done);
                }
                self.book.release_hold(&partition);
                self.releasing.insert(partition.clone(), Releasing::Committing);
                self.release_if_settled(&partition);
            }
            Report::Written { partition, claim, outcome } => {
                self.written(&partition, claim, outcome, inputs);
            }
        }
    }

    /// A topic that went, or gave way to another of its name, is told.
    fn note_deletions(&mut self, seen: &Seen) {
        // What no member wants is not looked at, and this one is not registered.
        if seen.members.contains_key(&self.identity.consumer) {
            delivery::tell_deletions(&self.shared, &self.seen.topics, &seen.topics);
            self.seen = seen.clone();
        }
    }
}

fn strategy(config: &ConsumerConfig) -> Strategy {
    match config.partition_assignment_strategy {
        AssignmentStrategy::Range => Strategy::Range,
        AssignmentStrategy::Sticky => Strategy::Sticky,
    }
}
