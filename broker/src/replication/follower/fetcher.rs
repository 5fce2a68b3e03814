//! One fetcher: its thread, its partitions, its connection to the leader and what is done when that
//! breaks. The stream itself is in `session`.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use proto::client::{Backoff, Connection};
use tokio::sync::{Notify, mpsc};

use super::board::Figures;
use super::fetch_state::{Action, Event, LocalFault, Moment, Phase};
use super::fetchers::{FetcherKey, Shared};
use super::followed::Followed;
use super::lane::Lane;
use super::local_replica::LocalReplica;
use super::log_starts::Ask;
use super::refill;
use super::rounds::{ReplicaNumber, Rounds};
use super::session;

/// A fetcher that panicked begins anew after this.
const PANIC_PAUSE: Duration = Duration::from_secs(1);
/// Between two looks at the figures.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The wait before a connection that failed once is tried again.
const RECONNECT_FIRST: Duration = Duration::from_millis(50);

/// What a fetcher is told.
pub(super) enum Command {
    /// Fetch this one; `moved`: it comes from the other lane.
    Follow { followed: Arc<Followed>, moved: bool },
    /// Let go of it; its gate is closed already.
    Stop(ReplicaNumber),
}

/// Rung by flushes that are done.
#[derive(Default)]
pub(super) struct Bell {
    rung: Mutex<Vec<ReplicaNumber>>,
    /// Their log starts were written down.
    started: Mutex<Vec<ReplicaNumber>>,
    pub(super) notify: Notify,
}

/// See the module. Owned by its thread.
pub(super) struct Fetcher<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) key: &'a FetcherKey,
    pub(super) commands: &'a mut mpsc::UnboundedReceiver<Command>,
    pub(super) replicas: HashMap<ReplicaNumber, LocalReplica>,
    /// To be added; may name some that are not due any more.
    pub(super) due: VecDeque<ReplicaNumber>,
    waiting: BTreeSet<(Instant, ReplicaNumber)>,
    /// To be asked where the leader's log starts.
    pub(super) asking: Vec<ReplicaNumber>,
    pub(super) ask: Option<Ask>,
    /// With something to tell the leader.
    pub(super) untold: Vec<ReplicaNumber>,
    /// When the leader is told of everything again.
    pub(super) tell_all_at: Instant,
    pub(super) rounds: Rounds,
    pub(super) bell: Arc<Bell>,
    pub(super) backoff: Backoff,
    /// No round before this: the throttle says so.
    pub(super) throttled_until: Option<Instant>,
    look_at: Instant,
    tell_at: Instant,
}

/// The body of a fetcher's thread; returns when it is told nothing any more.
pub(super) fn thread(
    shared: &Arc<Shared>,
    key: &FetcherKey,
    mut commands: mpsc::UnboundedReceiver<Command>,
) {
    let mut again = Vec::new();
    loop {
        let run = AssertUnwindSafe(|| run(shared, key, &mut commands, &again));
        let what = match catch_unwind(run) {
            Ok(Ok(())) => break,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it panicked".to_owned(),
        };
        tracing::error!(leader = %key.leader.id, shard = key.shard, what, "a fetcher failed");
        shared.metrics.replica_fetcher_restarts.one();
        shared.metrics.replica_fetchers_dead.add(1);
        std::thread::park_timeout(PANIC_PAUSE);
        shared.metrics.replica_fetchers_dead.add(-1);
        again = shared.followed_by(key);
    }
    shared.board.put(key, None);
}

fn run(
    shared: &Arc<Shared>,
    key: &FetcherKey,
    commands: &mut mpsc::UnboundedReceiver<Command>,
    again: &[Arc<Followed>],
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut fetcher = Fetcher::new(shared, key, commands);
    for followed in again {
        fetcher.follow(Arc::clone(followed), false);
    }
    runtime.block_on(fetcher.run());
    Ok(())
}

impl<'a> Fetcher<'a> {
    fn new(
        shared: &'a Arc<Shared>,
        key: &'a FetcherKey,
        commands: &'a mut mpsc::UnboundedReceiver<Command>,
    ) -> Self {
        let (now, wait_max) = (Instant::now(), shared.config.fetch_backoff);
        Self {
            shared,
            key,
            commands,
            replicas: HashMap::new(),
            due: VecDeque::new(),
            waiting: BTreeSet::new(),
            asking: Vec::new(),
            ask: None,
            untold: Vec::new(),
            tell_all_at: Instant::now(),
            rounds: Rounds::default(),
            bell: Arc::default(),
            backoff: Backoff::new(RECONNECT_FIRST.min(wait_max), wait_max),
            throttled_until: None,
            look_at: now,
            tell_at: now + refill::TELL_EVERY,
        }
    }

