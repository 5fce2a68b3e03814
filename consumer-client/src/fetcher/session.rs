//! The fetch stream of one broker.
//!
//! Sends a round when something is wanted and there is room, hands answers to the queues, and
//! reports what goes wrong. At the bound of the queues nothing is wanted, so nothing is sent: what
//! was under way is what the other half of `queued.max.bytes` is for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::client::{Cluster, Connection, StreamReceiver, StreamSender};
use proto::grpc::{MESSAGE_LEN_MAX, Message, split_payload};
use proto::{BrokerId, ErrorCode, LeaderEpoch, Offset, v1};
use tokio::sync::watch;

use super::rounds::{Outcome, Rounds};
use crate::positions::Positions;
use crate::shared::{Shared, Wants};

const PATH: &str = "/ottla.v1.Log/Fetch";
/// Beyond the wait it was asked for, a broker that says nothing is slow after this long …
const SLOW_AFTER: Duration = Duration::from_secs(3);
/// … and given up after this long.
const DEAD_AFTER: Duration = Duration::from_secs(30);

/// Fetches from one broker without end.
pub(super) async fn run(shared: Arc<Shared>, cluster: Cluster, broker: BrokerId) {
    let mut changes = shared.wants.subscribe();
    loop {
        changes.mark_unchanged();
        if shared.wants(broker).list.is_empty() {
            if changes.changed().await.is_err() {
                return;
            }
            continue;
        }
        let why = match cluster.connection(broker).await {
            Err(error) => error.to_string(),
            Ok(connection) => {
                let why = Session::open(&shared, &connection, broker, changes.clone()).run().await;
                if connection.is_closed() {
                    cluster.connection_broken(&connection);
                }
                why
            }
        };
        tracing::debug!(%broker, why, "fetch stream ended");
        cluster.suspect(broker);
        shared.broker_failed(broker, &why);
    }
}

struct Session<'a> {
    shared: &'a Shared,
    broker: BrokerId,
    changes: watch::Receiver<u64>,
    sender: StreamSender,
    receiver: StreamReceiver,
    rounds: Rounds,
    round_bytes: u64,
    /// An answer was not taken: what the broker holds must be compared with what is wanted.
    astray: bool,
    heard: Instant,
    told_slow: bool,
}

impl<'a> Session<'a> {
    fn open(
        shared: &'a Shared,
        connection: &Connection,
        broker: BrokerId,
        changes: watch::Receiver<u64>,
    ) -> Self {
        let (sender, receiver) = connection.open_stream(PATH, 4, MESSAGE_LEN_MAX);
        Self {
            shared,
            broker,
            changes,
            sender,
            receiver,
            rounds: Rounds::default(),
            round_bytes: 0,
            astray: true,
            heard: Instant::now(),
            told_slow: false,
        }
    }

    /// Returns why the stream ended.
    async fn run(mut self) -> String {
        loop {
            if let Err(why) = self.send_rounds().await {
                return why;
            }
            let silence_ends = self.silence_ends();
            tokio::select! {
                received = self.receiver.recv() => match received {
                    Ok(Some(message)) => {
                        if let Err(why) = self.take_all(message) {
                            return why;
                        }
                    }
                    Ok(None) => return "the broker ended the fetch stream".to_owned(),
                    Err(error) => return error.to_string(),
                },
                changed = self.changes.changed() => {
                    if changed.is_err() {
                        return "the consumer ended".to_owned();
                    }
                    self.astray = true;
                }
                () = tokio::time::sleep_until(silence_ends.into()), if self.rounds.is_waiting() => {
                    if let Err(why) = self.silent() {
                        return why;
                    }
                }
            }
        }
    }

    async fn send_rounds(&mut self) -> Result<(), String> {
        while let Some(request) = self.next_request() {
            if self.sender.send_message(&request).await.is_err() {
                // Why, the receiver tells.
                return Err(match self.receiver.recv().await {
                    Err(error) => error.to_string(),
                    Ok(_) => "the broker ended the fetch stream".to_owned(),
                });
            }
            if !self.rounds.has_two() {
                self.heard = Instant::now();
            }
        }
        Ok(())
    }

    fn next_request(&mut self) -> Option<v1::FetchRequest> {
        let config = &self.shared.config;
        if !self.astray {
            let may_send = self.rounds.may_send(false);
            return may_send.then(|| self.rounds.again(self.round_bytes, config)).flatten();
        }
        let wants: Wants = self.shared.wants(self.broker);
        if !self.rounds.may_send(self.rounds.lacks(&wants)) {
            return None;
        }
        self.round_bytes = wants.round_bytes;
        let request = self.rounds.request(&wants, config);
        // With nothing wanted the broker keeps its handles until something is.
        self.astray = request.is_none();
        request
    }

    /// Takes this message and all that came with it.
    fn take_all(&mut self, first: Message) -> Result<(), String> {
        self.heard = Instant::now();
        if std::mem::take(&mut self.told_slow) {
            self.shared.broker_answers(self.broker);
        }
        let mut next = Some(first);
        while let Some(message) = next {
            self.take(message)?;
            if self.rounds.may_send(false) {
                return Ok(());
            }
            next = self.receiver.try_recv().map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn take(&mut self, message: Message) -> Result<(), String> {
        let (response, records) = split_payload::<v1::FetchResponse>(message)
            .map_err(|error| format!("broker {} sent what cannot be read: {error}", self.broker))?;
        match self.rounds.message(response, records) {
            Outcome::Answer(answer) => self.astray |= !self.shared.push_answer(answer),
            // What an earlier leader says is no matter any more.
            Outcome::Failed { positions, .. } | Outcome::Diverged { positions, .. }
                if !self.shared.is_led_by(&positions, self.broker) =>
            {
                self.astray = true;
            }
            Outcome::Failed { positions, wanted, error, damage_ends } => {
                self.astray = true;
                if ErrorCode::from_code(error.code) == ErrorCode::CorruptMessage {
                    let why = error.message;
                    self.shared.damaged_at_leader(&positions, wanted, damage_ends, why);
                } else {
                    self.failed(&positions, wanted, &error);
                }
            }
            Outcome::Diverged { positions, wanted, end } => {
                self.astray = true;
                let (epoch, end) = (LeaderEpoch(end.leader_epoch), Offset(end.end_offset));
                self.shared.diverged(&positions, wanted, epoch, end);
            }
            Outcome::Ended { added } => {
                if !added.is_empty() {
                    self.shared.fetched_well(&added);
                }
            }
            Outcome::Ignored => {}
            Outcome::Violation(what) => return Err(format!("broker {} sent {what}", self.broker)),
        }
        Ok(())
    }

    fn failed(&self, positions: &Arc<Positions>, wanted: Offset, error: &v1::Error) {
        match ErrorCode::from_code(error.code) {
            ErrorCode::OffsetOutOfRange => self.shared.position_lost(positions, wanted),
            code => self.shared.set_problem(positions, format!("{code}: {}", error.message)),
        }
    }

    fn silence_ends(&self) -> Instant {
        let after = if self.told_slow { DEAD_AFTER } else { SLOW_AFTER };
        self.heard + self.shared.config.fetch_max_wait + after
    }

    fn silent(&mut self) -> Result<(), String> {
        let silence = self.heard.elapsed();
        let why = format!("broker {} has not answered for {} ms", self.broker, silence.as_millis());
        if silence >= self.shared.config.fetch_max_wait + DEAD_AFTER {
            return Err(why);
        }
        self.told_slow = true;
        self.shared.broker_silent(self.broker, &why);
        Ok(())
    }
}
