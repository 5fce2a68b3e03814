//! A member of a broker's group at work: gives the state machine what the coordinator answers and what
//! is known of topics, and does what it says. One task owns all of it; every request is a task of its
//! own whose outcome comes back as a [`Report`], so a coordinator that does not answer holds up nothing.
//!
//! Has connections and metadata of its own, beside the fetcher's: signs of life do not queue behind
//! records, and the topics that are followed are the group's, not only those delivered here.
//!
//! Delivery and the coordinator are apart: while it is away, what is owned keeps flowing and positions
//! wait, the newest only.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use coordinator::rebalance::Topics;
use proto::client::{Cluster, Connection, Metadata};
use proto::{TopicPartition, v1};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::assignor;
use super::broker_requests::{self, Coordinator, LetIn, Stored};
use super::classic_member::{ClassicMember, Effect, Input, Manner, Refused};
use super::commits::{CommitBook, Wish, Write};
use super::delivery::{self, GroupCommand, LEAVE_WITHIN, LOOK_EVERY, Releasing, Told};
use super::streams::{Streams, Wanted};
use crate::config::AssignmentStrategy;
use crate::error::CommitError;
use crate::event::Event;
use crate::shared::Shared;
use crate::worker;

/// A fail-over shorter than this is not worth an event.
const AWAY_IS_TOLD_AFTER: Duration = Duration::from_secs(1);
/// What a task brings. The number is of the attempt to join that it belongs to.
#[derive(Debug)]
pub(super) enum Report {
    Input(Input),
    Found(Result<Connection, String>),
    Joined(u64, Result<LetIn, Refused>),
    /// What can be known of the topics to be assigned is known.
    Ready(u64),
    Synced(u64, Result<Bytes, Refused>),
    /// Offsets that were asked for, by the numbers of their beginnings.
    Looked(BTreeMap<TopicPartition, u64>, Result<Vec<Stored>, Refused>),
    /// The application is through with a release, up to here.
    Drained(TopicPartition, u64, Option<Wish>),
    Written(u64, Vec<Write>, Result<Vec<Result<(), v1::Error>>, Refused>),
}

/// See the module.
pub(super) struct BrokerGroup {
    pub(super) shared: Arc<Shared>,
    pub(super) group: String,
    pub(super) machine: ClassicMember,
    pub(super) book: CommitBook,
    pub(super) cluster: Cluster,
    pub(super) coordinator: Option<Coordinator>,
    /// The coordinator does not answer.
    away: Option<(Instant, String)>,
    away_told: bool,
    pub(super) tasks: JoinSet<()>,
    reports: mpsc::UnboundedSender<Report>,
    pub(super) streams: watch::Receiver<Streams>,
    /// What the application wants, by name.
    pub(super) subscribed: BTreeMap<String, u32>,
    let_in: Option<LetIn>,
    /// Why it was not let in when it tried last.
    refusal: Option<String>,
    /// What the group reads, where this member leads it.
    pub(super) led: BTreeSet<String>,
    /// What is known of the topics that are followed.
    pub(super) topics: Topics,
    pub(super) missing_since: BTreeMap<String, Instant>,
    pub(super) names_at: Instant,
    /// Counts beginnings and releases.
    pub(super) numbers: u64,
    /// Begun, and where is not known yet.
    pub(super) looking: BTreeMap<TopicPartition, u64>,
    pub(super) looking_up: bool,
    pub(super) look_up_at: Instant,
    /// The stream of each partition.
    pub(super) placed: BTreeMap<TopicPartition, u32>,
    pub(super) releasing: HashMap<TopicPartition, (u64, Releasing)>,
    /// Begun and not told yet.
    pub(super) assigned: Vec<TopicPartition>,
    /// What the application did when it was looked at last, and since when that is so.
    activity: (Option<u64>, Instant),
    idle: bool,
    wake_at: Option<Instant>,
    commit_at: Instant,
    pub(super) write_at: Instant,
    pub(super) leaving: Option<Instant>,
    done: bool,
}