    /// Connects, fetches, connects again; returns when all commands are taken and no more can come.
    async fn run(mut self) {
        loop {
            let leader = &self.key.leader;
            let connecting = Connection::connect(&leader.address, &self.shared.sockets);
            let connected = match self.meanwhile(connecting).await {
                None => return,
                Some(connected) => connected,
            };
            let why = match connected {
                Err(error) => error.to_string(),
                Ok(connection) => {
                    let why = self.session(&connection).await;
                    connection.abort();
                    self.disconnected();
                    match why {
                        session::End::Over => return,
                        session::End::Lost(why) => why,
                    }
                }
            };
            self.shared.metrics.replica_fetch_failures.one();
            let wait = self.backoff.after_failure();
            let failures = self.backoff.failures();
            if failures.is_power_of_two() {
                tracing::warn!(
                    leader = %leader.id, address = leader.address, failures, why,
                    "cannot fetch from the leader; trying again"
                );
            }
            if self.meanwhile(tokio::time::sleep(wait)).await.is_none() {
                return;
            }
        }
    }

    /// Waits for something and takes commands meanwhile; `None` when no more can come.
    async fn meanwhile<T>(&mut self, what: impl Future<Output = T>) -> Option<T> {
        let mut what = std::pin::pin!(what);
        loop {
            let look_at = self.look_at;
            tokio::select! {
                done = &mut what => return Some(done),
                command = self.commands.recv() => self.take(command?),
                () = tokio::time::sleep_until(look_at.into()) => self.look(Instant::now()),
            }
        }
    }

