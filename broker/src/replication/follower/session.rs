//! The fetch stream of a fetcher: sends rounds, gives answers to the logs, and does what
//! `fetch_state` says about what goes wrong.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::client::{Connection, StreamReceiver, StreamSender};
use proto::grpc::{MESSAGE_LEN_MAX, Message, split_payload};
use proto::v1::log_client::LogClient;
use proto::{ErrorCode, LeaderEpoch, Offset, v1};

use super::fetch_state::{Event, LocalFault, Phase};
use super::fetcher::Fetcher;
use super::followed::{Followed, Refusal};
use super::lane::Lane;
use super::records::Fault;
use super::rounds::{ADDS_MAX, Limits, Outcome, ReplicaNumber};

const PATH: &str = "/ottla.v1.Log/Fetch";
/// Beyond the wait it was asked for, a leader that answers nothing is given up after this long: a slow
/// disk may take its time. A process that does not live is found by HTTP/2 pings long before.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// The longest wait for where logs start.
const ASK_WAIT: Duration = Duration::from_secs(10);
/// Answers appended before the leader is told of them.
const APPEND_BYTES: usize = 1 << 20;
/// So often the leader is told of every partition, moved or not: what it knew it may have put aside,
/// as it does when this broker leaves an ISR, and who has nothing new would never be heard again.
const TELL_ALL_EVERY: Duration = Duration::from_secs(1);
/// Messages of the leader have a head beside the records.
const MESSAGE_LEN: usize = MESSAGE_LEN_MAX;

/// Where logs start, as it is told.
pub(super) type Ask =
    Pin<Box<dyn Future<Output = Vec<(ReplicaNumber, Result<Offset, String>)>> + Send>>;

/// Why a session ended.
#[derive(Debug)]
pub(super) enum End {
    /// Nothing is followed from this leader any more.
    Over,
    /// The stream broke, or the leader broke the protocol.
    Lost(String),
}

/// The two halves, and when the leader was last heard of.
struct Stream {
    sender: StreamSender,
    receiver: StreamReceiver,
    /// The first request says who follows.
    introduced: bool,
    heard: Instant,
}