impl BrokerGroup {
    /// Runs until left. The error: positions could not be committed.
    pub(super) async fn run(
        shared: Arc<Shared>,
        group: String,
        streams: watch::Receiver<Streams>,
        mut commands: mpsc::UnboundedReceiver<GroupCommand>,
    ) -> Result<(), CommitError> {
        let cluster = worker::cluster(&shared.config);
        let cluster = cluster.map_err(|error| CommitError::Unreachable(error.to_string()))?;
        let (reports, mut received) = mpsc::unbounded_channel();
        let mut known = cluster.subscribe();
        let mut group = Self::new(shared, group, cluster, streams, reports);
        group.subscribe();
        while !group.done {
            let inputs = group.next_inputs(&mut known, &mut received, &mut commands).await;
            group.advance(inputs);
        }
        group.tasks.shutdown().await;
        match group.book.is_all_written() {
            true => Ok(()),
            false => Err(CommitError::Unreachable("the last positions were not written".into())),
        }
    }

    fn new(
        shared: Arc<Shared>,
        group: String,
        cluster: Cluster,
        streams: watch::Receiver<Streams>,
        reports: mpsc::UnboundedSender<Report>,
    ) -> Self {
        let (now, config) = (Instant::now(), &shared.config);
        let manner = Manner {
            cooperative: config.partition_assignment_strategy == AssignmentStrategy::Sticky,
            is_static: config.group_instance_id.is_some(),
            heartbeat: config.heartbeat_interval,
            retry: config.retry_backoff,
        };
        Self {
            machine: ClassicMember::new(manner, now),
            book: CommitBook::new(group.clone()),
            group,
            cluster,
            coordinator: None,
            away: None,
            away_told: false,
            tasks: JoinSet::new(),
            reports,
            streams,
            subscribed: BTreeMap::new(),
            let_in: None,
            refusal: None,
            led: BTreeSet::new(),
            topics: Topics::new(),
            missing_since: BTreeMap::new(),
            names_at: now,
            numbers: 0,
            looking: BTreeMap::new(),
            looking_up: false,
            look_up_at: now,
            placed: BTreeMap::new(),
            releasing: HashMap::new(),
            assigned: Vec::new(),
            activity: (None, now),
            idle: false,
            wake_at: None,
            commit_at: now + config.auto_commit_interval,
            write_at: now,
            leaving: None,
            done: false,
            shared,
        }
    }