    /// Takes the commands that are there; false when no more can come.
    pub(super) fn take_commands(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.take(command),
                Err(mpsc::error::TryRecvError::Empty) => return true,
                Err(mpsc::error::TryRecvError::Disconnected) => return false,
            }
        }
    }

    pub(super) fn take(&mut self, command: Command) {
        match command {
            Command::Follow { followed, moved } => self.follow(followed, moved),
            Command::Stop(number) => self.let_go(number),
        }
    }

    fn follow(&mut self, followed: Arc<Followed>, moved: bool) {
        let number = followed.number;
        if self.replicas.contains_key(&number) {
            return;
        }
        self.replicas.insert(number, LocalReplica::new(followed, Instant::now(), moved));
        self.due.push_back(number);
    }

    /// Forgets a partition, here and at the leader.
    pub(super) fn let_go(&mut self, number: ReplicaNumber) {
        self.apply(number, Event::Moved);
        self.replicas.remove(&number);
    }

    /// Carries a partition's state on, and what belongs to it: queues and handles. What is to be done
    /// to the log is the caller's.
    pub(super) fn apply(&mut self, number: ReplicaNumber, event: Event) -> Action {
        let Some(replica) = self.replicas.get_mut(&number) else { return Action::None };
        let at = Moment {
            now: Instant::now(),
            wait_max: self.shared.config.fetch_backoff,
            jitter: fastrand::f64(),
        };
        let before = replica.state.phase;
        let (state, action) = replica.state.next(event, at);
        replica.state = state;
        if state.phase != Phase::Held
            && let Some(handle) = replica.handle.take()
            && action == Action::Forget
        {
            self.rounds.forget(handle);
        }
        if state.phase != before {
            if let Phase::Waiting { until, .. } = before {
                self.waiting.remove(&(until, number));
            }
            match state.phase {
                Phase::Due { .. } => self.due.push_back(number),
                Phase::Waiting { until, .. } => {
                    self.waiting.insert((until, number));
                }
                Phase::Asking => self.asking.push(number),
                Phase::Held | Phase::Over => {}
            }
        }
        action
    }

    fn disconnected(&mut self) {
        self.rounds = Rounds::default();
        self.ask = None;
        self.asking.clear();
        self.throttled_until = None;
        let numbers: Vec<_> = self.replicas.keys().copied().collect();
        for number in numbers {
            self.apply(number, Event::Disconnected);
        }
    }

    /// What the time and flushes have brought; returns when to look again at the latest.
    pub(super) fn wake(&mut self, now: Instant) -> Instant {
        while let Some(&(until, number)) = self.waiting.first()
            && until <= now
        {
            self.waiting.pop_first();
            self.apply(number, Event::Elapsed);
        }
        let rung = std::mem::take(&mut *self.bell.rung.lock());
        for number in rung {
            self.flushed(number);
        }
        let started = std::mem::take(&mut *self.bell.started.lock());
        for number in started {
            self.tell(number);
        }
        if self.throttled_until.is_some_and(|until| until <= now) {
            self.throttled_until = None;
        }
        if now >= self.look_at {
            self.look(now);
        }
        let next = self.waiting.first().map_or(self.look_at, |first| first.0.min(self.look_at));
        self.throttled_until.map_or(next, |until| next.min(until))
    }

    /// Has a partition's log flushed and the bell rung afterwards, once at a time.
    pub(super) fn flush(&mut self, number: ReplicaNumber) {
        let Some(replica) = self.replicas.get_mut(&number) else { return };
        if std::mem::replace(&mut replica.flushing, true) {
            return;
        }
        let bell = Arc::clone(&self.bell);
        replica.followed.flush(Box::new(move |_| {
            bell.rung.lock().push(number);
            bell.notify.notify_one();
        }));
    }

    /// Has the leader told of a partition's log start once it is written down.
    pub(super) fn tell_start(&self, number: ReplicaNumber, followed: &Followed) {
        let bell = Arc::clone(&self.bell);
        followed.when_start_stored(Box::new(move || {
            bell.started.lock().push(number);
            bell.notify.notify_one();
        }));
    }

    fn flushed(&mut self, number: ReplicaNumber) {
        let Some(replica) = self.replicas.get_mut(&number) else { return };
        replica.flushing = false;
        let followed = Arc::clone(&replica.followed);
        if followed.is_offline() {
            self.apply(number, Event::Local(LocalFault::Over));
            return;
        }
        match replica.state.phase {
            Phase::Due { .. } => self.due.push_back(number),
            Phase::Held => {
                self.tell(number);
                if followed.held_end() < followed.log_end() {
                    // More was appended while the disk was at it.
                    self.flush(number);
                }
            }
            Phase::Asking | Phase::Waiting { .. } | Phase::Over => {}
        }
    }

    /// The leader is to be told how far a partition has come.
    pub(super) fn tell(&mut self, number: ReplicaNumber) {
        if let Some(replica) = self.replicas.get_mut(&number)
            && !std::mem::replace(&mut replica.untold, true)
        {
            self.untold.push(number);
        }
    }

    /// Puts the figures on the board, and says how refilling goes.
    fn look(&mut self, now: Instant) {
        self.look_at = now + LOOK_EVERY;
        let mut figures = Figures::default();
        for replica in self.replicas.values() {
            let lag = replica.lag();
            figures.max_lag = figures.max_lag.max(lag);
            let failed = matches!(replica.state.phase, Phase::Waiting { .. } | Phase::Over);
            figures.failed += i64::from(failed);
            if self.key.lane == Lane::Refill {
                figures.refilling += 1;
                figures.refill_left += lag;
            }
        }
        self.shared.board.put(self.key, Some(figures));
        if self.key.lane == Lane::Refill && now >= self.tell_at {
            self.tell_at = now + refill::TELL_EVERY;
            self.tell_refills(now, figures);
        }
    }

    fn tell_refills(&mut self, now: Instant, figures: Figures) {
        let mut behind: Vec<&mut LocalReplica> = self.replicas.values_mut().collect();
        behind.sort_by_key(|replica| std::cmp::Reverse(replica.lag()));
        for (place, replica) in behind.into_iter().enumerate() {
            let (log_end, leader_end) = (replica.followed.log_end(), replica.leader_end);
            let leader_end = leader_end.unwrap_or(log_end);
            let speed = replica.refill.look(log_end, leader_end, now);
            if place < refill::NAMED_MAX {
                tracing::info!(
                    partition = %replica.followed.name(), leader = %self.key.leader.id,
                    offset = log_end.0, leader_end = leader_end.0,
                    bytes_per_second = speed.bytes_per_second, seconds_left = speed.seconds_left,
                    "replica catches up"
                );
            }
        }
        if figures.refilling > refill::NAMED_MAX as i64 {
            tracing::info!(
                leader = %self.key.leader.id, partitions = figures.refilling,
                offsets_left = figures.refill_left, "replicas catch up"
            );
        }
    }
}