impl Fetcher<'_> {
    /// Fetches until the stream ends.
    pub(super) async fn session(&mut self, connection: &Connection) -> End {
        let (sender, receiver) = connection.open_stream(PATH, 4, MESSAGE_LEN);
        let mut stream = Stream { sender, receiver, introduced: false, heard: Instant::now() };
        loop {
            if !self.take_commands() {
                return End::Over;
            }
            let now = Instant::now();
            let mut wake_at = self.wake(now);
            if let Err(why) = self.send_rounds(&mut stream).await {
                return End::Lost(why);
            }
            self.ask_starts(connection);
            if let Some(until) = self.throttled_until {
                wake_at = wake_at.min(until);
            }
            let silence_ends = stream.heard + self.shared.config.fetch_wait_max + SILENCE_MAX;
            if self.rounds.is_waiting() {
                wake_at = wake_at.min(silence_ends);
            }
            tokio::select! {
                received = stream.receiver.recv() => match received {
                    Ok(Some(message)) => {
                        stream.heard = Instant::now();
                        if let Err(why) = self.take_all(message, &mut stream.receiver) {
                            return End::Lost(why);
                        }
                    }
                    Ok(None) => return End::Lost("the leader ended the fetch stream".to_owned()),
                    Err(error) => return End::Lost(error.to_string()),
                },
                command = self.commands.recv() => match command {
                    Some(command) => self.take(command),
                    None => return End::Over,
                },
                () = self.bell.notify.notified() => {}
                starts = answered(&mut self.ask) => self.starts_told(starts),
                () = tokio::time::sleep_until(wake_at.into()) => {
                    if self.rounds.is_waiting() && Instant::now() >= silence_ends {
                        let silence = stream.heard.elapsed().as_millis();
                        return End::Lost(format!("the leader has not answered for {silence} ms"));
                    }
                }
            }
        }
    }

    async fn send_rounds(&mut self, stream: &mut Stream) -> Result<(), String> {
        while let Some(mut request) = self.next_request(Instant::now()) {
            if !std::mem::replace(&mut stream.introduced, true) {
                let me = &self.shared.me;
                request.replica = Some(v1::Replica {
                    broker_id: me.broker_id.0,
                    incarnation: Bytes::copy_from_slice(me.incarnation.as_bytes()),
                });
            }
            if self.rounds.is_first() {
                stream.heard = Instant::now();
            }
            if stream.sender.send_message(&request).await.is_err() {
                // Why, the receiver tells.
                return Err(match stream.receiver.recv().await {
                    Err(error) => error.to_string(),
                    Ok(_) => "the leader ended the fetch stream".to_owned(),
                });
            }
        }
        Ok(())
    }

    fn next_request(&mut self, now: Instant) -> Option<v1::FetchRequest> {
        let tells = !self.due.is_empty() || !self.untold.is_empty() || self.rounds.has_forgotten();
        if !self.rounds.may_send(tells) || self.throttled_until.is_some() {
            return None;
        }
        let config = &self.shared.config;
        let mut round_bytes = config.fetch_response_max_bytes as u64;
        if self.key.lane == Lane::Refill {
            match self.shared.throttle.room(round_bytes, now) {
                Ok(room) => round_bytes = room,
                Err(until) => {
                    self.throttled_until = Some(until);
                    return None;
                }
            }
        }
        let max_wait_ms = u32::try_from(config.fetch_wait_max.as_millis()).unwrap_or(u32::MAX);
        self.tell_all(now);
        let add = self.adds();
        let progress = self.progress();
        if !self.rounds.holds_any() && !self.rounds.has_forgotten() {
            return None;
        }
        Some(self.rounds.request(add, progress, Limits { max_wait_ms, round_bytes }))
    }

    /// The partitions that are due.
    fn adds(&mut self) -> Vec<v1::FetchPartition> {
        let max_bytes = u32::try_from(self.shared.config.fetch_max_bytes).unwrap_or(u32::MAX);
        let mut add = Vec::new();
        while add.len() < ADDS_MAX
            && let Some(number) = self.due.pop_front()
        {
            let Some(replica) = self.replicas.get(&number) else { continue };
            let Phase::Due { verify } = replica.state.phase else { continue };
            let followed = Arc::clone(&replica.followed);
            if followed.is_offline() {
                self.apply(number, Event::Local(LocalFault::Over));
                continue;
            }
            if followed.held_end() < followed.log_end() {
                // Where it begins is counted as held.
                self.flush(number);
                continue;
            }
            let handle = self.rounds.handle(number);
            let partition = followed.fetch_partition(handle, max_bytes, verify);
            self.apply(number, Event::Added);
            if let Some(replica) = self.replicas.get_mut(&number) {
                replica.handle = Some(handle);
                replica.told = Offset(partition.offset);
            }
            add.push(partition);
        }
        add
    }

    /// Has the leader told of everything from time to time; rounds go out often enough for that.
    fn tell_all(&mut self, now: Instant) {
        if now < self.tell_all_at {
            return;
        }
        self.tell_all_at = now + TELL_ALL_EVERY;
        for (number, replica) in &mut self.replicas {
            if replica.handle.is_none() {
                continue;
            }
            replica.told = Offset(-1);
            if !std::mem::replace(&mut replica.untold, true) {
                self.untold.push(*number);
            }
        }
    }

    /// How far partitions have come since the leader was last told.
    fn progress(&mut self) -> Vec<v1::ReplicaProgress> {
        let mut progress = Vec::with_capacity(self.untold.len());
        for number in self.untold.drain(..) {
            let Some(replica) = self.replicas.get_mut(&number) else { continue };
            replica.untold = false;
            let Some(handle) = replica.handle else { continue };
            let held = replica.followed.held_end();
            if held > replica.told {
                replica.told = held;
                progress.push(v1::ReplicaProgress { handle, offset: held.0 });
            }
        }
        progress
    }

    /// Takes this message and what came with it, up to a bound.
    fn take_all(&mut self, first: Message, receiver: &mut StreamReceiver) -> Result<(), String> {
        let (mut next, mut bytes) = (Some(first), 0);
        while let Some(message) = next {
            bytes += self.take_message(message)?;
            if bytes >= APPEND_BYTES {
                return Ok(());
            }
            next = receiver.try_recv().map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Returns how many bytes of records it had.
    fn take_message(&mut self, message: Message) -> Result<usize, String> {
        let (response, records) = split_payload::<v1::FetchResponse>(message)
            .map_err(|error| format!("the leader sent what cannot be read: {error}"))?;
        let bytes = records.iter().map(Bytes::len).sum();
        if self.key.lane == Lane::Refill {
            self.shared.throttle.take(bytes as u64, Instant::now());
        }
        match self.rounds.message(response, bytes) {
            Outcome::Answer { replica, response } => {
                if let Some(error) = &response.error {
                    self.refused(replica, error);
                } else if let Some(diverging) = &response.diverging {
                    self.diverged(replica, diverging);
                } else {
                    self.append(replica, &response, records, bytes);
                }
            }
            Outcome::Ended { quiet } => {
                self.backoff.reset();
                if self.key.lane == Lane::Refill {
                    // The leader has nothing more for them.
                    for number in quiet {
                        self.change_lane(number, Lane::InSync);
                    }
                }
            }
            Outcome::Passed => {}
            Outcome::Violation(what) => return Err(format!("the leader sent {what}")),
        }
        Ok(bytes)
    }

    fn append(
        &mut self,
        number: ReplicaNumber,
        response: &v1::FetchResponse,
        records: Vec<Bytes>,
        bytes: usize,
    ) {
        let Some(replica) = self.replicas.get_mut(&number) else { return };
        let followed = Arc::clone(&replica.followed);
        match followed.append(response, records) {
            Ok(appended) => {
                let high_watermark = Offset(response.high_watermark);
                replica.leader_end = Some(high_watermark);
                replica.refill.came(bytes as u64);
                let since = replica.since;
                self.apply(number, Event::Appended);
                self.shared.metrics.replica_bytes_in.add(bytes as u64);
                self.shared.metrics.replica_records_in.add(appended.records.unsigned_abs());
                if bytes > 0 && followed.flushes_first() {
                    self.flush(number);
                } else if bytes > 0 {
                    self.tell(number);
                }
                let end = appended.log_end;
                let lane = self.key.lane.after(end, high_watermark, since, Instant::now());
                self.change_lane(number, lane);
                if lane == Lane::Refill && self.key.lane == Lane::InSync {
                    // Who turns out to be behind pays for what it had before.
                    self.shared.throttle.take(bytes as u64, Instant::now());
                }
            }
            Err(Refusal::Sent(fault)) => self.bad_answer(number, &followed, &fault),
            Err(Refusal::Local { fault, cause }) => self.local_fault(number, fault, &cause),
        }
    }

    fn change_lane(&mut self, number: ReplicaNumber, lane: Lane) {
        if lane == self.key.lane {
            return;
        }
        let Some(replica) = self.replicas.get(&number) else { return };
        let followed = Arc::clone(&replica.followed);
        tracing::info!(
            partition = %followed.name(), leader = %self.key.leader.id, log_end = followed.log_end().0,
            "{}", match lane {
                Lane::InSync => "replica has caught up",
                Lane::Refill => "replica is behind: it catches up on a stream of its own",
            }
        );
        self.let_go(number);
        self.shared.change_lane(&followed, lane);
    }

    /// The bytes are damaged, or are not what follows the log: nothing of them was appended.
    fn bad_answer(&mut self, number: ReplicaNumber, followed: &Followed, fault: &Fault) {
        self.shared.metrics.replica_fetch_failures.one();
        let event = match fault {
            Fault::Corrupt(_) => {
                self.shared.metrics.replica_corrupt_answers.one();
                Event::Corrupt
            }
            Fault::Lie(_) => Event::Local(LocalFault::Passing),
        };
        self.apply(number, event);
        let state = self.replicas.get(&number).map(|replica| replica.state);
        let times = state.map_or(0, |state| state.failures.max(state.corrupt));
        if times.is_power_of_two() {
            tracing::warn!(
                partition = %followed.name(), leader = %self.key.leader.id,
                log_end = followed.log_end().0, times, %fault,
                "the leader sent what may not be appended; asking again"
            );
        }
    }

    fn local_fault(&mut self, number: ReplicaNumber, fault: LocalFault, cause: &str) {
        self.shared.metrics.replica_fetch_failures.one();
        self.apply(number, Event::Local(fault));
        let Some(replica) = self.replicas.get(&number) else { return };
        if replica.state.failures.is_power_of_two() || fault == LocalFault::Over {
            tracing::warn!(
                partition = %replica.followed.name(), leader = %self.key.leader.id, cause,
                failures = replica.state.failures, "cannot append what was fetched"
            );
        }
    }

    fn refused(&mut self, number: ReplicaNumber, error: &v1::Error) {
        let code = ErrorCode::from_code(error.code);
        if code == ErrorCode::OffsetOutOfRange {
            self.apply(number, Event::OutOfRange);
            return;
        }
        self.shared.metrics.replica_fetch_failures.one();
        self.apply(number, Event::Refused);
        let Some(replica) = self.replicas.get(&number) else { return };
        let failures = replica.state.failures;
        // Around an election the two learn of it at different moments.
        let usual = matches!(
            code,
            ErrorCode::NotLeaderOrFollower
                | ErrorCode::FencedLeaderEpoch
                | ErrorCode::UnknownLeaderEpoch
                | ErrorCode::UnknownTopicOrPartition
                | ErrorCode::ReplicaNotAvailable
                | ErrorCode::StaleBrokerEpoch
        ) && failures < 32;
        if failures.is_power_of_two() && !usual {
            tracing::warn!(
                partition = %replica.followed.name(), leader = %self.key.leader.id,
                epoch = %replica.followed.epoch, failures, %code, message = error.message,
                "the leader refuses to be followed"
            );
        }
    }

    /// The leader's log has another history below the log end here.
    fn diverged(&mut self, number: ReplicaNumber, diverging: &v1::EpochEnd) {
        self.apply(number, Event::Diverging);
        let Some(replica) = self.replicas.get(&number) else { return };
        let followed = Arc::clone(&replica.followed);
        let (partition, leader) = (followed.name(), self.key.leader.id);
        match followed.truncate(diverging) {
            Ok(Some(cut)) => {
                let records = (cut.from.0 - cut.to.0).max(0);
                self.shared.metrics.replica_truncations.one();
                self.shared.metrics.replica_truncated_records.add(records.unsigned_abs());
                if cut.below_high_watermark {
                    tracing::error!(
                        %partition, %leader, from = cut.from.0, to = cut.to.0,
                        "the leader does not have records that were committed: they are cut off here \
                         too (an unclean election, or the leader lost its log)"
                    );
                } else {
                    tracing::info!(%partition, %leader, from = cut.from.0, to = cut.to.0, "log cut");
                }
            }
            Ok(None) => {
                let end = followed.log_end();
                tracing::warn!(
                    %partition, %leader, log_end = end.0, end_offset = diverging.end_offset,
                    "the leader says that the logs differ and does not say where"
                );
                self.apply(number, Event::Refused);
            }
            Err(Refusal::Local { fault, cause }) => self.local_fault(number, fault, &cause),
            Err(Refusal::Sent(fault)) => self.bad_answer(number, &followed, &fault),
        }
    }

    /// Asks where the logs start whose positions are out of range; one question at a time.
    fn ask_starts(&mut self, connection: &Connection) {
        if self.ask.is_some() || self.asking.is_empty() {
            return;
        }
        let (mut asked, mut queries) = (Vec::new(), Vec::new());
        for number in self.asking.drain(..) {
            let Some(replica) = self.replicas.get(&number) else { continue };
            let name = replica.followed.name();
            asked.push((number, replica.followed.epoch));
            queries.push(v1::OffsetQuery {
                topic: name.topic.to_string(),
                topic_id: replica.followed.partition.topic_id().to_bytes(),
                partition: name.partition,
                timestamp_ms: EARLIEST,
            });
        }
        self.ask = Some(Box::pin(log_starts(connection.clone(), asked, queries)));
    }

    fn starts_told(&mut self, starts: Vec<(ReplicaNumber, Result<Offset, String>)>) {
        self.ask = None;
        for (number, start) in starts {
            let Some(replica) = self.replicas.get(&number) else { continue };
            if replica.state.phase != Phase::Asking {
                continue;
            }
            let followed = Arc::clone(&replica.followed);
            let (partition, leader) = (followed.name(), self.key.leader.id);
            let log_end = followed.log_end();
            match start.map(|start| (start, followed.restart(start))) {
                Ok((start, Ok(true))) => {
                    self.shared.metrics.replica_restarts.one();
                    tracing::warn!(
                        %partition, %leader, log_end = log_end.0, start = start.0,
                        "the leader has nothing from here on: the log begins anew where its does"
                    );
                    self.apply(number, Event::StartTold);
                }
                Ok((start, Ok(false))) => {
                    tracing::debug!(
                        %partition, %leader, log_end = log_end.0, start = start.0,
                        "out of the leader's range, though its log starts before"
                    );
                    self.apply(number, Event::Refused);
                }
                Ok((_, Err(Refusal::Local { fault, cause }))) => {
                    self.local_fault(number, fault, &cause);
                }
                Ok((_, Err(Refusal::Sent(fault)))) => self.bad_answer(number, &followed, &fault),
                Err(why) => {
                    tracing::debug!(%partition, %leader, why, "where its log starts is not known");
                    self.apply(number, Event::Refused);
                }
            }
        }
    }
}

/// The question for the first offset there is.
const EARLIEST: i64 = -2;

async fn log_starts(
    connection: Connection,
    asked: Vec<(ReplicaNumber, LeaderEpoch)>,
    queries: Vec<v1::OffsetQuery>,
) -> Vec<(ReplicaNumber, Result<Offset, String>)> {
    let mut client = LogClient::new(connection).max_decoding_message_size(MESSAGE_LEN);
    let asking = client.list_offsets(v1::ListOffsetsRequest { queries });
    let answers = match tokio::time::timeout(ASK_WAIT, asking).await {
        Ok(Ok(answers)) => answers.into_inner().answers,
        Ok(Err(status)) => {
            return all_failed(&asked, status.message());
        }
        Err(_) => return all_failed(&asked, "the leader did not answer in time"),
    };
    if answers.len() != asked.len() {
        return all_failed(&asked, "the leader answered another number of questions");
    }
    let started = asked.into_iter().zip(answers).map(|((number, epoch), answer)| {
        let start = match answer.error {
            Some(error) => Err(error.message),
            None if answer.leader_epoch != epoch.0 => {
                Err(format!("it was told by a leader of epoch {}", answer.leader_epoch))
            }
            None => Ok(Offset(answer.offset)),
        };
        (number, start)
    });
    started.collect()
}

fn all_failed(
    asked: &[(ReplicaNumber, LeaderEpoch)],
    why: &str,
) -> Vec<(ReplicaNumber, Result<Offset, String>)> {
    asked.iter().map(|&(number, _)| (number, Err(why.to_owned()))).collect()
}

/// The answer, when it comes; never where nothing was asked.
async fn answered(ask: &mut Option<Ask>) -> Vec<(ReplicaNumber, Result<Offset, String>)> {
    match ask {
        Some(ask) => ask.await,
        None => std::future::pending().await,
    }
}
