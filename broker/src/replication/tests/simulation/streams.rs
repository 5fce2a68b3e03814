//! How followers fetch, message by message: each stream in order, streams among themselves in any.
//! What a follower does with an answer is the real `Followed`; what a leader does with a request is
//! here what `api::fetch` does.

use std::collections::VecDeque;

use bytes::Bytes;
use proto::v1;
use proto::{BrokerId, LeaderEpoch, Offset};
use uuid::Uuid;

use super::cluster::Cluster;
use super::node::{Following, Running};
use crate::replication::{PartitionError, Replica};
use crate::storage::{Cursor, ReadLimits, Wait};

/// Between a run of a follower and a run of a leader.
pub(super) struct Stream {
    pub(super) follower: BrokerId,
    /// The follower let go of it: what is on its way may arrive, and then the leader hears of it.
    closed: bool,
    replica: Replica,
    leader: BrokerId,
    leader_run: Uuid,
    pub(super) epoch: LeaderEpoch,
    to_leader: VecDeque<Request>,
    to_follower: VecDeque<Answer>,
    /// Where the leader reads on, once it took the partition on, and what it told last.
    reader: Option<(Offset, Option<(Offset, Offset)>)>,
    /// What the leader was told is held.
    told: Offset,
}

enum Request {
    Add {
        offset: Offset,
        last_epoch: Option<LeaderEpoch>,
    },
    /// What is held, and where the log starts for good.
    Progress(Offset, Offset),
}

enum Answer {
    Records(Bytes, Box<v1::FetchResponse>),
    Diverging(v1::EpochEnd),
    OutOfRange(Offset),
    Refused,
}

impl Stream {
    /// The follower's end is gone; what it had sent `arrives`, or not.
    pub(super) fn close(&mut self, arrives: bool) {
        self.closed = true;
        self.to_follower.clear();
        if !arrives {
            self.to_leader.clear();
        }
    }
}

impl Cluster {
    /// A follower without a stream opens one and asks for what comes next; one that has a stream
    /// tells again what it holds, as followers do every second.
    pub(super) fn connect(&mut self, id: BrokerId) {
        let node = self.node(id);
        let Some(up) = node.awake() else { return };
        let told =
            |f: &Following| Some((f.stream?, f.followed.held_end(), f.followed.stored_start()));
        if let Some((number, held, start)) = up.following.as_ref().and_then(told) {
            if let Some(stream) = self.streams.get_mut(&number) {
                stream.to_leader.push_back(Request::Progress(held, start));
            }
            return;
        }
        let Some(following) = up.following.as_ref().filter(|f| f.stream.is_none()) else { return };
        let (leader, epoch) = (following.leader, following.epoch);
        let Some(leader_run) = self.node(leader).up.as_ref().map(|up| up.run) else { return };
        // Where it begins is counted as held.
        up.flush_if_counted();
        let log = up.partition.log();
        let asked = following.followed.fetch_partition(1, 1 << 20, false);
        let offset = Offset(asked.offset);
        let last_epoch = asked.last_fetched_epoch.map(LeaderEpoch);
        assert_eq!(offset, log.log_end());
        let stream = Stream {
            follower: id,
            closed: false,
            replica: up.replica(id),
            leader,
            leader_run,
            epoch,
            to_leader: VecDeque::from([Request::Add { offset, last_epoch }]),
            to_follower: VecDeque::new(),
            reader: None,
            told: offset,
        };
        let number = self.next_stream();
        self.streams.insert(number, stream);
        if let Some(following) = self.following_mut(id) {
            following.stream = Some(number);
        }
    }

    /// One message of a stream arrives, or the leader reads for it.
    pub(super) fn move_stream(&mut self, number: u64, what: usize) {
        let Some(mut stream) = self.streams.remove(&number) else { return };
        let keeps = match what {
            _ if stream.closed && stream.to_leader.is_empty() => self.end(&mut stream),
            0 => self.serve(&mut stream),
            1 => match stream.to_leader.pop_front() {
                Some(request) => self.ask(&mut stream, request),
                None => true,
            },
            _ => match stream.to_follower.pop_front() {
                Some(answer) => self.answer(number, &mut stream, answer),
                None => true,
            },
        };
        let follower = stream.follower;
        if keeps {
            self.streams.insert(number, stream);
        } else if let Some(following) = self.following_mut(follower)
            && following.stream == Some(number)
        {
            following.stream = None;
        }
    }

    fn leader_of(&self, stream: &Stream) -> Option<&Running> {
        let up = self.node(stream.leader).up.as_ref()?;
        (up.run == stream.leader_run).then_some(up)
    }