    /// Waits for something to happen, and takes all that has.
    async fn next_inputs(
        &mut self,
        known: &mut watch::Receiver<Arc<Metadata>>,
        received: &mut mpsc::UnboundedReceiver<Report>,
        commands: &mut mpsc::UnboundedReceiver<GroupCommand>,
    ) -> Vec<Input> {
        let mut inputs = Vec::new();
        let look = Instant::now() + LOOK_EVERY;
        let wake_at = self.wake_at.unwrap_or(look).min(look).min(self.commit_at);
        tokio::select! {
            Ok(()) = known.changed() => {
                known.mark_unchanged();
                self.follow_topics(&mut inputs);
            }
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
            Ok(()) = self.streams.changed() => self.follow_topics(&mut inputs),
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
        self.look(now, &mut inputs);
        let mut told = Told { assigned: std::mem::take(&mut self.assigned), ..Told::default() };
        for effect in self.machine.handle(inputs, now) {
            self.perform(effect, &mut told);
        }
        told.emit(&self.shared);
        self.look_up(now);
        self.write_offsets(now);
    }

    fn look(&mut self, now: Instant, inputs: &mut Vec<Input>) {
        if now >= self.commit_at {
            self.commit_at = now + self.shared.config.auto_commit_interval;
            if self.shared.config.enable_auto_commit {
                delivery::want_done(&self.shared, &mut self.book);
            }
        }
        if let Some((since, why)) = &self.away
            && !self.away_told
            && now.duration_since(*since) >= AWAY_IS_TOLD_AFTER
        {
            tracing::warn!(group = self.group, why, "no coordinator");
            self.away_told = true;
            self.shared.emit(Event::CoordinatorUnreachable);
        }
        let patience = "the group's coordinator did not within default.api.timeout.ms";
        self.book.expire_waiters(now, patience);
        if !self.missing_since.is_empty() {
            self.follow_topics(inputs);
        }
        self.look_for_names(now);
        self.look_at_application(now, inputs);
        if self.leaving.is_some_and(|deadline| deadline <= now) {
            tracing::warn!("leaving the group took too long: it will notice by itself");
            self.done = true;
        }
    }

    /// An application that does nothing keeps partitions from others.
    fn look_at_application(&mut self, now: Instant, inputs: &mut Vec<Input>) {
        let activity = self.shared.activity();
        let (before, since) = self.activity;
        if activity.is_none() || activity != before {
            self.activity = (activity, now);
            if std::mem::take(&mut self.idle) {
                inputs.push(Input::Idle(false));
            }
        } else if !self.idle && now.duration_since(since) >= self.shared.config.max_poll_interval {
            tracing::warn!(
                group = self.group,
                "the application neither asked for records nor finished any within \
                 max.poll.interval.ms: leaving the group until it does"
            );
            self.idle = true;
            inputs.push(Input::Idle(true));
        }
    }

    pub(super) fn spawn(&mut self, request: impl Future<Output = Report> + Send + 'static) {
        let reports = self.reports.clone();
        self.tasks.spawn(async move {
            // Nobody listens once the group is left.
            let _ = reports.send(request.await);
        });
    }

    pub(super) fn caller(&self) -> v1::GroupCaller {
        v1::GroupCaller {
            member_id: self.machine.member_id().to_owned(),
            instance_id: self.instance(),
            generation: self.machine.generation(),
        }
    }

    fn instance(&self) -> String {
        self.shared.config.group_instance_id.clone().unwrap_or_default()
    }

    fn perform(&mut self, effect: Effect, told: &mut Told) {
        match effect {
            Effect::Find => self.find(),
            Effect::Join { owned } => self.join(&owned),
            Effect::Sync { leads } => self.sync(leads),
            Effect::Heartbeat => {
                let (attempt, caller) = (self.machine.attempt(), self.caller());
                if let Some(coordinator) = self.coordinator.clone() {
                    self.spawn(async move {
                        let answer = coordinator.heartbeat(caller).await;
                        Report::Input(Input::Answered(attempt, answer))
                    });
                }
            }
            Effect::Leave(member_id) => {
                let coordinator = self.coordinator.clone();
                self.spawn(async move {
                    if let Some(coordinator) = coordinator {
                        // Who is not told notices by itself.
                        let _ = coordinator.leave(member_id).await;
                    }
                    Report::Input(Input::Left)
                });
            }
            Effect::Begin(partition, _) => self.begin(partition),
            Effect::Release(partition) => {
                if self.release(&partition) {
                    told.revoked.push(partition);
                }
            }
            Effect::Lose(partition) => {
                if self.lose(&partition) {
                    told.lost.push(partition);
                }
            }
            Effect::TellLost(refused) => {
                let why = match refused {
                    Refused::Unknown => {
                        "its coordinator has not heard of it for session.timeout.ms, or it was \
                         taken out"
                    }
                    _ => "it is in another generation by now",
                };
                self.shared.emit(Event::MembershipLost { why: why.to_owned() });
            }
            Effect::TellRefused(why, retried) => {
                // The same again is no news.
                if self.refusal.replace(why.clone()).as_ref() != Some(&why) {
                    self.shared.emit(Event::JoinRefused { why, retried });
                }
            }
            Effect::WakeAt(at) => {
                self.wake_at = Some(self.wake_at.map_or(at, |before| before.min(at)));
            }
            Effect::Done => self.done = true,
        }
    }

    fn find(&mut self) {
        let (cluster, group) = (self.cluster.clone(), self.group.clone());
        let by_pattern = matches!(self.streams.borrow().wanted(), Wanted::Pattern { .. });
        self.spawn(async move {
            // A pattern means nothing before the names are known.
            if by_pattern && let Err(error) = cluster.refresh_all().await {
                return Report::Found(Err(error.to_string()));
            }
            Report::Found(broker_requests::find(cluster, group).await)
        });
    }

    fn join(&mut self, owned: &BTreeSet<TopicPartition>) {
        self.subscribe();
        self.let_in = None;
        let Some(coordinator) = self.coordinator.clone() else { return };
        let config = &self.shared.config;
        let strategy = config.partition_assignment_strategy;
        let generation = self.machine.generation();
        let wish = broker_requests::Wish {
            member_id: self.machine.member_id().to_owned(),
            instance_id: self.instance(),
            client_id: config.consumer_id.clone().unwrap_or_else(|| config.client_id.clone()),
            session_timeout: config.session_timeout,
            rebalance_timeout: config.max_poll_interval,
            assignor: assignor::name(strategy),
            subscription: assignor::subscription(strategy, &self.subscribed, owned, generation),
        };
        let attempt = self.machine.attempt();
        self.spawn(async move { Report::Joined(attempt, coordinator.join(wish).await) });
    }

    /// The leader looks at the topics first.
    fn sync(&mut self, leads: bool) {
        let attempt = self.machine.attempt();
        self.led.clear();
        match &self.let_in {
            Some(let_in) if leads => {
                self.led = assignor::topics_of(&let_in.members);
                self.subscribe();
                let (cluster, led) = (self.cluster.clone(), self.led.clone());
                self.spawn(async move {
                    let names: Vec<&str> = led.iter().map(String::as_str).collect();
                    // Who cannot be asked leaves what is known; the rest is assigned when it is.
                    if !names.is_empty() {
                        drop(cluster.refresh(&names).await);
                    }
                    Report::Ready(attempt)
                });
            }
            _ => self.bring(Vec::new()),
        }
    }

    /// Gives out the partitions of the group.
    fn assign(&mut self, inputs: &mut Vec<Input>) {
        self.follow_topics(inputs);
        let Some(let_in) = &self.let_in else { return };
        // A static leader that came back finds what it gave out before.
        let given = match let_in.skip {
            true => Vec::new(),
            false => assignor::assign(&let_in.assignor, &let_in.members, &self.topics),
        };
        tracing::info!(
            group = self.group,
            generation = let_in.joined.generation,
            members = given.len(),
            assignor = let_in.assignor,
            "partitions are given out"
        );
        inputs.push(Input::Assigned(self.topics.clone()));
        self.bring(given);
    }

    fn bring(&mut self, given: Vec<(String, Bytes)>) {
        let (Some(coordinator), Some(let_in)) = (self.coordinator.clone(), &self.let_in) else {
            return;
        };
        let (attempt, caller) = (self.machine.attempt(), self.caller());
        let (assignor, limit) = (let_in.assignor.clone(), self.shared.config.max_poll_interval);
        self.spawn(async move {
            Report::Synced(attempt, coordinator.sync(caller, assignor, given, limit).await)
        });
    }

    fn take(&mut self, report: Report, inputs: &mut Vec<Input>) {
        let attempt = self.machine.attempt();
        match report {
            Report::Input(input) => {
                if let Input::Answered(_, answer) = &input {
                    self.note(answer.as_ref().err());
                }
                inputs.push(input);
            }
            Report::Found(Ok(connection)) => {
                let (cluster, group) = (self.cluster.clone(), self.group.clone());
                self.coordinator = Some(Coordinator { cluster, connection, group });
                inputs.push(Input::Found(true));
            }
            Report::Found(Err(why)) => {
                tracing::debug!(group = self.group, why, "no coordinator found");
                self.away.get_or_insert_with(|| (Instant::now(), why));
                inputs.push(Input::Found(false));
            }
            Report::Joined(of, answer) if of == attempt => {
                self.note(answer.as_ref().err());
                inputs.push(Input::Joined(answer.map(|let_in| {
                    let joined = let_in.joined.clone();
                    (self.let_in, self.refusal) = (Some(let_in), None);
                    joined
                })));
            }
            Report::Ready(of) if of == attempt => self.assign(inputs),
            Report::Synced(of, answer) if of == attempt => {
                self.note(answer.as_ref().err());
                inputs.push(Input::Synced(answer.map(assignor::assigned)));
            }
            Report::Joined(..) | Report::Ready(_) | Report::Synced(..) => {}
            Report::Looked(asked, answer) => self.looked(&asked, answer, inputs),
            Report::Drained(partition, number, done) => self.drained(&partition, number, done),
            Report::Written(of, writes, answer) => self.written(of, &writes, answer, inputs),
        }
    }

    /// Follows whether the coordinator answers.
    pub(super) fn note(&mut self, refused: Option<&Refused>) {
        match refused {
            Some(Refused::Moved | Refused::Loading) => {
                let why = "it does not answer, or is another broker by now".to_owned();
                self.away.get_or_insert_with(|| (Instant::now(), why));
            }
            _ => {
                self.away = None;
                if std::mem::take(&mut self.away_told) {
                    self.shared.emit(Event::CoordinatorReachable);
                }
            }
        }
    }

    pub(super) fn answer(&self, input: Input) {
        let _ = self.reports.send(Report::Input(input));
    }
}
