//! The fetch stream of a fetcher: sends rounds, takes messages. What answers come to is in `answers`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::client::{Connection, StreamReceiver, StreamSender};
use proto::grpc::{MESSAGE_LEN_MAX, Message, split_payload};
use proto::{Offset, v1};

use super::fetch_state::{Event, LocalFault, Phase};
use super::fetcher::Fetcher;
use super::lane::Lane;
use super::log_starts::answered;
use super::rounds::{ADDS_MAX, Limits, Outcome};

const PATH: &str = "/ottla.v1.Log/Fetch";
/// Beyond the wait it was asked for, a leader that answers nothing is given up after this long: a slow
/// disk may take its time. A process that does not live is found by HTTP/2 pings long before.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Answers appended before the leader is told of them.
const APPEND_BYTES: usize = 1 << 20;
/// So often the leader is told of every partition, moved or not: what it knew it may have put aside,
/// as it does when this broker leaves an ISR, and who has nothing new would never be heard again.
const TELL_ALL_EVERY: Duration = Duration::from_secs(1);
/// Messages of the leader have a head beside the records.
const MESSAGE_LEN: usize = MESSAGE_LEN_MAX;

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
                replica.told_start = Offset(-1);
            }
            if followed.stored_start() > Offset::ZERO {
                self.tell(number);
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
            (replica.told, replica.told_start) = (Offset(-1), Offset(-1));
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
            if held < replica.told {
                continue;
            }
            let start = replica.followed.stored_start();
            if (held, start) != (replica.told, replica.told_start) {
                (replica.told, replica.told_start) = (held, start);
                let log_start_offset = start.0;
                progress.push(v1::ReplicaProgress { handle, offset: held.0, log_start_offset });
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
}