    /// The leader takes a request. False: the stream is gone.
    fn ask(&self, stream: &mut Stream, request: Request) -> bool {
        let Some(up) = self.leader_of(stream) else { return false };
        if up.paused {
            stream.to_leader.push_front(request);
            return true;
        }
        let partition = &up.partition;
        if up.runs.get(&stream.follower) != Some(&stream.replica.incarnation) {
            stream.to_follower.push_back(Answer::Refused);
            return true;
        }
        match request {
            Request::Progress(..) if stream.reader.is_none() => true,
            Request::Progress(end, start) => {
                let told = partition.follower_told(stream.epoch, &stream.replica, end);
                partition.follower_start_told(stream.epoch, &stream.replica, start);
                told.is_ok()
            }
            Request::Add { offset, last_epoch } => {
                let log = partition.log();
                let answer = if partition.check_leader(stream.epoch).is_err() {
                    Some(Answer::Refused)
                } else if let Some((known, end)) =
                    last_epoch.and_then(|epoch| log.diverging(epoch, offset))
                {
                    let leader_epoch = known.unwrap_or(LeaderEpoch::UNKNOWN).0;
                    Some(Answer::Diverging(v1::EpochEnd { leader_epoch, end_offset: end.0 }))
                } else if offset < log.log_start() {
                    Some(Answer::OutOfRange(log.log_start()))
                } else {
                    match partition.follower_told(stream.epoch, &stream.replica, offset) {
                        Ok(()) => None,
                        Err(PartitionError::BeyondLogEnd { .. }) => {
                            Some(Answer::OutOfRange(log.log_start()))
                        }
                        Err(_) => Some(Answer::Refused),
                    }
                };
                match answer {
                    None => stream.reader = Some((offset, None)),
                    Some(answer) => stream.to_follower.push_back(answer),
                }
                true
            }
        }
    }

    /// The leader hears that nobody reads any more. False: it has.
    fn end(&self, stream: &mut Stream) -> bool {
        let Some(up) = self.leader_of(stream) else { return false };
        if !up.paused && stream.reader.is_some() {
            up.partition.follower_gone(&stream.replica);
        }
        up.paused
    }

    /// The leader reads on for a follower.
    fn serve(&self, stream: &mut Stream) -> bool {
        let Some(up) = self.leader_of(stream) else { return false };
        let Some((position, told)) = stream.reader.filter(|_| !up.paused) else { return true };
        let (partition, log) = (&up.partition, up.partition.log());
        if partition.check_leader(stream.epoch).is_err() {
            stream.to_follower.push_back(Answer::Refused);
            stream.reader = None;
            return true;
        }
        let limits = ReadLimits { max_bytes: 700, upto: log.log_end(), first_batch_whole: true };
        let Ok(slice) = log.read(Cursor::at(position), limits, Wait::Allowed) else {
            return false;
        };
        let positions = (log.high_watermark(), log.log_start());
        if slice.is_empty() && told == Some(positions) {
            return true;
        }
        let next_offset = if slice.is_empty() { position } else { slice.next_offset() };
        let response = v1::FetchResponse {
            next_offset: next_offset.0,
            high_watermark: positions.0.0,
            log_start_offset: positions.1.0,
            producer_window: log.producer_window().into(),
            ..Default::default()
        };
        stream.to_follower.push_back(Answer::Records(slice.bytes().clone(), Box::new(response)));
        stream.reader = Some((next_offset, Some(positions)));
        true
    }

    /// The follower takes an answer. False: it lets go of the stream.
    fn answer(&mut self, number: u64, stream: &mut Stream, answer: Answer) -> bool {
        let Some(up) = self.node(stream.follower).up.as_ref() else { return false };
        if up.run != stream.replica.incarnation {
            return false;
        }
        if up.paused {
            stream.to_follower.push_front(answer);
            return true;
        }
        let following = up.following.as_ref().filter(|f| f.stream == Some(number));
        let Some(following) = following else { return false };
        let followed = &following.followed;
        match answer {
            Answer::Records(bytes, response) => {
                let chunks = if bytes.is_empty() { Vec::new() } else { vec![bytes] };
                if let Err(refusal) = followed.append(&response, chunks) {
                    panic!("a follower refuses what its leader sent: {refusal:?}");
                }
                up.flush_if_counted();
                let held = followed.held_end();
                if held > stream.told {
                    stream.told = held;
                    let start = followed.stored_start();
                    stream.to_leader.push_back(Request::Progress(held, start));
                }
                true
            }
            Answer::Diverging(end) => {
                followed.truncate(&end).expect("the disk works");
                false
            }
            Answer::OutOfRange(start) => {
                followed.restart(start).expect("the disk works");
                false
            }
            Answer::Refused => false,
        }
    }
}
